"""The items of the inversion paper are legal in both presets, and their figures show what was measured."""

import functools

import pytest
import torch

from core.bound import TARGET, Trained, bind
from core.config import TrialConfig
from core.data import Images
from core.evaluation import reconstruction
from core.recipes import RECIPES
from studies.papers.inversion import ATM, OTHER, PAPER, RES, VGG, passes
from trainables.cost.passes import Sizes
from trainables.papers.networks import networks_of

torch.set_num_threads(1)

ITEMS = {item.name: item for item in PAPER.items}
CASES = [(item, preset) for item in ITEMS for preset in ("dev", "paper")]


def networks(item: str, preset: str):
    own = ITEMS[item].presets[preset]
    return networks_of(ITEMS[item], own, None, {}, (), own.seeds)


@pytest.mark.parametrize(("item", "preset"), CASES)
def test_every_network_of_every_preset_is_legal(item, preset):
    found = networks(item, preset)
    assert found.labels() == list(ITEMS[item].rows)
    assert all(TrialConfig.of(config.params()) == config for config in (*found.rows.values(), *found.sources.values()))
    assert found.common.dataset == "cifar10" and (preset == "dev") == (found.common.pool > 0)


@pytest.mark.parametrize("item", ITEMS)
def test_the_paper_preset_has_the_papers_recipes_and_split(item):
    recipes = {VGG: "ttm_vgg", RES: "ttm_res", ATM: "atm_res", "ATM-Res10": "atm_res10", OTHER: "ttm_res"}
    found = networks(item, "paper")
    for cell, config in {**found.rows, **found.sources}.items():
        params, expected = config.params(), TrialConfig.of(RECIPES[recipes[cell.row]]).params()
        others = ("dataset", "seed", "split", "judge.")
        assert {name: params[name] for name in expected if not name.startswith(others)} == {
            name: value for name, value in expected.items() if not name.startswith(others)
        }
        assert params["split"] == "official" and params["judge.part"] == "test"


@pytest.mark.parametrize("item", ITEMS)
def test_published_numbers_belong_to_rows_and_columns(item):
    own = ITEMS[item]
    assert own.published.keys() <= own.rows.keys() and set(own.percent) <= own.columns.keys()
    assert all(numbers.keys() <= own.columns.keys() for numbers in own.published.values())
    assert "\n" not in own.differs and own.differs.endswith(".")


def test_published_numbers_are_those_of_the_text():
    iterations = ITEMS["figure4"].published
    assert [iterations[row]["iterations to the class"] for row in (RES, ATM)] == [3, 1136]
    assert [iterations[row]["logit"] for row in (RES, ATM)] == [150, 44]
    assert iterations[ATM][f"logit under {OTHER}"] == 21
    assert {row: own["cosine"] for row, own in ITEMS["figure10"].published.items()} == {VGG: 0.99, RES: 0.78, ATM: 0.85}


@functools.cache
def measured(item: str) -> dict:
    """The item's measurement on untrained networks, with the settings of dev but fewer iterations and epochs."""
    own, images = ITEMS[item], pool()
    settings = dict(own.presets["dev"].settings)
    limits = {"iterations": 3, "epochs": 1, "width": 2, "gan_images": 8, "radius_images": 4, "radius_steps": 3}
    settings |= {name: value for name, value in limits.items() if name in settings}

    def network(seed: int) -> Trained:
        config = TrialConfig.of({"net.width": 2, "net.hidden": 4, "split.members": 0.4, "split.val": 0.3, "split.test": 0.3,
                                 "split.shadow": 0, "seed": seed})  # fmt: skip
        return Trained(config, bind(config, images, torch.device("cpu")))

    sources = {name: network(99) for name in own.measurement.sources}
    return {
        row: [own.measurement.function({TARGET: network(seed), **sources}, images, torch.device("cpu"), **settings)]
        for seed, row in enumerate(own.rows)
    }


def pool() -> Images:
    x = torch.randint(256, (200, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Images(x, torch.arange(200) % 10, 10)


@pytest.mark.parametrize("item", [name for name in ITEMS if name != "targets"])
def test_the_measurement_has_every_column_and_the_figure_is_drawn_from_it(item):
    own, results = ITEMS[item], measured(item)
    for values in (networks[0] for networks in results.values()):
        assert set(own.columns.values()) <= values.keys()
        assert all(isinstance(value, float) or all(isinstance(one, float) for one in value) for value in values.values())
    assert own.draw is not None
    assert len(own.draw(results).axes) >= 2


def test_a_figure_shows_the_pixels_that_were_measured():
    results = measured("figure3")
    axes = ITEMS["figure3"].draw(results).axes
    pixels = torch.tensor(results[RES][0]["images"]).view(10, 3, 8, 8)
    shown = torch.from_numpy(axes[10 + 4].get_images()[0].get_array().data)
    torch.testing.assert_close(shown.float(), pixels[4].permute(1, 2, 0), rtol=0, atol=1e-6)
    assert (axes[14].get_title(), axes[10].texts[0].get_text()) == ("4", RES)


def test_passes_are_those_that_the_network_is_called_with():
    counts: list[tuple[int, bool]] = []
    config = TrialConfig.of({"net.width": 2, "net.hidden": 4, "split.members": 0.4, "split.val": 0.3, "split.test": 0.3,
                             "split.shadow": 0})  # fmt: skip
    images = pool()
    trained = Trained(config, bind(config, images, torch.device("cpu")))
    trained.bound.net.register_forward_hook(lambda _, inputs, out: counts.append((len(inputs[0]), inputs[0].requires_grad)))
    settings = {"iterations": 40, "lr": 0.1, "classes": "1,2", "restarts": 3}
    reconstruction.reconstruct({TARGET: trained}, images, torch.device("cpu"), **settings)
    expected = passes(Sizes(pool=200, members=80, judged=60, target=200), settings)
    steps = sum(count for count, gradient in counts if gradient)
    assert expected.backward == pytest.approx(steps, rel=0.05)
    assert expected.forward == pytest.approx(sum(count for count, _ in counts), rel=0.15)
