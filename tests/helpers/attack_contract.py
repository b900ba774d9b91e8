"""What every attack that judges promises, whatever it does inside: functions check_*(attack, norm).

An attack is called as attack(net, x, y, epsilon=, norm=, draw=) and is done in at most about a hundred passes.
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
"""Radii at which some of the digits that `trained` sees right fall and some stand."""


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


def seen_right(net, n=32, **knobs):
    """Images with the labels that the network gives them."""
    x, _ = images(n, **knobs)
    with torch.no_grad():
        return x, net(x).argmax(1)


def affine_case(classes, norm, n=300):
    """An affine network in float64, n images that it sees right, a radius, and who stands in it: half of the images.

    These are the ones whose nearest other class is farther than the radius. The distance to class i is
    (z_y - z_i) / |w_y - w_i|, in the dual norm.
    """
    w = torch.randn(classes, 16, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, classes)).double()
    with torch.no_grad():
        net[1].weight.copy_(w)
        net[1].bias.copy_(torch.linspace(-0.1, 0.1, classes))
    x, y = seen_right(net, n, low=0.3, high=0.7, dtype=torch.float64)
    logits = net(x).detach()
    gap = logits.gather(1, y[:, None]) - logits
    distances = gap / (w[y][:, None] - w).norm(1 if norm == "linf" else 2, dim=2)
    nearest = distances.scatter(1, y[:, None], float("inf")).amin(1)
    epsilon = nearest.sort().values[n // 2 - 1 : n // 2 + 1].mean().item()
    assert epsilon < 0.3  # no pixel is clipped
    return net, x, y, epsilon, nearest > epsilon


class Constant(nn.Module):
    """The same logits for every image, and a gradient of zeros, or with 0 / 0 of NaN."""

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
def right(net, x, y):
    return net(x).argmax(1) == y


@functools.cache
def trained(dtype=torch.float32):
    """Fitted to 8x8 digits by a loop of its own; 200 images that it did not see."""
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
    return net.to(dtype), x[1200:1400].to(dtype), y[1200:1400]


class Passes:
    """What a network was asked and what it answered, pass by pass."""

    def __init__(self, net):
        self.asked, self.answered = [], []
        self.hook = net.register_forward_hook(self._note)

    def _note(self, module, args, logits):
        del module
        self.asked.append(args[0].detach().clone())
        self.answered.append(logits.detach().clone())

    @property
    def images(self):
        return sum(map(len, self.asked))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.hook.remove()


def check_images_stay_in_the_ball_and_in_zero_one(attack, norm):
    for epsilon, corner, dtype in ((1e-3, False, torch.float32), (0.3, True, torch.float32), (5.0, False, torch.float64)):
        net = mlp(dtype=dtype)
        x, y = seen_right(net, 8, dtype=dtype)
        x = x.round() if corner else x
        before = x.clone()
        adv = attack(net, x.clone().requires_grad_(), y, epsilon=epsilon, norm=norm, draw=draw(8))
        assert torch.equal(x, before)
        assert adv.shape == x.shape and adv.dtype == x.dtype and not adv.requires_grad
        assert adv.min() >= 0 and adv.max() <= 1
        assert (distance(adv, x, norm) <= epsilon + 1e-6).all()


def check_a_wrong_image_stays_as_it_is_and_costs_one_look(attack, norm):
    net, x, y = trained()
    wrong = ~right(net, x, y)
    assert wrong.sum() >= 5
    adv = attack(net, x, y, epsilon=EPSILON[norm], norm=norm, draw=draw(len(x)))
    assert torch.equal(adv[wrong], x[wrong])
    with Passes(net) as passes:
        attack(net, x[wrong], y[wrong], epsilon=EPSILON[norm], norm=norm, draw=draw(len(x)).at(wrong))
    assert passes.images <= wrong.sum()


def check_an_image_is_left_as_soon_as_it_is_fooled_and_fools_in_a_pass_of_its_own(attack, norm):
    net, x, y = trained(torch.float64)
    with Passes(net) as passes:
        adv = attack(net, x, y, epsilon=EPSILON[norm], norm=norm, draw=draw(len(x)))
    labels = y
    for asked, logits in zip(passes.asked, passes.answered, strict=True):
        assert len(asked) == len(labels)
        labels = labels[logits.argmax(1) == labels]
    assert right(net, adv, y).sum() == len(labels)
    assert 0 < len(labels) < right(net, x, y).sum()


def check_an_image_is_attacked_alike_in_any_company(attack, norm):
    net = mlp(3, dtype=torch.float64)
    x, y = seen_right(net, 12, dtype=torch.float64)
    noise, epsilon = draw(12), EPSILON[norm]
    together = attack(net, x, y, epsilon=epsilon, norm=norm, draw=noise)
    for parts in (torch.arange(12).split(1), torch.arange(12).flip(0).split(5)):
        for rows in parts:
            part = attack(net, x[rows], y[rows], epsilon=epsilon, norm=norm, draw=noise.at(rows))
            torch.testing.assert_close(part, together[rows], rtol=0, atol=1e-9)
            assert torch.equal(right(net, part, y[rows]), right(net, together[rows], y[rows]))
    assert 0 < right(net, together, y).sum() < 12


def check_the_same_draw_gives_the_same_images_and_another_tries_others(attack, norm):
    net = mlp()
    x, y = seen_right(net)
    noise, found, tried = draw(32), [], []
    for stream in (noise, noise, draw(32, 1)):
        with Passes(net) as passes:
            found.append(attack(net, x, y, epsilon=0.01, norm=norm, draw=stream))
        tried.append(passes.asked[1])
    assert torch.equal(found[0], found[1]) and not torch.equal(tried[0], tried[2])


def check_one_image_and_none_work(attack, norm):
    net = mlp()
    x, y = seen_right(net)
    for n in (1, 0):
        adv = attack(net, x[:n], y[:n], epsilon=0.1, norm=norm, draw=draw(n))
        assert adv.shape == x[:n].shape and adv.isfinite().all()


def check_it_works_where_gradients_are_switched_off(attack, norm):
    net = mlp()
    x, y = seen_right(net)
    with torch.no_grad():
        inside = attack(net, x, y, epsilon=0.05, norm=norm, draw=draw(32))
    assert torch.equal(inside, attack(net, x, y, epsilon=0.05, norm=norm, draw=draw(32)))


def check_the_network_is_handed_back_as_it_came(attack, norm):
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
    asking = []
    net.register_forward_hook(lambda module, args, logits: asking.extend(p.requires_grad for p in module.parameters()))
    first, again = (attack(net, x, y, epsilon=0.05, norm=norm, draw=draw(32)) for _ in range(2))
    assert asking and not any(asking)  # autograd keeps nothing for the weights
    assert torch.equal(first, again)  # with dropout at work they would differ
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


def check_with_epsilon_zero_the_images_do_not_move(attack, norm):
    net = mlp()
    x, y = seen_right(net)
    torch.testing.assert_close(attack(net, x, y, epsilon=0.0, norm=norm, draw=draw(32)), x, rtol=0, atol=1e-7)


def check_channels_stay_last_in_memory(attack, norm):
    net = mlp(shape=(3, 4, 4))
    x, y = seen_right(net, shape=(3, 4, 4))
    with Passes(net) as passes:
        adv = attack(net, x.to(memory_format=torch.channels_last), y, epsilon=EPSILON[norm], norm=norm, draw=draw(32))
    assert len(passes.asked) > 3
    assert all(asked.is_contiguous(memory_format=torch.channels_last) for asked in [*passes.asked, adv])


CHECKS = {name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")}
