"""What a store must answer, from what it has acknowledged. Pure: no store, no clock.

Every write and delete that was acknowledged is noted with the nodes that should hold it;
then any answer to a read can be judged, whichever nodes are down.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from checker.values import canonical

OK = "ok"
NOT_FOUND = "key_not_found"
UNAVAILABLE = "unavailable"
NO_ANSWER = "no_connection"
MALFORMED = "malformed"  # an answer that is not what the contract says


@dataclass(frozen=True)
class Answer:
    """What came back: `ok`, or the code of the error; the value if there is one."""

    code: str
    value: Any = None
    detail: str = ""

    def __str__(self) -> str:
        if self.code == OK:
            return f"the value {_brief(self.value)}"
        return (
            f"{self.code} ({_brief(self.detail, quoted=False)})"
            if self.detail
            else self.code
        )


class Expectation:
    """The acknowledged state of some keys."""

    def __init__(self) -> None:
        self._current: dict[str, str | None] = {}  # as JSON text; None: deleted
        self._earlier: dict[str, set[str]] = {}
        self._replicas: dict[str, frozenset[int]] = {}

    @property
    def keys(self) -> list[str]:
        """Every key with a known state, deleted ones included, in order of writing."""
        return list(self._current)

    def written(self, key: str, value: Any, replicas: Collection[int]) -> None:
        """A write was acknowledged; `replicas` are all that should hold it."""
        self._note(key, _text(value), replicas)

    def deleted(self, key: str, replicas: Collection[int]) -> None:
        """A delete was acknowledged."""
        self._note(key, None, replicas)

    def forget(self, key: str) -> None:
        """An operation has an unknown outcome: nothing is expected of its key now."""
        self._current.pop(key, None)

    def is_held_by(self, key: str, node: int) -> bool:
        """True if the node is one of the key's replicas."""
        return node in self._replicas[key]

    def judge(self, key: str, answer: Answer, down: Collection[int]) -> str:
        """What is wrong with the answer to a read of `key`, in words; "" if nothing.

        A key with a live replica must be read as it was acknowledged. One whose
        replicas are all down must be `unavailable`: anything else would be a guess.
        """
        if self._replicas[key] <= set(down):
            if answer.code == UNAVAILABLE:
                return ""
            return (
                f"a guess: every replica of {key} is down, yet the answer is {answer}"
            )
        expected = self._current[key]
        if answer.code == OK:
            return self._judge_value(key, _text(answer.value), expected)
        if answer.code == NOT_FOUND:
            return f"lost: {key} was acknowledged and is not found" if expected else ""
        return f"not available: {key} has a live replica, yet the answer is {answer}"

    def _judge_value(self, key: str, found: str, expected: str | None) -> str:
        if found == expected:
            return ""
        if expected is None:
            return f"came back: {key} was deleted and has the value {_brief(found)}"
        if found in self._earlier[key]:
            return f"stale: {key} has the earlier value {_brief(found)}"
        return f"wrong: {key} has the value {_brief(found)}, which it was never given"

    def _note(self, key: str, state: str | None, replicas: Collection[int]) -> None:
        before = self._current.get(key)
        earlier = self._earlier.setdefault(key, set())
        if before is not None:
            earlier.add(before)
        self._current[key] = state
        self._replicas[key] = frozenset(replicas)


def _text(value: Any) -> str:
    """A value in one spelling, so that true is not taken for 1."""
    return canonical(value)


def _brief(value: Any, *, quoted: bool = True) -> str:
    text = value if isinstance(value, str) else _text(value)
    text = text if len(text) <= 60 else text[:57] + "..."
    return text if not quoted else text or '""'
