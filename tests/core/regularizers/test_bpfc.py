"""BPFC: the quantiser against integer arithmetic, the penalty against closed forms on linear networks, and its ablations."""

import copy
import math

import numpy as np
import pytest
import torch
from tiny_training import TINY, draw, fit, images, weights
from torch import nn

from core import nets, train
from core.bound import Bound, bind
from core.config import TrialConfig
from core.losses.cross_entropy import CrossEntropy
from core.regularizers import bpfc
from core.regularizers.bpfc import BPFC, distance, quantise
from core.slots import Context, Part, Step

torch.set_num_threads(1)

BITS = range(1, 9)


class FixedNoise:
    """A source of noise that returns given numbers."""

    def __init__(self, numbers):
        self.numbers = torch.as_tensor(numbers, dtype=torch.float64)

    def uniform(self, *shape):
        return self.numbers.reshape(-1, *shape)


class Affine(nn.Module):
    """A network with logits W x + b, in float64; both halves are layers, as in a real network."""

    def __init__(self, pixels: int, classes: int = 3, seed: int = 0):
        super().__init__()
        torch.manual_seed(seed)
        self.features, self.head = nn.Flatten(), nn.Linear(pixels, classes).double()


def every_level() -> torch.Tensor:
    """All 256 grey levels as one image."""
    return torch.arange(256, dtype=torch.float64).view(1, 1, 16, 16) / 255


def levels(x: torch.Tensor) -> torch.Tensor:
    return (255 * x).flatten()


def penalty(net, x, epoch: int = 1, epochs: int = 100, noise_source=None, **knobs) -> torch.Tensor:
    part = BPFC(**knobs).bind(Context(3, 6, (1, 4, 4), epochs, net))
    return part(Step(net, x, torch.zeros(len(x), dtype=torch.long), None, noise_source or draw(len(x)), epoch))


def quantised_pixel(x: float, k: int, noise: float, u: float) -> float:
    """One pixel, step by step: round, add noise, floor to its cell, move to the middle, clip."""
    noisy = round(255 * x) + (2 * u - 1) * noise * 2 ** (k - 2)
    return min(255.0, max(0.0, math.floor(noisy / 2**k) * 2**k + 2 ** (k - 1))) / 255


# -- the quantiser ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("k", BITS)
def test_the_quantiser_equals_the_five_steps_of_the_paper(k, noise):
    stream = torch.Generator().manual_seed(k)
    x = torch.rand(2, 3, 5, 4, generator=stream, dtype=torch.float64)
    u = torch.rand(2, 3, 5, 4, generator=stream, dtype=torch.float64)
    expected = [quantised_pixel(pixel, k, noise, v) for pixel, v in zip(x.flatten().tolist(), u.flatten().tolist(), strict=True)]
    out = quantise(x, k, noise, FixedNoise(u))
    assert out.shape == x.shape
    np.testing.assert_allclose(out.flatten(), expected, atol=1e-14)


def test_a_black_pixel_with_noise_of_minus_eight_stays_black():
    """-8 is in the cell from -32 to 0, whose middle is clipped to 0; truncation towards 0 would give 16."""
    assert quantise(torch.zeros(1, 1, 1, 1), 5, 1.0, FixedNoise([0.0])).item() == 0.0


