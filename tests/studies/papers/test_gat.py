"""The items of the GAT paper have its recipes and numbers, and their figures show what was measured."""

import functools
from typing import Any

import pytest
import torch

from core.bound import TARGET, Trained, bind
from core.config import TrialConfig
from core.data import Images
from core.recipes import RECIPES
from studies.papers import gat
from studies.papers.gat import BASELINE, C_G, DROPOUT, DROPOUT_GAT, FG_L2, FG_LINF, GAT, PAPER, RANDOM, passes
from trainables.cost.passes import Sizes
from trainables.papers.files import files_of_listing
from trainables.papers.networks import networks_of
from trainables.papers.table import Table

torch.set_num_threads(1)

ITEMS = {item.name: item for item in PAPER.items}
CPU = torch.device("cpu")


def networks(item: str, preset: str) -> Any:
    own = ITEMS[item].presets[preset]
    return networks_of(ITEMS[item], own, None, {}, (), own.seeds)


@pytest.mark.parametrize("item", ITEMS)
def test_the_paper_preset_has_the_papers_recipes_and_split(item):
    recipes = {
        DROPOUT: "dropout", RANDOM: "noise", FG_LINF: "fgsm_linf", FG_L2: "fgsm_l2", GAT: "gat", DROPOUT_GAT: "gat_dropout",
    }  # fmt: skip
    found = networks(item, "paper")
    for cell, config in {**found.rows, **found.sources}.items():
        recipe = RECIPES[recipes[cell.row]] if cell.row in recipes else RECIPES["dropout"] | {"net.dropout": 0.0}
        expected, params = TrialConfig.of(recipe).params(), config.params()
        others = ("dataset", "seed", "replicate", "split", "judge.", "selection")
        assert {name: params[name] for name in expected if not name.startswith(others)} == {
            name: value for name, value in expected.items() if not name.startswith(others)
        }
        assert (params["split"], params["split.val"], params["judge.part"]) == ("official", 5000, "test")
    gats = [config.params() for cell, config in found.rows.items() if "GAT" in cell.row]
    assert all(params["perturbation.lr_g"] == 1e-6 and params["perturbation.delta_scale"] == "none" for params in gats)


@pytest.mark.parametrize("item", ITEMS)
def test_the_dev_preset_has_a_working_generator_and_one_training_for_the_same_row_of_every_item(item):
    for cell, config in networks(item, "dev").rows.items():
        if "GAT" in cell.row:
            assert config.params()["perturbation.lr_g"] == 3e-3 and config.params()["perturbation.delta_scale"] == "batch_std"
        if item != "table2_cifar100":
            assert config == networks("table2", "dev").rows[cell]


def test_published_numbers_are_those_of_table_2():
    both = [{row: numbers["test"] for row, numbers in ITEMS[name].published.items()} for name in ("table2", "table2_cifar100")]
    assert both[0] == {
        BASELINE: 77.48, DROPOUT: 78.49, RANDOM: 77.59, FG_LINF: 78.12, FG_L2: 77.99, GAT: 80.33, DROPOUT_GAT: 81.62,
    }  # fmt: skip
    assert both[1] == {
        BASELINE: 44.32, DROPOUT: 46.29, RANDOM: 44.43, FG_LINF: 45.16, FG_L2: 45.67, GAT: 50.44, DROPOUT_GAT: 50.71,
    }  # fmt: skip


def test_the_source_of_the_indirect_attack_is_a_baseline_with_another_seed_on_the_same_members():
    for preset in ("dev", "paper"):
        found = networks("figure4", preset)
        for cell, config in found.sources.items():
            targets = {row: own for (row, seed), own in found.rows.items() if seed == cell.seed}
            assert all(config.seed != own.seed and config.replicate == own.replicate for own in targets.values())
            baseline = targets[BASELINE]
            assert config.set({"seed": baseline.seed} | _judge(baseline)) == baseline


