"""A generator trained against a frozen classifier: the linear optimum, the unchanged classifier, and early stopping."""

import copy
import math
from typing import Any

import pytest
import torch
from tiny_training import images
from torch import nn

from core.modes import as_float, eval_mode
from core.nets.net import Halves, Net
from core.perturbations import frozen_gat
from core.perturbations.frozen_gat import GeneratorTraining, fit_generator, generated, mean_loss, new_adversary
from core.perturbations.gat import GAT, probability_gradient

torch.set_num_threads(1)
SHAPE = (1, 4, 4)


class Ramp(nn.Module):
    """Two classes, the second with probability 0.5 + w . (x - 0.5), which is linear, so that Delta is w or -w."""

    dim = 1

    def __init__(self, length: float = 0.2):
        super().__init__()
        w = torch.randn(16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        self.w = nn.Parameter((length * w / w.norm()).float())

    def forward(self, x):
        p = 0.5 + (x.flatten(1) - 0.5) @ self.w
        return torch.stack([1 - p, p], 1).log()


def ramp(length: float = 0.2) -> Any:
    return Ramp(length)


class LinearGenerator(nn.Module):
    """The generator G(Delta) = a Delta."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(0.1))

    def forward(self, delta):
        return self.a * delta


def pools(classes: int = 2) -> Any:
    """Training and validation images for the generator, whose pixels are between 0.3 and 0.7."""
    both = [images(n, seed, SHAPE, classes) for n, seed in ((24, 0), (10, 1))]
    for pool in both:
        pool.x[:] = (77 + pool.x.double() * 0.4).to(torch.uint8)
    return both


def adversary_of(net: Any, members, seed: int = 0, **settings) -> Any:
    return new_adversary(net, members, GAT(**settings), seed)


# -- the optimum ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("c_g", [0.5, 2.0])
def test_a_linear_generator_converges_to_minus_delta_over_two_c(c_g):
    net, (members, val) = ramp(), pools()
    adversary = adversary_of(net, members, c_g=c_g)
    adversary.generator = LinearGenerator()
    adversary.adam = torch.optim.Adam(adversary.generator.parameters(), lr=0.05)
    fitted = fit_generator(adversary, net, members, val, GeneratorTraining(epochs=150, patience=150, batch_size=12))
    assert adversary.generator.a.item() == pytest.approx(-1 / (2 * c_g), rel=2e-3)
    # In closed form: p - |w|^2 / (4 c_g), with the mean probability p of the true class.
    x = as_float(val.x)
    p = net(x).exp()[torch.arange(10), val.y].mean().item()
    assert min(fitted.losses) == pytest.approx(p - 0.2**2 / (4 * c_g), rel=1e-4)


def test_the_generator_of_the_paper_approaches_the_linear_optimum():
    net, (members, val) = ramp(0.5), pools()
    adversary = adversary_of(net, members, c_g=2.0, width=6, lr_g=1e-2, delta_scale="batch_std")
    fit_generator(adversary, net, members, val, GeneratorTraining(epochs=60, patience=60, batch_size=12))
    x = as_float(val.x)
    offset = generated(adversary, net, x, val.y) - x
    optimum = -probability_gradient(net, x, val.y)[0] / (2 * 2.0)
    cosine = nn.functional.cosine_similarity(offset.flatten(1), optimum.flatten(1))
    assert cosine.min() > 0.95
    torch.testing.assert_close(offset.flatten(1).norm(dim=1), optimum.flatten(1).norm(dim=1), rtol=0.1, atol=0)


# -- the classifier ---------------------------------------------------------------------------------------------------


def with_batch_norm() -> Any:
    """A network with batch norm and dropout, in training mode."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten())
    return Net(Halves(body, nn.Linear(16, 2), 16), torch.zeros(1), torch.ones(1)).train()


def test_the_classifiers_parameters_buffers_gradients_and_mode_are_unchanged():
    net, (members, val) = with_batch_norm(), pools()
    before = copy.deepcopy(net.state_dict())
    adversary = adversary_of(net, members, width=4, lr_g=1e-2, delta_scale="batch_std")
    start = copy.deepcopy(adversary.generator.state_dict())
    fit_generator(adversary, net, members, val, GeneratorTraining(epochs=2, batch_size=8))
    generated(adversary, net, as_float(val.x), val.y)
    assert len(before) > 8 and all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert all(module.training for module in net.modules())
    assert not any(torch.equal(value, start[name]) for name, value in adversary.generator.state_dict().items() if value.ndim > 1)


# -- early stopping ---------------------------------------------------------------------------------------------------


def test_training_stops_after_patience_epochs_and_keeps_the_best_epoch(monkeypatch):
    net, (members, val) = ramp(), pools()
    planted, states = [5.0, 3.0, 4.0, 3.5, 3.0, 1.0], []

    def loss(adversary, net, images):
        states.append(copy.deepcopy(adversary.generator.state_dict()))
        return planted[len(states) - 1]

    monkeypatch.setattr(frozen_gat, "mean_loss", loss)
    adversary = adversary_of(net, members, width=3, lr_g=1e-2)
    fitted = fit_generator(adversary, net, members, val, GeneratorTraining(epochs=6, patience=3, batch_size=24))
    assert fitted.losses == planted[:5]  # three epochs after the second one, none of which is better
    assert fitted.best_epoch == 2
    assert all(torch.equal(value, states[1][name]) for name, value in adversary.generator.state_dict().items())
    assert not torch.equal(states[4]["0.weight"], states[1]["0.weight"])


def test_the_validation_loss_is_equation_9_in_evaluation_mode():
    net, (members, val) = ramp(0.5), pools()
    adversary = adversary_of(net, members, c_g=3.0, width=4, lr_g=1e-2, delta_scale="batch_std")
    fitted = fit_generator(adversary, net, members, val, GeneratorTraining(epochs=2, batch_size=24))
    x = as_float(val.x)
    with eval_mode(adversary), torch.no_grad():
        offset = adversary.offset(probability_gradient(net, x, val.y)[0])
        p = net(x + offset).exp()[torch.arange(10), val.y]
    expected = (p + 3.0 * offset.flatten(1).square().sum(1)).mean().item()
    assert mean_loss(adversary, net, val) == pytest.approx(expected, rel=1e-5)
    assert expected in [pytest.approx(value, rel=1e-5) for value in fitted.losses]


def test_every_member_is_used_once_per_epoch_in_an_order_that_the_seed_decides(monkeypatch):
    net, (members, val) = ramp(), pools()
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(frozen_gat.Adversary, "train_step", lambda self, net, batches: seen.append(batches()[0]))
    orders = []
    for seed in (0, 0, 1):
        seen.clear()
        fit_generator(adversary_of(net, members), net, members, val, GeneratorTraining(epochs=1, batch_size=7), seed)
        assert [len(x) for x in seen] == [6, 6, 6, 6]
        orders.append(torch.cat(seen))
    assert torch.equal(orders[0], orders[1]) and not torch.equal(orders[0], orders[2])
    pixels = as_float(members.x).flatten(1)
    assert torch.equal(orders[2].flatten(1).sort(0).values, pixels.sort(0).values)


def test_generators_of_different_seeds_start_differently_and_the_global_stream_is_untouched():
    net, (members, _) = ramp(), pools()
    torch.manual_seed(5)
    first, same, other = (adversary_of(net, members, seed, width=3).generator[0].weight for seed in (0, 0, 1))
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(first, same) and not torch.equal(first, other) and torch.equal(drawn, torch.rand(1))


def test_without_validation_images_there_is_an_error():
    net, (members, val) = ramp(), pools()
    with pytest.raises(ValueError, match="needs members and validation images, got 24 and 0"):
        fit_generator(adversary_of(net, members), net, members, val.at(torch.arange(0)), GeneratorTraining())


def test_generated_images_are_clipped_and_made_with_statistics_of_training():
    net, (members, val) = ramp(), pools()
    adversary = adversary_of(net, members, width=3, delta_scale="batch_std", lr_g=1e-2)
    with pytest.raises(ValueError, match="trained generator"):
        generated(adversary, net, as_float(val.x), val.y)
    fit_generator(adversary, net, members, val, GeneratorTraining(epochs=1, batch_size=24))
    with torch.no_grad():
        adversary.generator[-2].bias += 2.0  # beyond 1 in every pixel
    assert math.isclose(generated(adversary, net, as_float(val.x), val.y).max().item(), 1.0)
