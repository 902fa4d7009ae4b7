"""The clock must grow, at a steady pace whatever the wall clock does, and name no version twice."""

import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.clock import HybridClock, Wall, off_by, steady_ns
from models import Version

WALLS = st.integers(-(2**40), 2**46)  # milliseconds; an unset clock may be below 1970
VERSIONS = st.integers(0, 2**78).map(Version)
ORIGINS = st.integers(0, 2**16 - 1)
PAUSES = st.integers(0, 2**40)
NOW = 1_700_000_000_000
DAY = 86_400_000
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wall"), WALLS),
        st.tuples(st.just("pass"), st.integers(0, 2**40)),
        st.tuples(st.just("observe"), VERSIONS),
        st.tuples(st.sampled_from(["next", "now"]), st.none()),
    ),
    max_size=60,
)


class Clocks:
    """A wall clock that shows what it is set to, beside a steady one."""

    def __init__(self, ms: int = 0) -> None:
        self.ms = ms  # of the wall clock
        self.steady_ms = 12_345

    def pass_time(self, ms: int) -> None:
        self.ms += ms
        self.steady_ms += ms

    def hybrid(self, origin: int = 0) -> HybridClock:
        """A hybrid clock over both."""
        return HybridClock(lambda: self.ms, lambda: self.steady_ms * 1_000_000, origin)

    def restarted(self, clock: HybridClock, by_ms: int = 0) -> HybridClock:
        """The one of the next process; the wall clock went on, or was set, by so much."""
        version, wall = clock.next_version(), clock.wall()
        self.ms += by_ms
        self.steady_ms = 777  # of a machine that was started anew
        again = self.hybrid()
        again.resume(version, wall)
        return again


@given(STEPS, ORIGINS)
def test_no_wall_clock_makes_a_version_that_is_not_above_all_before(steps, origin):
    clocks = Clocks()
    clock = clocks.hybrid(origin)
    highest, latest_ms = -1, 0

    for step, argument in steps:
        if step == "wall":
            clocks.ms = argument
        elif step == "pass":
            clocks.pass_time(argument)
            latest_ms += argument
        elif step == "observe":
            clock.observe(argument)
            highest = max(highest, argument)
            latest_ms = max(latest_ms, argument.ms)
        elif step == "next":
            version = clock.next_version()
            assert version > highest
            assert version.ms >= latest_ms
            assert version & 0xFFFF == origin
            highest, latest_ms = version, version.ms
        else:
            now_ms = clock.now_ms()
            assert now_ms >= latest_ms
            latest_ms = now_ms


@given(WALLS, WALLS, PAUSES)
def test_time_goes_on_at_its_pace_where_the_wall_clock_is_set_back_or_forward(
    one, other, pause_ms
):
    clocks = Clocks(one)
    clock = clocks.hybrid()
    told = clock.now_ms()

    clocks.pass_time(pause_ms)
    clocks.ms = other

    assert told == max(0, one)
    assert clock.now_ms() == told + pause_ms
    assert clock.next_version().ms == told + pause_ms


@given(VERSIONS, WALLS, ORIGINS)
def test_time_does_not_lag_behind_a_version_that_was_observed(version, wall_ms, origin):
    clock = Clocks(wall_ms).hybrid(origin)

    clock.observe(version)

    assert clock.now_ms() == max(version.ms, wall_ms)
    assert clock.next_version() > version


@given(VERSIONS, VERSIONS)
def test_observing_an_old_version_does_not_set_the_clock_back(one, other):
    clock = Clocks().hybrid()
    clock.observe(max(one, other))
    before = clock.next_version()

    clock.observe(min(one, other))

    assert clock.next_version() > before


@given(
    st.tuples(ORIGINS, ORIGINS).filter(lambda pair: pair[0] != pair[1]),
    st.lists(st.tuples(st.booleans(), st.booleans(), WALLS), max_size=60),
)
def test_two_origins_never_make_the_same_version(origins, turns):
    both = Clocks()
    clocks = [both.hybrid(origin) for origin in origins]
    made = []

    for turn, tell, both.steady_ms in turns:
        made.append(clocks[turn].next_version())
        if tell:
            clocks[not turn].observe(made[-1])

    assert len(set(made)) == len(made)


def test_counter_that_runs_over_goes_into_the_next_millisecond_and_not_to_zero():
    clock = Clocks(1_000).hybrid()

    made = [clock.next_version() for _ in range(70_000)]

    assert made == sorted(set(made))
    assert (made[0].ms, made[-1].ms) == (1_000, 1_001)


def test_time_goes_on_at_its_pace_from_a_version_that_was_ahead():
    clocks = Clocks(1_000)
    clock = clocks.hybrid()
    clock.observe(Version(5_000 << Version.MS_SHIFT))
    ahead = clock.next_version()

    clocks.pass_time(3_000)

    assert ahead.ms == 5_000
    assert clock.next_version().ms == 8_000
    assert clock.ahead_ms() == 4_000


# --- Over a restart ----------------------------------------------------------------------