def _judge(config: TrialConfig) -> dict:
    return {name: value for name, value in config.params().items() if name.startswith("judge.")}


# -- Table 1 ----------------------------------------------------------------------------------------------------------


def test_table_1_lists_three_networks_with_their_numbers_of_weights():
    rows = gat.architectures()
    totals = {row["network"]: (row["output"], row["weights"]) for row in rows if row["layer"] == "all layers"}
    assert totals == {
        "classifier, 10 classes": ("10", 240_058), "classifier, 100 classes": ("100", 248_788), "generator": ("3x32x32", 107_763),
    }  # fmt: skip
    for network, (_, total) in totals.items():
        assert sum(row["weights"] for row in rows if row["network"] == network and row["layer"] != "all layers") == total


def test_the_files_of_table_1_have_every_layer():
    files = {name: data.decode() for name, data in files_of_listing(PAPER, PAPER.listings[0]).items()}
    assert files.keys() == {"table.md", "table.csv", "table.tex"}
    assert "| classifier, 10 classes | 3x3 conv 96, stride 2, ReLU | 96x8x8 | 83,040 |" in files["table.md"]
    assert files["table.md"].startswith("Architectures of the classifier and of the generator (Lee")
    assert files["table.csv"].splitlines()[0] == "network,layer,output,weights"
    assert len(files["table.csv"].splitlines()) == 1 + len(gat.architectures())
    assert r"generator & 1x1 conv 3, tanh & 3x32x32 & 147 \\" in files["table.tex"]


# -- figures ----------------------------------------------------------------------------------------------------------


@functools.cache
def measured(item: str) -> dict:
    """The item's measurement on untrained networks, with the settings of dev but fewer epochs."""
    own, images = ITEMS[item], pool()
    settings = dict(own.presets["dev"].settings)
    settings |= {name: value for name, value in {"epochs": 1, "width": 2}.items() if name in settings}

    def network(seed: int) -> Trained:
        config = TrialConfig.of({
            "net": "allconv", "net.width": 2, "split.members": 0.4, "split.val": 0.3, "split.test": 0.3, "split.shadow": 0,
            "seed": seed, "judge.part": "test",
        })  # fmt: skip
        return Trained(config, bind(config, images, CPU))

    sources = {name: network(99) for name in own.measurement.sources}
    from_judge = {"accuracy": 0.5, "robust_accuracy/pgd_steps_20": 0.1}
    return {
        row: [{**from_judge, **own.measurement.function({TARGET: network(seed), **sources}, images, CPU, **settings)}]
        for seed, row in enumerate(own.rows)
    }


def pool() -> Images:
    x = torch.randint(256, (100, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Images(x, torch.arange(100) % 10, 10)


@pytest.mark.parametrize("item", ["figure2", "figure3", "figure4"])
def test_the_measurement_has_every_column_and_the_figure_is_drawn_from_it(item):
    own, results = ITEMS[item], measured(item)
    table = Table.of(own, results)
    assert all(entries.keys() == own.columns.keys() for entries in table.entries.values())
    lines = own.draw(results).axes[0].get_lines()
    labels = [BASELINE, FG_LINF, GAT] if item != "figure2" else ["GAT", "FG, L2", "FG, Linf"]
    assert [line.get_label() for line in lines] == labels
    values = results[BASELINE][0]
    if item == "figure2":
        assert list(lines[0].get_xdata()) == [*values["power"], 0.0]
        assert list(lines[2].get_ydata()) == [*values["accuracy/fg_linf"], 0.5]
    else:
        assert list(lines[0].get_xdata()) == values["power"] and list(lines[0].get_ydata()) == values["accuracy_over_power"]


def test_passes_of_figure_2_grow_with_members_epochs_and_generators():
    sizes = Sizes(pool=200, members=80, judged=60, target=200)
    found = passes(sizes, {"epochs": 3})
    assert found.forward == found.backward == 6 * 80 * 3 * len(C_G)
    assert passes(sizes, {}).forward == found.forward * 200 / 3
