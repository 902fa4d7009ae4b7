"""Plans as files: what is written is read again, and what is no plan says why."""

import codecs
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from simulation.faults import FAULTS
from simulation.network import ANOMALIES
from simulation.plan import (
    FORMAT,
    REACHED,
    Anomaly,
    BadPlan,
    Fault,
    Noise,
    Plan,
    Step,
    Times,
    load_plan,
    save_plan,
)
from simulation.swarm import Mix, draw_plan, span_of
from simulation.workload import ACTIONS
from tests.simulation.small import plan_of

numbers = st.integers(0, 1 << 40)
rates = st.floats(0, 1)
pairs = st.tuples(numbers, numbers)
keys = st.text('ab \0"\\ключ🗝', max_size=8)
steps = st.builds(
    Step, numbers, numbers, st.sampled_from(ACTIONS), keys, numbers, numbers
)
faults = st.builds(
    Fault, numbers, numbers, st.sampled_from(list(FAULTS)), numbers, st.integers(-9, 9)
)
anomalies = st.builds(
    Anomaly, numbers, numbers, numbers, st.sampled_from(ANOMALIES), numbers
)
plans = st.builds(
    Plan,
    st.integers(0, (1 << 62) - 1),
    st.integers(1, 9),
    st.integers(1, 3),
    st.lists(steps, max_size=4).map(tuple),
    st.lists(faults, max_size=4).map(tuple),
    st.builds(Noise, rates, rates, rates, rates, rates),
    st.none() | st.lists(anomalies, max_size=4).map(tuple),
    st.builds(Times, pairs, pairs, *[numbers.map(lambda n: n + 1)] * 5),
    min_in_sync=st.integers(1, 3),
)


@settings(max_examples=60)
@given(plan=plans)
def test_a_plan_that_is_saved_is_not_another_one_when_it_is_loaded(
    plan, tmp_path_factory
):
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    save_plan(plan, path)

    assert load_plan(path) == plan


def test_a_file_is_not_one_long_line_for_people(tmp_path):
    path = tmp_path / "plan.json"
    save_plan(plan_of("write", "read"), path)

    lines = path.read_text("utf-8").splitlines()
    assert len(lines) > 20
    assert '   "action": "write",' in lines


def test_the_keys_of_a_plan_do_not_depend_on_who_comes_first():
    steps = tuple(Step(n, 0, "read", key, 1) for n, key in enumerate("cabca"))

    assert Plan(1, 1, 1, steps).keys == ("a", "b", "c")


# --- What is no plan -------------------------------------------------------------------


def written(tmp_path: Path, **changes: object) -> Path:
    """A good plan's file with some fields changed; None takes one away."""
    path = tmp_path / "plan.json"
    save_plan(plan_of("write", "read"), path)
    fields = {**json.loads(path.read_text("utf-8")), **changes}
    path.write_text(json.dumps({k: v for k, v in fields.items() if v is not None}))
    return path


def test_a_file_that_is_not_there_is_not_a_traceback(tmp_path):
    with pytest.raises(BadPlan, match=r"cannot read .*absent\.json: it is not there"):
        load_plan(tmp_path / "absent.json")
    with pytest.raises(BadPlan, match=r"cannot read .*: it is a folder"):
        load_plan(tmp_path)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_plan_is_the_same_one_after_an_editor_saved_it(end, tmp_path):
    path = written(tmp_path)
    plan = load_plan(path)

    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes().replace(b"\n", end) + end)

    assert load_plan(path) == plan


def test_a_plan_in_utf16_is_refused_by_that_name(tmp_path):
    path = written(tmp_path)
    path.write_text(path.read_text("utf-8"), "utf-16")

    with pytest.raises(BadPlan, match="is not a plan: it is UTF-16, not UTF-8: save"):
        load_plan(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"not json", b"[]", b"{}", b'"\xff"', b'{"x":' + b"[" * 100_000],
)
def test_a_file_that_is_no_plan_is_not_a_traceback(content, tmp_path):
    path = tmp_path / "plan.json"
    path.write_bytes(content)

    with pytest.raises(BadPlan, match=r"plan\.json is not a plan: ") as caught:
        load_plan(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nodes": "three"}, r"Expected `int`, got `str` - at `\$\.nodes`"),
        ({"steps": None}, "missing required field `steps`"),
        ({"steps": [{"number": 1}]}, r"field `client` - at `\$\.steps\[0\]`"),
        ({"times": {"message": [1]}}, r"at `\$\.times\.message`"),
    ],
)
def test_a_wrong_field_is_not_left_for_the_reader_to_find(changes, message, tmp_path):
    with pytest.raises(BadPlan, match=message):
        load_plan(written(tmp_path, **changes))


