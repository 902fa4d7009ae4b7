"""A wall clock that is wrong for a while: what is to end ends in its time, and it is told."""

import msgspec
import pytest

from app import create_app
from cluster.membership import Membership
from models import Version
from tests.wrong_clock import DAY, GRACE, Machine

TTL = 60
KILLED = pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])


# --- How a clock goes wrong; each leaves a store that runs, and a clock that stays -------


def never(machine):
    machine.start()


def ahead_at_one_start(machine):
    machine.wrong_by = DAY
    machine.start()
    machine.store.write("early", 1)
    machine.end()
    machine.wrong_by = 0
    machine.start()


def ahead_at_one_start_of_many(machine):
    machine.start()
    machine.end()
    ahead_at_one_start(machine)


def ahead_when_it_was_killed(machine):
    machine.wrong_by = DAY
    machine.start()
    machine.store.write("early", 1)
    machine.end(killed=True)
    machine.wrong_by = 0
    machine.start()


def ahead_at_one_start_and_put_right_while_it_runs(machine):
    machine.wrong_by = DAY
    machine.start()
    machine.store.write("early", 1)
    machine.wrong_by = 0
    machine.run(1)


def ahead_for_one_write(machine):
    machine.start()
    machine.wrong_by = DAY
    machine.store.write("early", 1)
    machine.wrong_by = 0
    machine.run(1)


def behind_at_one_start(machine):
    machine.start()
    machine.end()
    machine.wrong_by = -DAY
    machine.start()


def behind_at_one_start_and_put_right_while_it_runs(machine):
    machine.wrong_by = -DAY
    machine.start()
    machine.wrong_by = 0
    machine.run(1)


def behind_at_one_start_and_right_at_the_next(machine):
    behind_at_one_start(machine)
    machine.run(1)
    machine.end()
    machine.wrong_by = 0
    machine.start()


def set_forward_while_it_runs(machine):
    machine.start()
    machine.wrong_by = DAY
    machine.run(1)


def set_back_while_it_runs(machine):
    machine.start()
    machine.wrong_by = -DAY
    machine.run(1)


def set_back_and_right_at_the_next_start(machine):
    set_back_while_it_runs(machine)
    machine.end()
    machine.wrong_by = 0
    machine.start()


def record_from_the_future(machine):
    machine.start(max_clock_jump_seconds=2 * DAY)
    now_ms = machine.store.cluster.now_ms()
    machine.store.restore("early", 1, Version(now_ms + DAY * 1000 << Version.MS_SHIFT))
    machine.run(1)


def record_from_the_next_minute(machine):
    machine.start()
    now_ms = machine.store.cluster.now_ms()
    machine.store.restore("early", 1, Version(now_ms + 50_000 << Version.MS_SHIFT))
    machine.run(1)


