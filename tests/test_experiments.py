"""The experiments against a store that is right, and against ones that are not.

An experiment that cannot fail proves nothing: every bug of `tests.planted_store` must
be found, and called what it is.
"""

import itertools
import json
import re
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from checker.cli import main as check
from experiments import cli, report
from experiments.catalogue import PAPER, Case, Scenario, Shape
from experiments.expectation import NOT_FOUND, OK, UNAVAILABLE
from experiments.results import (
    CaseResult,
    TrialResult,
    Verdict,
)
from experiments.runner import CannotRun, NoCluster, Runner, Watch, units
from tests.planted_store import BUGS, OneCluster, PlantedStore, run_paper


def verdicts(results):
    return {result.trial.name: result.verdict for result in results}


# --- What is done and what it must show --------------------------------------------------


def test_right_store_holds_every_claim():
    clusters = OneCluster()

    results = run_paper(clusters)

    assert set(verdicts(results).values()) == {Verdict.HOLDS}, report.words_of(results)
    assert all(store.down == set() for store in clusters.stores.values())
    assert report.exit_status(results) == 0


FOUND = {
    "loses writes": ("1 2 3 5", "lost: "),
    "keeps one copy": ("1 2 3", "lost: "),
    "mixes up values": ("1 2 3 5", "wrong: "),
    "skips resync": ("3", "stale: "),
    "brings back deletes": ("3", "came back: "),
    "says 404 for 503": ("3", "a guess: "),
    "serves when down": ("3", "a guess: "),
    "ignores failures": ("1 2 3", "is up after fail"),
    "stays down": ("1 2", "is down after recover"),
    "gives up": ("1 2 3", "not available: "),
    "dies": ("1 2", "stopped answering"),
}


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bug_is_found_and_called_what_it_is(bug):
    names, words = FOUND[bug]

    results = run_paper(OneCluster(bug))

    violated = [
        n for n, verdict in verdicts(results).items() if verdict is Verdict.VIOLATED
    ]
    assert set(names.split()) <= set(violated)
    assert words in "\n".join(text for result in results for text in result.findings)
    assert report.exit_status(results) == 1
    assert report.words_of(results).startswith("Violated: ")


def test_mean_above_the_claim_is_a_violation():
    results = run_paper(OneCluster(seconds_each=0.040))

    assert verdicts(results)["4"] is Verdict.HOLDS  # 40 ms of 50
    assert verdicts(results)["5"] is Verdict.VIOLATED  # 40 ms of 30
    assert results[4].findings == []
    assert "40.0 ms" in report.outcome_of(results[4])


def test_every_choice_of_failed_nodes_is_tried():
    first, second, third, *timed = PAPER.trials

    assert {case.failed for case in first.cases()} == {(0,), (1,), (2,)}
    assert {case.failed for case in second.cases()} == set(
        itertools.combinations(range(5), 2)
    )
    assert {(case.failed, case.changes) for case in third.cases()} == set(
        itertools.product([(0,), (1,), (2,)], [False, True])
    )
    assert [len(trial.cases()) for trial in timed] == [1, 1]
    assert len(second.cases(repeats=3)) == 30


def test_resync_leaves_the_recovered_node_alone_and_asks_for_every_key():
    (trial,) = [t for t in PAPER.trials if t.scenario is Scenario.RESYNC]

    (result,) = Runner(OneCluster(), Watch()).run([trial])

    for case in result.cases:
        outcomes = {s.outcome for s in case.observations if s.operation == "read"}
        assert {OK, UNAVAILABLE} <= outcomes
        assert (NOT_FOUND in outcomes) == case.case.changes
        operations = {s.operation for s in case.observations}
        assert ("delete" in operations) == case.case.changes


def test_same_seed_sends_the_same_requests_and_another_does_not():
    def subjects(seed):
        results = run_paper(OneCluster(), seed=seed)
        return [s.subject for r in results for c in r.cases for s in c.observations]

    assert subjects(1) == subjects(1)
    assert subjects(1) != subjects(2)


@pytest.mark.parametrize("bug", ["", "dies", "gives up"])
def test_progress_comes_to_its_end_whatever_happens(bug):
    moved: list[float] = []
    finished: list[TrialResult] = []

    run_paper(OneCluster(bug), Watch(moved.append, finished.append), repeats=2)

    assert sum(moved) == sum(units(trial, 2) for trial in PAPER.trials)
    assert len(finished) == len(PAPER.trials)


# --- When it cannot be run ---------------------------------------------------------------


class Refusing:
    prefix = "test-"

    def __init__(self, error):
        self.error = error

    def store(self, shape):
        raise self.error


def test_cluster_of_another_shape_is_not_run_and_the_verdict_is_unknown():
    results = run_paper(Refusing(NoCluster("needs 5 nodes")))

    assert set(verdicts(results).values()) == {Verdict.NOT_RUN}
    assert report.exit_status(results) == 2


