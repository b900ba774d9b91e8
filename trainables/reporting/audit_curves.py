"""Figures of curves: ROC and confidence of confirmed points, and accuracy over epsilon."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np

from core.stats import Interval
from trainables.reporting.recommendation import recommended
from trainables.reporting.style import BLUE, GREY, INK, ORANGE, PURPLE, without_ticks
from trainables.study.outcome import Confirmed, Outcome
from trainables.study.replicates import OVER_EPSILON
from trainables.study.text import counted

DASHES = ("-", "--", "-.", (0, (1, 1.2)), (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
"""Line styles that distinguish lines in black and white."""
MAX_HIGHLIGHTED = 6
"""Largest number of highlighted lines of accuracy over epsilon."""
MAX_ROC = 4
"""Largest number of ROC curves with a colour and a name in a figure."""
UNKNOWN = Interval(-math.inf, math.inf)
"""Interval of a single measurement."""


@dataclass(frozen=True)
class Line:
    """Accuracy over epsilon of one trial."""

    number: int
    name: str
    """Name of the baseline; empty if the trial is none."""
    values: Mapping[float, tuple[float, Interval]]
    """Accuracy and interval by multiple of epsilon; 0 is the accuracy on clean images."""


def over_epsilon(outcome: Outcome) -> list[Line]:
    """Accuracy over epsilon of the confirmed points where it was measured, otherwise of the trials; best at epsilon first."""
    trials = {t.number: t for t in outcome.trials}
    lines = []
    for c in outcome.confirmed:
        if c.over_epsilon and "accuracy" in c.means:
            clean = {0.0: (c.means["accuracy"], c.intervals["accuracy"])}
            lines.append(Line(c.number, trials[c.number].baseline, clean | dict(c.over_epsilon)))
    for t in outcome.completed if not lines else ():
        multiples = {name: float(name.removeprefix(OVER_EPSILON)) for name in t.metrics if name.startswith(OVER_EPSILON)}
        values = {multiple: (t.metrics[name], UNKNOWN) for name, multiple in multiples.items()}
        if values and not t.excluded:
            lines.append(Line(t.number, t.baseline, {0.0: (t.metrics["accuracy"], UNKNOWN)} | values))
    return sorted(lines, key=lambda line: -line.values[1.0][0] if 1.0 in line.values else 0.0)


def figures(outcome: Outcome) -> dict[str, Any]:
    """matplotlib figures by file name, of everything that was measured."""
    epsilon = {"over_epsilon.png": _over_epsilon(lines, outcome)} if (lines := over_epsilon(outcome)) else {}
    return epsilon | {f"audit-{c.number:05d}.png": _audit(c) for c in outcome.confirmed if c.curves or c.histogram}


def description(name: str) -> str:
    """Description of a figure for readers who cannot see it."""
    if name == "over_epsilon.png":
        return "Accuracy over the radius of the attack, a falling line per trial; the table below contains the same numbers"
    number = int(name.removeprefix("audit-").removesuffix(".png"))
    return (
        f"Trial {number}: ROC curves of its audits on logarithmic axes, and histograms of the confidence of members and non-members"
    )


def _highlighted(lines: Sequence[Line], outcome: Outcome) -> list[Line]:
    """The lines to highlight: the point to ship, baselines, the best trial of each objective, then the others in order."""
    front, chosen = outcome.front(), recommended(outcome)
    numbers = [chosen] if chosen is not None else []
    numbers += [t.number for t in outcome.completed if t.baseline]
    numbers += [min(front, key=lambda t: o.loss(t.metrics[o.metric])).number for o in outcome.objectives if front]
    by_number = {line.number: line for line in lines}
    ordered = dict.fromkeys([*(n for n in numbers if n in by_number), *by_number])
    return [by_number[n] for n in list(ordered)[:MAX_HIGHLIGHTED]]


def _over_epsilon(lines: Sequence[Line], outcome: Outcome) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.9), dpi=150, layout="constrained")
    axis, chosen = figure.subplots(), recommended(outcome)
    highlighted = _highlighted(lines, outcome)
    for line in lines:
        if line not in highlighted:
            points = sorted(line.values.items())
            axis.plot([x for x, _ in points], [y for _, (y, _) in points], color=GREY, linewidth=0.8, zorder=1)
    styles = zip(cycle((BLUE, ORANGE, INK, PURPLE)), cycle(DASHES), cycle("os^Dvx"), strict=False)
    for line, (color, dash, shape) in zip(highlighted, styles, strict=False):
        points = sorted(line.values.items())
        x, y = [scale for scale, _ in points], [value for _, (value, _) in points]
        ends = [(v - i.low, i.high - v) if 0 < i.high - i.low < 1 else (0.0, 0.0) for _, (v, i) in points]
        mark = "to ship" if outcome.confirmed else "knee"
        notes = [line.name] * bool(line.name) + [mark] * (line.number == chosen)
        name = f"{line.number}" + (f" ({', '.join(notes)})" if notes else "")
        look = {"color": color, "linestyle": dash, "marker": shape, "ms": 4, "linewidth": 1.4, "elinewidth": 0.7}
        axis.errorbar(x, y, np.transpose(ends), label=name, **look)
    axis.set(xlabel="radius, in multiples of epsilon", ylabel="accuracy,  better \N{RIGHTWARDS ARROW}", ylim=(0, 1))
    axis.set_xscale("symlog", base=2, linthresh=0.25, linscale=0.6)
    ticks = sorted({scale for line in lines for scale in line.values})
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.set_xlim(-0.03, max(ticks) * 1.1)
    without_ticks(axis)
    axis.legend(title="trial", fontsize=7.5, title_fontsize=7.5, frameon=False, handlelength=3.2)
    return figure


def _audit(point: Confirmed) -> Any:
    """ROC curves on logarithmic axes, and the replicates' confidence on members and non-members."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 3.5), dpi=110, layout="constrained")
    roc, confidence = figure.subplots(1, 2)
    _draw_roc(roc, point)
    _draw_confidence(confidence, point)
    figure.suptitle(f"trial {point.number}, {counted(point.replicates, 'replicate')}", fontsize=9)
    return figure


