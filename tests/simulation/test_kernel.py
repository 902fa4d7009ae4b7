"""Virtual time: what happens when, in which order, and draws that belong to a place."""

import pytest

from simulation.kernel import Kernel, OutOfEvents, bits


def test_what_is_due_at_one_time_does_not_happen_out_of_the_order_it_was_asked_in():
    kernel = Kernel()
    happened: list[str] = []
    for name in ("b", "a", "c"):
        kernel.after(5, happened.append, name)
    kernel.after(4, happened.append, "first")
    kernel.after(4, lambda: kernel.after(1, happened.append, "last"))

    kernel.run(10)

    assert happened == ["first", "b", "a", "c", "last"]


def test_an_action_does_not_see_another_time_than_its_own():
    kernel = Kernel()
    times: list[int] = []

    def again() -> None:
        times.append(kernel.now)
        if len(times) < 3:
            kernel.after(7, again)

    kernel.after(3, again)
    kernel.after(0, lambda: times.append(kernel.now))
    kernel.run(100)

    assert times == [0, 3, 10]
    assert kernel.now == 100  # and then all of it has passed


def test_what_is_due_at_the_end_is_not_left_and_what_is_due_later_is():
    kernel = Kernel()
    happened: list[str] = []
    kernel.after(10, happened.append, "at the end")
    kernel.after(11, happened.append, "later")

    kernel.run(10)
    at_the_end = list(happened)
    kernel.run(11)

    assert at_the_end == ["at the end"]
    assert happened == ["at the end", "later"]


def test_a_stop_lets_nothing_more_happen_and_does_not_outlast_its_run():
    kernel = Kernel()
    happened: list[int] = []
    for number in range(3):
        kernel.after(number, happened.append, number)
    kernel.after(1, kernel.stop)

    kernel.run(100)
    stopped = (list(happened), kernel.now)
    kernel.run(100)

    assert stopped == ([0, 1], 1)
    assert (happened, kernel.now) == ([0, 1, 2], 100)


def test_a_stop_from_before_a_run_does_not_end_it():
    kernel = Kernel()
    happened: list[int] = []
    kernel.stop()
    kernel.after(1, happened.append, 1)
    kernel.after(2, happened.append, 2)

    kernel.run(5)

    assert happened == [1, 2]


def test_a_run_does_not_go_on_once_what_it_waits_for_is_done():
    kernel = Kernel()
    happened: list[int] = []
    for number in range(5):
        kernel.after(number, happened.append, number)

    kernel.run(100, lambda: len(happened) == 2)

    assert (happened, kernel.now, kernel.events) == ([0, 1], 1, 2)


def test_what_goes_on_for_ever_is_not_run_for_ever():
    kernel = Kernel(events_max=1_000)

    def again() -> None:
        kernel.after(0, again)

    again()
    with pytest.raises(OutOfEvents, match="more than 1,000 events"):
        kernel.run(1)
    assert kernel.events == 1_001


def test_events_of_earlier_runs_do_not_count_for_nothing():
    kernel = Kernel(events_max=10)
    for number in range(11):
        kernel.after(number, lambda: None)

    kernel.run(8)
    with pytest.raises(OutOfEvents):
        kernel.run(100)


def test_an_action_that_raises_is_not_swallowed_and_leaves_the_rest():
    kernel = Kernel()
    happened: list[str] = []
    kernel.after(1, [].pop)
    kernel.after(2, happened.append, "the rest")

    with pytest.raises(IndexError):
        kernel.run(5)
    assert (kernel.now, kernel.events) == (1, 1)
    kernel.run(5)

    assert happened == ["the rest"]


def hash_of(*notes: tuple[int, int, int]) -> str:
    """The trace hash of what is noted at these times."""
    kernel = Kernel()
    for time, what, more in notes:
        kernel.run(time)
        kernel.note(what, more)
    return kernel.trace_hash


def test_two_runs_that_differ_in_anything_do_not_have_one_trace_hash():
    notes = [(1, 2, 3), (4, 5, 6)]
    others = [
        [],
        notes[:1],
        [(4, 5, 6), (4, 2, 3)],
        [(1, 2, 3), (5, 5, 6)],
        [(1, 2, 3), (4, 6, 6)],
        [(1, 2, 3), (4, 5, -6)],
    ]

    hashes = [hash_of(*each) for each in (notes, *others)]

    assert len(set(hashes)) == len(hashes)
    assert hash_of(*notes) == hashes[0]
    assert all(len(each) == 16 and int(each, 16) >= 0 for each in hashes)


# --- Draws -----------------------------------------------------------------------------

PLACES = [
    (one, two, three) for one in range(16) for two in range(16) for three in range(16)
]


def test_a_draw_is_not_another_one_because_of_what_else_was_drawn():
    alone = bits(3, 17, 2, 1)
    for place in PLACES:
        bits(3, *place)

    assert bits(3, 17, 2, 1) == alone


def test_no_two_places_share_a_draw():
    draws = {bits(3, *place) for place in PLACES}
    draws |= {bits(3, one, ~two, three) for one, two, three in PLACES}
    draws |= {bits(4, *place) for place in PLACES}

    assert len(draws) == 3 * len(PLACES)


def test_no_bit_of_a_draw_is_mostly_one_or_mostly_zero():
    draws = [bits(9, *place) for place in PLACES]
    half, six_sigma = len(draws) / 2, 6 * (len(draws) / 4) ** 0.5

    for bit in range(64):
        ones = sum(draw >> bit & 1 for draw in draws)
        assert abs(ones - half) < six_sigma, f"bit {bit} is one in {ones}"


def test_neighbouring_places_and_neighbouring_seeds_do_not_draw_alike():
    for seeds, step in (((5, 5), (0, 0, 1)), ((5, 5), (1, 0, 0)), ((5, 6), (0, 0, 0))):
        same = sum(
            64
            - (
                bits(seeds[0], *place)
                ^ bits(seeds[1], *(p + s for p, s in zip(place, step, strict=True)))
            ).bit_count()
            for place in PLACES
        )
        assert abs(same / len(PLACES) - 32) < 0.5


def test_the_clock_does_not_go_back_to_a_time_that_has_passed():
    kernel = Kernel()
    kernel.run(10)

    kernel.run(5)

    assert kernel.now == 10
