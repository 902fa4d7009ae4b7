"""Operations as a picture in text: a line for each, in the order in which they began.

The bars are in the order of time but not to scale: every moment at which something
begins or ends takes the same space, so that short operations far apart can be compared.
Two bars that share a column were open at one time.
"""

from __future__ import annotations

from collections.abc import Iterable

from checker.history import Operation
from checker.wording import deed_in_words

WIDTH = 100
CLIENT_MAX = 14
DEED_MAX = 44
LINES_MAX = 40


def timeline(operations: Iterable[Operation], unit: str = "us") -> str:
    """A few operations, at most `LINES_MAX`, in lines of at most `WIDTH` characters.

    Times are counted from the beginning of the first, in `unit`.
    """
    ordered = sorted(operations, key=lambda each: each.began)
    if not ordered:
        return ""
    shown, origin = ordered[:LINES_MAX], ordered[0].began
    rows = [("client", "what", "from", "to")]
    for each in shown:
        ended = "?" if each.ended is None else str(each.ended - origin)
        rows.append(
            (
                _clip(each.client, CLIENT_MAX),
                _clip(deed_in_words(each), DEED_MAX),
                str(each.began - origin),
                ended,
            )
        )
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
    room = WIDTH - sum(sizes) - 2 * len(sizes)
    bars = [f"{unit} after {origin}"[: max(room, 0)], *_bars(shown, max(room, 2))]
    lines = [
        "  ".join(
            (
                client.ljust(sizes[0]),
                deed.ljust(sizes[1]),
                began.rjust(sizes[2]),
                ended.rjust(sizes[3]),
                bar,
            )
        ).rstrip()
        for (client, deed, began, ended), bar in zip(rows, bars, strict=True)
    ]
    if len(ordered) > len(shown):
        lines.append(f"... and {len(ordered) - len(shown)} more")
    return "\n".join(lines)


def _bars(operations: list[Operation], room: int) -> list[str]:
    """A bar from beginning to end; what never ended has an arrow to the right edge."""
    begins = {(each.began, 0) for each in operations}
    ends = {(each.ended, 1) for each in operations if each.ended is not None}
    moments = sorted(begins | ends)
    step = min(3.0, (room - 1) / max(1, len(moments)))
    column = {moment: int(number * step) for number, moment in enumerate(moments)}
    edge = int(len(moments) * step)
    bars = []
    for each in operations:
        start = column[each.began, 0]
        if each.ended is None:
            bars.append(" " * start + "├" + "─" * (edge - start - 1) + "▸")
            continue
        stop = column[each.ended, 1]
        bar = "│" if stop <= start else "├" + "─" * (stop - start - 1) + "┤"
        bars.append(" " * start + bar)
    return bars


def _clip(text: str, size: int) -> str:
    text = text.replace("\n", " ")
    return text if len(text) <= size else text[: size - 1] + "…"