def test_trial_that_does_not_fit_does_not_spoil_the_others():
    class OnlyThree(OneCluster):
        def store(self, shape):
            if shape.nodes != 3:
                raise NoCluster("needs 5 nodes")
            return super().store(shape)

    results = run_paper(OnlyThree())

    assert verdicts(results)["2"] is Verdict.NOT_RUN
    assert report.exit_status(results) == 0
    assert report.words_of(results) == (
        "Holds: of 5 tests, 4 hold, 1 was not run (test 2)."
    )


def raise_key_error(*_, **__):
    raise KeyError("what the contract says is there")


def expect_unknown(results):
    assert set(verdicts(results).values()) == {Verdict.UNKNOWN}
    assert report.exit_status(results) == 2


def test_server_that_does_not_start_leaves_the_claims_unknown():
    expect_unknown(run_paper(Refusing(CannotRun("the server did not start"))))


def test_server_that_never_answers_leaves_the_claims_unknown():
    clusters = OneCluster()
    for trial in PAPER.trials:
        clusters.store(trial.shape).dead = True

    expect_unknown(run_paper(clusters))


def test_server_that_is_no_store_leaves_the_claims_unknown(monkeypatch):
    monkeypatch.setattr(PlantedStore, "nodes", raise_key_error)

    expect_unknown(run_paper(OneCluster()))


def test_answer_that_is_not_what_the_contract_says_is_a_finding(monkeypatch):
    monkeypatch.setattr(PlantedStore, "read", raise_key_error)

    results = run_paper(OneCluster())

    assert report.exit_status(results) == 1
    assert "malformed" in results[0].findings[0]


def test_cluster_with_a_node_down_is_not_touched():
    clusters = OneCluster()
    for trial in PAPER.trials:
        clusters.store(trial.shape).down = {1}

    expect_unknown(run_paper(clusters))

    for store in clusters.stores.values():
        assert (store.keys(), store.recovered, store.down) == ([], [], {1})


def test_interruption_keeps_what_was_found_and_brings_failed_nodes_back():
    class Interrupted(PlantedStore):
        def read(self, key, **options):
            if self.requests > 200:
                raise KeyboardInterrupt
            return super().read(key, **options)

    clusters = OneCluster()
    clusters.stores[Shape(3, 2)] = store = Interrupted()

    results = run_paper(clusters)

    found = verdicts(results)
    assert found["1"] is Verdict.HOLDS
    assert found["3"] is Verdict.UNKNOWN
    assert found["4"] is Verdict.NOT_RUN
    assert store.down == set()
    assert report.exit_status(results) == 2


def test_violation_outweighs_an_interruption():
    def case(*findings, problem=""):
        return CaseResult(Case(), findings, (), problem)

    def verdict(*cases):
        return TrialResult(PAPER.trials[0], cases).verdict

    assert (
        verdict(case(), case("lost"), case(problem="interrupted")) is Verdict.VIOLATED
    )
    assert verdict(case(), case(problem="interrupted")) is Verdict.UNKNOWN
    assert verdict(case(), case()) is Verdict.HOLDS
    assert verdict() is Verdict.UNKNOWN


HOLDS, VIOLATED, UNKNOWN, NOT_RUN = Verdict


def result_of(verdict, number):
    """A trial of this number, called by it, that came to this verdict."""
    trial = replace(PAPER.trials[0], name=str(number))
    if verdict is NOT_RUN:
        return TrialResult(trial, not_run="it does not fit")
    findings = ("lost",) if verdict is VIOLATED else ()
    problem = "silent" if verdict is UNKNOWN else ""
    return TrialResult(trial, (CaseResult(Case(), findings, (), problem),))


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        ([HOLDS], "Holds: of 1 test, 1 holds."),
        ([HOLDS] * 3, "Holds: of 3 tests, 3 hold."),
        (
            [HOLDS, NOT_RUN, HOLDS, NOT_RUN],
            "Holds: of 4 tests, 2 hold, 2 were not run (tests 2, 4).",
        ),
        (
            [VIOLATED, HOLDS, NOT_RUN, UNKNOWN, VIOLATED],
            "Violated: of 5 tests, 1 holds, 2 do not hold (tests 1, 5), "
            "1 is unknown (test 4), 1 was not run (test 3).",
        ),
        ([VIOLATED] * 2, "Violated: of 2 tests, 2 do not hold (tests 1, 2)."),
        ([UNKNOWN] * 2, "Unknown: of 2 tests, 2 are unknown (tests 1, 2)."),
        ([UNKNOWN, HOLDS], "Unknown: of 2 tests, 1 holds, 1 is unknown (test 1)."),
        ([NOT_RUN], "Unknown: of 1 test, 1 was not run (test 1)."),
        ([], "Unknown: of 0 tests, none was run."),
    ],
)
def test_numbers_of_a_verdict_add_up_whatever_became_of_the_tests(verdicts, said):
    results = [result_of(verdict, n) for n, verdict in enumerate(verdicts, 1)]

    assert report.words_of(results).splitlines()[0] == said


