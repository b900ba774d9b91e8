"""SPSA: its estimator against gradients and theory, a reference implementation, and the contract of attacks."""

import math

import attack_contract as contract
import pytest
import torch
from attack_contract import NORMS, Passes, correct, distance, draw, labelled_by, mlp
from torch import nn

from core.attacks.gradient import pgd
from core.attacks.spsa import estimate, spsa

torch.set_num_threads(1)


def cosine(a, b):
    return torch.cosine_similarity(a.flatten(1), b.flatten(1))


def linear(g):
    """A loss whose gradient at each of the images is g, [B, C, H, W]."""
    return lambda images, origin: (images * g[origin]).flatten(1).sum(1)


# ---- the estimator


def test_an_estimate_requires_no_gradient_also_at_points_that_do():
    x = torch.rand(2, 1, 4, 4, requires_grad=True)
    assert not estimate(linear(torch.ones_like(x)), x, samples=3, delta=0.01, draw=draw(2)).requires_grad


@pytest.mark.parametrize("samples", [30, 200, 2000])
@pytest.mark.parametrize("shape", [(1, 4, 5), (3, 8, 8)])
def test_the_cosine_between_an_estimate_and_the_gradient_of_a_linear_loss_is_the_theoretical_one(shape, samples):
    g = torch.randn(60, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.zeros_like(g)
    estimates = estimate(linear(g), x, samples=samples, delta=0.01, draw=draw(60))
    pixels = math.prod(shape)
    theory = math.sqrt(samples / (samples + pixels))
    assert abs(cosine(estimates, g).mean() - theory) < 0.02
    if pixels <= 20 and samples >= 2000:
        assert cosine(estimates, g).min() > 0.95
    error = (estimates.mean(0) - g.mean(0)).flatten() / (g.flatten(1).norm(dim=1).square().sum() / samples).sqrt() * 60
    assert error.abs().max() < 4.5  # no bias


def test_the_estimate_equals_its_formula():
    x, g = (torch.rand(3, 2, 3, 3, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in (0, 1))

    def loss(images, origin):
        return (images.pow(3) * g[origin]).flatten(1).sum(1)

    noise, total = draw(3), torch.zeros_like(x)
    for _ in range(7):
        v = noise.signs(2, 3, 3).double()
        assert set(v.unique().tolist()) == {-1.0, 1.0}
        difference = loss(x + 0.1 * v, torch.arange(3)) - loss(x - 0.1 * v, torch.arange(3))
        total += difference.view(-1, 1, 1, 1) / (2 * 0.1) * v
    torch.testing.assert_close(estimate(loss, x, samples=7, delta=0.1, draw=draw(3)), total / 7, rtol=0, atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 2, 3, 8, 1000])
def test_the_estimate_does_not_depend_on_the_chunk_size_which_is_never_exceeded(chunk):
    g = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sizes = []

    def loss(images, origin):
        sizes.append(len(images))
        return linear(g)(images, origin)

    estimates = estimate(loss, torch.zeros_like(g), samples=9, delta=0.01, draw=draw(5), chunk=chunk)
    torch.testing.assert_close(estimates, estimate(linear(g), torch.zeros_like(g), samples=9, delta=0.01, draw=draw(5)))
    assert max(sizes) <= max(2, chunk) and sum(sizes) == 5 * 9 * 2


def test_losses_that_are_not_finite_are_ignored():
    def loss(images, origin):
        value = linear(torch.ones(3, 1, 4, 4))(images, origin)
        return value.masked_fill(origin == 0, math.nan).masked_fill(origin == 1, math.inf)

    estimates = estimate(loss, torch.zeros(3, 1, 4, 4), samples=50, delta=0.01, draw=draw(3))
    assert estimates.isfinite().all() and (estimates[:2] == 0).all() and (estimates[2] != 0).all()


# ---- the attack


def project(adv, x, epsilon, norm):
    if norm == "linf":
        return adv.clamp(x - epsilon, x + epsilon).clamp(0, 1)
    offset = adv - x
    return (x + offset * min(1.0, epsilon / max(offset.norm().item(), 1e-12))).clamp(0, 1)


def reference(net, x, y, noise, *, epsilon, norm, samples, steps, delta, lr):
    """The attack on one image, with PyTorch's Adam and the gradient estimated at the current iterate."""
    adv = x.clone().requires_grad_()
    adam = torch.optim.Adam([adv], lr, maximize=True)

    def margin(image):
        logits = net(image[None])[0].detach()
        return max(v for k, v in enumerate(logits) if k != y) - logits[y]

    for step in range(steps):
        with torch.no_grad():
            if net(adv[None])[0].argmax() != y:
                break
            stream = noise.named(step)
            total = torch.zeros_like(x)
            for _ in range(samples):
                v = stream.signs(*x.shape)[0].double()
                total += (margin(adv + delta * v) - margin(adv - delta * v)) / (2 * delta) * v
        adv.grad = total / samples
        adam.step()
        adv.data = project(adv.data, x, epsilon, norm)
    return adv.detach()


@pytest.mark.parametrize("norm", NORMS)
def test_results_equal_those_of_the_reference_implementation_image_by_image(norm):
    net = mlp(3, dtype=torch.float64)
    x, y = labelled_by(net, 5, dtype=torch.float64)
    y[0] = (y[0] + 1) % 4
    knobs = {"epsilon": 0.1 if norm == "linf" else 0.4, "norm": norm, "samples": 6, "steps": 6, "delta": 0.02, "lr": 0.03}
    noise = draw(5)
    adv = spsa(net, x, y, draw=noise, chunk=7, **knobs)
    expected = [reference(net, x[i], int(y[i]), noise.at(torch.tensor([i])), **knobs) for i in range(5)]
    torch.testing.assert_close(adv, torch.stack(expected), rtol=0, atol=1e-9)


@pytest.mark.parametrize("norm", NORMS)
def test_with_many_samples_verdicts_are_almost_those_of_a_gradient_attack(norm):
    net, x, y = contract.trained()
    x, y = x[:30], y[:30]
    epsilon = contract.EPSILON[norm]
    by_queries = correct(net, spsa(net, x, y, epsilon=epsilon, norm=norm, steps=20, lr=0.02, samples=96, draw=draw(30)), y)
    by_gradient = correct(net, pgd(net, x, y, epsilon=epsilon, norm=norm, steps=25, stop_when_fooled=True), y)
    assert by_queries.sum() < correct(net, x, y).sum() - 5
    assert (by_queries != by_gradient).sum() <= 3


def test_a_network_that_masks_its_gradients_is_fooled_although_gradient_attacks_fail():
    class Masks(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net((x * 255).round() / 255)

    net, x, y = contract.trained()
    x, y, masked = x[:40], y[:40], Masks(net)
    gradient = pgd(masked, x, y, epsilon=0.1, steps=10, stop_when_fooled=True)
    assert torch.equal(gradient, x)
    adv = spsa(masked, x, y, epsilon=0.1, steps=15, samples=64, draw=draw(40))
    assert correct(masked, adv, y).sum() <= correct(masked, x, y).sum() - 10


def test_passes_have_a_bounded_size_no_gradients_and_points_around_the_current_iterate():
    net = mlp(3)
    x, y = labelled_by(net, 9)
    required = []
    hook = net.register_forward_hook(lambda module, args, out: required.append(out.requires_grad))
    with torch.enable_grad(), Passes(net) as passes:
        adv = spsa(net, x, y, epsilon=0.02, steps=3, samples=11, delta=0.01, lr=0.02, draw=draw(9), chunk=40)
    hook.remove()
    assert not any(required) and max(map(len, passes.inputs)) <= 40
    robust = correct(net, adv, y)
    assert robust.all() and passes.images == 3 * 9 * (1 + 2 * 11)
    starts = [i for i, batch in enumerate(passes.inputs) if len(batch) == 9]
    for i in starts:
        iterate = passes.inputs[i]
        near = passes.inputs[i + 1].view(2, -1, 9, *x.shape[1:])
        torch.testing.assert_close(near.mean(0), iterate.expand(near.shape[1:]), rtol=0, atol=1e-6)
        torch.testing.assert_close((near - iterate).abs(), torch.full_like(near, 0.01), rtol=0, atol=1e-6)
    assert len(starts) == 3 and distance(passes.inputs[starts[2]], x, "linf").min() > 0.01


def test_fooled_images_are_not_queried_again():
    net, x, y = contract.trained(torch.float64)
    with Passes(net) as passes:
        adv = spsa(net, x, y, epsilon=0.06, steps=4, samples=2, draw=draw(len(x)), chunk=4 * len(x))
    left = int(correct(net, x, y).sum())
    sizes = [len(batch) for batch in passes.inputs[1::2]]
    assert sizes[0] == 4 * left and sizes[-1] < sizes[0] and sizes == sorted(sizes, reverse=True)
    assert correct(net, adv, y).sum() <= sizes[-1] // 4


def attack(net, x, y, *, epsilon, norm, draw):
    return spsa(net, x, y, epsilon=epsilon, norm=norm, samples=8, steps=6, lr=0.03, draw=draw, chunk=64)


CHECKS = {k: v for k, v in contract.CHECKS.items() if "stops_on_fooled" not in k}  # it queries more than its iterates


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_the_contract_of_attacks(check, norm):
    check(attack, norm)


@pytest.mark.parametrize("norm", NORMS)
def test_fooled_images_are_also_misclassified_in_a_separate_pass(norm):
    net, x, y = contract.trained()
    with Passes(net) as passes:
        adv = attack(net, x, y, epsilon=contract.EPSILON[norm], norm=norm, draw=draw(len(x)))
    clean = int(correct(net, x, y).sum())
    assert correct(net, adv, y).sum() < clean - 10 and len(passes.inputs[0]) <= 64
