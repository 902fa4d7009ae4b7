"""What a measurement hands back, and where it stands beside its bar.

Pure: numbers in, numbers and words out.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Bar:
    """A number to hold. `at_most` tells on which side of it the good ones lie.

    A stretch is one to reach for: it is shown, and not to reach it is no failure.
    """

    number: float
    at_most: bool = True
    is_stretch: bool = False

    def holds(self, value: float) -> bool:
        """True if `value` is on the good side, or on the bar itself."""
        return value <= self.number if self.at_most else value >= self.number

    def text(self, unit: str) -> str:
        """The bar in words, such as "at most 8 µs"."""
        side = "at most" if self.at_most else "at least"
        text = f"{side} {self.number:g} {unit}".rstrip()
        return f"stretch: {text}" if self.is_stretch else text


@dataclass(frozen=True)
class Figure:
    """One measured number; `value` is the median of `rounds`.

    `detail` is for a reader of the table, `extra` only for one of the JSON file. Without
    a value it was not measured, and `detail` says why.
    """

    name: str
    value: float | None
    unit: str
    bar: Bar | None = None
    detail: str = ""
    rounds: tuple[float, ...] = ()
    failures: int = 0  # requests that were not answered as they should be
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def standing(self) -> str:
        """`failed` (wrong answers came), `not measured`, or where it is beside its bar.

        That is `holds` or `missed`, of a stretch `reached` or `not reached`, and nothing
        without a bar.
        """
        if self.failures:
            return "failed"
        if self.value is None:
            return "not measured"
        if self.bar is None:
            return ""
        if self.bar.is_stretch:
            return "reached" if self.bar.holds(self.value) else "not reached"
        return "holds" if self.bar.holds(self.value) else "missed"

    @property
    def share_of_bar(self) -> float | None:
        """The value as a multiple of the bar's number."""
        if self.bar is None or self.value is None:
            return None
        return self.value / self.bar.number


def figure_of(
    name: str,
    rounds: Sequence[float],
    unit: str,
    bar: Bar | None = None,
    **more: Any,
) -> Figure:
    """The median of the rounds as a Figure. Raises ValueError if there is no round."""
    if not rounds:
        raise ValueError(
            f"cannot report a figure that was never measured (name={name})"
        )
    return Figure(
        name, statistics.median(rounds), unit, bar, rounds=tuple(rounds), **more
    )


def not_measured(name: str, unit: str, bar: Bar | None, why: str) -> Figure:
    """A figure that could not be had, so that its line is not missing."""
    return Figure(name, None, unit, bar, detail=why)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Round by round, so that a slow moment of the machine weighs on both sides."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def shown(value: float | None, unit: str) -> str:
    """A number as a person reads it: three digits, thousands apart; a dash for none."""
    if value is None:
        return "–"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f} {unit}".rstrip()
