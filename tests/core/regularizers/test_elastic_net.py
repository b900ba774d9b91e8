"""Penalties on kernels against sums over the weights, the proximal step, and ordinary training at weight zero."""

from typing import Any

import numpy as np
import pytest
import torch
from sparse_net import NetWithZeros
from tiny_training import fit

from core import nets
from core.bound import Bound
from core.config import REGULARIZERS
from core.regularizers.elastic_net import kernels
from core.slots import Context, Step

torch.set_num_threads(1)

ONE_STEP = {"epochs": 1, "batch_size": 23, "optimizer.momentum": 0.0, "optimizer.weight_decay": 0.0}


def parameters(bound: Bound) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in bound.net.named_parameters()}


def identical(a: Bound, b: Bound) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.net.parameters(), b.net.parameters(), strict=True))


def bound_to(name: str, net, **knobs) -> Any:
    return REGULARIZERS[name](**knobs).bind(Context(3, 6, (1, 4, 4), 2, net))


def penalty(name: str, net, **knobs) -> torch.Tensor:
    return bound_to(name, net, **knobs)(Step(net, torch.zeros(2, 1, 4, 4), torch.zeros(2).long(), None, None, 1))  # pyright: ignore[reportArgumentType]


# -- the penalties ----------------------------------------------------------------------------------------------------


CASES = {
    "l1": ({"l1": 0.3}, 0.3, 0.0),
    "l2": ({"l2": 0.7}, 0.0, 0.7),
    "elastic_net": ({"l1": 0.3, "l2": 0.7}, 0.3, 0.7),
    "convex_elastic_net": ({"lambda_": 0.5, "a": 0.2}, 0.5 * 0.2, 0.5 * 0.8),
}


@pytest.mark.parametrize("name", CASES)
def test_a_penalty_sums_over_the_kernels_of_convolutions_and_linear_layers_only(name):
    knobs, l1, l2 = CASES[name]
    net = NetWithZeros()
    value = penalty(name, net, **knobs)
    gradients = torch.autograd.grad(value, list(net.parameters()), allow_unused=True)
    total, penalised = 0.0, []
    for (path, p), grad in zip(net.named_parameters(), gradients, strict=True):
        if path in ("body.0.weight", "body.4.weight", "head.weight"):
            penalised.append(path)
            w = p.detach().double().numpy()
            total += l1 * np.abs(w).sum() + l2 * (w**2).sum()
            assert grad is not None
            np.testing.assert_allclose(grad, l1 * np.sign(w) + 2 * l2 * w, rtol=1e-6)
            assert (grad[p == 0] == 0).all()  # the subgradient at zero; the network has zeros
        else:
            assert grad is None, path  # batch norm and biases
    assert len(penalised) == 3 and value.item() == pytest.approx(total, rel=1e-6)


def test_the_convex_form_interpolates_between_l2_and_l1():
    net = NetWithZeros()
    for a, name, knob in ((0.0, "l2", "l2"), (1.0, "l1", "l1")):
        torch.testing.assert_close(penalty("convex_elastic_net", net, lambda_=0.4, a=a), penalty(name, net, **{knob: 0.4}))
    halfway = penalty("convex_elastic_net", net, lambda_=0.4, a=0.25)
    torch.testing.assert_close(halfway, penalty("elastic_net", net, l1=0.1, l2=0.3))


@pytest.mark.parametrize("name", ["convnet", "vgg11_bn"])
def test_elastic_net_sums_over_the_kernels_only(name):
    torch.manual_seed(0)
    net = nets.build(nets.NETS[name](), (3, 32, 32), 3)
    weights = [p for n, p in net.named_parameters() if p.ndim > 1]  # no bias, no batch norm
    assert len(weights) == {"convnet": 5, "vgg11_bn": 11}[name]
    expected = sum(0.3 * p.double().abs().sum().item() + 0.7 * (p.double() ** 2).sum().item() for p in weights)
    value = penalty("elastic_net", net, l1=0.3, l2=0.7)
    assert value.item() == pytest.approx(expected, rel=1e-5)
    gradients = torch.autograd.grad(value, list(net.parameters()), allow_unused=True)
    for (path, p), grad in zip(net.named_parameters(), gradients, strict=True):
        assert (grad is None) == (p.ndim < 2), path


