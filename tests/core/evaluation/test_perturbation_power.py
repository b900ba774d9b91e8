"""Accuracy over the power of direct, indirect and generated perturbations, each against an independent computation."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch

from core import data, train
from core.attacks.gradient import fgsm
from core.attacks.power import power
from core.bound import Trained
from core.config import TrialConfig
from core.data import Images
from core.errors import InputError
from core.evaluation import perturbation_power
from core.evaluation.perturbation_power import direct_curve, generator_curve, indirect_curve
from core.modes import as_float, predict

torch.set_num_threads(1)
CPU = torch.device("cpu")
SETTINGS = {
    "net.width": 4, "net.hidden": 12, "epochs": 8, "batch_size": 16, "optimizer": "adam", "optimizer.lr": 1e-2,
    "judge.part": "test", "judge.images": 60, "pool": 600,
}  # fmt: skip
FAST = {"epochs": 2, "width": 4, "batch_size": 32, "lr_g": 1e-2, "delta_scale": "batch_std"}


@pytest.fixture(scope="module")
def pool() -> Images:
    return data.load("digits", pool=600)


@pytest.fixture(scope="module")
def networks(pool) -> dict[str, Trained]:
    """Two networks that differ by their seeds."""
    parts = data.split(pool, TrialConfig.of(SETTINGS).split)
    configs = [TrialConfig.of(SETTINGS | {"seed": seed}) for seed in (1, 2)]
    bounds = [train.train(config, pool.at(parts.members), pool.at(parts.val)) for config in configs]
    return {name: Trained(*pair) for name, pair in zip(("target", "another"), zip(configs, bounds, strict=True), strict=True)}


def judged(pool: Images, part: str = "test", count: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    chosen = pool.at(getattr(data.split(pool, TrialConfig.of(SETTINGS).split), part)[:count])
    return as_float(chosen.x), chosen.y


def accuracy_by_bisection(net: Any, source: Any, x, y, wanted: float, norm: Any = "l2") -> float:
    """Accuracy on FGSM images of a mean L2 norm, whose epsilon is found by bisection."""
    low, high = 0.0, 8.0
    for _ in range(40):
        middle = (low + high) / 2
        reached = power(fgsm(source, x, y, epsilon=middle, norm=norm), x)
        low, high = (middle, high) if reached < wanted else (low, middle)
    return (predict(net, fgsm(source, x, y, epsilon=low, norm=norm)).argmax(1) == y).double().mean().item()


def test_the_direct_curve_is_the_accuracy_under_fgsm_of_each_power(networks, pool):
    x, y = judged(pool)
    found: Any = direct_curve(networks, pool, CPU, powers="0, 0.3, 0.8")
    net = networks["target"].bound.net
    clean = (predict(net, x).argmax(1) == y).double().mean().item()
    expected = [clean, *(accuracy_by_bisection(net, net, x, y, wanted) for wanted in (0.3, 0.8))]
    assert found["power"] == [0.0, 0.3, 0.8]
    assert found["accuracy_over_power"] == pytest.approx(expected, abs=1 / 60 + 1e-9)  # one image at the boundary
    assert clean > 0.6 and found["accuracy_over_power"][2] < clean - 0.3
    assert [found[f"accuracy_at/{at}"] for at in ("0", "0.3", "0.8")] == found["accuracy_over_power"]
    a, b, c = found["accuracy_over_power"]
    assert found["mean_accuracy_over_power"] == pytest.approx((0.3 * (a + b) / 2 + 0.5 * (b + c) / 2) / 0.8)


def test_the_indirect_curve_uses_images_of_the_other_network(networks, pool):
    x, y = judged(pool)
    found: Any = indirect_curve(networks, pool, CPU, powers="0,0.8,1.5")
    net, source = networks["target"].bound.net, networks["another"].bound.net
    expected = [accuracy_by_bisection(net, source, x, y, wanted) for wanted in (0.8, 1.5)]
    assert found["accuracy_over_power"][1:] == pytest.approx(expected, abs=1 / 60 + 1e-9)
    direct: Any = direct_curve(networks, pool, CPU, powers="0,0.8,1.5")
    assert found["accuracy_over_power"][0] == direct["accuracy_over_power"][0]
    assert found["mean_accuracy_over_power"] > direct["mean_accuracy_over_power"]


def test_the_source_is_another_network_with_another_seed(networks, pool):
    target = networks["target"]
    same_seed = Trained(target.config, copy.deepcopy(target.bound))
    renamed = Trained(target.config.set({"seed": 9}), target.bound)
    for other in (target, same_seed, renamed):
        with pytest.raises(ValueError, match="the source another is not independent"):
            indirect_curve({"target": target, "another": other}, pool, CPU)
    found: Any = indirect_curve({"target": target, "baseline": networks["another"]}, pool, CPU, source="baseline", powers="0,1")
    assert found["accuracy_at/1"] < found["accuracy_at/0"]


@pytest.mark.parametrize("part, count", [("val", 60), ("test", 20)])
def test_the_judged_images_are_those_of_the_settings(networks, pool, part, count):
    target = networks["target"]
    config = target.config.set({"judge.part": part, "judge.images": count})
    found = direct_curve({"target": Trained(config, target.bound)}, pool, CPU, powers="0,0.1")
    x, y = judged(pool, part, count)
    assert found["accuracy_at/0"] == (predict(target.bound.net, x).argmax(1) == y).double().mean().item()


@pytest.mark.parametrize("powers", ["", "1", "0,-1", "0.5,0.5", "1,0", "-1,0", "0,a"])
def test_powers_that_make_no_curve_are_rejected(networks, pool, powers):
    with pytest.raises(InputError):
        direct_curve(networks, pool, CPU, powers=powers)


# -- the generator ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def generators(networks, pool) -> Any:
    return generator_curve(networks, pool, CPU, c_g="0.05,1", **(FAST | {"epochs": 12}))


def test_a_small_c_g_makes_strong_perturbations_that_lower_the_accuracy(networks, pool, generators):
    weak, strong = generators["power"][1], generators["power"][0]
    assert 0.02 < weak < strong
    assert all(reached <= 1 / math.sqrt(c_g) for reached, c_g in zip(generators["power"], generators["c_g"], strict=True))
    clean: Any = direct_curve(networks, pool, CPU, powers="0,0.1")["accuracy_at/0"]
    assert generators["accuracy/generator"][0] < clean - 0.1
    assert all(1 <= epoch <= 12 for epoch in generators["epochs"])


@pytest.mark.parametrize("norm, name", [("l2", "fg_l2"), ("linf", "fg_linf")])
def test_fast_gradient_images_have_the_power_of_the_generators(networks, pool, generators, norm, name):
    x, y = judged(pool)
    net = networks["target"].bound.net
    expected = [accuracy_by_bisection(net, net, x, y, wanted, norm) for wanted in generators["power"]]
    assert generators[f"accuracy/{name}"] == pytest.approx(expected, abs=1 / 60 + 1e-9)


def test_each_value_is_also_listed_by_its_c_g(generators):
    assert generators["c_g"] == [0.05, 1.0]
    pairs = zip(generators["accuracy/fg_l2"], generators["accuracy/generator"], strict=True)
    assert generators["gain"] == pytest.approx([fast - generated for fast, generated in pairs])
    for name in ("power", "gain", "epochs", "accuracy/generator", "accuracy/fg_l2", "accuracy/fg_linf"):
        assert [generators[f"{name}/0.05"], generators[f"{name}/1"]] == generators[name]
    assert all(np.isfinite(value) for value in generators.values() if isinstance(value, float))


def test_generators_are_trained_on_members_and_stopped_by_validation_images(networks, pool, monkeypatch):
    seen = {}

    def fit(adversary, net, members, val, training, seed):
        seen.update(members=members.ids, val=val.ids, seed=seed, training=training)
        return fitted(adversary, net, members, val, training, seed)

    fitted = perturbation_power.fit_generator
    monkeypatch.setattr(perturbation_power, "fit_generator", fit)
    config = networks["target"].config.set({"replicate": 1})
    generator_curve({"target": Trained(config, networks["target"].bound)}, pool, CPU, c_g="1", patience=3, **FAST)
    parts = data.split(pool, config.split, 1)
    assert torch.equal(seen["members"], pool.at(parts.members).ids) and torch.equal(seen["val"], pool.at(parts.val).ids)
    assert seen["seed"] == 1
    assert (seen["training"].epochs, seen["training"].patience, seen["training"].batch_size) == (2, 3, 32)
