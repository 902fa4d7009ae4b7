"""The judge of long histories agrees with the plain one, and sees what is planted."""

import random

import pytest

from tests.histories import Sight, follow, went_back
from tests.interleaving import INFINITY, judge


def drawn(chance: random.Random) -> list[tuple]:
    """A short history that may or may not be linearizable."""
    history = []
    for number in range(chance.randint(1, 6)):
        began = chance.randrange(20)
        ended = began + 1 + chance.randrange(8)
        name = chance.choice(("read", "read", "write", "cas", "delete"))
        value = None if name == "delete" else chance.choice((None, 0, 1, 2, number))
        expected = chance.choice((None, 0, 1, 2)) if name == "cas" else None
        if name != "read" and chance.random() < 0.3:
            ended = INFINITY
        history.append((began, ended, name, value, expected))
    return history


def test_judge_of_long_histories_does_not_differ_from_the_plain_one():
    chance = random.Random(1)
    verdicts = []
    for _ in range(3_000):
        history = drawn(chance)
        verdicts.append(bool(follow(history)))
        assert verdicts[-1] == judge(history), history
    assert 300 < sum(verdicts) < 2_700


def test_value_after_a_window_is_neither_missed_nor_invented():
    """A history in two windows is linearizable exactly if the second follows the first."""
    chance = random.Random(2)
    for _ in range(1_000):
        first, second = drawn(chance), drawn(chance)
        first = [op for op in first if op[1] != INFINITY]
        later = [
            (b + 40, e if e == INFINITY else e + 40, *rest) for b, e, *rest in second
        ]
        whole = judge([*first, *later])
        assert bool(follow(later, follow(first))) == whole, (first, later)


def test_write_of_a_killed_process_may_be_there_or_not_and_is_then_decided():
    before = [(1, 2, "write", "a", None), (3, INFINITY, "write", "b", None)]
    values = follow(before)

    assert values == {"a", "b"}
    assert follow([(5, 6, "read", "a", None)], values) == {"a"}
    assert follow([(5, 6, "read", None, None)], values) == set()
    assert not follow([(5, 6, "read", "a", None), (7, 8, "read", "b", None)], values)


@pytest.mark.parametrize(
    ("sights", "is_back"),
    [
        ([Sight(1, 2, "05"), Sight(3, 4, "05"), Sight(5, 6, "06")], False),
        ([Sight(1, 4, "06"), Sight(3, 5, "05")], False),  # at the same time
        ([Sight(1, 2, "06"), Sight(3, 4, "05")], True),
        ([Sight(1, 2, "06"), Sight(1, 9, "01"), Sight(3, 4, "05")], True),
        ([], False),
    ],
)
def test_version_that_goes_back_is_seen(sights, is_back):
    assert bool(went_back(sights)) == is_back
