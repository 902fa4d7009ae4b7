"""Campaigns and the command: exit statuses, what is printed, and what is kept."""

import json
import re
from functools import partial
from pathlib import Path

import pytest

from checker.cli import main as check
from checker.history import History, read_history
from checker.judgement import judge
from checker.verdict import HOLDS
from protocols.primary_backup import ONE, PrimaryBackup
from simulation import report
from simulation.cli import main
from simulation.plan import load_plan, save_plan
from simulation.search import CHUNK, Failure, Search, Tally, run_seeds
from simulation.shrink import Shrinker
from simulation.swarm import ALL_FAMILIES, Mix, draw_plan
from simulation.trial import Violation
from tests.simulation.small import numbered, plan_of

STEP = {"number": 1, "client": 0, "action": "read", "key": "k", "think_us": 5}
HASH = re.compile(r"trace\s+([0-9a-f]{16})")


class Called:
    """One call of the command: its exit status, and what it printed as one line."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: object) -> None:
        self.status = main([str(each) for each in arguments])
        captured = capsys.readouterr()
        self.out, self.err = captured.out, captured.err
        self.words = " ".join(captured.out.split())

    @property
    def trace_hash(self) -> str:
        [found] = HASH.findall(self.out)
        return str(found)


@pytest.fixture
def call(capsys):
    return partial(Called, capsys)


# --- Called rightly --------------------------------------------------------------------


def test_help_does_not_leave_out_how_to_call_it(call):
    called = call("--help")

    assert called.status == 0
    for word in (
        "--seeds",
        "--seed ",
        "--replay",
        "--faults",
        "--history",
        "exit status",
    ):
        assert word in called.out
    assert set(ALL_FAMILIES) <= set(re.findall(r"\w+", called.out))


def test_seeds_that_violate_nothing_do_not_exit_otherwise(call):
    called = call("--seeds", 5, "--first", 0, "--workers", 1, "--faults", "crash")

    assert called.status == 0
    assert "Nothing violated, nothing unknown in 5 seeds." in called.words
    assert "5 seeds in " in called.words
    assert "seeds from 0 on" in called.words
    assert "isolate" not in called.words  # a fault that was not asked for
    assert "Never exercised" not in called.words  # too few to hold that against it


def test_a_first_seed_that_is_not_given_is_not_kept_secret(call):
    one, two = (call("--seeds", 1, "--workers", 1, "--faults", "none") for _ in "12")

    firsts = [re.findall(r"seeds from (\d+) on", each.words) for each in (one, two)]
    assert firsts[0] != firsts[1]


def test_a_time_limit_is_not_passed_by_much(call):
    called = call("--minutes", 0.001, "--workers", 1, "--scale", 0.1)

    assert called.status == 0


def test_one_seed_is_not_run_as_another(call):
    one, again, other = (call("--seed", seed) for seed in (11, 11, 12))

    assert one.status == 0
    assert "seed 11: " in one.words
    assert "Nothing violated" in one.words
    assert one.trace_hash == again.trace_hash != other.trace_hash


def test_a_plan_that_was_saved_is_not_replayed_as_another(call, tmp_path):
    seed = call("--seed", 11)
    save_plan(draw_plan(11), tmp_path / "plan.json")

    replayed = call("--replay", tmp_path / "plan.json")

    assert replayed.status == 0
    assert replayed.trace_hash == seed.trace_hash


def kept_history(path: Path) -> History:
    with path.open(encoding="utf-8") as lines:
        return read_history(lines)


def test_a_history_that_is_kept_does_not_fail_the_checker(call, tmp_path):
    plan, kept = tmp_path / "plan.json", tmp_path / "history.jsonl"
    actions = ("create", "read", "swap", "write-one", "delete", "read-one", "write") * 5
    save_plan(plan_of(*actions, faults=numbered((20_000, "kill", 0))), plan)

    assert call("--replay", plan, "--history", kept).status == 0
    history = kept_history(kept)
    assert len(history.operations) >= len(actions)
    assert len(history.replicas) == 3
    assert {each.answer for each in judge(history)} == {HOLDS}
    assert check([str(kept)]) == 0


def test_a_history_with_a_page_of_keys_is_not_one_that_cannot_be_read(call, tmp_path):
    plan, kept = tmp_path / "plan.json", tmp_path / "history.jsonl"
    save_plan(plan_of("list", "write", "list", "delete", "list"), plan)

    assert call("--replay", plan, "--history", kept).status == 0
    assert {each.answer for each in judge(kept_history(kept))} == {HOLDS}


# --- Called wrongly --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--faults", "gremlins"], "invalid choice: 'gremlins'"),
        (["--seeds", "0"], "a whole number from 1 to 1000000000, not 0"),
        (["--seeds", "many"], "a whole number from 1"),
        (["--seed", "-1"], "a whole number from 0"),
        (["--seed", "1", "--seeds", "2"], "not allowed with argument"),
        (["--minutes", "0"], "a number from 0.001"),
        (["--minutes", "nan"], "a number from 0.001"),
        (["--nodes", "0"], "a whole number from 1 to 20"),
        (["--scale", "0"], "a number from 0.1"),
        (["--workers", "0"], "a whole number from 1"),
        (["--protocol", "gossip"], "invalid choice: 'gossip'"),
        (["--unheard-of"], "unrecognized arguments: --unheard-of"),
        (["4170"], "unrecognized arguments: 4170"),
    ],
)
def test_a_wrong_argument_is_not_a_traceback_and_not_a_violation(
    call, arguments, message
):
    called = call(*arguments)

    assert called.status == 2
    assert message in called.err.splitlines()[-1]
    assert called.out == ""


def test_a_file_that_is_no_plan_is_not_a_traceback_and_not_a_violation(call, tmp_path):
    absent = call("--replay", tmp_path / "absent.json")
    (tmp_path / "bad.json").write_text("{")
    bad = call("--replay", tmp_path / "bad.json")

    assert (absent.status, bad.status) == (2, 2)
    assert absent.out.count("\n") == bad.out.count("\n") == 1
    assert "cannot read" in absent.out
    assert "is not a plan" in bad.out


def test_a_history_that_cannot_be_written_is_not_a_traceback(call, tmp_path):
    called = call("--seed", 1, "--history", tmp_path / "absent" / "history.jsonl")

    assert called.status == 2
    assert "cannot write" in called.words


@pytest.mark.parametrize(
    "changes",
    [
        {"nodes": 0},
        {"replication_factor": 4},
        {"min_in_sync": 4},
        {"protocol": "unheard-of"},
        {"faults": [{"number": 1, "at_us": 5, "kind": "unheard-of", "node": 1}]},
        {"faults": [{"number": 1, "at_us": 5, "kind": "crash", "node": 9}]},
        {"faults": [{"number": 1, "at_us": 5, "kind": "crash"}]},
        {"anomalies": [{"task": 1, "message": 1, "node": 0, "kind": "unheard-of"}]},
        {"steps": [{**STEP, "action": "unheard-of"}]},
        {"steps": [{**STEP, "think_us": -1}]},
        {"times": {"upkeep": 0}},
        {"times": {"message": [5, 1]}},
        {"noise": {"duplicate": 2.0}},
    ],
    ids=str,
)
def test_a_plan_that_cannot_be_run_is_not_a_traceback_or_a_violation(
    call, tmp_path, changes
):
    path = tmp_path / "plan.json"
    save_plan(plan_of("read"), path)
    fields = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**fields, **changes}))

    called = call("--replay", path)

    assert called.status == 2
    assert called.out.count("\n") == 1
    assert "plan.json" in called.out


# --- A violation -----------------------------------------------------------------------


@pytest.fixture
def shrunk_soon(monkeypatch):
    monkeypatch.setattr(report, "Shrinker", partial(Shrinker, runs_max=12))


@pytest.fixture
def stale(monkeypatch, shrunk_soon):
    """A store that reads any live replica; only what clients were told can show it."""
    right = PrimaryBackup.read
    monkeypatch.setattr(
        PrimaryBackup,
        "read",
        lambda self, view, key, level: right(self, view, key, ONE),
    )


@pytest.fixture
def unsettled(monkeypatch, shrunk_soon):
    """A store that forgets that it does not know what became of a write."""

    def settle(self, view, key):
        view.shard(key).unsettled.discard(key)
        yield from ()

    monkeypatch.setattr(PrimaryBackup, "settle", settle)


def test_a_violation_is_not_kept_from_the_caller_and_can_be_seen_again(
    call, tmp_path, stale
):
    out = tmp_path / "out"
    called = call("--seeds", 500, "--first", 0, "--workers", 1, "--out", out)

    assert called.status == 1
    [seed] = re.findall(r"Seed (\d+) violates a property", called.words)
    assert "Violated: " in called.words
    assert "Nothing violated" not in called.words
    assert sorted(path.name for path in out.iterdir()) == [
        f"seed-{seed}-shrunk.history.jsonl",
        f"seed-{seed}-shrunk.json",
        f"seed-{seed}.json",
    ]
    assert check([str(out / f"seed-{seed}-shrunk.history.jsonl")]) == 1
    assert load_plan(out / f"seed-{seed}.json") == draw_plan(int(seed))
    [path] = re.findall(r"run\.py simulate --replay (\S+)", called.out)
    assert Path(path) == out / f"seed-{seed}-shrunk.json"
    again = call("--replay", path)
    assert again.status == 1
    said = called.out.partition("Violated: ")[2].splitlines()[:2]
    assert again.out.partition("Violated: ")[2].splitlines()[:2] == said
    before = list(out.iterdir())
    assert call("--seed", seed, "--out", tmp_path / "other").status == 1
    assert list(out.iterdir()) == before


def test_a_violation_is_not_shown_in_a_store_that_was_mended(
    call, tmp_path, unsettled, monkeypatch
):
    out = tmp_path / "out"
    called = call("--seeds", 500, "--first", 0, "--workers", 1, "--out", out)
    [path] = re.findall(r"run\.py simulate --replay (\S+)", called.out)
    monkeypatch.undo()

    assert call("--replay", path).status == 0


def test_a_folder_that_cannot_be_made_does_not_hide_the_violation(
    call, tmp_path, unsettled
):
    (tmp_path / "out").write_text("a file")
    called = call(
        "--seeds", 500, "--first", 0, "--workers", 1, "--out", tmp_path / "out"
    )

    assert called.status == 2
    assert "Violated: " in called.words
    assert "cannot write" in called.words


# --- Searching -------------------------------------------------------------------------


def test_what_several_seeds_came_to_is_not_less_than_the_sum(monkeypatch):
    one, two, both = (
        run_seeds(seeds, Mix()) for seeds in (range(3), range(3, 5), range(5))
    )
    one.add(two)

    assert one == both
    assert (both.seeds, both.failures, both.undecided) == (5, [], 0)
    assert both.operations > both.answered > 0
    assert both.virtual_us > both.events > 0


def test_a_search_does_not_run_seeds_twice_or_leave_some_out(monkeypatch):
    ran: list[int] = []
    told: list[int] = []

    def seeds_only(seeds, mix):
        ran.extend(seeds)
        return Tally(seeds=len(seeds))

    monkeypatch.setattr("simulation.search.run_seeds", seeds_only)
    count = 3 * CHUNK + 1
    tally = Search(Mix(), 7, count, None, lambda t: told.append(t.seeds)).run(1)

    assert ran == list(range(7, 7 + count))
    assert tally.seeds == count
    assert told == [CHUNK, 2 * CHUNK, 3 * CHUNK, count]


def test_a_search_does_not_go_on_after_a_violation_or_its_time(monkeypatch):
    def failing(seeds, mix):
        failures = (
            [Failure(seeds[0], Violation("it", "planted"))] if seeds[0] >= 50 else []
        )
        return Tally(seeds=len(seeds), failures=failures)

    monkeypatch.setattr("simulation.search.run_seeds", failing)

    assert Search(Mix(), 0, None, None).run(1).seeds == 3 * CHUNK
    assert Search(Mix(), -1_000_000, None, 0.0).run(1).seeds == CHUNK


def test_a_violation_does_not_let_the_seeds_after_it_run(unsettled):
    tally = run_seeds(range(500), Mix())

    [failure] = tally.failures
    assert failure.seed == tally.seeds - 1
    assert failure.violation.what
