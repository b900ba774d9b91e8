"""The figures of the sparsity paper, drawn from results whose rows are named `NETWORK, PENALTY`."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from trainables.papers.figures import bars, curves, image, labelled, legend, number, panels, series, style_of
from trainables.papers.item import Results


def by_penalty(results: Results) -> dict[str, dict[str, Any]]:
    """The results by network, and then by penalty."""
    networks: dict[str, dict[str, Any]] = {}
    for row, own in results.items():
        net, penalty = row.split(", ")
        networks.setdefault(net, {})[penalty] = own
    return networks


def density(results: Results) -> Any:
    """Density and training accuracy over the weight of the penalty on activations, from rows `lambda WEIGHT` (Figure 1)."""
    figure, axes = panels(2)
    names = {"Density": "density", "Training accuracy": "train_accuracy"}
    weights = [row.removeprefix("lambda ") for row in results]
    for index, (axis, (title, name)) in enumerate(zip(axes, names.items(), strict=True)):
        points = [number(networks, name) for networks in results.values()]
        axis.errorbar(weights, [p[0] for p in points], yerr=[p[1] for p in points], capsize=2, **style_of(index))
        axis.set_ylim(0, 1.02)
        labelled(axis, "lambda", title)
    return figure


def accuracies(results: Results) -> Any:
    """Accuracy on images that were crafted before retraining, by network, penalty and attack (Figure 2)."""
    networks, attacks = by_penalty(results), {"DeepFool": "static/deepfool", "FGSM": "static/fgsm", "PGD": "static/pgd"}
    highest = max(sum(number(own, name)) for own in results.values() for name in attacks.values())
    figure, axes = panels(len(networks))
    for axis, (net, rows) in zip(axes, networks.items(), strict=True):
        bars(axis, rows, attacks)
        axis.set_ylim(0, 1.05 * highest)
        labelled(axis, "", "Accuracy", net)
    legend(figure, axes[0])
    return figure


def training(results: Results) -> Any:
    """Accuracy and loss of one network over epochs (Figure 3); the training loss contains the penalty."""
    names = {
        "Training accuracy": "train_accuracy", "Validation accuracy": "val_accuracy", "Training loss, with penalty": "loss",
        "Validation loss": "val_loss",
    }  # fmt: skip
    figure, axes = panels(len(names), columns=2)
    (rows,) = by_penalty(results).values()
    for axis, (title, name) in zip(axes, names.items(), strict=True):
        curves(axis, rows, "epoch", f"epoch/{name}")
        labelled(axis, "Epoch", title)
    legend(figure, axes[0])
    return figure


def maps(results: Results, first: str, second: str, pair: str, below: str) -> Any:
    """Two attribution maps of one image for each penalty, above each other, and their distance.

    Args:
        results: measured by `core.evaluation.attribution`; the first seed is drawn.
        first, second: names of the maps.
        pair: name of the comparison.
        below: name of the picture beside the second maps; beside the first is the image.
    """
    (rows,) = by_penalty(results).values()
    columns = 1 + len(rows)
    figure, axes = panels(2 * columns, columns=columns, width=1.4, height=1.6)
    upper, lower = axes[:columns], axes[columns:]
    any_row = next(iter(rows.values()))[:1]
    shape = [int(size) for size in series(any_row, "shown/shape")[0]]
    for axis, name in ((upper[0], "image"), (lower[0], below)):
        image(axis, series(any_row, f"shown/{name}")[0], shape, name)
    heat: Mapping[str, Any] = {"cmap": "inferno", "vmin": 0, "vmax": 1}
    for one, other, (penalty, own) in zip(upper[1:], lower[1:], rows.items(), strict=True):
        image(one, series(own[:1], f"shown/{first}")[0], shape[1:], penalty, **heat)
        image(other, series(own[:1], f"shown/{second}")[0], shape[1:], f"SSD {number(own[:1], f'shown/ssd/{pair}')[0]:.1f}", **heat)
    return figure


patches = partial(maps, first="patch", second="patch_small", pair="patch", below="image")
"""Maps by patches of 4 and of 2 pixels (Figure 4)."""
blur = partial(maps, first="grad_cam", second="grad_cam_blurred", pair="grad_cam_blur", below="blurred")
"""Maps by Grad-CAM of an image and of the image blurred (Figure 5)."""