def folder_of_an_earlier_release(machine):
    """Its state record has no wall clock in it, and its clock was a day ahead once."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            Membership, "_state_record", as_before(Membership._state_record)
        )
        machine.wrong_by = DAY
        machine.start()
        machine.store.write("early", 1)
        machine.end()
    machine.wrong_by = 0
    machine.start()


def as_before(state_record):
    def without_the_wall_clock(self):
        state = state_record(self)
        fields = msgspec.json.decode(state.record)
        del fields["wall"]
        return msgspec.structs.replace(state, record=msgspec.json.encode(fields))

    return without_the_wall_clock


WRONG = (
    ahead_at_one_start, ahead_at_one_start_of_many, ahead_when_it_was_killed,
    ahead_at_one_start_and_put_right_while_it_runs, ahead_for_one_write,
    behind_at_one_start, behind_at_one_start_and_put_right_while_it_runs,
    behind_at_one_start_and_right_at_the_next,
    set_forward_while_it_runs, set_back_while_it_runs,
    set_back_and_right_at_the_next_start,
    record_from_the_future, record_from_the_next_minute, folder_of_an_earlier_release,
)  # fmt: skip
CLOCKS = pytest.mark.parametrize(
    "go_wrong", [never, *WRONG], ids=lambda each: each.__name__
)
# After which the store knows how much time has passed; at a start with a clock that is
# ahead of all that it showed, nobody can tell that from a rest.
KNOWN = pytest.mark.parametrize(
    "go_wrong",
    [
        never, ahead_for_one_write,
        behind_at_one_start, behind_at_one_start_and_right_at_the_next,
        set_forward_while_it_runs, set_back_while_it_runs,
        set_back_and_right_at_the_next_start, record_from_the_next_minute,
    ],
    ids=lambda each: each.__name__,
)  # fmt: skip
# Of which somebody is to be told, and that still are wrong.
TOLD = pytest.mark.parametrize(
    "go_wrong",
    [
        each
        for each in WRONG
        if each not in (ahead_for_one_write, behind_at_one_start_and_right_at_the_next,
                        set_back_and_right_at_the_next_start)
    ],
    ids=lambda each: each.__name__,
)  # fmt: skip


@pytest.fixture
def machine(tmp_path):
    made = Machine(tmp_path / "data")
    yield made
    made.end()


# --- What is to end, while it runs -------------------------------------------------------


@CLOCKS
def test_key_ends_after_its_time_and_not_before(go_wrong, machine):
    go_wrong(machine)
    machine.store.write("k", 1, ttl=TTL)
    machine.store.write("lasting", 1)

    machine.run(TTL - 1)
    before = machine.has("k")
    machine.run(2)

    assert before
    assert not machine.has("k")
    assert machine.has("lasting")
    assert [each.key for each in machine.store.keys().keys if each.key == "k"] == []


@CLOCKS
def test_key_ends_after_its_time_where_the_clock_goes_wrong_meanwhile(
    go_wrong, machine
):
    machine.start()
    machine.store.write("k", 1, ttl=2 * DAY)
    machine.end()

    go_wrong(machine)
    after = machine.has("k")
    machine.run(2 * DAY + 1)

    assert after
    assert not machine.has("k")


@KNOWN
def test_key_does_not_end_early_where_the_clock_goes_wrong_meanwhile(go_wrong, machine):
    machine.start()
    machine.store.write("k", 1, ttl=DAY / 2)
    machine.end()

    go_wrong(machine)
    machine.run(DAY / 2 - 100)

    assert machine.has("k")


@CLOCKS
def test_deleted_key_is_forgotten_after_the_grace_and_not_before(go_wrong, machine):
    go_wrong(machine)
    machine.store.write("k", 1)
    machine.store.delete("k")

    machine.run(GRACE - 1)
    before = machine.remembers_delete_of("k")
    machine.run(2)

    assert before
    assert not machine.remembers_delete_of("k")


# --- Over a restart ----------------------------------------------------------------------


@KILLED
@CLOCKS
def test_key_ends_after_its_time_over_a_restart(go_wrong, killed, machine):
    go_wrong(machine)
    machine.store.write("k", 1, ttl=TTL)
    machine.run(20)

    machine.restart(killed=killed, down=20)
    machine.run(TTL - 41)
    before = machine.has("k")
    machine.run(2)

    assert before
    assert not machine.has("k")


@KILLED
@CLOCKS
def test_key_that_ended_while_the_store_was_down_is_gone(go_wrong, killed, machine):
    go_wrong(machine)
    machine.store.write("k", 1, ttl=TTL)

    machine.restart(killed=killed, down=TTL + 1)

    assert not machine.has("k")


@KILLED
@CLOCKS
def test_deleted_key_is_forgotten_after_the_grace_over_a_restart(
    go_wrong, killed, machine
):
    go_wrong(machine)
    machine.store.write("k", 1)
    machine.store.delete("k")
    machine.run(20)

    machine.restart(killed=killed, down=20)
    machine.run(GRACE - 41)
    before = machine.remembers_delete_of("k")
    machine.run(2)

    assert before
    assert not machine.remembers_delete_of("k")


@KILLED
@CLOCKS
def test_versions_grow(go_wrong, killed, machine):
    go_wrong(machine)
    versions = []

    for number in range(6):
        versions.append(machine.store.write("k", number).version)
        machine.run(1)
        if number % 2:
            machine.restart(killed=killed)

    newest = max(machine.store.records().records, key=lambda each: each.version)
    assert versions == sorted(set(versions))
    assert newest.version == versions[-1]


@KILLED
def test_time_that_ran_without_a_write_is_counted_after_a_kill(killed, machine):
    ahead_at_one_start(machine)
    machine.store.write("k", 1, ttl=TTL)
    machine.seconds += TTL - 10  # nothing is written or saved

    machine.restart(killed=killed, down=11)

    assert not machine.has("k")


@pytest.mark.parametrize("set_by", [DAY, -DAY])
def test_kill_after_the_clock_was_set_makes_nothing_end_early_or_late(set_by, machine):
    machine.start()
    machine.store.write("k", 1, ttl=TTL)
    machine.wrong_by = set_by
    machine.run(20)

    machine.restart(killed=True, down=20)
    before = machine.has("k")
    machine.run(TTL - 40)

    assert before
    assert not machine.has("k")


# --- What is told ------------------------------------------------------------------------


def told(machine):
    """The status and the body of /readyz, and the gauge of /metrics."""
    app = create_app(machine.settings, machine.store)
    client = app.test_client()
    ready = client.get("/readyz")
    metrics = client.get("/metrics?name[]=kv_clock_ahead_seconds").get_data(
        as_text=True
    )
    app.close()
    return ready.status_code, ready.get_json(), float(metrics.split()[-1])


@TOLD
def test_clock_that_is_far_off_is_told(go_wrong, machine):
    go_wrong(machine)

    status, body, ahead = told(machine)

    assert "clock_off" in machine.kinds()
    assert (status, body["status"]) == (200, "ready")
    assert "the machine's clock is" in body["warning"]
    assert abs(ahead) == pytest.approx(
        50 if "minute" in go_wrong.__name__ else DAY, abs=2
    )


@TOLD
def test_clock_that_is_far_off_is_told_at_each_start(go_wrong, machine):
    go_wrong(machine)

    machine.restart(killed=True)

    assert machine.kinds().count("clock_off") == 1


@pytest.mark.parametrize("wrong_by", [0, 2, -2])
def test_clock_that_is_put_right_by_a_little_is_not_worth_an_event(wrong_by, machine):
    machine.start()

    for _ in range(5):
        machine.wrong_by += wrong_by / 5
        machine.run(30)
    machine.restart()

    assert "clock_off" not in machine.kinds()
    assert told(machine)[1] == {"status": "ready"}


def test_clock_that_is_right_again_is_told_once_and_no_more(machine):
    machine.start()
    machine.wrong_by = DAY
    machine.run(30)
    machine.run(30)
    machine.wrong_by = 0
    machine.run(30)
    machine.run(30)

    details = [e.detail for e in machine.store.events() if e.kind == "clock_off"]
    assert details == [
        "the machine's clock is 86,400 seconds ahead of the store's, which goes on at its "
        "own pace: times to live are not touched",
        "the machine's clock and the store's are together again",
    ]