def test_zero_padding_becomes_0_or_16_by_the_sign_of_the_noise():
    u = torch.rand(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    out = levels(quantise(torch.zeros(1, 1, 20, 20, dtype=torch.float64), 5, 1.0, FixedNoise(u)))
    torch.testing.assert_close(out, torch.where(u < 0.5, 0.0, 16.0).double())


@pytest.mark.parametrize("k", BITS)
def test_without_noise_the_levels_are_the_middles_of_the_cells(k):
    produced = sorted({round(v, 9) for v in levels(quantise(every_level(), k, 0.0)).tolist()})
    assert produced == [2 ** (k - 1) + 2**k * i for i in range(2 ** (8 - k))]


@pytest.mark.parametrize("k, count", [(5, 10), (6, 6), (7, 4)])
def test_noise_adds_black_and_white_to_the_levels(k, count):
    produced = set()
    for u in np.linspace(0, 1 - 1e-9, 33):
        produced |= {round(v, 9) for v in levels(quantise(every_level(), k, 1.0, FixedNoise([u] * 256))).tolist()}
    assert produced == {0, 255, *(2 ** (k - 1) + 2**k * i for i in range(2 ** (8 - k)))}
    assert len(produced) == count  # which takes n - k + 1 bits, for images of n bits


@pytest.mark.parametrize("k", range(1, 8))
def test_the_error_bounds_hold_and_are_reached(k):
    x = every_level()
    error = levels(quantise(x, k, 0.0)) - levels(x)
    assert round(error.min().item(), 9) == -(2 ** (k - 1) - 1) and round(error.max().item(), 9) == 2 ** (k - 1)
    largest = torch.stack([
        levels(quantise(x, k, 1.0, FixedNoise([u] * 256))) - levels(x) for u in np.linspace(0, 1 - 1e-9, 65)
    ]).abs().max()  # fmt: skip
    assert 0.75 * 2**k - 1 <= largest <= 0.75 * 2**k


def test_at_five_bits_the_root_mean_square_error_is_10_33_levels():
    x = torch.randint(64, 192, (1, 1, 400, 400), generator=torch.Generator().manual_seed(0)).double() / 255
    error = levels(quantise(x, 5, 1.0, draw(1))) - levels(x)
    assert error.square().mean().sqrt().item() == pytest.approx(10.33, rel=0.01)
    assert error.mean().abs() < 0.1


@pytest.mark.parametrize("k", BITS)
def test_quantising_twice_without_noise_equals_quantising_once(k):
    once = quantise(every_level().float(), k, 0.0)
    assert torch.equal(quantise(once, k, 0.0), once)


def test_the_quantised_image_is_a_constant_and_the_image_is_unchanged():
    x = torch.rand(2, 1, 4, 4, requires_grad=True)
    before = x.detach().clone()
    assert not quantise(x, 5, 1.0, draw(2)).requires_grad
    assert torch.equal(x, before)


def test_every_step_draws_new_noise():
    x, stream = torch.full((1, 1, 8, 8), 0.5), draw(1)
    assert not torch.equal(quantise(x, 5, 1.0, stream), quantise(x, 5, 1.0, stream))


# -- the penalty ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [5, 6, 7])
def test_on_a_linear_network_the_penalty_has_its_known_expectation(k):
    net = Affine(16)
    x = torch.randint(64, 192, (30_000, 1, 4, 4), generator=torch.Generator().manual_seed(1)).double() / 255
    expected = (4**k / 12 + 4 ** (k - 2) / 3) / 255**2 * net.head.weight.square().sum().item()
    assert penalty(net, x, k=k).item() == pytest.approx(expected, rel=0.02)


def test_the_penalty_does_not_depend_on_the_bias_of_the_logits():
    net, x = Affine(16), torch.rand(5, 1, 4, 4, dtype=torch.float64)
    before = penalty(net, x)
    with torch.no_grad():
        net.head.bias += torch.tensor([3.0, -2.0, 0.5])
    torch.testing.assert_close(penalty(net, x), before)


def test_the_penalty_vanishes_if_nothing_is_quantised_away(monkeypatch):
    net, x = Affine(16), torch.rand(5, 1, 4, 4, dtype=torch.float64)
    monkeypatch.setattr(bpfc, "quantise", lambda x, *_: x)
    assert penalty(net, x).item() == 0.0


@pytest.mark.parametrize("stop", ["none", "clean", "quantised"])
def test_the_penalty_and_its_gradient_are_those_of_the_formula(stop):
    """With e = x - q, the value is mean_b |W e|^2; the gradient has the factor x, -q or x - q, by its branch."""
    net, x = Affine(16), torch.rand(5, 1, 4, 4, dtype=torch.float64)
    u = torch.rand(5 * 16, dtype=torch.float64)
    value = penalty(net, x, noise_source=FixedNoise(u), lambda_=0.7, stop_gradient=stop)
    clean, quantised = x.flatten(1), quantise(x, 5, 1.0, FixedNoise(u)).flatten(1)
    w = net.head.weight.detach()
    gap = (clean - quantised) @ w.T
    torch.testing.assert_close(value, 0.7 * sum(gap[b] @ gap[b] for b in range(5)) / 5)
    by_weight, by_bias = torch.autograd.grad(value, [net.head.weight, net.head.bias])
    inputs = {"none": clean - quantised, "clean": -quantised, "quantised": clean}[stop]
    torch.testing.assert_close(by_weight, 2 * 0.7 * gap.T @ inputs / 5)
    sign = {"none": 0.0, "clean": -1.0, "quantised": 1.0}[stop]
    torch.testing.assert_close(by_bias, sign * 2 * 0.7 * gap.mean(0), atol=1e-12, rtol=1e-9)


def test_the_distances_are_sums_over_classes():
    a, b = [1.0, -2.0, 3.0], [0.5, 1.0, 3.0]
    rows = torch.tensor([a, b]), torch.tensor([b, a])
    assert distance(*rows, "l2sq").tolist() == pytest.approx([0.25 + 9] * 2)
    assert distance(*rows, "l1").tolist() == pytest.approx([3.5] * 2)
    cosine = (0.5 - 2 + 9) / math.sqrt((1 + 4 + 9) * (0.25 + 1 + 9))
    assert distance(*rows, "cosine").tolist() == pytest.approx([1 - cosine] * 2)


class ImageRecorder(nn.Module):
    """A linear network that keeps every batch of images that it receives."""

    def __init__(self):
        super().__init__()
        self.batches, self.head = [], nn.Linear(256, 3).double()

    def features(self, x):
        self.batches.append(x.detach().clone())
        return x.flatten(1)


def test_ablation_a1_quantises_without_noise():
    net, x = ImageRecorder(), every_level()
    assert penalty(net, x, noise=0.0) == penalty(net, x, noise=0.0, noise_source=draw(1, seed=9))
    assert torch.equal(net.batches[0], quantise(x, 5, 0.0)) and torch.equal(net.batches[1], x)


@pytest.mark.parametrize("k", [5, 7])
def test_ablation_a2_adds_uniform_noise_of_half_a_cell(k):
    net, x = ImageRecorder(), torch.full((200, 1, 16, 16), 0.5, dtype=torch.float64)
    penalty(net, x, quantiser="uniform_noise", k=k)
    noise = levels(net.batches[0] - x)
    half = 2 ** (k - 1)
    assert noise.abs().max() <= half and noise.abs().max() > 0.99 * half
    assert noise.std().item() == pytest.approx(half / math.sqrt(3), rel=0.01)
    assert len(noise.unique()) > 1000  # not a quantiser
    penalty(net, torch.zeros(1, 1, 16, 16, dtype=torch.float64), quantiser="uniform_noise", k=k)
    assert net.batches[2].min() == 0 and net.batches[2].max() > 0  # clipped


def test_ablation_a3_sums_absolute_differences():
    net, x = Affine(16), torch.rand(4, 1, 4, 4, dtype=torch.float64)
    gap = (x - quantise(x, 5, 0.0)).flatten(1) @ net.head.weight.T
    torch.testing.assert_close(penalty(net, x, noise=0.0, distance="l1"), gap.abs().sum() / 4)


# -- the schedule of lambda -------------------------------------------------------------------------------------------


def test_lambda_grows_after_epochs_25_50_and_75_of_100():
    part = BPFC(lambda_=1.0, growth=9.0).bind(Context(3, 6, (1, 4, 4), 100, Affine(16)))
    assert isinstance(part, bpfc._BPFC)
    by_epoch = [part.weight(epoch) for epoch in range(1, 101)]  # by_epoch[e] belongs to epoch e counted from 0
    assert by_epoch == [1] * 26 + [9] * 25 + [81] * 25 + [729] * 24
    assert by_epoch[25] == 1 and by_epoch[26] == 9


def test_lambda_without_growth_is_constant():
    part = BPFC(lambda_=30.0, growth=1.0).bind(Context(3, 6, (1, 4, 4), 50, Affine(16)))
    assert isinstance(part, bpfc._BPFC)
    assert {part.weight(epoch) for epoch in range(1, 51)} == {30.0}


def test_the_penalty_of_a_step_has_the_weight_of_its_epoch():
    net, x = Affine(16), torch.rand(5, 1, 4, 4, dtype=torch.float64)
    first, second, last = (penalty(net, x, epoch) for epoch in (1, 27, 100))
    torch.testing.assert_close(second, 9 * first)
    torch.testing.assert_close(last, 729 * first)


# -- in training ------------------------------------------------------------------------------------------------------


def test_lambda_zero_is_bit_identical_to_ordinary_training():
    plain = weights(fit({}).net)
    assert torch.equal(plain, weights(fit({"regularizer": "bpfc", "regularizer.lambda": 0.0}).net))
    assert not torch.equal(plain, weights(fit({"regularizer": "bpfc", "regularizer.lambda": 0.1}).net))


class Normed(nn.Module):
    """A batch norm and a head."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(1, momentum=0.1)
        self.features, self.head = nn.Sequential(self.norm, nn.Flatten()), nn.Linear(16, 3)


def test_batch_norm_sees_the_quantised_batch_and_then_the_clean_one():
    net, x = Normed().train(), torch.rand(6, 1, 4, 4)
    quantised = quantise(x, 5, 1.0, draw(6))
    context = Context(3, 16, (1, 4, 4), 4, net)  # pyright: ignore[reportArgumentType]
    no_update = torch.optim.SGD(net.parameters(), lr=0.0)
    bound = Bound(net, CrossEntropy().bind(context), Part(), BPFC().bind(context), Part(), no_update)  # pyright: ignore[reportArgumentType]
    train._update(bound, Step(net, x, torch.zeros(6, dtype=torch.long), None, draw(6), 1), 6)  # pyright: ignore[reportArgumentType]
    assert net.norm.num_batches_tracked == 2
    torch.testing.assert_close(net.norm.running_mean, (0.9 * (0.1 * quantised.mean()) + 0.1 * x.mean()).view(1))


def test_lambda_zero_takes_no_second_forward_pass():
    net, x = Normed().train(), torch.rand(6, 1, 4, 4)
    assert penalty(net, x, lambda_=0.0).item() == 0.0
    assert net.norm.num_batches_tracked == 0  # a pass would have moved batch norm


def test_the_gradient_flows_through_both_forward_passes():
    """The update of a step is minus lr times the gradient of cross-entropy plus penalty, with x and q both in training mode."""
    config = TrialConfig.of(TINY | {
        "epochs": 1, "batch_size": 23, "optimizer.momentum": 0.0, "optimizer.weight_decay": 0.0, "regularizer": "bpfc",
        "regularizer.noise": 0.0, "regularizer.lambda": 3.0,
    })  # fmt: skip
    members = images()
    net: nets.Net = copy.deepcopy(bind(config, members, torch.device("cpu")).net)
    x = members.x.float() / 255
    logits, quantised = net(x), net(quantise(x, 5, 0.0))
    cross_entropy = -logits.log_softmax(1)[torch.arange(23), members.y].mean()
    loss = cross_entropy + 3.0 * (logits - quantised).square().sum() / 23
    gradients = torch.autograd.grad(loss, list(net.parameters()))
    expected = torch.cat([(p - 0.05 * g).detach().reshape(-1) for p, g in zip(net.parameters(), gradients, strict=True)])
    trained = train.train(config, members, images(9, seed=1)).net
    torch.testing.assert_close(weights(trained), expected)
