"""Pictures of what networks show of themselves: reconstructions beside the nearest members, heat maps, leak against radius."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from core.trial import NO_GUARANTEE
from trainables.drawing import BLUE, GREY, INK
from trainables.outcome import Outcome, Trial

COLUMNS = 10
"""Reconstructions side by side."""
ROWS = 4
"""Of reconstructions, at most."""
MAPS = (("patch", "sliding patch"), ("patch_small", "half the patch"), ("grad_cam", "Grad-CAM"), ("grad_cam_blurred", "blurred"),
        ("grad_cam_quantised", "quantised"))  # fmt: skip
"""Heat maps that are shown, and what stands above them."""


def figures(outcome: Outcome) -> dict[str, Any]:
    """matplotlib figures by file name, for the trials whose arrays the outcome has."""
    made: dict[str, Any] = {}
    for number, arrays in outcome.pictures.items():
        for attack in sorted({name.split("/")[1] for name in arrays if name.startswith("inversion/")}):
            made[f"inversion-{attack}-{number:05d}.png"] = _reconstructions(number, attack, arrays)
        if len(arrays.get("attribution/images", ())):
            made[f"attribution-{number:05d}.png"] = _heat_maps(number, arrays)
    known = [t for t in outcome.done if {"adversarial_radius", "inversion_leak"} <= t.metrics.keys()]
    shown = [t for t in known if t.metrics["adversarial_radius"] < NO_GUARANTEE]  # nothing misleads a network that is constant
    return made | ({"radius_leak.png": _radius_leak(shown, {t.number for t in outcome.front()})} if len(shown) > 1 else {})


def described(name: str) -> str:
    """What a picture shows, for those who do not see it."""
    if name == "radius_leak.png":
        return "Inversion leak and L2 distance to the nearest member against the adversarial radius, a point per trial"
    kind, _, rest = name.removesuffix(".png").partition("-")
    number = int(rest.rpartition("-")[2])
    if kind == "inversion":
        return (
            f"Trial {number}: reconstructions by {rest.rpartition('-')[0]}, each above the nearest member by the network's features"
        )
    return f"Trial {number}: images and their heat maps"


def _reconstructions(number: int, attack: str, arrays: Mapping[str, np.ndarray]) -> Any:
    """Pairs in rows, numbers below each."""
    from matplotlib.figure import Figure

    of = {key: arrays[f"inversion/{attack}/{key}"] for key in ("images", "nearest", "classes", "cosine", "l2")}
    count = len(of["classes"])
    chosen = _spread(of["classes"], COLUMNS * ROWS) if count > COLUMNS * ROWS else np.arange(count)
    columns = min(COLUMNS, len(chosen))
    rows = math.ceil(len(chosen) / columns)
    figure = Figure(figsize=(0.95 * columns + 0.3, 2.25 * rows + 0.4), dpi=110, layout="constrained")
    grid = figure.subplots(2 * rows, columns, squeeze=False)
    for axis in grid.flat:
        axis.set_axis_off()
    for i, k in enumerate(chosen):
        row, column = divmod(i, columns)
        for offset, key in ((0, "images"), (1, "nearest")):
            _show(grid[2 * row + offset, column], of[key][k])
        grid[2 * row, column].set_title(f"class {of['classes'][k]}", fontsize=6.5, pad=2)
        grid[2 * row + 1, column].set_title(f"cos {of['cosine'][k]:.2f}  L2 {of['l2'][k]:.1f}", fontsize=6, pad=2)
    figure.suptitle(f"trial {number}: reconstructions by {attack}, each above the nearest member", fontsize=9)
    return figure


def _spread(classes: np.ndarray, count: int) -> np.ndarray:
    """As many of each class as fit, in the order of the array."""
    each = max(1, count // len(np.unique(classes)))
    rank = np.array([np.sum(classes[:i] == c) for i, c in enumerate(classes)])
    return np.flatnonzero(rank < each)[:count]


def _heat_maps(number: int, arrays: Mapping[str, np.ndarray]) -> Any:
    """An image a row, with its maps scaled to their own range."""
    from matplotlib.figure import Figure

    images, classes = arrays["attribution/images"], arrays["attribution/classes"]
    maps = [(name, title) for name, title in MAPS if f"attribution/maps/{name}" in arrays]
    figure = Figure(figsize=(1.15 * (len(maps) + 1), 1.2 * len(images) + 0.5), dpi=110, layout="constrained")
    grid = figure.subplots(len(images), len(maps) + 1, squeeze=False)
    for axis in grid.flat:
        axis.set_axis_off()
    for i, image in enumerate(images):
        _show(grid[i, 0], image)
        grid[i, 0].set_title(f"called {classes[i]}", fontsize=7, pad=2)
        for column, (name, title) in enumerate(maps, 1):
            grid[i, column].imshow(arrays[f"attribution/maps/{name}"][i], cmap="viridis", interpolation="nearest")
            if i == 0:
                grid[i, column].set_title(title, fontsize=7, pad=2)
    figure.suptitle(f"trial {number}: where the network looks", fontsize=9)
    return figure


def _show(axis: Any, image: np.ndarray) -> None:
    """[c, h, w] of bytes."""
    if image.shape[0] == 1:
        axis.imshow(image[0], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    else:
        axis.imshow(image.transpose(1, 2, 0), interpolation="nearest")


def _radius_leak(trials: list[Trial], front: set[int]) -> Any:
    """The inversion paper's plot, with a leak that has one direction beside its L2 distance."""
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
        axis.grid(color="#ECEFF2", linewidth=0.7)
        axis.tick_params(length=0)
    return figure
