"""Still figures of the front: every pair of objectives, and the growth of the hypervolume."""

import math
from collections.abc import Sequence
from itertools import combinations, cycle
from typing import Any

from core.study import Objective
from trainables.reporting.recommendation import place, recommended
from trainables.reporting.style import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    axis_range,
    axis_title,
    chance_line,
    cut_intervals,
    error_bars,
    plotted,
    without_ticks,
)  # fmt: skip
from trainables.study.outcome import Outcome, Verdict
from trainables.study.text import flagged
from trainables.study.trial import Trial

DESCRIPTIONS = {
    "front.png": "Every pair of objectives; the tables below contain the same numbers",
    "hypervolume.png": "Hypervolume of the front over completed trials, a step curve that never falls",
}

MARKERS = {
    Verdict.STAYS: ("D", ORANGE, "confirmed, stays"),
    Verdict.UNDECIDED: ("D", "white", "confirmed, undecided"),
    Verdict.LEAVES: ("v", "white", "confirmed, leaves"),
}
"""Marker, filling and name of confirmed points."""


def figures(outcome: Outcome) -> dict[str, Any]:
    """matplotlib figures by file name."""
    return {"front.png": _front_figure(outcome), "hypervolume.png": _hypervolume_figure(outcome)}


def description(name: str) -> str:
    """Description of a figure for readers who cannot see it."""
    return DESCRIPTIONS[name]


def _front_figure(outcome: Outcome) -> Any:
    """Every pair of objectives side by side."""
    from matplotlib.figure import Figure

    pairs = list(combinations(outcome.objectives, 2))
    columns = min(3, len(pairs))
    rows = math.ceil(len(pairs) / columns)
    figure = Figure(figsize=(10 if columns > 1 else 5.6, 3.6 * rows), dpi=150, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis, (x, y) in zip(axes, pairs, strict=False):
        _draw_pair(axis, outcome, x, y)
    for axis in list(axes)[len(pairs) :]:
        axis.set_axis_off()
    handles, names = figure.axes[0].get_legend_handles_labels()
    if handles:
        row_length = 140 if columns > 1 else 70  # characters of the legend that fit into a row
        lines = math.ceil(sum(len(name) + 6 for name in names) / row_length)
        figure.legend(handles, names, loc="outside lower center", ncols=math.ceil(len(names) / lines), frameon=False,
                      handletextpad=0.2, columnspacing=1.5)  # fmt: skip
    return figure


def _draw_pair(axis: Any, outcome: Outcome, x: Objective, y: Objective) -> None:
    """Draw one pair of objectives: the shape shows the kind of point, a filled marker is on the front, a thick ring is flagged."""
    front = {t.number for t in outcome.front()}
    searched = [t for t in plotted(outcome) if not t.baseline]

    def at(trials: Sequence[Trial]) -> tuple[list[float], list[float]]:
        return [t.metrics[x.metric] for t in trials], [t.metrics[y.metric] for t in trials]

    off_front = [t for t in searched if t.number not in front]
    axis.plot(*at(off_front), "o", ms=4.5, mfc="white", mec=GREY, mew=1, label="trial", zorder=2)
    on_front = [t for t in searched if t.number in front]
    axis.plot(*at(on_front), "o", ms=6.5, color=BLUE, mec="white", mew=0.7, label="front", zorder=4)
    for shape, trial in zip(cycle("s^vPXp*"), (t for t in plotted(outcome) if t.baseline), strict=False):
        fill = BLUE if trial.number in front else "white"
        axis.plot(*at([trial]), shape, ms=7.5, color=fill, mec=INK, mew=1, label=trial.baseline, ls="none", zorder=5)
    if with_flag := flagged(outcome):
        name = "flagged in the sweep, on its front"
        axis.plot(*at(with_flag), "o", ms=9.5, mfc="none", mec=PURPLE, mew=1.6, label=name, zorder=5.5)
    if excluded := [t for t in plotted(outcome) if t.excluded]:
        axis.plot(*at(excluded), "x", ms=5, color=PURPLE, mew=1.2, label="excluded by a flag", zorder=5.5)
    if (number := recommended(outcome)) is not None:
        values, name = place(outcome, number), "the point to ship" if outcome.confirmed else "knee of the sweep"
        axis.plot([values[x.metric]], [values[y.metric]], "o", ms=14, mfc="none", mec=INK, mew=0.9, label=name, zorder=6)
    _draw_confirmed(axis, outcome, x, y)
    axis.set_xlabel(axis_title(x))
    axis.set_ylabel(axis_title(y))
    axis.set(xlim=axis_range(outcome, x), ylim=axis_range(outcome, y))
    axis.set_axisbelow(True)
    without_ticks(axis)


def _draw_confirmed(axis: Any, outcome: Outcome, x: Objective, y: Objective) -> None:
    """Draw the confirmed points with their intervals, each joined to its point of the sweep; cut intervals end in a triangle."""
    trials = {t.number: t for t in outcome.trials}
    for verdict, (marker, fill, name) in MARKERS.items():
        points = [c for c in outcome.confirmed if c.verdict is verdict]
        for c in points:
            ends = [(values[x.metric], values[y.metric]) for values in (trials[c.number].metrics, c.means)]
            axis.plot(*zip(*ends, strict=True), color=ORANGE, linewidth=0.8, linestyle=":", zorder=2.5)
        if points:
            at = ([c.means[o.metric] for c in points] for o in (x, y))
            axis.errorbar(*at, xerr=error_bars(points, x), yerr=error_bars(points, y), fmt=marker, ms=5.5, color=ORANGE, mew=1.1,
                          mfc=fill, elinewidth=0.9, label=name, zorder=3)  # fmt: skip
    for o, low_high, edges in ((x, "<>", axis_range(outcome, x)), (y, "v^", axis_range(outcome, y))):
        for points, marker, edge in zip(cut_intervals(outcome.confirmed, outcome, o), low_high, edges, strict=True):
            for c in points:
                at = (edge, c.means[y.metric]) if o is x else (c.means[x.metric], edge)
                axis.plot(*at, marker, ms=4.5, color=ORANGE, clip_on=False, zorder=6)
    for o, line in ((x, axis.axvline), (y, axis.axhline)):
        if (level := chance_line(outcome, o)) is not None:
            line(level, color=GREY, linewidth=0.9, linestyle=":", zorder=1)


def _hypervolume_figure(outcome: Outcome) -> Any:
    """The growth of the hypervolume."""
    from matplotlib.figure import Figure

    curve = outcome.hypervolume_curve()
    figure = Figure(figsize=(6, 3.4), dpi=150, layout="constrained")
    axis = figure.subplots()
    axis.step(range(len(curve) + 1), [0.0, *curve], where="post", color=BLUE, linewidth=1.8)
    if curve:
        axis.annotate(f"{curve[-1]:.3f}", (len(curve), curve[-1]), (4, 0), textcoords="offset points", va="center",
                      annotation_clip=False)  # fmt: skip
    axis.set_xlim(0, max(1, len(curve)))
    axis.set_ylim(0, max(curve, default=0) * 1.08 or 1)
    axis.locator_params(axis="x", integer=True)
    axis.set_xlabel("completed trials")
    axis.set_ylabel("hypervolume,  better \N{RIGHTWARDS ARROW}")
    without_ticks(axis, grid="y")
    return figure
