"""The latency plot of an experiment, as PNG and SVG.

matplotlib is imported only when a plot is made: it is slow to import, and `--no-plot`
does without.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from experiments.results import TrialResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00")  # told apart by the colour-blind too
BINS = 80
INK, PALE = "#222222", "#D9D9D9"


def draw(folder: Path, results: Sequence[TrialResult]) -> list[Path]:
    """Write `latency.png` and `latency.svg`; nothing if no trial was about latency."""
    timed = [
        result
        for result in results
        if result.trial.mean_ms_max is not None and _latencies(result)
    ]
    if not timed:
        return []
    figure = _figure(timed)
    paths = [folder / "latency.png", folder / "latency.svg"]
    for path in paths:
        figure.savefig(path, dpi=150, facecolor="white")
    return paths


def _figure(timed: Sequence[TrialResult]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1 + 2.3 * len(timed)), layout="constrained")
    panels = figure.subplots(len(timed), 1, sharex=True, squeeze=False)[:, 0]
    edges = bin_edges([ms for r in timed for ms in (*_latencies(r), _claim(r))])
    for axes, result, colour in zip(panels, timed, cycle(COLOURS), strict=False):
        _draw_trial(axes, result, edges, colour)
    panels[-1].set_xlabel("milliseconds (logarithmic)", color=INK)
    return figure


def _draw_trial(
    axes: Axes, result: TrialResult, edges: Sequence[float], colour: str
) -> None:
    """How many requests took how long, with the claimed mean and the measured one."""
    from matplotlib.ticker import LogLocator, NullLocator

    latencies = _latencies(result)
    counts, _, _ = axes.hist(
        latencies, bins=list(edges), color=colour, histtype="stepfilled"
    )
    axes.set_xscale("log")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, float(max(counts)) * 1.3)  # room for the labels
    measured = fmean(latencies)
    _mark(axes, measured, f"mean {measured:.2g} ms", "-")
    _mark(axes, _claim(result), f"claimed mean {_claim(result):g} ms", "--")
    name, kind = result.trial.name, result.timed_operation
    axes.set_title(
        f"Test {name}: {len(latencies):,} {kind}s over HTTP", loc="left", color=INK
    )
    axes.set_ylabel(f"{kind}s", color=INK)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _position: f"{value:g}")
    axes.grid(axis="y", color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _mark(axes: Axes, ms: float, text: str, style: str) -> None:
    """A vertical line with its meaning beside it, on the side where there is room."""
    low, high = axes.get_xlim()
    right = ms < (low * high) ** 0.5  # the middle of a logarithmic axis
    axes.axvline(ms, color=INK, linestyle=style, linewidth=1.2)
    axes.annotate(
        text,
        (ms, axes.get_ylim()[1]),
        xytext=(5 if right else -5, -3),
        textcoords="offset points",
        ha="left" if right else "right",
        va="top",
        color=INK,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
    )


def bin_edges(values: Sequence[float]) -> list[float]:
    """Bins of equal width on a logarithmic axis that has room for every value."""
    low, high = min(values) / 1.3, max(values) * 1.3
    step = (high / low) ** (1 / BINS)
    return [low * step**number for number in range(BINS + 1)]


def _latencies(result: TrialResult) -> list[float]:
    return result.latencies_ms(result.timed_operation)


def _claim(result: TrialResult) -> float:
    assert result.trial.mean_ms_max is not None, (
        f"no claim in trial {result.trial.name}"
    )
    return result.trial.mean_ms_max