def test_every_choice_of_four_tests_is_counted_once():
    for verdicts in itertools.product(Verdict, repeat=4):
        results = [result_of(verdict, n) for n, verdict in enumerate(verdicts, 1)]

        said = report.words_of(results).splitlines()[0]

        counts = re.findall(r", (\d+) (?:holds?|does|do|is|are|was|were)\b", said)
        assert sum(map(int, counts)) == 4, said


# --- The command line --------------------------------------------------------------------


@pytest.fixture
def paper(monkeypatch, tmp_path):
    """Run `experiment paper` on planted stores; the status and the folder of results."""

    def run(*arguments, bug=""):
        clusters = OneCluster(bug)
        monkeypatch.setattr(cli, "_clusters", lambda *_: nullcontext(clusters))
        return cli.main(["paper", "--out", str(tmp_path), *arguments])

    return run


def test_command_shows_claim_beside_result_and_keeps_them(paper, tmp_path, capsys):
    status = paper()

    shown = capsys.readouterr().out
    assert status == 0
    assert "Holds: of 5 tests, 5 hold." in shown
    assert "all available" in shown
    assert {path.name for path in tmp_path.iterdir()} == {
        "history.jsonl",
        "latency.png",
        "latency.svg",
        "requests.jsonl",
        "result.json",
    }


def test_command_fails_honestly_and_names_the_key(paper, tmp_path, capsys):
    status = paper("--no-plot", bug="brings back deletes")

    shown = capsys.readouterr().out
    assert status == 1
    assert "Violated: of 5 tests, 4 hold, 1 does not hold (test 3)." in shown
    assert "came back: test-" in shown
    assert not (tmp_path / "latency.png").exists()


LIES = {
    "loses writes": "lost_writes",
    "keeps one copy": "lost_writes",
    "mixes up values": "written_only",
    "skips resync": "stale_reads",
    "brings back deletes": "resurrection",
    "says 404 for 503": "stale_reads",
}


@pytest.mark.parametrize("bug", ["", *BUGS])
def test_kept_history_is_no_other_than_the_one_that_check_judges(
    paper, tmp_path, capsys, bug
):
    paper("--no-plot", bug=bug)
    capsys.readouterr()

    status = check([str(tmp_path / "history.jsonl"), "--json"])

    verdicts = json.loads(capsys.readouterr().out)["verdicts"]
    wrong = {each["property"] for each in verdicts if each["answer"] != "holds"}
    assert status == (1 if bug in LIES else 0)
    assert (LIES[bug] in wrong) if bug in LIES else not wrong


def test_requests_that_were_kept_as_a_history_are_refused_by_what_they_have(
    paper, tmp_path, capsys
):
    paper("--no-plot")
    capsys.readouterr()

    assert check([str(tmp_path / "requests.jsonl")]) == 2

    error = capsys.readouterr().err
    assert 'line 1: a line is one JSON object with a "type"' in error
    assert "this one has trial, case, operation" in error


def test_results_that_cannot_be_written_exit_with_2(paper, tmp_path, capsys):
    (tmp_path / "history.jsonl").mkdir()

    assert paper("--no-plot") == 2
    assert "cannot write results" in capsys.readouterr().out


def test_token_is_not_kept(paper, tmp_path):
    paper("--no-plot", "--token", "a-secret-of-ours")

    kept = "".join(path.read_text("utf-8") for path in tmp_path.iterdir())
    assert "a-secret-of-ours" not in kept


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["paper", "--repeat", "0"],
        ["paper", "--storage", "tape"],
        ["paper", "--seed", "x"],
        ["paper", "--unknown"],
    ],
)
def test_wrong_call_exits_with_2_and_runs_nothing(arguments, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    assert cli.main(arguments) == 2
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_made_exits_with_2(tmp_path):
    (tmp_path / "file").write_text("")

    assert cli.main(["paper", "--out", str(tmp_path / "file" / "results")]) == 2


def test_experiment_that_could_not_be_drawn_in_the_end_does_not_begin(
    monkeypatch, capsys, tmp_path
):
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    folder = tmp_path / "results"

    status = cli.main(["paper", "--out", str(folder)])

    assert status == 2
    assert "--no-plot" in capsys.readouterr().out
    assert not folder.exists()


@pytest.mark.parametrize("token", ["schlüssel", "hunter2\n", " hunter2"])
def test_token_that_cannot_be_sent_is_refused_unseen(capsys, tmp_path, token):
    folder = tmp_path / "results"

    status = cli.main(["paper", "--out", str(folder), "--token", token])

    said = capsys.readouterr().err
    assert status == 2
    assert "printable ASCII" in said
    assert token.strip() not in said
    assert not folder.exists()


@pytest.mark.parametrize("argument", ["list", "--help"])
def test_catalogue_is_shown(argument, capsys):
    assert cli.main([argument]) == 0

    shown = capsys.readouterr().out
    assert "paper" in shown
    assert "5 nodes, RF 3" in shown


def test_results_go_to_a_folder_of_their_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    folder = cli.new_folder(None, "paper")

    assert folder.is_dir()
    assert folder.relative_to(tmp_path).parts[0] == "results"
    assert cli.new_folder(Path("elsewhere"), "paper") == tmp_path / "elsewhere"