def _draw_roc(axis: Any, point: Confirmed) -> None:
    """Draw the ROC curves of a point; the strongest audits have a colour and a name."""
    curves = {name: curve for name, curve in point.curves.items() if curve}
    low = min((curve[0][0] for curve in curves.values()), default=1e-2)
    axis.plot([low, 1], [low, 1], color=GREY, linewidth=1, linestyle=":", label="guessing")
    order = sorted(curves, key=lambda name: -abs(point.leaks[name].auc - 0.5) if name in point.leaks else 0.0)
    for i, name in enumerate(order[MAX_ROC:]):
        x, y = zip(*curves[name], strict=True)
        legend = "weaker audits" if i == 0 else "_"  # names that start with an underscore are not in the legend
        axis.plot(x, [max(v, low) for v in y], color=GREY, linewidth=0.8, label=legend)
    for name, color, dash in zip(order, (BLUE, ORANGE, PURPLE, INK), DASHES, strict=False):
        x, y = zip(*curves[name], strict=True)
        axis.plot(x, [max(v, low) for v in y], color=color, linestyle=dash, linewidth=1.5, label=name)
    axis.set(xscale="log", yscale="log", xlim=(low, 1), ylim=(low, 1), xlabel="false-positive rate", ylabel="true-positive rate")
    axis.legend(fontsize=7, frameon=False, loc="lower right", handlelength=3)


def _draw_confidence(axis: Any, point: Confirmed) -> None:
    """Draw the histograms of confidence of members and non-members."""
    edges = np.linspace(0, 1, len(next(iter(point.histogram.values()), [0])) + 1)
    for name, color, hatch in (("members", BLUE, "////"), ("non_members", ORANGE, "")):
        counts = np.asarray(point.histogram.get(name, [0]), float)
        shares = counts / max(counts.sum(), 1)
        axis.stairs(shares, edges, color=color, fill=True, alpha=0.35, hatch=hatch, linewidth=0, label=name.replace("_", "-"))
        axis.stairs(shares, edges, color=color, linewidth=1)
    axis.set(xlabel="confidence in the true class", ylabel="share of images", xlim=(0, 1), yscale="log")
    axis.legend(fontsize=8, frameon=False)
