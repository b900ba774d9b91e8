"""The figure that compares the fronts of several studies."""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from trainables.decisions.fronts import Comparison, StudyFront
from trainables.reporting.style import COLORS, GREY, SHAPES, axis_title, png, styled, without_ticks


def comparison_figure(fronts: Sequence[StudyFront], comparisons: Sequence[Comparison]) -> bytes:
    """A PNG of every pair of objectives, with a colour and shape per study; filled markers are non-dominated points."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    markers: list[dict[str, Any]] = [
        {"marker": SHAPES[i % len(SHAPES)], "mec": COLORS[i % len(COLORS)], "ls": "none"} for i in range(len(fronts))
    ]
    pairs = list(combinations(fronts[0].objectives, 2))
    columns = min(3, len(pairs))
    height = 3.6 * math.ceil(len(pairs) / columns) + 0.22 * len(fronts)
    with styled():
        figure = Figure(figsize=(10 if columns > 1 else 5.6, height), dpi=150, layout="constrained")
        axes = figure.subplots(math.ceil(len(pairs) / columns), columns, squeeze=False).flat
        for axis, (x, y) in zip(axes, pairs, strict=False):
            for front, comparison, marker in zip(fronts, comparisons, markers, strict=True):
                for filled in (False, True):
                    points = [p.values for p, on in zip(front.points, comparison.non_dominated, strict=True) if on == filled]
                    fill = marker["mec"] if filled else "none"
                    axis.plot([v[x.metric] for v in points], [v[y.metric] for v in points], ms=6.5, mew=1.2, mfc=fill,
                              alpha=0.9, zorder=3 + filled, **marker)  # fmt: skip
            axis.set_xlabel(axis_title(x))
            axis.set_ylabel(axis_title(y))
            axis.margins(0.07)
            axis.set_axisbelow(True)
            without_ticks(axis)
        for axis in list(axes)[len(pairs) :]:
            axis.set_axis_off()
        handles = [Line2D([], [], ms=6.5, mfc=marker["mec"], **marker) for marker in markers]
        handles += [Line2D([], [], marker="o", ms=6.5, mew=1.2, mfc="none", mec=GREY, ls="none")]
        names = [f"{front.name} ({front.kind})" for front in fronts] + ["hollow: dominated by another of these points"]
        legend = figure.legend(handles, names, loc="outside lower center", frameon=False, handletextpad=0.2)
        for text in legend.get_texts():
            text.set_parse_math(False)
        return png(figure)
