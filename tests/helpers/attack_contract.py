"""The contract of attacks for evaluation, as functions check_*(attack, norm), and networks and images to test attacks on.

An attack is called as attack(net, x, y, epsilon=, norm=, draw=) and takes at most about a hundred forward passes.
"""

import functools
import math

import torch
import torch.nn.functional as F
from torch import nn

from core import rng

NORMS = ["linf", "l2"]
SHAPE = (1, 4, 4)
EPSILON = {"linf": 0.06, "l2": 0.4}
"""Radii at which attacks fool some, but not all, of the digits that `trained` classifies correctly."""


def mlp(seed=0, classes=4, shape=SHAPE, dtype=torch.float32):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(math.prod(shape), 24), nn.Tanh(), nn.Linear(24, classes)
        ).to(dtype)  # fmt: skip


def images(n=32, classes=4, shape=SHAPE, seed=0, low=0.0, high=1.0, dtype=torch.float32):
    stream = torch.Generator().manual_seed(seed)
    x = low + (high - low) * torch.rand(n, *shape, generator=stream)
    return x.to(dtype), torch.randint(classes, (n,), generator=stream)


def labelled_by(net, n=32, **knobs):
    """Images, labelled with the classes that the network predicts."""
    x, _ = images(n, **knobs)
    with torch.no_grad():
        return x, net(x).argmax(1)