@given(WALLS, PAUSES, st.integers(0, 60_000))
def test_what_the_wall_clock_says_has_passed_at_a_restart(start_ms, pause_ms, lead_ms):
    clocks = Clocks(start_ms)
    clock = clocks.hybrid()
    clock.observe(Version(clock.now_ms() + lead_ms << Version.MS_SHIFT))
    before = clock.now_ms()

    again = clocks.restarted(clock, pause_ms)

    assert again.now_ms() == before + pause_ms


@given(st.lists(WALLS, min_size=2, max_size=5))
def test_time_does_not_go_back_over_restarts_and_goes_on_at_its_pace(walls):
    clocks = Clocks(walls[0])
    clock = clocks.hybrid()

    for wall_ms in walls:
        before = clock.next_version()
        clock = clocks.restarted(clock, wall_ms - clocks.ms)
        began = clock.now_ms()
        clocks.pass_time(1_000)

        assert clock.next_version() > before
        assert clock.now_ms() == began + 1_000


def test_clock_that_was_a_day_ahead_at_one_start_loses_no_time_but_that_of_its_mending():
    clocks = Clocks(NOW + DAY)
    clock = clocks.hybrid()
    clocks.pass_time(5_000)

    clock = clocks.restarted(clock, -DAY)  # it is down for a moment only
    mended = clock.now_ms()
    clocks.pass_time(2_000)
    again_ms = clock.now_ms()
    clock = clocks.restarted(clock, 3_000)

    assert (mended, again_ms) == (NOW + DAY + 5_000, NOW + DAY + 7_000)
    assert clock.now_ms() == NOW + DAY + 10_000
    assert clock.ahead_ms() == DAY


@pytest.mark.parametrize("when", ["at the start", "while it runs"])
def test_clock_that_was_set_back_and_is_right_again_makes_no_day_pass(when):
    clocks = Clocks(NOW)
    clock = clocks.hybrid()
    if when == "at the start":
        clock = clocks.restarted(clock, -DAY)
    else:
        clocks.ms -= DAY
    clocks.pass_time(5_000)

    clock = clocks.restarted(clock, DAY + 1_000)

    assert clock.now_ms() == NOW + 6_000
    assert clock.ahead_ms() == 0


@pytest.mark.parametrize("when", ["at the start", "while it runs"])
def test_time_passes_by_the_wall_clock_again_once_it_was_set_forward(when):
    clocks = Clocks(NOW)
    clock = clocks.hybrid()
    if when == "at the start":  # nobody can tell that from a day of rest
        clock = clocks.restarted(clock, DAY)
    else:
        clocks.ms += DAY
    began = clock.now_ms()
    clocks.pass_time(5_000)

    clock = clocks.restarted(clock, 1_000)

    assert clock.now_ms() == began + 6_000


def test_clock_that_was_never_set_follows_the_wall_clock_over_restarts_and_long_rests():
    clocks = Clocks(NOW)
    clock = clocks.hybrid()

    for rest_ms in (0, 1, 1_000, DAY, 365 * DAY):
        clocks.pass_time(60_000)
        clock = clocks.restarted(clock, rest_ms)

        assert clock.ahead_ms() == 0


@given(VERSIONS, WALLS)
def test_time_that_was_saved_without_the_wall_clock_begins_at_the_later_one(
    version, wall_ms
):
    clocks = Clocks(wall_ms)
    clock = clocks.hybrid()

    clock.resume(version, None)
    began = clock.now_ms()
    clocks.pass_time(1_000)

    assert began == max(0, version.ms, wall_ms)
    assert clock.now_ms() == began + 1_000
    assert clock.next_version() > version


@pytest.mark.parametrize("is_first", [True, False])
def test_newest_version_in_the_storage_counts_where_it_is_above_what_was_saved(
    is_first,
):
    clocks = Clocks(NOW)
    clock = clocks.hybrid()
    newest = Version(NOW + DAY << Version.MS_SHIFT)
    saved = Version(NOW << Version.MS_SHIFT)
    steps = [lambda: clock.observe(newest), lambda: clock.resume(saved, Wall(NOW, NOW))]

    for step in steps if is_first else reversed(steps):
        step()
    clocks.pass_time(1_000)

    assert clock.now_ms() == NOW + DAY + 1_000


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, None),
        (9.9, None),
        (-9.9, None),
        (86_400, "the machine's clock is 86,400 seconds behind the store's"),
        (-60.4, "the machine's clock is 60 seconds ahead of the store's"),
    ],
)
def test_clocks_that_are_a_little_apart_are_not_worth_a_word(seconds, told):
    assert off_by(seconds) == told


def test_steady_clock_goes_on_and_is_finer_than_a_version():
    first = steady_ns()
    later = [steady_ns() for _ in range(1_000)]

    assert later == sorted(later)
    assert later[-1] > first
    assert any(each % 1_000_000 for each in later)


@given(st.integers(0, 2**80 - 1), st.integers(0, 2**80 - 1))
def test_text_of_a_version_sorts_as_the_version_does(one, other):
    texts = Version(one).text, Version(other).text

    assert (texts[0] < texts[1]) == (one < other)
    assert (texts[0] == texts[1]) == (one == other)
    assert int(texts[0], 16) == one


def test_threads_do_not_get_the_same_version(monkeypatch):
    clock = Clocks(1_000).hybrid()
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
        Clocks().hybrid(origin)