def test_the_l2_gradient_is_twice_l2_times_the_weight():
    net = nets.build(nets.NETS["convnet"](), (3, 32, 32), 3)
    weight = net.head.weight
    (grad,) = torch.autograd.grad(penalty("elastic_net", net, l1=0.0, l2=0.7), weight)
    torch.testing.assert_close(grad, 2 * 0.7 * weight.detach())
    (grad,) = torch.autograd.grad(penalty("elastic_net", net, l1=0.3, l2=0.0), weight)
    torch.testing.assert_close(grad, 0.3 * weight.detach().sign())


def test_without_a_regularizer_nothing_is_added():
    net = nets.build(nets.NETS["convnet"](), (3, 32, 32), 3)
    assert penalty("none", net).item() == 0.0


def test_the_l2_penalty_is_weight_decay_of_twice_its_weight_on_the_kernels():
    penalised = parameters(fit(ONE_STEP | {"regularizer": "l2", "regularizer.l2": 0.03}))
    decayed = parameters(fit(ONE_STEP | {"optimizer.weight_decay": 0.06}))
    plain = parameters(fit(ONE_STEP))
    for path in plain:
        kernel = path.endswith("weight")
        torch.testing.assert_close(penalised[path], (decayed if kernel else plain)[path], rtol=1e-6, atol=1e-7)
        assert not torch.allclose(decayed[path], plain[path], rtol=1e-5)


@pytest.mark.parametrize("name", ["l1", "l2", "elastic_net", "convex_elastic_net"])
def test_a_penalty_of_weight_zero_is_bit_identical_to_ordinary_training(name):
    knobs = {"convex_elastic_net": ["lambda"], "elastic_net": ["l1", "l2"]}.get(name, [name])
    off = {f"regularizer.{knob}": 0.0 for knob in knobs}
    plain = fit({})
    assert identical(plain, fit({"regularizer": name, **off}))
    if name != "l2":
        assert identical(plain, fit({"regularizer": name, **off, "regularizer.proximal": True}))
    assert not identical(plain, fit({"regularizer": name, **{knob: 1e-3 for knob in off}}))


# -- the proximal step ------------------------------------------------------------------------------------------------


def test_the_proximal_step_shrinks_every_kernel_towards_zero_but_not_beyond():
    net = NetWithZeros()
    before = {path: p.detach().double().numpy().copy() for path, p in net.named_parameters()}
    bound_to("elastic_net", net, l1=0.5, l2=0.1, proximal=True).after_step(net, 0.2)
    zeros = 0
    for path, p in net.named_parameters():
        w = before[path]
        shrunk = np.sign(w) * np.maximum(np.abs(w) - 0.2 * 0.5, 0) if w.ndim > 1 else w
        np.testing.assert_allclose(p.detach(), shrunk, atol=1e-7)
        zeros += int((p.detach().numpy()[w != 0] == 0).sum())
    assert zeros > 5


def test_the_l1_part_of_a_proximal_penalty_is_not_added_to_the_loss():
    net = NetWithZeros()
    assert penalty("l1", net, l1=0.5, proximal=True).item() == 0.0
    assert torch.equal(penalty("elastic_net", net, l1=0.5, l2=0.1, proximal=True), penalty("l2", net, l2=0.1))
    convex = penalty("convex_elastic_net", net, lambda_=0.5, a=0.4, proximal=True)
    torch.testing.assert_close(convex, penalty("l2", net, l2=0.3))


def test_the_proximal_step_follows_the_gradient_step_with_the_scheduled_learning_rate():
    half = ONE_STEP | {"optimizer.schedule": "0:0.5"}
    plain = parameters(fit(half))
    shrunk = parameters(fit(half | {"regularizer": "l1", "regularizer.l1": 2.0, "regularizer.proximal": True}))
    for path, p in plain.items():
        expected = p.sign() * (p.abs() - 0.5 * 0.05 * 2.0).clamp(min=0) if path.endswith("weight") else p
        torch.testing.assert_close(shrunk[path], expected, rtol=0, atol=1e-7)


def test_only_the_proximal_step_makes_exact_zeros():
    knobs = {"regularizer": "l1", "regularizer.l1": 0.03, "epochs": 4}
    counts = []
    for proximal in (False, True):
        net = fit(knobs | {"regularizer.proximal": proximal}).net
        counts.append(sum(int((w == 0).sum()) for w in kernels(net)))
    assert counts[0] == 0 and counts[1] > 20
