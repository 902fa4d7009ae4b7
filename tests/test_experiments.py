"""The experiments against a store that is right, and against ones that are not.

An experiment that cannot fail proves nothing: every bug of `tests.planted_store` must
be found, and called what it is.
"""

import itertools
import json
import random
import xml.etree.ElementTree as ElementTree
from contextlib import nullcontext
from pathlib import Path

import pytest

from experiments import cli, report
from experiments.catalogue import PAPER, Case, Scenario, Shape
from experiments.expectation import NOT_FOUND, OK, UNAVAILABLE, Answer, Expectation
from experiments.plot import bin_edges, draw
from experiments.results import (
    CaseResult,
    Observation,
    TrialResult,
    Verdict,
    overall,
    percentile,
)
from experiments.runner import CannotRun, NoCluster, Runner, Watch, units
from tests.planted_store import BUGS, PlantedStore


class OneCluster:
    """Offers one planted store of each shape."""

    prefix = "test-"

    def __init__(self, bug="", seconds_each=0.001):
        self.stores = {}
        self._planted = {"bug": bug, "seconds_each": seconds_each}

    def store(self, shape):
        if shape not in self.stores:
            self.stores[shape] = PlantedStore(
                shape.nodes, shape.replication_factor, **self._planted
            )
        return self.stores[shape]

    def clock(self):
        return sum(store.clock() for store in self.stores.values())


def run_paper(clusters, watch=None, **options):
    clock = getattr(clusters, "clock", lambda: 0.0)
    return Runner(clusters, watch or Watch(), clock=clock, **options).run(PAPER.trials)


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
    assert report.words_of(results) == "Holds: 4 of 5 tests (not run: 2)."


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


def test_cluster_with_a_node_down_is_not_touched():
    clusters = OneCluster()
    for trial in PAPER.trials:
        clusters.store(trial.shape).down = {1}

    expect_unknown(run_paper(clusters))

    for store in clusters.stores.values():
        assert (store.keys(), store.recovered, store.down) == ([], [], {1})


def test_interruption_keeps_what_was_found_and_brings_failed_nodes_back():
    class Interrupted(PlantedStore):
        def read(self, key):
            if self.requests > 200:
                raise KeyboardInterrupt
            return super().read(key)

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


# --- Judging one answer ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "down", "finding"),
    [
        (Answer(OK, 2), [], ""),
        (Answer(OK, 2), [0], ""),
        (Answer(OK, 1), [], "stale"),
        (Answer(OK, 3), [], "wrong"),
        (Answer(OK, "2"), [], "wrong"),
        (Answer(OK, 2.5), [], "wrong"),
        (Answer(NOT_FOUND), [], "lost"),
        (Answer(UNAVAILABLE), [], "not available"),
        (Answer(UNAVAILABLE), [0, 2], "not available"),
        (Answer("timeout"), [], "not available"),
        (Answer("no_connection"), [0], "not available"),
        (Answer(UNAVAILABLE), [0, 1], ""),
        (Answer(UNAVAILABLE), [0, 1, 2], ""),
        (Answer(OK, 2), [0, 1], "a guess"),
        (Answer(NOT_FOUND), [0, 1], "a guess"),
        (Answer("timeout"), [0, 1], "a guess"),
    ],
)
def test_answer_for_a_written_key(answer, down, finding):
    expectation = Expectation()
    expectation.written("k", 1, [0, 1])
    expectation.written("k", 2, [0, 1])

    assert expectation.judge("k", answer, down).partition(":")[0] == finding


@pytest.mark.parametrize(
    ("answer", "finding"),
    [
        (Answer(NOT_FOUND), ""),
        (Answer(OK, 1), "came back"),
        (Answer(OK, 9), "came back"),
    ],
)
def test_answer_for_a_deleted_key(answer, finding):
    expectation = Expectation()
    expectation.written("k", 1, [0, 1])
    expectation.deleted("k", [0, 1])

    assert expectation.judge("k", answer, []).partition(":")[0] == finding