def affine_case(classes, norm, n=300):
    """An affine network in float64, n correctly classified images, a radius, and the images that are robust in it: half of them.

    These are the images whose nearest other class is farther than the radius. The distance to class i is
    (z_y - z_i) / |w_y - w_i|, in the dual norm.
    """
    w = torch.randn(classes, 16, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, classes)).double()
    with torch.no_grad():
        net[1].weight.copy_(w)
        net[1].bias.copy_(torch.linspace(-0.1, 0.1, classes))
    x, y = labelled_by(net, n, low=0.3, high=0.7, dtype=torch.float64)
    logits = net(x).detach()
    gap = logits.gather(1, y[:, None]) - logits
    distances = gap / (w[y][:, None] - w).norm(1 if norm == "linf" else 2, dim=2)
    nearest = distances.scatter(1, y[:, None], float("inf")).amin(1)
    epsilon = nearest.sort().values[n // 2 - 1 : n // 2 + 1].mean().item()
    assert epsilon < 0.3  # no pixel is clipped
    return net, x, y, epsilon, nearest > epsilon


class Constant(nn.Module):
    """A network with the same logits for every image, and a gradient of zeros, or with `nan` of 0 / 0."""

    def __init__(self, classes=4, nan=False):
        super().__init__()
        self.classes, self.nan = classes, nan

    def forward(self, x):
        zero = x.flatten(1)[:, : self.classes] * 0
        zero = zero + ((zero * zero).sqrt() if self.nan else 0)
        return zero + torch.arange(self.classes, 0, -1).to(x)


def draw(n, seed=0):
    return rng.per_image(seed, "attack", ids=torch.arange(n))


def distance(a, b, norm):
    offset = (a - b).flatten(1).double()
    return offset.abs().amax(1) if norm == "linf" else offset.norm(dim=1)


@torch.no_grad()
def correct(net, x, y):
    return net(x).argmax(1) == y


class Scaled(nn.Module):
    """A network whose logits are multiplied by a factor."""

    def __init__(self, net, factor):
        super().__init__()
        self.net, self.factor = net, factor

    def forward(self, x):
        return self.net(x) * self.factor


@functools.cache
def trained(dtype=torch.float32, count=200):
    """A network that was trained on 8x8 digits without this package, and images that it was not trained on."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    x = torch.tensor(raw.images / 16, dtype=torch.float32)[:, None]
    y = torch.tensor(raw.target)
    net = mlp(1, 10, (1, 8, 8))
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(net(x[:1200]), y[:1200]).backward()
        optimizer.step()
    optimizer.zero_grad()
    assert correct(net, x[1200:1600], y[1200:1600]).double().mean() > 0.85
    return net.to(dtype), x[1200 : 1200 + count].to(dtype), y[1200 : 1200 + count]


class Passes:
    """A recorder of the inputs and outputs of a network's forward passes."""

    def __init__(self, net):
        self.inputs, self.outputs = [], []
        self.hook = net.register_forward_hook(self._record)

    def _record(self, module, args, logits):
        del module
        self.inputs.append(args[0].detach().clone())
        self.outputs.append(logits.detach().clone())

    @property
    def images(self):
        return sum(map(len, self.inputs))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.hook.remove()


def check_images_stay_in_the_ball_and_in_zero_one(attack, norm):
    for epsilon, corner, dtype in ((1e-3, False, torch.float32), (0.3, True, torch.float32), (5.0, False, torch.float64)):
        net = mlp(dtype=dtype)
        x, y = labelled_by(net, 8, dtype=dtype)
        x = x.round() if corner else x
        before = x.clone()
        adv = attack(net, x.clone().requires_grad_(), y, epsilon=epsilon, norm=norm, draw=draw(8))
        assert torch.equal(x, before)
        assert adv.shape == x.shape and adv.dtype == x.dtype and not adv.requires_grad
        assert adv.min() >= 0 and adv.max() <= 1
        assert (distance(adv, x, norm) <= epsilon + 1e-6).all()


def check_misclassified_images_are_returned_unchanged_after_one_forward_pass(attack, norm):
    net, x, y = trained()
    misclassified = ~correct(net, x, y)
    assert misclassified.sum() >= 5
    adv = attack(net, x, y, epsilon=EPSILON[norm], norm=norm, draw=draw(len(x)))
    assert torch.equal(adv[misclassified], x[misclassified])
    with Passes(net) as passes:
        attack(net, x[misclassified], y[misclassified], epsilon=EPSILON[norm], norm=norm, draw=draw(len(x)).at(misclassified))
    assert passes.images <= misclassified.sum()


def check_the_attack_stops_on_fooled_images_which_are_also_misclassified_in_a_separate_pass(attack, norm):
    net, x, y = trained(torch.float64)
    with Passes(net) as passes:
        adv = attack(net, x, y, epsilon=EPSILON[norm], norm=norm, draw=draw(len(x)))
    labels = y
    for inputs, logits in zip(passes.inputs, passes.outputs, strict=True):
        assert len(inputs) == len(labels)
        labels = labels[logits.argmax(1) == labels]
    assert correct(net, adv, y).sum() == len(labels)
    assert 0 < len(labels) < correct(net, x, y).sum()


def check_the_result_for_an_image_does_not_depend_on_the_batch(attack, norm):
    net = mlp(3, dtype=torch.float64)
    x, y = labelled_by(net, 12, dtype=torch.float64)
    noise, epsilon = draw(12), EPSILON[norm]
    together = attack(net, x, y, epsilon=epsilon, norm=norm, draw=noise)
    for parts in (torch.arange(12).split(1), torch.arange(12).flip(0).split(5)):
        for rows in parts:
            part = attack(net, x[rows], y[rows], epsilon=epsilon, norm=norm, draw=noise.at(rows))
            torch.testing.assert_close(part, together[rows], rtol=0, atol=1e-9)
            assert torch.equal(correct(net, part, y[rows]), correct(net, together[rows], y[rows]))
    assert 0 < correct(net, together, y).sum() < 12


def check_equal_draws_give_equal_images_and_different_draws_try_different_ones(attack, norm):
    net = mlp()
    x, y = labelled_by(net)
    noise, results, tried = draw(32), [], []
    for stream in (noise, noise, draw(32, 1)):
        with Passes(net) as passes:
            results.append(attack(net, x, y, epsilon=0.01, norm=norm, draw=stream))
        tried.append(passes.inputs[1])
    assert torch.equal(results[0], results[1]) and not torch.equal(tried[0], tried[2])


def check_batches_of_one_and_of_none_work(attack, norm):
    net = mlp()
    x, y = labelled_by(net)
    for n in (1, 0):
        adv = attack(net, x[:n], y[:n], epsilon=0.1, norm=norm, draw=draw(n))
        assert adv.shape == x[:n].shape and adv.isfinite().all()


def check_the_attack_works_under_no_grad(attack, norm):
    net = mlp()
    x, y = labelled_by(net)
    with torch.no_grad():
        without_grad = attack(net, x, y, epsilon=0.05, norm=norm, draw=draw(32))
    assert torch.equal(without_grad, attack(net, x, y, epsilon=0.05, norm=norm, draw=draw(32)))


def check_modes_weights_and_gradients_of_the_network_are_unchanged(attack, norm):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 4))
    x, y = images()
    net.train()
    net[1].eval()
    net[0].bias.requires_grad_(False)
    F.cross_entropy(net(x), y).backward()
    modes, flags = [m.training for m in net.modules()], [p.requires_grad for p in net.parameters()]
    weights = {k: v.clone() for k, v in net.state_dict().items()}
    gradients = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
    required = []
    net.register_forward_hook(lambda module, args, logits: required.extend(p.requires_grad for p in module.parameters()))
    first, again = (attack(net, x, y, epsilon=0.05, norm=norm, draw=draw(32)) for _ in range(2))
    assert required and not any(required)  # autograd keeps nothing for the weights
    assert torch.equal(first, again)  # with active dropout they would differ
    assert [m.training for m in net.modules()] == modes and len(set(modes)) == 2
    assert [p.requires_grad for p in net.parameters()] == flags and len(set(flags)) == 2
    assert all(torch.equal(v, weights[k]) for k, v in net.state_dict().items())
    for p, gradient in zip(net.parameters(), gradients, strict=True):
        assert (p.grad is None) == (gradient is None) and (gradient is None or torch.equal(p.grad, gradient))


def check_gradients_of_zero_or_nan_give_no_nan(attack, norm):
    x, _ = images()
    for nan in (False, True):
        adv = attack(Constant(nan=nan), x, torch.zeros(32, dtype=torch.long), epsilon=0.1, norm=norm, draw=draw(32))
        assert adv.isfinite().all() and (distance(adv, x, norm) <= 0.1 + 1e-6).all()


def check_images_are_unchanged_with_epsilon_zero(attack, norm):
    net = mlp()
    x, y = labelled_by(net)
    torch.testing.assert_close(attack(net, x, y, epsilon=0.0, norm=norm, draw=draw(32)), x, rtol=0, atol=1e-7)


def check_channels_stay_last_in_memory(attack, norm):
    net = mlp(shape=(3, 4, 4))
    x, y = labelled_by(net, shape=(3, 4, 4))
    with Passes(net) as passes:
        adv = attack(net, x.to(memory_format=torch.channels_last), y, epsilon=EPSILON[norm], norm=norm, draw=draw(32))
    assert len(passes.inputs) > 3
    assert all(batch.is_contiguous(memory_format=torch.channels_last) for batch in [*passes.inputs, adv])


CHECKS = {name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")}
