"""Nodes, shares, sizes and messages in words for a person."""

from __future__ import annotations

from collections.abc import Sequence


def nodes_text(nodes: Sequence[int]) -> str:
    """`node 0`, `nodes 0 and 2`, or the first few of many."""
    if len(nodes) == 1:
        return f"node {nodes[0]}"
    shown, more = nodes[:8], len(nodes) - 8
    last = f"{more} more" if more > 0 else str(shown[-1])
    first = shown if more > 0 else shown[:-1]
    return f"nodes {', '.join(map(str, first))} and {last}"


def lost_text(count: int) -> str:
    """How many shards of a node are lost, and what helps."""
    shards = "1 shard" if count == 1 else f"{count:,} shards"
    return f"the data of {shards} are lost: only recover NODE --accept-loss helps"


def share_text(share: float) -> str:
    """A part of the key space in per cent; not 0 if it is anything."""
    return f"{share:.1%}" if share >= 0.001 or not share else "<0.1%"


def count_text(count: int | None) -> str:
    """A number for a person; a dash where it is not known."""
    return "-" if count is None else f"{count:,}"


def size_text(count: int | None) -> str:
    """Bytes for a person; a dash where they are not known."""
    if count is None:
        return "-"
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{count:,} B" if unit == "B" else f"{size:.1f} {unit}"


def one_line(text: str) -> str:
    """Without line ends, or anything else that a terminal would obey."""
    flat = " ".join(text.split())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in flat)
