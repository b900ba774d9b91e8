"""Drawing the figures of papers from results: curves, histograms, bars, points and images. A script's `draw` calls these."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from core.stats import mean_interval
from trainables.papers.item import Results, Values
from trainables.reporting.style import COLORS, SHAPES, styled, without_ticks


def panels(count: int = 1, columns: int = 3, width: float = 3.4, height: float = 2.8) -> tuple[Any, list[Any]]:
    """A figure with some axes, at most `columns` in a line; the caller draws on each."""
    from matplotlib.figure import Figure

    across = min(count, columns)
    down = math.ceil(count / across)
    with styled():
        figure = Figure(figsize=(max(4.2, width * across), height * down), dpi=150, layout="constrained")
        axes = list(figure.subplots(down, across, squeeze=False).flat)
    for axis in axes[count:]:
        axis.set_axis_off()
    return figure, axes[:count]


def labelled(axis: Any, x: str, y: str, title: str = "") -> None:
    """Name the quantities of an axis, and draw its grid."""
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.set_title(title, fontsize=9, loc="left")
    axis.set_axisbelow(True)
    without_ticks(axis)


def legend(figure: Any, axis: Any) -> None:
    """One legend below all axes of a figure, with the labels of one of them."""
    handles, names = axis.get_legend_handles_labels()
    if handles:
        box = figure.legend(handles, names, loc="outside lower center", frameon=False, ncols=min(4, len(handles)), fontsize=8)
        for text in box.get_texts():
            text.set_parse_math(False)


def series(networks: Sequence[Values], name: str) -> tuple[list[float], list[float]]:
    """The mean of a series over seeds, and half-widths of its 95 % interval, 0 for a single seed.

    Series of different lengths are cut to the shortest.
    """
    all_series = [value for own in networks if isinstance(value := own.get(name), Sequence)]
    pairs = [mean_interval(values) for values in zip(*all_series, strict=False)]
    return [mean for mean, _ in pairs], [h if math.isfinite(h := i.high - mean) else 0.0 for mean, i in pairs]


def number(networks: Sequence[Values], name: str) -> tuple[float, float]:
    """The mean of a number over seeds, and the half-width of its 95 % interval, 0 for a single seed; NaN if it is missing."""
    values = [float(value) for own in networks if isinstance(value := own.get(name), float | int)]
    if not values:
        return math.nan, 0.0
    mean, interval = mean_interval(values)
    return mean, half if math.isfinite(half := interval.high - mean) else 0.0


def style_of(index: int) -> dict[str, Any]:
    """Colour and marker of the curve with a position in the legend."""
    return {"color": COLORS[index % len(COLORS)], "marker": SHAPES[index % len(SHAPES)], "markersize": 3.5, "linewidth": 1.2}


def curve(axis: Any, x: Sequence[float], y: Sequence[float], half: Sequence[float], label: str, index: int) -> None:
    """A curve with the band of its interval."""
    style, count = style_of(index), min(len(x), len(y))
    across, mean, width = (np.asarray(values[:count], dtype=float) for values in (x, y, half))
    axis.plot(across, mean, label=label, markevery=max(1, count // 12), **style)
    if np.any(width > 0):
        axis.fill_between(across, mean - width, mean + width, color=style["color"], alpha=0.15, linewidth=0)


def curves(axis: Any, results: Results, x: str | Callable[[Values], Sequence[float]], y: str) -> None:
    """The curve of each row: series `y` over series `x`, or over what a function of the first network's values gives."""
    for index, (row, networks) in enumerate(results.items()):
        mean, half = series(networks, y)
        if mean:
            across = series(networks, x)[0] if isinstance(x, str) else x(networks[0])
            curve(axis, across, mean, half, row, index)


def paths(axis: Any, results: Results, groups: Mapping[str, Sequence[str]], x: str, y: str) -> None:
    """One line per group through the points of its rows, with the intervals of both numbers."""
    for index, (label, rows) in enumerate(groups.items()):
        points = [(number(results[row], x), number(results[row], y)) for row in rows if results.get(row)]
        if points:
            (xs, ys), errors = zip(*[(p[0][0], p[1][0]) for p in points], strict=True), [(p[0][1], p[1][1]) for p in points]
            axis.errorbar(xs, ys, xerr=[e[0] for e in errors], yerr=[e[1] for e in errors], elinewidth=0.6, capsize=0,
                          label=label, **style_of(index))  # fmt: skip


def bars(axis: Any, results: Results, names: Mapping[str, str]) -> None:
    """One bar per row and number, grouped by row; `names` maps the label of each number to its name among the values."""
    width = 0.8 / len(names)
    for index, (label, name) in enumerate(names.items()):
        pairs = [number(networks, name) for networks in results.values()]
        places = [i + width * (index - (len(names) - 1) / 2) for i in range(len(pairs))]
        axis.bar(places, [p[0] for p in pairs], width, yerr=[p[1] for p in pairs], color=COLORS[index % len(COLORS)], label=label,
                 error_kw={"elinewidth": 0.8})  # fmt: skip
    axis.set_xticks(range(len(results)), list(results), fontsize=8)


def histogram(axis: Any, edges: Sequence[float], groups: Mapping[str, Sequence[float]]) -> None:
    """The shares of some groups in the bins between `edges`."""
    for index, (label, shares) in enumerate(groups.items()):
        color = COLORS[index % len(COLORS)]
        axis.stairs(shares, edges, label=label, color=color, fill=index == 0, alpha=0.45 if index == 0 else 1.0, linewidth=1.2)


def image(axis: Any, pixels: Sequence[float], shape: Sequence[int], title: str = "", **style: Any) -> None:
    """An image from its values: channels, height and width if `shape` has three numbers, else one map of height and width."""
    array = np.asarray(pixels, dtype=float).reshape([int(size) for size in shape])
    if array.ndim == 3:
        array = array.transpose(1, 2, 0) if len(array) > 1 else array[0]
    grey = {"cmap": "gray", "vmin": 0.0, "vmax": 1.0} if array.ndim == 2 else {}
    axis.imshow(np.clip(array, 0, 1) if not style else array, interpolation="nearest", **{**grey, **style})
    axis.set_title(title, fontsize=8)
    axis.set_axis_off()


def image_lines(lines: Mapping[str, Sequence[tuple[Sequence[float], str]]], shape: Sequence[int]) -> Any:
    """A figure with lines of images, each image with its title; `lines` maps the label on the left of each line to its images."""
    from matplotlib.figure import Figure

    across = max(map(len, lines.values()))
    with styled():
        figure = Figure(figsize=(1.2 + 0.72 * across, 0.2 + 0.86 * len(lines)), dpi=110, layout="constrained")
        grid = figure.subplots(len(lines), across, squeeze=False)
    for axes, (label, images) in zip(grid, lines.items(), strict=True):
        for axis in axes:
            axis.set_axis_off()
        for axis, (pixels, title) in zip(axes, images, strict=False):
            image(axis, pixels, shape, title)
        axes[0].text(-0.12, 0.5, label, transform=axes[0].transAxes, ha="right", va="center", fontsize=8)
    return figure
