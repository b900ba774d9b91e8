"""GAT's generator as an attack: an image's result does not depend on other images, and uses statistics of training."""

import copy
from typing import Any

import pytest
import torch
from tiny_training import TINY, fit, images

from core import data, train
from core.bound import Bound, bind
from core.config import TrialConfig
from core.evaluation.adaptive_gat import generator
from core.modes import as_float, eval_mode, predict
from core.perturbations.gat import MOMENTUM, Adversary, probability_gradient

torch.set_num_threads(1)
STEEP = {"perturbation": "gat", "perturbation.delta_scale": "batch_std", "perturbation.lr_g": 1e-2, "perturbation.width": 4}


@pytest.fixture(scope="module")
def digits() -> tuple[Bound, torch.Tensor, torch.Tensor]:
    """A trained network with its generator, and 224 images with their classes."""
    pool = data.load("digits")
    parts = data.split(pool)
    config = TrialConfig.of(STEEP | {"epochs": 5, "net.width": 8, "optimizer": "adam", "batch_size": 32, "perturbation.c_g": 0.1})
    bound = train.train(config, pool.at(parts.members), pool.at(parts.val))
    return bound, as_float(pool.x[:224]), pool.y[:224]


def attacked(bound: Any, x, y, size: int, epsilon: float = 0.2, norm: Any = "linf"):
    parts = zip(x.split(size), y.split(size), strict=True)
    return torch.cat([generator(bound.net, *part, epsilon=epsilon, norm=norm, adversary=bound.perturbation) for part in parts])


@pytest.mark.parametrize("norm, epsilon", [("linf", 0.1), ("linf", 0.2), ("l2", 1.0)])
def test_images_are_attacked_alike_in_batches_of_1_7_and_224(digits, norm, epsilon):
    bound, x, y = digits
    whole = attacked(bound, x, y, 224, epsilon, norm)
    assert (whole - x).flatten(1).abs().amax(1).gt(0).sum() > 100
    verdicts = predict(bound.net, whole).argmax(1) == y
    for size in (1, 7):
        parts = attacked(bound, x, y, size, epsilon, norm)
        assert torch.equal(predict(bound.net, parts).argmax(1) == y, verdicts)
        if norm == "l2":
            torch.testing.assert_close(parts, whole, atol=1e-4, rtol=0)


def test_the_generators_input_and_output_for_an_image_depend_on_other_images_in_training_only(digits):
    bound, x, y = digits
    part, delta = copy.deepcopy(bound.perturbation), probability_gradient(bound.net, x, y)[0]
    others_steeper = torch.cat([delta[:5], 1e3 * delta[5:]])
    with eval_mode(part), torch.no_grad():
        whole = part.offset(delta)
        torch.testing.assert_close(torch.cat([part.offset(d) for d in delta.split(1)]), whole, atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(part.offset(others_steeper)[:5], whole[:5], atol=1e-6, rtol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(part.scaled(others_steeper).square().mean(), torch.tensor(1.0))


def test_the_attack_leaves_the_generator_and_its_mode_unchanged(digits):
    bound, x, y = digits
    before = copy.deepcopy(bound.perturbation.state_dict())
    modes = [module.training for module in bound.perturbation.modules()]
    attacked(bound, x[:20], y[:20], 7)
    assert [module.training for module in bound.perturbation.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in bound.perturbation.state_dict().items())


def test_the_stored_square_is_the_exponentially_weighted_mean_over_the_training_batches(monkeypatch):
    """As in PyTorch's batch norm with momentum 0.1, but divided by the sum of the weights, so that it is right from the start."""
    batches, scaled = [], Adversary.scaled

    def record(self, delta):
        batches.append(delta.double().square().mean().item())
        return scaled(self, delta)

    monkeypatch.setattr(Adversary, "scaled", record)
    part: Any = fit(STEEP | {"perturbation.k": 2}).perturbation
    assert len(batches) == 2 * 3 * (2 + 1)  # two epochs of three batches, each after two steps of the generator
    weights = [(1 - MOMENTUM) ** age for age in reversed(range(len(batches)))]
    expected = sum(w * b for w, b in zip(weights, batches, strict=True)) / sum(weights)
    delta = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(part.eval().scaled(delta), delta / expected**0.5, rtol=1e-5, atol=0)


@pytest.mark.parametrize("knobs", [{"perturbation.k": 0}, {"perturbation.alpha": 1.0}, {"perturbation.lr_g": 0.0}])
def test_a_generator_that_is_never_trained_has_the_statistic_of_the_classifiers_batches(knobs):
    part: Any = fit(STEEP | knobs).perturbation
    assert part.eval().scaled(torch.ones(1, 1, 8, 8)).isfinite().all() and part.mean_square[0] > 0


def test_a_generator_that_has_seen_no_batch_is_refused():
    bound = bind(TrialConfig.of(TINY | STEEP), images(), torch.device("cpu"))
    with pytest.raises(ValueError, match="needs a trained generator"):
        attacked(bound, torch.rand(3, 1, 8, 8), torch.tensor([0, 1, 2]), 3)


@pytest.mark.parametrize("scale, stored", [("none", False), ("norm", False), ("batch_std", True)])
def test_only_the_scale_that_needs_a_statistic_stores_one_and_a_restored_generator_has_it(scale, stored):
    bound = fit(STEEP | {"perturbation.delta_scale": scale})
    state = bound.state()["modules"]["perturbation"]
    assert ("mean_square" in state) == stored
    other = bind(TrialConfig.of(TINY | STEEP | {"perturbation.delta_scale": scale}), images(), torch.device("cpu"))
    other.perturbation.load_state_dict(state)
    delta = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(other.perturbation.eval().scaled(delta), bound.perturbation.eval().scaled(delta))
