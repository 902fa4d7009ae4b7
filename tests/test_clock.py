"""The clock must grow whatever the wall clock does, and name no version twice."""

import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.clock import HybridClock
from models import Version

WALLS = st.integers(-(2**40), 2**46)  # milliseconds; an unset clock may be below 1970
VERSIONS = st.integers(0, 2**78).map(Version)
ORIGINS = st.integers(0, 2**16 - 1)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wall"), WALLS),
        st.tuples(st.just("observe"), VERSIONS),
        st.tuples(st.sampled_from(["next", "now"]), st.none()),
    ),
    max_size=60,
)


class Wall:
    """A wall clock that shows what it is set to."""

    def __init__(self, ms: int = 0) -> None:
        self.ms = ms

    def __call__(self) -> int:
        return self.ms


@given(STEPS, ORIGINS)
def test_no_wall_clock_makes_a_version_that_is_not_above_all_before(steps, origin):
    wall = Wall()
    clock = HybridClock(wall, origin)
    highest, latest_ms = -1, -1

    for step, argument in steps:
        if step == "wall":
            wall.ms = argument
        elif step == "observe":
            clock.observe(argument)
            highest = max(highest, argument)
        elif step == "next":
            version = clock.next_version()
            assert version > highest
            assert version.ms >= max(latest_ms, wall.ms)
            assert version & 0xFFFF == origin
            highest, latest_ms = version, version.ms
        else:
            now_ms = clock.now_ms()
            assert now_ms >= max(latest_ms, wall.ms)
            latest_ms = now_ms


@given(WALLS, WALLS)
def test_time_that_was_told_does_not_go_back_with_the_wall_clock(one, other):
    wall = Wall(max(one, other))
    clock = HybridClock(wall)
    told = clock.now_ms()

    wall.ms = min(one, other)

    assert clock.now_ms() == told
    assert clock.next_version().ms >= told


@given(VERSIONS, WALLS, ORIGINS)
def test_time_does_not_lag_behind_a_version_that_was_observed(version, wall_ms, origin):
    clock = HybridClock(Wall(wall_ms), origin)

    clock.observe(version)

    assert clock.now_ms() == max(version.ms, wall_ms)
    assert clock.next_version() > version


@given(VERSIONS, VERSIONS)
def test_observing_an_old_version_does_not_set_the_clock_back(one, other):
    clock = HybridClock(Wall())
    clock.observe(max(one, other))
    before = clock.next_version()

    clock.observe(min(one, other))

    assert clock.next_version() > before


@given(
    st.tuples(ORIGINS, ORIGINS).filter(lambda pair: pair[0] != pair[1]),
    st.lists(st.tuples(st.booleans(), st.booleans(), WALLS), max_size=60),
)
def test_two_origins_never_make_the_same_version(origins, turns):
    wall = Wall()
    clocks = [HybridClock(wall, origin) for origin in origins]
    made = []

    for turn, tell, wall.ms in turns:
        made.append(clocks[turn].next_version())
        if tell:
            clocks[not turn].observe(made[-1])

    assert len(set(made)) == len(made)


def test_counter_that_runs_over_goes_into_the_next_millisecond_and_not_to_zero():
    clock = HybridClock(Wall(1_000))

    made = [clock.next_version() for _ in range(70_000)]

    assert made == sorted(set(made))
    assert (made[0].ms, made[-1].ms) == (1_000, 1_001)


def test_wall_clock_that_moves_on_is_followed_again_after_a_lead():
    wall = Wall(1_000)
    clock = HybridClock(wall)
    clock.observe(Version(5_000 << Version.MS_SHIFT))
    ahead = clock.next_version()

    wall.ms = 9_000

    assert ahead.ms == 5_000
    assert clock.next_version().ms == 9_000


@given(st.integers(0, 2**80 - 1), st.integers(0, 2**80 - 1))
def test_text_of_a_version_sorts_as_the_version_does(one, other):
    texts = Version(one).text, Version(other).text

    assert (texts[0] < texts[1]) == (one < other)
    assert (texts[0] == texts[1]) == (one == other)
    assert int(texts[0], 16) == one


def test_threads_do_not_get_the_same_version(monkeypatch):
    clock = HybridClock(Wall(1_000))
    made: list[list[Version]] = [[] for _ in range(8)]
    start = threading.Barrier(len(made))

    def make(mine: list[Version]) -> None:
        start.wait(timeout=30)
        for number in range(1_000):
            mine.append(clock.next_version())
            clock.observe(mine[-1])
            assert clock.now_ms() >= mine[number].ms

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=make, args=(mine,)) for mine in made]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
    finally:
        sys.setswitchinterval(interval)

    assert all(mine == sorted(mine) and len(mine) == 1_000 for mine in made)
    assert len({version for mine in made for version in mine}) == 8_000


@pytest.mark.parametrize("origin", [-1, 2**16])
def test_origin_that_would_spill_into_the_counter_is_not_taken(origin):
    with pytest.raises(AssertionError, match="origin out of range"):
        HybridClock(Wall(), origin)
