"""Sparsity: penalties on kernels and on activations against sums by hand, the proximal step, and what density counts."""

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

from core import nets, train
from core.config import REGULARIZERS, TrialConfig
from core.data import Images
from core.density import activation_density, activations, share_near_zero
from core.regularizers.activation_sparsity import ActivationSparsity
from core.regularizers.elastic_net import kernels
from core.slots import Context, Step

torch.set_num_threads(1)
TINY = {"net.width": 3, "net.hidden": 6, "epochs": 2, "batch_size": 8, "optimizer.lr": 0.05}
ONE_STEP = {"epochs": 1, "batch_size": 23, "optimizer.momentum": 0.0, "optimizer.weight_decay": 0.0}


def images(n=23, seed=0) -> Images:
    x = torch.randint(0, 256, (n, 1, 8, 8), generator=torch.Generator().manual_seed(seed))
    return Images(x.to(torch.uint8), torch.arange(n) % 3, 3)


def fit(params, members=None) -> train.Bound:
    return train.train(TrialConfig.of(TINY | params), members or images(), images(9, seed=1))


def named(bound: train.Bound) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in bound.net.named_parameters()}


def same(a: train.Bound, b: train.Bound) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.net.parameters(), b.net.parameters(), strict=True))


class Normed(nn.Module):
    """A convolution, batch norm and two linear layers, one of which has no bias; some weights are exactly zero."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 4, bias=False))
        self.head = nn.Linear(4, 3)
        with torch.no_grad():
            for w in (self.body[0].weight, self.head.weight):
                w.view(-1)[::3] = 0

    def features(self, x):
        return self.body(x)


def bound_to(name: str, net, **knobs) -> Any:
    return REGULARIZERS[name](**knobs).bind(Context(3, 6, (1, 4, 4), 2, net))


def penalty(name: str, net, **knobs) -> torch.Tensor:
    return bound_to(name, net, **knobs)(Step(net, torch.zeros(2, 1, 4, 4), torch.zeros(2).long(), None, None, 1))  # pyright: ignore[reportArgumentType]


# -- penalties on kernels ---------------------------------------------------------------------------------------------

CASES = {
    "l1": ({"l1": 0.3}, 0.3, 0.0),
    "l2": ({"l2": 0.7}, 0.0, 0.7),
    "elastic_net": ({"l1": 0.3, "l2": 0.7}, 0.3, 0.7),
    "convex_elastic_net": ({"lambda_": 0.5, "a": 0.2}, 0.5 * 0.2, 0.5 * 0.8),
}


@pytest.mark.parametrize("name", CASES)
def test_a_penalty_is_the_sum_over_kernels_of_convolutions_and_linear_layers_alone(name):
    knobs, l1, l2 = CASES[name]
    net = Normed()
    value = penalty(name, net, **knobs)
    slopes = torch.autograd.grad(value, list(net.parameters()), allow_unused=True)
    total, counted = 0.0, []
    for (path, p), slope in zip(net.named_parameters(), slopes, strict=True):
        if path in ("body.0.weight", "body.4.weight", "head.weight"):
            counted.append(path)
            w = p.detach().double().numpy()
            total += l1 * np.abs(w).sum() + l2 * (w**2).sum()
            assert slope is not None
            np.testing.assert_allclose(slope, l1 * np.sign(w) + 2 * l2 * w, rtol=1e-6)
            assert (slope[p == 0] == 0).all()  # the subgradient at zero, and there are zeros
        else:
            assert slope is None, path  # batch norm and biases
    assert len(counted) == 3 and value.item() == pytest.approx(total, rel=1e-6)


def test_the_convex_form_goes_from_l2_to_l1():
    net = Normed()
    for a, name, knob in ((0.0, "l2", "l2"), (1.0, "l1", "l1")):
        torch.testing.assert_close(penalty("convex_elastic_net", net, lambda_=0.4, a=a), penalty(name, net, **{knob: 0.4}))
    halfway = penalty("convex_elastic_net", net, lambda_=0.4, a=0.25)
    torch.testing.assert_close(halfway, penalty("elastic_net", net, l1=0.1, l2=0.3))


def test_the_l2_penalty_is_weight_decay_of_twice_its_weight_on_kernels():
    penalised = named(fit(ONE_STEP | {"regularizer": "l2", "regularizer.l2": 0.03}))
    decayed = named(fit(ONE_STEP | {"optimizer.weight_decay": 0.06}))
    plain = named(fit(ONE_STEP))
    for path in plain:
        kernel = path.endswith("weight")
        torch.testing.assert_close(penalised[path], (decayed if kernel else plain)[path], rtol=1e-6, atol=1e-7)
        assert not torch.allclose(decayed[path], plain[path], rtol=1e-5)


@pytest.mark.parametrize("name", ["l1", "l2", "elastic_net", "convex_elastic_net"])
def test_a_penalty_of_weight_zero_is_ordinary_training_to_the_bit(name):
    knobs = {"convex_elastic_net": ["lambda"], "elastic_net": ["l1", "l2"]}.get(name, [name])
    off = {f"regularizer.{knob}": 0.0 for knob in knobs}
    plain = fit({})
    assert same(plain, fit({"regularizer": name, **off}))
    if name != "l2":
        assert same(plain, fit({"regularizer": name, **off, "regularizer.proximal": True}))
    assert not same(plain, fit({"regularizer": name, **{knob: 1e-3 for knob in off}}))


# -- the proximal step ------------------------------------------------------------------------------------------------


def test_the_proximal_step_shrinks_every_kernel_towards_zero_and_no_further():
    net = Normed()
    before = {path: p.detach().double().numpy().copy() for path, p in net.named_parameters()}
    bound_to("elastic_net", net, l1=0.5, l2=0.1, proximal=True).after_step(net, 0.2)
    zeros = 0
    for path, p in net.named_parameters():
        w = before[path]
        shrunk = np.sign(w) * np.maximum(np.abs(w) - 0.2 * 0.5, 0) if w.ndim > 1 else w
        np.testing.assert_allclose(p.detach(), shrunk, atol=1e-7)
        zeros += int((p.detach().numpy()[w != 0] == 0).sum())
    assert zeros > 5


def test_a_proximal_penalty_is_not_in_the_loss_as_well():
    net = Normed()
    assert penalty("l1", net, l1=0.5, proximal=True).item() == 0.0
    assert torch.equal(penalty("elastic_net", net, l1=0.5, l2=0.1, proximal=True), penalty("l2", net, l2=0.1))
    convex = penalty("convex_elastic_net", net, lambda_=0.5, a=0.4, proximal=True)
    torch.testing.assert_close(convex, penalty("l2", net, l2=0.3))


def test_a_training_step_is_a_gradient_step_and_then_the_proximal_step_at_the_scheduled_rate():
    half = ONE_STEP | {"optimizer.schedule": "0:0.5"}
    plain = named(fit(half))
    shrunk = named(fit(half | {"regularizer": "l1", "regularizer.l1": 2.0, "regularizer.proximal": True}))
    for path, p in plain.items():
        wanted = p.sign() * (p.abs() - 0.5 * 0.05 * 2.0).clamp(min=0) if path.endswith("weight") else p
        torch.testing.assert_close(shrunk[path], wanted, rtol=0, atol=1e-7)


def test_only_the_proximal_step_makes_exact_zeros():
    knobs = {"regularizer": "l1", "regularizer.l1": 0.03, "epochs": 4}
    counts = []
    for proximal in (False, True):
        net = fit(knobs | {"regularizer.proximal": proximal}).net
        counts.append(sum(int((w == 0).sum()) for w in kernels(net)))
    assert counts[0] == 0 and counts[1] > 20


# -- activation sparsity ----------------------------------------------------------------------------------------------


def test_activation_sparsity_is_the_sum_over_units_of_an_image_averaged_over_images():
    torch.manual_seed(0)
    net = nets.build(nets.NETS["convnet"](width=3, hidden=6), (1, 8, 8), 3).double()
    x = torch.rand(5, 1, 8, 8, dtype=torch.float64)
    step = Step(net, x, torch.zeros(5).long(), None, None, 1)  # pyright: ignore[reportArgumentType]
    value = ActivationSparsity(lambda_=0.01).bind(Context(3, 6, (1, 8, 8), 2, net))(step)
    convs = [layer for layer in net.body if isinstance(layer, nn.Conv2d)]
    (hidden,) = [layer for layer in net.body if isinstance(layer, nn.Linear)]
    total = torch.zeros((), dtype=torch.float64)
    for image in x:
        a = image[None]
        for conv in convs:
            a = torch.clamp(nn.functional.conv2d(a, conv.weight, conv.bias, conv.stride, conv.padding), min=0)
            total = total + a.sum()
        total = total + torch.clamp(nn.functional.adaptive_avg_pool2d(a, 4).flatten(1) @ hidden.weight.T + hidden.bias, min=0).sum()
    wanted = 0.01 * total / 5
    torch.testing.assert_close(value, wanted)
    inner = list(net.body.parameters())
    for ours, theirs in zip(torch.autograd.grad(value, inner), torch.autograd.grad(wanted, inner), strict=True):
        torch.testing.assert_close(ours, theirs)


class Leaky(nn.Module):
    """Pixels through a leaky rectifier: negative activations count by their absolute value."""

    def __init__(self):
        super().__init__()
        self.calls = 0
        self.rectifier, self.head = nn.LeakyReLU(0.5), nn.Linear(4, 3)

    def features(self, x):
        self.calls += 1
        return self.rectifier(x.flatten(1))


def test_absolute_values_are_penalised_in_the_one_forward_pass_that_the_loss_uses():
    net = Leaky()
    x = torch.tensor([[-2.0, 3.0, 0.0, -4.0], [1.0, 1.0, 1.0, 1.0]]).view(2, 1, 2, 2)
    step = Step(net, x, torch.zeros(2).long(), None, None, 1)  # pyright: ignore[reportArgumentType]
    context = Context(3, 4, (1, 2, 2), 2, net)  # pyright: ignore[reportArgumentType]
    assert ActivationSparsity(lambda_=0.1).bind(context)(step).item() == pytest.approx(0.1 * ((1 + 3 + 2) + 4) / 2)
    assert step.clean.logits.shape == (2, 3) and net.calls == 1
    assert not net.rectifier._forward_hooks  # nobody listens any more


def test_activation_sparsity_of_weight_zero_is_ordinary_training_to_the_bit():
    off = {"regularizer": "activation_sparsity", "regularizer.lambda": 0.0}
    assert same(fit({}), fit(off))
    assert not same(fit({}), fit(off | {"regularizer.lambda": 1e-3}))


# -- density ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pixel, density", [(1.0, 1.0), (-1.0, 0.0), (0.0, 0.0)])
def test_density_is_one_if_all_are_active_and_zero_if_none_is(pixel, density):
    net = nn.Sequential(nn.ReLU(), nn.Flatten())
    assert activation_density(net, torch.full((3, 1, 4, 4), pixel)) == density


def test_random_filters_on_zero_mean_images_are_active_half_of_the_time():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 50, 5, bias=False), nn.ReLU(), nn.Flatten())
    x = torch.randn(40, 3, 32, 32)
    with activations(net) as heard:
        net(x[:1])
    assert heard[0].numel() == 39_200  # units of the paper's toy network
    assert activation_density(net, x) == pytest.approx(0.5, abs=0.01)


def test_density_is_active_units_over_units_whatever_the_batches():
    net = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(4, 12), nn.ReLU())
    x = torch.randn(7, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    first = x.flatten(1).clamp(min=0)
    second = (first @ net[2].weight.T + net[2].bias).clamp(min=0)
    active = int((first > 0).sum() + (second > 0).sum())
    for batch_size in (1, 3, 7, 256):
        assert activation_density(net, x, batch_size) == active / (7 * 16)


def test_density_is_taken_in_evaluation_mode_and_is_one_without_rectifiers():
    net = nn.Sequential(nn.Dropout(0.9), nn.ReLU(), nn.Flatten()).train()
    assert activation_density(net, torch.ones(2, 1, 4, 4)) == 1.0
    assert net.training and net[0].training
    assert activation_density(nn.Flatten(), torch.zeros(2, 1, 4, 4)) == 1.0


def test_density_falls_as_the_penalty_on_activations_rises():
    members = images(60)
    grid = [0.0, 1e-4, 1e-3, 1e-2, 3e-2]
    found = []
    for lambda_ in grid:
        net = fit({"regularizer": "activation_sparsity", "regularizer.lambda": lambda_, "epochs": 6, "net.hidden": 16}, members).net
        found.append(activation_density(net, members.x.float() / 255))
    assert all(0 <= d <= 1 for d in found)
    assert float(scipy.stats.spearmanr(grid, found).statistic) < -0.8  # pyright: ignore[reportAttributeAccessIssue]
    assert found[-1] < found[0] - 0.1


def test_weights_next_to_zero_are_counted_over_kernels_alone():
    net = Normed()
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(1.0)
        net.body[0].weight.view(-1)[:5] = torch.tensor([0.0, 9e-4, -9e-4, 1.1e-3, -1.1e-3])
        net.head.bias.zero_()
    assert share_near_zero(net) == 3 / (18 + 32 + 12)
    assert math.isclose(share_near_zero(net, below=2.0), 1.0)
