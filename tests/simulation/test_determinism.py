"""The same plan is the same run: in one process, in two, however strings hash."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from simulation.plan import Noise, load_plan, save_plan
from simulation.swarm import Mix, draw_plan
from simulation.trial import run

ROOT = Path(__file__).resolve().parents[2]
FEW, MORE = range(8), range(40)
SEEDS = pytest.mark.parametrize(
    "seeds", [FEW, pytest.param(MORE, marks=pytest.mark.slow)], ids=len
)
PROGRAM = """
from simulation.swarm import draw_plan
from simulation.trial import run
for seed in range(40):
    outcome = run(draw_plan(seed))
    print(outcome.trace_hash, outcome.events, outcome.virtual_us, len(outcome.history.operations))
"""


def hashes(seeds):
    return [run(draw_plan(seed)).trace_hash for seed in seeds]


@SEEDS
def test_twice_in_one_process_gives_the_same_trace(seeds):
    first = hashes(seeds)

    assert hashes(reversed(seeds)) == first[::-1]  # nothing is left of an earlier run
    assert len(set(first)) == len(first)


@pytest.mark.slow
def test_two_processes_that_hash_strings_differently_give_the_same_trace():
    lines = []
    for hash_seed in ("0", "4242"):
        answer = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        lines.append(answer.stdout.splitlines())

    assert lines[0] == lines[1]
    assert [line.split()[0] for line in lines[0]] == hashes(MORE)


@SEEDS
def test_a_plan_that_was_saved_and_loaded_runs_exactly(tmp_path, seeds):
    for seed in seeds:
        plan = draw_plan(seed)
        save_plan(plan, tmp_path / "plan.json")

        loaded = load_plan(tmp_path / "plan.json")

        assert loaded == plan
        assert run(loaded).trace_hash == run(plan).trace_hash


@SEEDS
def test_noise_written_down_as_anomalies_is_the_same_run(seeds):
    noisy = 0
    for seed in seeds:
        outcome = run(draw_plan(seed))
        written = replace(outcome.plan, noise=Noise(), anomalies=outcome.anomalies)

        assert run(written).trace_hash == outcome.trace_hash
        noisy += bool(outcome.anomalies)
    assert noisy > len(seeds) / 5


def test_one_family_more_leaves_the_faults_of_the_others_alone():
    for seed in MORE:
        some = draw_plan(seed, Mix(families=("crash", "cut")))
        more = draw_plan(seed, Mix(families=("crash", "cut", "kill", "disk")))

        kept = [(f.at_us, f.kind, f.node) for f in some.faults]
        assert set(kept) <= {(f.at_us, f.kind, f.node) for f in more.faults}
        assert more.steps == some.steps
