"""A run told line by line: every line says who did what, and under the right lane."""

import re

from simulation.network import DELAY_REQUEST, LOSE_REPLY, LOSE_REQUEST
from simulation.plan import Anomaly, Plan, Step
from simulation.timeline import HAPPENS, LINES_MAX, Told, told
from simulation.trial import run
from tests.simulation.small import EXACT, numbered, plan_of

PLAN = Plan(
    7,
    2,
    2,
    (
        Step(1, 0, "write", "key-0", 1_000),
        Step(2, 1, "read", "key-0", 2_000),
        Step(3, 0, "delete", "key-0", 1_800),
        Step(4, 1, "create", "key-0", 20_000),
        Step(5, 1, "write", "elsewhere", 100),
    ),
    numbered((7_050, "isolate", 1, 1), (8_500, "crash", 1), (15_000, "restart", 1)),
    anomalies=(Anomaly(2, 1, 0, LOSE_REPLY), Anomaly(3, 1, 0, DELAY_REQUEST, 50)),
    times=EXACT,
)
GOLDEN = """
1.000 c0 asks to write key-0 = 1
1.100 node 0: put key-0=1 handled
1.100 node 1: put key-0=1 handled
1.210 c0 is told ok (write key-0)
2.000 c1 asks to read key-0
2.100 node 0: get key-0 handled
2.100 node 0: get key-0 lost answer
3.010 c0 asks to delete key-0
7.050 the link to node 1 is cut (ways 1)
7.100 node 1: get key-0 handled
7.200 c1 is told ok (key-0 is 1)
7.350 node 0: get key-0 handled
7.450 node 1: put key-0=deleted lost
7.550 node 0: put key-0=deleted handled
8.500 node 1's machine crashes
15.000 node 1's machine is back
17.450 c0 is told ok (delete key-0)
27.200 c1 asks to create key-0 = 4 if it is absent
27.300 node 0: get key-0 handled
27.400 node 1: put key-0=4 lost
27.500 node 0: put key-0=4 handled
32.400 c1 is told ok (create key-0)
"""


def lines_of(text: str) -> list[tuple[float, str]]:
    """Each line's time in ms since just before the first one, and its words."""
    found = re.findall(r"^ *(\d+\.\d{3})  [●│×‖ ]*(\S.*)$", text, re.MULTILINE)
    began = float(found[0][0]) - 1
    return [(round(float(time) - began, 3), words) for time, words in found]


def clients_only(text: str) -> list[tuple[float, str]]:
    """What happened up to the first look of the second part."""
    lines = lines_of(text)
    looks = [n for n, (_, words) in enumerate(lines) if words.startswith("core ")]
    return lines[: looks[0]]


def test_a_small_run_is_not_told_in_other_words():
    lines = clients_only(told(PLAN, "key-0"))

    assert "\n".join(f"{time:.3f} {words}" for time, words in lines) == GOLDEN.strip()


def test_what_has_to_do_with_another_key_is_not_told_unless_every_key_is():
    one = [words for _, words in clients_only(told(PLAN, "key-0"))]
    every = [words for _, words in clients_only(told(PLAN, None))]

    added = [words for words in every if words not in one]
    assert added == [
        "c1 asks to write elsewhere = 5",
        "node 1: put elsewhere=5 lost",
        "node 0: put elsewhere=5 handled",
        "c1 is told ok (write elsewhere)",
    ]


def test_a_run_is_not_another_one_because_it_is_told():
    trial = Told(PLAN, "key-0")

    assert trial.run().trace_hash == run(PLAN).trace_hash


def test_the_looks_at_the_end_are_not_left_out():
    words = [words for _, words in lines_of(told(PLAN, "key-0"))]

    for name in ("core", "last"):
        assert f"{name} asks to read key-0" in words
    assert words[-1].startswith("last is told ok (key-0 is ")


def test_a_machine_that_is_down_or_paused_is_not_shown_as_up():
    faults = numbered((1_500, "crash", 1), (2_500, "restart", 1), (3_500, "pause", 1))
    lines = told(plan_of("write", "read", "read", "read", faults=faults), None)
    at: dict[str, list[str]] = {}
    for line in lines.splitlines()[1:]:
        time, states, words = line[:10], line[10:-1], line.split("   ")[-1]
        at.setdefault(words, []).append(states)
        assert time.strip()

    asks = at["c0 asks to read key-0"]
    assert ["×" in states for states in asks] == [True, False, False]
    assert ["‖" in states for states in asks] == [False, False, True]


def test_a_message_after_its_sender_gave_up_is_not_told_like_any_other():
    late = Anomaly(1, 1, 1, DELAY_REQUEST, 8_000)
    plan = plan_of("write", *["read"] * 6, anomalies=(late,))
    words = [words for _, words in lines_of(told(plan, None))]

    assert "node 1: put key-0=1 handled, after its sender gave up" in words


def test_a_very_long_run_is_not_told_from_its_beginning():
    plan = plan_of(*["read"] * (LINES_MAX // 2))
    trial = Told(plan, None)
    trial.run()
    text = trial.text().splitlines()

    assert len(text) == LINES_MAX + 2
    assert re.match(r" +\.\.\.  \(\d+ lines before these\)$", text[1])
    assert text[-1] == trial.lines[-1]


def test_nobody_s_lane_is_under_another_one_s_name():
    header, *lines = told(PLAN, "key-0").splitlines()
    for line in lines:
        for name in ("c0", "c1", "n0", "n1"):
            place = header.index(name)
            about = {"n0": "node 0", "n1": "node 1"}.get(name, f"{name} ")
            marked = HAPPENS in line[place : place + 2]
            assert marked == bool(re.search(rf"   (the link to )?{about}", line)), line


def test_a_read_that_failed_is_not_said_to_have_found_the_key_absent():
    lost = tuple(Anomaly(2, 1 + node, node, LOSE_REQUEST) for node in range(3))
    text = told(plan_of("write", "read", anomalies=lost), None)

    assert "c0 is told failed" in text
    assert "absent" not in text
