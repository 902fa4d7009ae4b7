"""Writes under a version of the past, as a restored backup makes them, under every fault.

Many writes of a run become restores, with versions a little before or after the clock.
Deletes are remembered throughout: what happens to a forgotten one is no violation but what
restoring means (docs/decisions/0011).
"""

import random
import secrets

import pytest
from msgspec.structs import replace

from models import Version, VersionMismatch
from simulation.swarm import draw_plan
from simulation.trial import run
from simulation.workload import CREATE, SWAP, UPDATE, WRITE, Client
from simulation.world import World

FRESH = secrets.randbits(40)
EVER_MS = 10**12
# Node 2 hears of the third process only after it took what the first one had sent.
FOUND = (649018806189,)
LIFE = 1 << 30  # the numbers of requests that a run adds after its plan


@pytest.fixture
def restores(monkeypatch):
    """Turns writes into restores; counts those that were begun and those refused."""
    counts = {"begun": 0, "newer held": 0}
    start, told_error = Client._start, Client._told_error

    def start_or_restore(self, request, step):
        drawn = random.Random(step.number * 7_919 + self._world.plan.seed)
        can = step.action in (WRITE, CREATE, UPDATE, SWAP) and step.number < LIFE
        if not can or drawn.random() > 0.6:
            return start(self, request, step)
        counts["begun"] += 1
        world = self._world
        ms = max(
            1,
            world.wall_ms
            + drawn.choice([drawn.randint(-2_000, 0), drawn.randint(0, 300)]),
        )
        unique = (step.number & 0xFFFF) << 16 | 30_000 + step.client
        request.action, request.value = WRITE, str(step.number)
        ends_ms = ms + step.ttl_ms if step.ttl_ms else 0
        version = Version(ms << Version.MS_SHIFT | unique)
        return world.manager.restore(step.key, step.number, version, ends_ms)

    def told(self, request, error):
        if request.condition is None and isinstance(error, VersionMismatch):
            counts["newer held"] += 1
            self._note(request, "failed", request.value)
        else:
            told_error(self, request, error)

    # They take time along, and many have ended before they come.
    monkeypatch.setattr(World, "keeps_time", False)
    monkeypatch.setattr(Client, "_start", start_or_restore)
    monkeypatch.setattr(Client, "_told_error", told)
    return counts


def violations(seeds):
    found = {}
    for seed in seeds:
        plan = draw_plan(seed)
        trial = run(replace(plan, times=replace(plan.times, grace=EVER_MS)))
        if trial.violation is not None:
            found[seed] = trial.violation
    return found


def test_restores_under_faults_violate_nothing(restores):
    assert violations(range(FRESH, FRESH + 40)) == {}
    assert restores["begun"] > 100
    assert restores["newer held"] > 10


def test_what_was_found_once_stays_mended(restores):
    assert violations(FOUND) == {}


@pytest.mark.slow
def test_many_restores_under_faults_violate_nothing(restores):
    assert violations(range(FRESH + 40, FRESH + 640)) == {}
