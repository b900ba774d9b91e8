"""Curves of the trials that matter: ROC and confidence of confirmed points, accuracy over epsilon."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np

from core.stats import Interval
from trainables.drawing import BLUE, GREY, INK, ORANGE, PURPLE
from trainables.outcome import Confirmed, Outcome
from trainables.words import knee

DASHES = ("-", "--", "-.", (0, (1, 1.2)), (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
"""Lines are told apart by these in black and white."""
MOST = 6
"""Curves of accuracy over epsilon that are set off from the others, at most."""
AT = "robust_accuracy_at/"
NONE = Interval(-math.inf, math.inf)


@dataclass(frozen=True)
class Line:
    """Accuracy over epsilon of one trial."""

    number: int
    name: str
    """Of its baseline."""
    values: Mapping[float, tuple[float, Interval]]
    """By multiple of epsilon; 0 is the accuracy on unmoved images."""


def over_epsilon(outcome: Outcome) -> list[Line]:
    """Of the confirmed points where that was measured, else of the trials; best at epsilon first."""
    trials = {t.number: t for t in outcome.trials}
    found = []
    for c in outcome.confirmed:
        if c.over_epsilon and "accuracy" in c.means:
            plain = {0.0: (c.means["accuracy"], c.intervals["accuracy"])}
            found.append(Line(c.number, trials[c.number].baseline, plain | dict(c.over_epsilon)))
    for t in outcome.done if not found else ():
        values = {float(name.removeprefix(AT)): (v, NONE) for name, v in t.metrics.items() if name.startswith(AT)}
        if values and not t.barred:
            found.append(Line(t.number, t.baseline, {0.0: (t.metrics["accuracy"], NONE)} | values))
    return sorted(found, key=lambda line: -line.values[1.0][0] if 1.0 in line.values else 0.0)


def figures(outcome: Outcome) -> dict[str, Any]:
    """matplotlib figures by file name, for what was measured."""
    made = {"over_epsilon.png": _over_epsilon(lines, outcome)} if (lines := over_epsilon(outcome)) else {}
    return made | {f"audit-{c.number:05d}.png": _audit(c) for c in outcome.confirmed if c.curves or c.histogram}


def described(name: str) -> str:
    """What a picture shows, for those who do not see it."""
    if name == "over_epsilon.png":
        return "Accuracy over the radius of the attack, a falling line per trial; the table below holds the same numbers"
    number = int(name.removeprefix("audit-").removesuffix(".png"))
    return (
        f"Trial {number}: ROC curves of its audits on logarithmic axes, and histograms of the confidence of members and non-members"
    )


def _chosen(lines: list[Line], outcome: Outcome) -> list[Line]:
    """What to set off: the knee, baselines, the best of each objective, then what is left in its order."""
    front, balanced = outcome.front(), knee(outcome)
    first = [balanced.number] if balanced else []
    first += [t.number for t in outcome.done if t.baseline]
    first += [min(front, key=lambda t: o.loss(t.metrics[o.metric])).number for o in outcome.objectives if front]
    by_number = {line.number: line for line in lines}
    numbers = dict.fromkeys([*(n for n in first if n in by_number), *by_number])
    return [by_number[n] for n in list(numbers)[:MOST]]


def _over_epsilon(lines: list[Line], outcome: Outcome) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.9), dpi=150, layout="constrained")
    axis, balanced = figure.subplots(), knee(outcome)
    chosen = _chosen(lines, outcome)
    for line in lines:
        if line not in chosen:
            points = sorted(line.values.items())
            axis.plot([x for x, _ in points], [y for _, (y, _) in points], color=GREY, linewidth=0.8, zorder=1)
    looks = zip(cycle((BLUE, ORANGE, INK, PURPLE)), cycle(DASHES), cycle("os^Dvx"), strict=False)
    for line, (color, dash, shape) in zip(chosen, looks, strict=False):
        points = sorted(line.values.items())
        x, y = [scale for scale, _ in points], [value for _, (value, _) in points]
        half = [i.high - v if math.isfinite(i.high) else 0.0 for _, (v, i) in points]
        what = [line.name] * bool(line.name) + ["knee"] * bool(balanced and balanced.number == line.number)
        name = f"{line.number}" + (f" ({', '.join(what)})" if what else "")
        axis.errorbar(x, y, half, color=color, linestyle=dash, marker=shape, ms=4, linewidth=1.4, elinewidth=0.7, label=name)
    axis.set(xlabel="radius, in multiples of epsilon", ylabel="accuracy,  better \N{RIGHTWARDS ARROW}", ylim=(0, 1))
    axis.set_xscale("symlog", base=2, linthresh=0.25, linscale=0.6)
    ticks = sorted({scale for line in lines for scale in line.values})
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.set_xlim(-0.03, max(ticks) * 1.1)
    axis.grid(color="#ECEFF2", linewidth=0.7)
    axis.tick_params(length=0)
    axis.legend(title="trial", fontsize=7.5, title_fontsize=7.5, frameon=False, handlelength=3.2)
    return figure


def _audit(point: Confirmed) -> Any:
    """ROC curves on logarithmic axes, and how sure the replicates are of members and of others."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 3.5), dpi=110, layout="constrained")
    roc, sure = figure.subplots(1, 2)
    curves = {name: curve for name, curve in point.curves.items() if curve}
    low = min((curve[0][0] for curve in curves.values()), default=1e-2)
    roc.plot([low, 1], [low, 1], color=GREY, linewidth=1, linestyle=":", label="guessing")
    order = sorted(curves, key=lambda name: -abs(point.leaks[name].auc - 0.5) if name in point.leaks else 0.0)
    named = zip(order, (BLUE, ORANGE, PURPLE, INK), DASHES, strict=False)
    for name, color, dash in [*((name, GREY, "-") for name in order[4:]), *named]:
        x, y = zip(*curves[name], strict=True)
        first = color == GREY and name == order[4]
        label = "weaker audits" if first else "_" if color == GREY else name  # an underscore is no entry
        width = 0.8 if color == GREY else 1.5
        roc.plot(x, [max(v, low) for v in y], color=color, linestyle=dash, linewidth=width, label=label)
    roc.set(xscale="log", yscale="log", xlim=(low, 1), ylim=(low, 1), xlabel="false-positive rate", ylabel="true-positive rate")
    roc.legend(fontsize=7, frameon=False, loc="lower right", handlelength=3)
    edges = np.linspace(0, 1, len(next(iter(point.histogram.values()), [0])) + 1)
    for name, color, hatch in (("members", BLUE, "////"), ("non_members", ORANGE, "")):
        counts = np.asarray(point.histogram.get(name, [0]), float)
        shares, called = counts / max(counts.sum(), 1), name.replace("_", "-")
        sure.stairs(shares, edges, color=color, fill=True, alpha=0.35, hatch=hatch, linewidth=0, label=called)
        sure.stairs(shares, edges, color=color, linewidth=1)
    sure.set(xlabel="confidence in the true class", ylabel="share of images", xlim=(0, 1), yscale="log")
    sure.legend(fontsize=8, frameon=False)
    figure.suptitle(f"trial {point.number}, {point.replicates} replicates", fontsize=9)
    return figure
