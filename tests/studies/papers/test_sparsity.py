"""The items of the sparsity paper: the paper's settings and numbers, and figures that show what was measured."""

import functools
import math
from typing import Any

import numpy as np
import pytest
import torch

from core import data
from core.bound import TARGET, Trained, bind
from core.config import TrialConfig
from core.data import Images
from core.evaluation.attribution import attribution_distances
from core.evaluation.retraining import Retraining, adversarial_retraining
from studies.papers.sparsity import NETWORKS, PAPER, PENALTIES, attribution_passes, retraining_passes
from trainables.cost.passes import Sizes
from trainables.papers.networks import networks_of

torch.set_num_threads(1)

ITEMS = {item.name: item for item in PAPER.items}


def networks(item: str, preset: str):
    own = ITEMS[item].presets[preset]
    return networks_of(ITEMS[item], own, None, {}, (), own.seeds)


def test_published_numbers_are_those_of_the_tables():
    table1, table2 = ITEMS["table1"].published, ITEMS["table2"].published
    assert table1["ResNet, Elastic Net"] == {"DeepFool": 33.8, "FGSM": 37.4, "PGD": 38.2}
    assert table1["MobileNet, L2"] == {"DeepFool": 38.4, "FGSM": 30.2, "PGD": 25.4}
    assert table1["VGG16, Base"] == {"DeepFool": 8.4, "FGSM": 7.6, "PGD": 1.6}
    sums = [sum(row[attack] for row in table1.values()) for attack in ("DeepFool", "FGSM", "PGD")]
    assert sums == pytest.approx([257.1, 227.8, 221.0])
    assert table2["MobileNet, L1"] == {"Patch": 18.51, "SD": 15.28, "Grad-CAM": 15.13, "SD of Grad-CAM": 24.95}


def protocol(settings: Any) -> Retraining:
    """The settings of the protocol, which are checked."""
    return Retraining(**settings)


@pytest.mark.parametrize("item", ["table1", "figure2"])
def test_the_paper_preset_is_the_example_of_the_toolbox(item):
    assert protocol(ITEMS[item].presets["paper"].settings) == Retraining(
        attacks="deepfool+fgsm+pgd", epsilon=0.3, steps=100, step_size=0.1, deepfool_steps=100, overshoot=1e-6, labels="predicted",
        epochs=10, test_images=500,
    )  # fmt: skip
    found = {cell.row: config for cell, config in networks(item, "paper").rows.items()}
    assert list(found) == list(NETWORKS) and len(found) == 12
    for row, config in found.items():
        params = config.params()
        net, penalty = row.split(", ")
        assert params["net"] == {"ResNet": "resnet50", "MobileNet": "mobilenet", "VGG16": "vgg16"}[net]
        assert (params["optimizer"], params["optimizer.lr"], params["optimizer.weight_decay"]) == ("adam", 1e-3, 0.0)
        assert (params["epochs"], params["batch_size"], params["normalize"], params["judge.part"]) == (10, 128, False, "test")
        strengths = (params.get("regularizer.l1", 0.0), params.get("regularizer.l2", 0.0))
        assert strengths == {"Base": (0, 0), "L1": (0.01, 0), "L2": (0, 0.01), "Elastic Net": (0.01, 0.01)}[penalty]


def test_the_paper_preset_trains_on_5000_images_of_the_training_file():
    y = torch.arange(60_000) % 10
    x, rows = torch.zeros(60_000, 1, 1, 1, dtype=torch.uint8), torch.arange(60_000)
    images = Images(x, y, 10, rows, in_test_file=rows >= 50_000)
    parts = data.split(images, networks("table1", "paper").common.split)
    assert len(parts.members) == 5000 and parts.members.max() < 50_000
    assert len(parts.test) == 10_000 and parts.test.min() >= 50_000


def test_figure_1_varies_the_weight_of_the_penalty_on_activations_alone():
    for preset in ("dev", "paper"):
        rows = [config.params() for cell, config in networks("figure1", preset).rows.items() if cell.seed == 1]
        assert [row.pop("regularizer.lambda") for row in rows] == [0, 1e-7, 1e-6, 1e-5, 1e-4]
        assert all(row == rows[0] for row in rows) and rows[0]["net"] == "single_layer"


# -- what is measured -------------------------------------------------------------------------------------------------


