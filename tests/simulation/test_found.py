"""Every plan that ever violated something, run again: it must not any more."""

from pathlib import Path

import pytest

from simulation.plan import load_plan
from simulation.trial import run

FOUND = sorted((Path(__file__).parent / "found").glob("*.json"))


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.stem)
def test_what_a_plan_once_violated_holds(path):
    outcome = run(load_plan(path))

    assert outcome.violation is None, outcome.violation
    assert not outcome.undecided
    assert outcome.answered > 0


def test_there_are_plans_to_run():
    assert FOUND