def test_true_is_not_one_and_null_is_a_value():
    expectation = Expectation()
    expectation.written("truth", True, [0])
    expectation.written("nothing", None, [0])

    assert expectation.judge("truth", Answer(OK, 1), [])
    assert not expectation.judge("nothing", Answer(OK, None), [])
    assert expectation.judge("nothing", Answer(NOT_FOUND), [])


# --- Numbers -----------------------------------------------------------------------------


@pytest.mark.parametrize("percent", [1, 50, 95, 99, 100])
def test_percentile_is_the_least_that_covers_its_share(percent):
    draw = random.Random(percent)
    for size in range(1, 120):
        ordered = sorted(draw.random() for _ in range(size))

        found = percentile(ordered, percent)

        covered = [
            v for v in ordered if sum(o <= v for o in ordered) * 100 >= percent * size
        ]
        assert found == min(covered)


def test_verdict_on_the_whole_is_that_of_its_worst_part():
    def having(verdict):
        findings = ("lost",) if verdict is Verdict.VIOLATED else ()
        problem = "interrupted" if verdict is Verdict.UNKNOWN else ""
        not_run = "no cluster" if verdict is Verdict.NOT_RUN else ""
        case = CaseResult(Case(), findings, (), problem)
        return TrialResult(PAPER.trials[0], (case,), not_run)

    severity = [Verdict.VIOLATED, Verdict.UNKNOWN, Verdict.HOLDS]
    for chosen in itertools.product(Verdict, repeat=3):
        worst = next((v for v in severity if v in chosen), Verdict.UNKNOWN)
        assert overall(map(having, chosen)) is worst


def test_bins_hold_every_value():
    values = [0.3, 1.0, 50.0, 700.0]

    edges = bin_edges(values)

    assert edges == sorted(edges)
    assert edges[0] < min(values)
    assert max(values) < edges[-1]


# --- What is kept and shown --------------------------------------------------------------


def test_files_tell_what_was_run_and_every_request(tmp_path):
    results = run_paper(OneCluster())

    report.save(tmp_path, PAPER, results, {"seed": 1})

    kept = json.loads((tmp_path / "result.json").read_text("utf-8"))
    assert kept["verdict"] == "holds"
    assert kept["options"] == {"seed": 1}
    assert {"commit", "machine", "at"} <= kept.keys()
    writes = kept["trials"][3]["latency_ms"]["write"]
    assert writes["count"] == 1_000
    assert writes["mean"] == pytest.approx(1.0)
    lines = (tmp_path / "history.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == sum(len(c.observations) for r in results for c in r.cases)
    assert {
        "trial",
        "case",
        "operation",
        "subject",
        "latency_ms",
        "outcome",
    } <= json.loads(lines[0]).keys()


def test_plot_is_drawn_twice_and_not_without_latencies(tmp_path):
    results = run_paper(OneCluster())

    png, svg = draw(tmp_path, results)

    assert png.read_bytes().startswith(b"\x89PNG")
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")
    assert draw(tmp_path, results[:3]) == []


def test_plot_of_latencies_that_are_all_the_same_is_drawn(tmp_path):
    seen = Observation("write", "k", 0.0, 50.0, OK)
    trial = PAPER.trials[3]

    assert draw(tmp_path, [TrialResult(trial, (CaseResult(Case(), (), (seen,)),))])


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
    assert "Holds: 5 of 5 tests." in shown
    assert "all available" in shown
    assert {path.name for path in tmp_path.iterdir()} == {
        "history.jsonl",
        "latency.png",
        "latency.svg",
        "result.json",
    }


def test_command_fails_honestly_and_names_the_key(paper, tmp_path, capsys):
    status = paper("--no-plot", bug="brings back deletes")

    shown = capsys.readouterr().out
    assert status == 1
    assert "Violated: test 3." in shown
    assert "came back: test-" in shown
    assert not (tmp_path / "latency.png").exists()


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
