"""DeepFool against closed forms on affine models and a reference implementation, and the invariants of attacks."""

import functools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from core.attacks.deepfool import deepfool

torch.set_num_threads(1)

SHAPE = (1, 4, 4)


def mlp(seed=0, classes=5, shape=SHAPE, dtype=torch.float64):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(math.prod(shape), 24), nn.Tanh(), nn.Linear(24, classes)
        ).to(dtype)  # fmt: skip


def images(net, n=24, seed=0, low=0.0, high=1.0, dtype=torch.float64):
    """Images, labelled with the predicted classes; every sixth with another class."""
    x = low + (high - low) * torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = x.to(dtype)
    y = net(x).argmax(1)
    y[::6] = (y[::6] + 1) % 2
    return x, y


def affine(classes, seed=3):
    """An affine model, and its weights [classes, pixels]."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, classes)).double()
    stream = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        net[1].weight.copy_(torch.randn(classes, 16, generator=stream))
        net[1].bias.copy_(0.1 * torch.randn(classes, generator=stream))
    return net, net[1].weight.detach()


def lengths(a, b):
    return (a - b).flatten(1).norm(dim=1)


@torch.no_grad()
def correct(net, x, y):
    return net(x).argmax(1) == y


# ---- closed forms


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_one_step_on_an_affine_model_leads_to_its_nearest_boundary(classes):
    net, w = affine(classes)
    x = 0.4 + 0.2 * torch.rand(40, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    logits = net(x).detach()
    y = logits.argmax(1)
    gaps, norms = logits.gather(1, y[:, None]) - logits, (w - w[y][:, None]).norm(dim=2)
    distances = (gaps / norms).scatter(1, y[:, None], math.inf)
    one = deepfool(net, x, y, steps=1, overshoot=0.0)
    inside = ((one > 0) & (one < 1)).flatten(1).all(1)
    assert inside.sum() > 10
    torch.testing.assert_close(lengths(one, x)[inside], distances.amin(1)[inside], rtol=1e-9, atol=0)
    top = net(one).detach().topk(2, 1).values[inside]
    torch.testing.assert_close(top[:, 0], top[:, 1], rtol=0, atol=1e-9)  # on the boundary
    many = deepfool(net, x, y, overshoot=0.0)  # rounding may leave an image correct: one more step of minimum length
    assert (lengths(many, one)[inside] < 1.001e-4).all()
    assert not correct(net, many, y)[inside].any()


def test_overshoot_is_a_share_of_the_perturbation():
    net, _ = affine(4)
    x = 0.45 + 0.1 * torch.rand(20, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = net(x).detach().argmax(1)
    short, long = (deepfool(net, x, y, steps=1, overshoot=o) for o in (0.0, 0.5))
    inside = ((long > 0) & (long < 1)).flatten(1).all(1)
    assert inside.any()
    torch.testing.assert_close((long - x)[inside], 1.5 * (short - x)[inside], rtol=1e-9, atol=1e-12)


def reference(net, x, y, steps, overshoot, candidates):
    """The algorithm for one image, with a separate gradient of each logit."""
    f = net(x[None])[0]
    others = sorted((k for k in range(len(f)) if k != y), key=lambda k: -f[k].item())[: candidates - 1]
    total, adv = torch.zeros_like(x), x
    for _ in range(steps):
        f = net(adv[None])[0].detach()
        if f.argmax() != y:
            break
        jacobian = torch.autograd.functional.jacobian(lambda z: net(z[None])[0], adv)
        boundaries = []
        for k in others:
            w = jacobian[k] - jacobian[y]
            boundaries.append((abs(f[k] - f[y]) / w.norm(), w / w.norm()))
        distance, unit = min(boundaries, key=lambda boundary: boundary[0])
        total = total + max(distance, 1e-4) * unit
        adv = (x + (1 + overshoot) * total).clamp(0, 1)
    return adv


@pytest.mark.parametrize(("candidates", "steps"), [(10, 50), (3, 50), (10, 1)])
def test_results_equal_those_of_the_reference_implementation_image_by_image(candidates, steps):
    net = mlp()
    x, y = images(net)
    adv = deepfool(net, x, y, candidates=candidates, steps=steps)
    expected = torch.stack([reference(net, a, int(b), steps, 0.02, candidates) for a, b in zip(x, y, strict=True)])
    torch.testing.assert_close(adv, expected, rtol=0, atol=1e-9)


def test_with_fewer_candidates_perturbations_are_not_smaller_on_an_affine_model():
    net, _ = affine(10)
    x = 0.4 + 0.2 * torch.rand(40, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = net(x).detach().argmax(1)
    few, all_ = (lengths(deepfool(net, x, y, steps=1, candidates=k), x) for k in (2, 10))
    assert (few >= all_ - 1e-9).all() and (few > all_ + 1e-6).any()


# ---- invariants of attacks


def test_results_are_images_that_fool_the_network_in_a_separate_pass():
    net = mlp()
    x, y = images(net)
    adv = deepfool(net, x.requires_grad_(), y)
    assert adv.shape == x.shape and adv.dtype == x.dtype and not adv.requires_grad
    assert adv.min() >= 0 and adv.max() <= 1
    assert not correct(net, adv, y).any()  # without a ball, every image of this network is fooled
    assert lengths(adv, x).max() < 2


def test_the_attack_works_in_float32_and_keeps_the_memory_format():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(64, 4))
    x = torch.rand(12, 3, 6, 6, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=torch.channels_last)
    y = net(x).argmax(1)
    adv = deepfool(net, x, y)
    assert adv.dtype == torch.float32 and adv.is_contiguous(memory_format=torch.channels_last)
    assert not correct(net, adv, y).any()


def test_misclassified_images_are_returned_unchanged():
    net = mlp()
    x, y = images(net)
    misclassified = ~correct(net, x, y)
    assert misclassified.sum() >= 3
    assert torch.equal(deepfool(net, x, y)[misclassified], x[misclassified])


def test_a_robust_image_is_returned_as_its_last_iterate():
    net = mlp()
    x, y = images(net)
    two, three = (deepfool(net, x, y, steps=n, overshoot=-0.5) for n in (2, 3))
    robust = correct(net, three, y)
    assert robust.any() and (lengths(three, two)[robust] > 1e-6).all()
    assert torch.equal(deepfool(net, x, y, steps=0), x)


def test_the_result_for_an_image_does_not_depend_on_the_batch():
    net = mlp()
    x, y = images(net)
    alone = torch.cat([deepfool(net, x[i : i + 1], y[i : i + 1]) for i in range(len(x))])
    torch.testing.assert_close(deepfool(net, x, y), alone, rtol=0, atol=1e-9)
    reverse = torch.arange(len(x)).flip(0)
    torch.testing.assert_close(deepfool(net, x[reverse], y[reverse])[reverse], alone, rtol=0, atol=1e-9)


def test_batches_of_one_and_of_none_work():
    net = mlp()
    x, y = images(net, 2)
    assert deepfool(net, x[1:], y[1:]).shape == (1, *SHAPE)
    assert deepfool(net, x[:0], y[:0]).shape == (0, *SHAPE)


def test_a_single_candidate_is_rejected():
    net = mlp()
    with pytest.raises(ValueError, match="candidates"):
        deepfool(net, *images(net), candidates=1)


class Hooked(nn.Module):
    """A network whose input gradients pass through a function."""

    def __init__(self, net, hook):
        super().__init__()
        self.net, self.hook = net, hook

    def forward(self, x):
        if x.requires_grad:
            x = x * 1
            x.register_hook(self.hook)
        return self.net(x)


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_unusable_gradients_give_no_nan(value):
    net = mlp()
    x, y = images(net)
    in_all_pixels = Hooked(net, lambda g: torch.full_like(g, value))
    assert torch.equal(deepfool(in_all_pixels, x, y, steps=5), x)
    in_one_pixel = Hooked(net, lambda g: g.masked_fill(torch.arange(16).view(SHAPE) == 3, value))
    adv = deepfool(in_one_pixel, x, y)
    assert adv.isfinite().all() and not correct(net, adv, y).any()
    assert torch.equal(adv.flatten(1)[:, 3], x.flatten(1)[:, 3])


def test_a_constant_network_and_one_with_tiny_gradients_give_no_nan():
    class Scaled(nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def forward(self, x):
            return x.flatten(1)[:, :3] * self.factor + torch.tensor([1.0, 0.0, 0.0])

    x, y = torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(0)), torch.zeros(8, dtype=torch.long)
    assert torch.equal(deepfool(Scaled(0.0), x, y), x)
    for factor in (1e-30, 1e-42):
        adv = deepfool(Scaled(factor), x, y, steps=3)
        assert adv.isfinite().all() and adv.min() >= 0 and adv.max() <= 1
        assert (adv.flatten(1)[:, 0] == 0).all()  # it moves towards the boundary at any distance


def test_modes_weights_and_gradients_of_the_network_are_unchanged():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 3))
    net.train()
    net[1].eval()
    net[0].bias.requires_grad_(False)
    x, y = torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3
    F.cross_entropy(net(x), y).backward()
    modes, flags = [m.training for m in net.modules()], [p.requires_grad for p in net.parameters()]
    state = {k: v.clone() for k, v in net.state_dict().items()}
    gradients = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
    deepfool(net, x, y)
    assert [m.training for m in net.modules()] == modes and len(set(modes)) == 2
    assert [p.requires_grad for p in net.parameters()] == flags and len(set(flags)) == 2
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    for p, g in zip(net.parameters(), gradients, strict=True):
        assert p.grad is None if g is None else torch.equal(p.grad, g)


def test_the_attack_works_with_gradients_disabled():
    net = mlp()
    x, y = images(net)
    for off in (torch.no_grad, functools.partial(torch.set_grad_enabled, False)):
        with off():
            without_grad = deepfool(net, x, y)
        assert torch.equal(without_grad, deepfool(net, x, y))


def test_fooled_images_take_no_further_backward_passes():
    """Gradients of images: 9 for each iterate that is still correct, and at most one more."""
    net = mlp(classes=10)
    x, y = images(net, 30)
    gradients = 0

    def count(gradient):
        nonlocal gradients
        gradients += len(gradient)

    deepfool(Hooked(net, count), x, y)
    iterates = 0
    for n in range(50):
        iterates += int(correct(net, deepfool(net, x, y, steps=n), y).sum())
        if not correct(net, deepfool(net, x, y, steps=n), y).any():
            break
    assert 9 * iterates <= gradients <= 9 * iterates + iterates
