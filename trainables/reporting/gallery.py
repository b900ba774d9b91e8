"""Figures of inspections: reconstructions beside the nearest members, attribution maps, and inversion leak against radius."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from core.metrics import UNBOUNDED
from trainables.reporting.style import BLUE, GREY, INK, without_ticks
from trainables.study.outcome import Outcome
from trainables.study.text import decimal
from trainables.study.trial import Trial

COLUMNS = 10
"""Largest number of reconstructions in a row."""
MAX_ROWS = 4
"""Largest number of rows of reconstructions."""
MAPS = (("patch", "sliding patch"), ("patch_small", "half the patch"), ("grad_cam", "Grad-CAM"), ("grad_cam_blurred", "blurred"),
        ("grad_cam_quantised", "quantised"))  # fmt: skip
"""Attribution maps that are shown, with their titles."""


def figures(outcome: Outcome) -> dict[str, Any]:
    """matplotlib figures by file name, of the trials whose arrays the outcome contains."""
    by_name: dict[str, Any] = {}
    for number, arrays in outcome.pictures.items():
        for attack in sorted({name.split("/")[1] for name in arrays if name.startswith("inversion/")}):
            by_name[f"inversion-{attack}-{number:05d}.png"] = _reconstructions(number, attack, arrays)
        if len(arrays.get("attribution/images", ())):
            by_name[f"attribution-{number:05d}.png"] = _heat_maps(number, arrays)
    measured = [t for t in outcome.completed if {"adversarial_radius", "inversion_leak"} <= t.metrics.keys()]
    bounded = [t for t in measured if t.metrics["adversarial_radius"] < UNBOUNDED]  # unbounded for a constant network
    if len(bounded) > 1:
        by_name["radius_leak.png"] = _radius_leak(bounded, {t.number for t in outcome.front()})
    return by_name


def description(name: str) -> str:
    """Description of a figure for readers who cannot see it."""
    if name == "radius_leak.png":
        return "Inversion leak and L2 distance to the nearest member against the adversarial radius, a point per trial"
    kind, _, rest = name.removesuffix(".png").partition("-")
    number = int(rest.rpartition("-")[2])
    if kind == "inversion":
        return (
            f"Trial {number}: reconstructions by {rest.rpartition('-')[0]}, each above the nearest member by the network's features"
        )
    return f"Trial {number}: images and their attribution maps"


def _reconstructions(number: int, attack: str, arrays: Mapping[str, np.ndarray]) -> Any:
    """Rows of reconstructions, each above the nearest member and its distances."""
    from matplotlib.figure import Figure

    data = {key: arrays[f"inversion/{attack}/{key}"] for key in ("images", "nearest", "classes", "cosine", "l2")}
    count, limit = len(data["classes"]), COLUMNS * MAX_ROWS
    chosen = _balanced(data["classes"], limit) if count > limit else np.arange(count)
    columns = min(COLUMNS, len(chosen))
    rows = math.ceil(len(chosen) / columns)
    figure = Figure(figsize=(0.95 * columns + 0.3, 2.25 * rows + 0.4), dpi=110, layout="constrained")
    grid = figure.subplots(2 * rows, columns, squeeze=False)
    for axis in grid.flat:
        axis.set_axis_off()
    for i, k in enumerate(chosen):
        row, column = divmod(i, columns)
        for offset, key in ((0, "images"), (1, "nearest")):
            _show(grid[2 * row + offset, column], data[key][k])
        grid[2 * row, column].set_title(f"class {data['classes'][k]}", fontsize=6.5, pad=2)
        grid[2 * row + 1, column].set_title(f"cos {decimal(data['cosine'][k], 2)}  L2 {data['l2'][k]:.1f}", fontsize=6, pad=2)
    figure.suptitle(f"trial {number}: reconstructions by {attack}, each above the nearest member", fontsize=9)
    return figure


def _balanced(classes: np.ndarray, count: int) -> np.ndarray:
    """Indices of equally many items of each class, `count` at most, in the order of the array."""
    per_class = max(1, count // len(np.unique(classes)))
    rank = np.array([np.sum(classes[:i] == c) for i, c in enumerate(classes)])
    return np.flatnonzero(rank < per_class)[:count]


def _heat_maps(number: int, arrays: Mapping[str, np.ndarray]) -> Any:
    """One row per image, with its attribution maps, each scaled to its own range."""
    from matplotlib.figure import Figure

    images, classes = arrays["attribution/images"], arrays["attribution/classes"]
    maps = [(name, title) for name, title in MAPS if f"attribution/maps/{name}" in arrays]
    figure = Figure(figsize=(1.15 * (len(maps) + 1), 1.2 * len(images) + 0.5), dpi=110, layout="constrained")
    grid = figure.subplots(len(images), len(maps) + 1, squeeze=False)
    for axis in grid.flat:
        axis.set_axis_off()
    for i, image in enumerate(images):
        _show(grid[i, 0], image)
        grid[i, 0].set_title(f"predicted {classes[i]}", fontsize=7, pad=2)
        for column, (name, title) in enumerate(maps, 1):
            grid[i, column].imshow(arrays[f"attribution/maps/{name}"][i], cmap="viridis", interpolation="nearest")
            if i == 0:
                grid[i, column].set_title(title, fontsize=7, pad=2)
    figure.suptitle(f"trial {number}: attribution maps", fontsize=9)
    return figure


def _show(axis: Any, image: np.ndarray) -> None:
    """Show an image, uint8 [c, h, w]."""
    if image.shape[0] == 1:
        axis.imshow(image[0], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    else:
        axis.imshow(image.transpose(1, 2, 0), interpolation="nearest")


def _radius_leak(trials: list[Trial], front: set[int]) -> Any:
    """The inversion paper's plot: inversion leak and L2 distance to the nearest member against the adversarial radius."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 3.5), dpi=110, layout="constrained")
    sides = (("inversion_leak", "inversion leak, larger is worse"), ("inversion_l2", "L2 to the nearest member, smaller is worse"))
    for axis, (metric, title) in zip(figure.subplots(1, 2), sides, strict=True):
        for t in trials:
            color = BLUE if t.number in front else "white"
            axis.plot(t.metrics["adversarial_radius"], t.metrics[metric], "o", ms=6, color=color, mec=INK if t.baseline else GREY)
            if t.baseline:
                axis.annotate(t.baseline, (t.metrics["adversarial_radius"], t.metrics[metric]), (4, 3), fontsize=6.5,
                              textcoords="offset points")  # fmt: skip
        axis.set_xlabel("adversarial radius (L2, median)")
        axis.set_ylabel(title)
        without_ticks(axis)
    return figure
