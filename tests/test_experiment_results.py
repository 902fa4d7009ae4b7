"""What the experiments make of answers and numbers: judgements, verdicts, files, plots."""

import itertools
import json
import random
import xml.etree.ElementTree as ElementTree

import pytest

from experiments import report
from experiments.catalogue import PAPER, Case
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
from tests.planted_store import OneCluster, run_paper

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
        (Answer("data_lost"), [0, 1], "a guess"),  # they are only down
        (Answer("data_lost"), [0], "not available"),
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
    lines = (tmp_path / "requests.jsonl").read_text("utf-8").splitlines()
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