def untrained(shape=(3, 32, 32), **params) -> tuple[Trained, Images]:
    n = 40
    x = torch.randint(0, 256, (n, *shape), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    images = Images(x, torch.arange(n) % 2, 2)
    config = TrialConfig.of({
        "net.width": 2, "net.hidden": 4, "split.members": 0.5, "split.val": 0.25, "split.test": 0.25, "split.shadow": 0,
        "judge.part": "test", **params,
    })  # fmt: skip
    return Trained(config, bind(config, images, torch.device("cpu"))), images


@functools.cache
def measured(item: str) -> dict[str, list[dict]]:
    """The values of the first four rows on untrained networks, with few epochs and steps; metrics and curves are made up."""
    own = ITEMS[item]
    settings = dict(own.presets["dev"].settings)
    settings |= {key: 2 for key in ("epochs", "steps", "deepfool_steps", "count", "test_images") if key in settings}
    results: dict[str, list[dict]] = {}
    for number, row in enumerate(list(own.rows)[:4]):
        target, images = untrained(seed=number)
        values = own.measurement.function({TARGET: target}, images, "cpu", **settings) if own.measurement else {}
        extra = {"accuracy": number / 100, "train_accuracy": number / 50, "density": number / 20, "epoch": [1.0, 2.0]}
        curves = {f"epoch/{name}": [0.1, number / 10] for name in ("train_accuracy", "val_accuracy", "loss", "val_loss")}
        results[row] = [{**extra, **curves, **values}]
    return results


@pytest.mark.parametrize("item", ITEMS)
def test_every_column_is_measured_and_every_figure_is_drawn(item):
    own = ITEMS[item]
    results = measured(item)
    for values in results.values():
        assert all(math.isfinite(values[0][name]) for name in own.columns.values())
    if own.draw is not None:
        figure = own.draw(results)
        assert all(axis.has_data() for axis in figure.axes)


def figure_of(item: str, results: Any) -> Any:
    """The figure of an item."""
    draw = ITEMS[item].draw
    assert draw is not None
    return draw(results)


def test_figure_1_shows_density_and_accuracy():
    results = {f"lambda {name}": [{"density": d, "train_accuracy": a}] for name, d, a in (("0", 0.5, 0.9), ("1e-4", 0.1, 0.8))}
    axes = figure_of("figure1", results).axes
    lines = [axis.lines[0].get_ydata().tolist() for axis in axes]
    assert lines == [[0.5, 0.1], [0.9, 0.8]]
    assert [tick.get_text() for tick in axes[0].get_xticklabels()] == ["0", "1e-4"]


def test_figure_2_has_a_panel_per_network_and_a_bar_per_penalty_and_attack():
    names = ("static/deepfool", "static/fgsm", "static/pgd")
    values = {row: [{name: 0.1 * i + 0.01 * j for j, name in enumerate(names)}] for i, row in enumerate(NETWORKS)}
    figure = figure_of("figure2", values)
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["ResNet", "MobileNet", "VGG16"]
    heights = [[bar.get_height() for bar in axis.patches] for axis in figure.axes]
    assert heights[1] == pytest.approx([0.1 * i + 0.01 * j for j in range(3) for i in range(4, 8)])
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == list(PENALTIES)


@pytest.mark.parametrize(("item", "maps"), [("figure4", ("patch", "patch_small")), ("figure5", ("grad_cam", "grad_cam_blurred"))])
def test_figures_4_and_5_show_the_image_and_both_maps_of_each_penalty(item, maps):
    results = measured(item)
    figure = figure_of(item, results)
    shown = [np.asarray(axis.images[0].get_array()) for axis in figure.axes]
    assert len(shown) == 10
    own = next(iter(results.values()))[0]
    np.testing.assert_allclose(shown[0].transpose(2, 0, 1).ravel(), own["shown/image"], atol=1e-6)
    for line, name in enumerate(maps):
        for column, values in enumerate(results.values(), start=1):
            np.testing.assert_allclose(shown[5 * line + column].ravel(), values[0][f"shown/{name}"])


# -- cost -------------------------------------------------------------------------------------------------------------


class Counted(torch.nn.Module):
    """Counts the images of forward passes."""

    def __init__(self, net):
        super().__init__()
        self.net, self.images = net, 0

    def forward(self, x):
        self.images += len(x)
        return self.net(x)


def test_the_passes_of_attribution_are_those_of_the_maps():
    target, images = untrained()
    counted = Counted(target.bound.net)
    target.bound.net = counted  # pyright: ignore[reportAttributeAccessIssue]
    attribution_distances({TARGET: target}, images, "cpu", count=4)
    expected = attribution_passes(Sizes(40, 20, 10, 40), {"count": 4})
    assert counted.images == pytest.approx(expected.forward, rel=0.02)


def test_the_passes_of_retraining_grow_with_epochs_steps_and_attacks():
    sizes = Sizes(pool=100, members=50, judged=20, target=100)
    fgsm = retraining_passes(sizes, {"attacks": "fgsm", "epochs": 3})
    assert fgsm.backward == 50 + 2 * 20 + 2 * 50 * 3
    pgd = retraining_passes(sizes, {"attacks": "pgd", "epochs": 3, "steps": 10, "test_images": 5})
    assert pgd.backward == 10 * (50 + 2 * 5) + 2 * 50 * 3
    assert retraining_passes(sizes, {"attacks": "fgsm+pgd", "epochs": 3, "steps": 10}).forward > pgd.forward


def test_dev_settings_are_those_of_the_measurements():
    for item in ITEMS.values():
        for preset in item.presets.values():
            if item.measurement and item.measurement.function is adversarial_retraining:
                assert protocol(preset.settings).attacks in ("deepfool+fgsm+pgd", "fgsm+pgd")
            elif not item.measurement:
                assert preset.settings == {}