def test_a_plan_of_a_newer_program_is_not_run_as_if_it_were_of_this_one(tmp_path):
    path = written(tmp_path, format=FORMAT + 1)

    with pytest.raises(
        BadPlan, match=f"format {FORMAT + 1}, this program runs {FORMAT}"
    ):
        load_plan(path)


def test_a_newer_plan_with_other_fields_is_not_called_no_plan(tmp_path):
    path = written(tmp_path, format=FORMAT + 1, steps={"key-0": []})

    with pytest.raises(BadPlan, match=f"this program runs {FORMAT}"):
        load_plan(path)


def test_a_file_does_not_keep_its_format_to_itself(tmp_path):
    path = tmp_path / "plan.json"
    save_plan(plan_of("read"), path)

    assert json.loads(path.read_text("utf-8"))["format"] == FORMAT


def test_a_field_that_is_misspelt_is_not_passed_over(tmp_path):
    with pytest.raises(BadPlan, match="fautls"):
        load_plan(written(tmp_path, fautls=[]))


# --- Plans that are drawn --------------------------------------------------------------


def test_no_two_seeds_draw_one_plan_and_one_seed_draws_no_two():
    plans = [draw_plan(seed) for seed in range(100)]

    assert [draw_plan(seed) for seed in range(100)] == plans
    assert len({plan.steps for plan in plans}) == 100


def test_a_drawn_plan_does_not_ask_for_what_cannot_be():
    for seed in range(300):
        plan = draw_plan(seed)
        assert 1 <= plan.min_in_sync <= plan.replication_factor <= plan.nodes
        assert {step.action for step in plan.steps} <= set(ACTIONS)
        assert len({step.number for step in plan.steps}) == len(plan.steps)
        assert all(
            fault.node == REACHED or 0 <= fault.node < plan.nodes
            for fault in plan.faults
        )
        assert [fault.at_us for fault in plan.faults] == sorted(
            fault.at_us for fault in plan.faults
        )
        assert span_of(plan.steps, plan.times) > 0
        for kind in Noise.__struct_fields__:
            assert 0 <= getattr(plan.noise, kind) <= 0.1


def test_what_the_caller_fixes_is_not_drawn():
    for seed in range(50):
        plan = draw_plan(seed, Mix(nodes=4, families=(), scale=0.1))
        assert (plan.nodes, plan.faults, plan.noise) == (4, (), Noise())
        assert len(plan.steps) <= 12


def test_no_part_of_what_may_be_is_never_drawn():
    plans = [draw_plan(seed) for seed in range(300)]

    assert {plan.nodes for plan in plans} == {1, 2, 3, 4, 5}
    assert {plan.replication_factor for plan in plans} == {1, 2, 3}
    assert {plan.min_in_sync for plan in plans} == {1, 2}
    assert {step.action for plan in plans for step in plan.steps} == set(ACTIONS)
    assert any(step.ttl_ms for plan in plans for step in plan.steps)
    assert any(not plan.faults for plan in plans)
    assert any(plan.noise == Noise() for plan in plans)
    assert max(len({step.client for step in plan.steps}) for plan in plans) == 8


def test_one_family_more_does_not_change_what_the_faults_of_others_wait_for():
    for seed in range(40):
        some = draw_plan(seed, Mix(families=("crash", "kill")))
        more = draw_plan(seed, Mix(families=("crash", "kill", "cut", "pause")))

        left = {replace(fault, number=0) for fault in more.faults}
        assert {replace(fault, number=0) for fault in some.faults} <= left
