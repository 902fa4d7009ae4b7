"""The contract of every storage, for the simulated one: each change is waited for."""

from hypothesis import given, settings
from hypothesis import strategies as st

from models import Record, Version
from tests.simulation.disks import Disk
from tests.simulation.small import noted
from tests.storage_case import filled, held, record

KEYS = ["a", "b", "ключ"]
records = st.builds(record, st.sampled_from(KEYS), st.integers(1, 9)).map(
    lambda r: record(r.key, r.version.ms, None) if r.version.ms % 3 == 0 else r
)
batches = st.lists(records, max_size=4, unique_by=lambda r: r.key)
STEPS = st.one_of(
    st.tuples(st.just("put"), batches),
    st.tuples(st.just("purge"), batches),
    st.tuples(st.just("state"), st.tuples(st.integers(1, 9), st.binary(max_size=4))),
    st.tuples(st.just("crash"), st.none()),
    st.tuples(st.just("reopen"), st.none()),
)


class Waiting:
    """Changes one after the other, each waited for."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk

    def finish(self, staged) -> Version | None:
        answers: list = []
        staged.then(noted(answers))
        self.disk.settle()
        [answer] = answers
        return answer  # type: ignore[no-any-return]


@settings(max_examples=40)
@given(steps=st.lists(STEPS, max_size=15), seed=st.integers(0, 99))
def test_no_order_of_changes_and_restarts_loses_or_invents_one(steps, seed):
    disk = Disk(seed)
    storage, finish = disk.storage, Waiting(disk).finish
    identity, state = storage.identity, None
    expected: dict[str, Record] = {}
    for step, argument in steps:
        if step == "put":
            newer = [
                expected[r.key].version
                for r in argument
                if r.key in expected and expected[r.key].version > r.version
            ]
            answer = finish(storage.put_many(argument))
            assert answer == max(newer, default=None)
            for r in argument:
                if r.key not in expected or expected[r.key].version < r.version:
                    expected[r.key] = r
        elif step == "purge":
            finish(storage.purge({r.key: r.version for r in argument}))
            for r in argument:
                if r.key in expected and expected[r.key].version == r.version:
                    del expected[r.key]
        elif step == "state":
            finish(storage.save_state(*argument))
            state = argument if state is None or state[0] < argument[0] else state
        elif step == "crash":
            assert storage.crash() is False
        else:
            storage.reopen()
        assert held(storage) == expected
        assert storage.content.key_count == filled(expected).key_count
        assert storage.load_state() == state
        assert storage.identity == identity
        assert storage.scrub(5) is None
        assert (storage.problem, storage.damage) == (None, None)
