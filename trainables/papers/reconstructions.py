"""Drawing the figures of reconstructions: images, their starts and nearest members, logits, and radius against leak.

The values are those of `core.evaluation.reconstruction`; images are those of the first network of a row.
"""

import math
from collections.abc import Sequence
from typing import Any

from trainables.papers.figures import curve, image_lines, labelled, legend, number, panels, series, style_of
from trainables.papers.item import Results, Values


def listed(own: Values, name: str) -> list[float]:
    """A series of the values of a network."""
    return series([own], name)[0]


def images_of(own: Values, name: str = "images") -> list[list[float]]:
    """The images of a series, one by one."""
    pixels, size = listed(own, name), round(math.prod(listed(own, "shape")))
    return [pixels[at : at + size] for at in range(0, len(pixels), size)]


def shape_of(results: Results) -> list[int]:
    """Channels, height and width of the images."""
    return [round(size) for size in listed(next(iter(results.values()))[0], "shape")]


def reconstructions(results: Results) -> Any:
    """A line of reconstructions per row, each with the number of its class."""
    lines = {
        row: [(image, f"{c:.0f}") for image, c in zip(images_of(own[0]), listed(own[0], "classes"), strict=True)]
        for row, own in results.items()
    }
    return image_lines(lines, shape_of(results))


def from_members(results: Results) -> Any:
    """The members from which the ascent started, and what each network made of them."""
    first = next(iter(results.values()))[0]
    lines = {"training images": [(image, "") for image in images_of(first, "starts")]}
    lines |= {row: [(image, "") for image in images_of(own[0])] for row, own in results.items()}
    return image_lines(lines, shape_of(results))


def logits(results: Results) -> Any:
    """The logit during the ascent, one panel per row, and the mean logit of training images."""
    figure, axes = panels(len(results))
    for index, (axis, (row, own)) in enumerate(zip(axes, results.items(), strict=True)):
        mean, half = series(own, "trajectory")
        curve(axis, series(own, "trajectory_iterations")[0], mean, half, "reconstructions", index)
        axis.axhline(number(own, "training_logit")[0], color="grey", linestyle="--", label="training images")
        labelled(axis, "iteration", "logit of the class", row)
        axis.set_xscale("symlog", linthresh=10)  # the first iterations matter as much as the last thousand
        axis.set_xlim(left=0)
    legend(figure, axes[0])
    return figure


def generated(results: Results) -> Any:
    """A line of generated images per row and weight of the target's loss."""
    lines = {}
    for row, own in results.items():
        images, classes = images_of(own[0]), listed(own[0], "classes")
        for index, weight in enumerate(listed(own[0], "weights")):
            part = images[index * len(classes) : (index + 1) * len(classes)]
            lines[f"{row}, w={weight:g}"] = [(image, f"{c:.0f}") for image, c in zip(part, classes, strict=True)]
    return image_lines(lines, shape_of(results))


def nearest_members(results: Results, shown: Sequence[tuple[str, int]]) -> Any:
    """A line per row and class that is to be shown: the reconstruction, and its nearest members with their cosines."""
    lines = {}
    for row, c in shown:
        if row not in results:
            continue
        own = results[row][0]
        at, near = listed(own, "classes").index(c), images_of(own, "nearest")
        count = len(near) // len(listed(own, "classes"))
        part = slice(at * count, (at + 1) * count)
        titles = [f"cos {v:.2f}" for v in listed(own, "cosines")[part]]
        lines[f"{row}, class {c}"] = [(images_of(own)[at], ""), *zip(near[part], titles, strict=True)]
    return image_lines(lines, shape_of(results))


def radius_and_leak(results: Results) -> Any:
    """Distance to the nearest member, which the paper calls privacy loss, and leak against the adversarial radius."""
    figure, axes = panels(2)
    names = {"rmse_255": "L2 to the nearest member", "leak": "leak (0: none)"}
    for axis, (name, label) in zip(axes, names.items(), strict=True):
        for index, (row, own) in enumerate(results.items()):
            (x, dx), (y, dy) = number(own, "radius"), number(own, name)
            axis.errorbar(x, y, dy, dx, label=row, **{**style_of(index), "markersize": 6, "linestyle": "none"})
        labelled(axis, "adversarial radius (L2, median)", label)
    axes[1].axhline(0, color="grey", linewidth=0.8)
    legend(figure, axes[0])
    return figure
