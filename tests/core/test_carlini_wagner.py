"""Carlini and Wagner's attack against its closed form on affine models and a written-out copy, and what every attack promises."""

import math

import attack_contract as contract
import pytest
import torch
from attack_contract import Passes, mlp, right, seen_right
from torch import nn

from core.attacks.carlini_wagner import carlini_wagner

torch.set_num_threads(1)

FAST = {"steps": 40, "lr": 0.05, "c": 1.0, "search_steps": 3}


def lengths(a, b):
    return (a - b).detach().flatten(1).norm(dim=1)


def affine(w):
    net = nn.Sequential(nn.Flatten(), nn.Linear(w.shape[1], len(w))).double()
    with torch.no_grad():
        net[1].weight.copy_(w)
        net[1].bias.fill_(0.1)
    return net


def examples(n=12, low=0.0, high=1.0):
    net = mlp(3, dtype=torch.float64)
    x, y = seen_right(net, n, low=low, high=high, dtype=torch.float64)
    y[::6] = (y[::6] + 1) % 4
    return net, x, y


# ---- closed form, written-out copy


def test_on_a_binary_affine_model_it_comes_close_to_the_boundarys_distance_and_never_below():
    w = torch.randn(2, 16, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    net = affine(w)
    x, y = seen_right(net, 40, low=0.4, high=0.6, dtype=torch.float64)
    logits = net(x).detach()
    distance = (logits[:, 0] - logits[:, 1]).abs() / (w[0] - w[1]).norm()
    found = carlini_wagner(net, x, y, steps=200, lr=0.01, c=0.1, search_steps=6)
    assert not right(net, found, y).any()
    reached = lengths(found, x)
    assert (reached >= distance - 1e-5).all()  # the images are drawn in by a millionth
    assert (reached < 1.02 * distance + 0.002).all()  # and Adam's steps are of about 0.01
    assert (reached / distance).median() < 1.01


def written_out(net, x, y, *, steps, lr, confidence=0.0, c, search_steps):
    """The attack on one image, with torch's Adam."""
    start = torch.atanh((2 * x - 1) * (1 - 1e-6))
    clean, best, smallest = (start.tanh() + 1) / 2, x, math.inf
    low, high = 0.0, math.inf
    for _ in range(search_steps):
        w = start.clone().requires_grad_()
        adam, reached = torch.optim.Adam([w], lr), False
        for _ in range(steps):
            adv = (w.tanh() + 1) / 2
            logits = net(adv[None])[0]
            hinge = logits[y] - max(v for k, v in enumerate(logits) if k != y)
            size = (adv - clean).square().sum()
            if hinge < -confidence:
                reached = True
                if size < smallest:
                    best, smallest = adv.detach(), size.item()
            adam.zero_grad()
            (size + c * torch.clamp(hinge, min=-confidence)).backward()
            adam.step()
        low, high = (low, min(high, c)) if reached else (max(low, c), high)
        c = 10 * c if high == math.inf else (low + high) / 2
    return best


@pytest.mark.parametrize("knobs", [{"c": 0.3, "search_steps": 3}, {"c": 10.0, "search_steps": 3, "confidence": 0.2}])
def test_it_is_the_written_out_algorithm_image_by_image(knobs):
    net, x, y = examples(4)
    knobs = {"steps": 20, "lr": 0.15, **knobs}
    found = carlini_wagner(net, x, y, **knobs)
    seen = right(net, x, y)
    expected = torch.stack([written_out(net, a, int(b), **knobs) for a, b in zip(x, y, strict=True)])
    torch.testing.assert_close(found, torch.where(seen.view(-1, 1, 1, 1), expected, x), rtol=0, atol=1e-7)
    assert (lengths(found, x) > 0).sum() >= 3


def test_with_confidence_another_class_leads_by_that_much_and_images_are_farther_away():
    net, x, y = examples()
    seen = right(net, x, y)
    near, far = (carlini_wagner(net, x, y, confidence=k, **FAST) for k in (0.0, 0.3))
    logits = net(far).detach()
    lead = logits.scatter(1, y[:, None], -math.inf).amax(1) - logits.gather(1, y[:, None]).squeeze(1)
    found = (lengths(far, x) > 0) & seen
    assert found.sum() > 5 and (lead[found] > 0.3).all()
    assert (lengths(far, x) > lengths(near, x))[found].all()


def test_the_search_finds_a_c_where_the_first_one_was_far_off():
    net, x, y = examples()
    for c, searches in ((1e-4, 6), (1e3, 12)):
        one, many = (carlini_wagner(net, x, y, steps=60, lr=0.02, c=c, search_steps=n) for n in (1, searches))
        seen = right(net, x, y)
        assert not right(net, many, y).any()
        if c < 1:
            assert torch.equal(one[seen], x[seen])
        else:
            assert (lengths(many, x) <= lengths(one, x)).all() and lengths(many, x).mean() < 0.9 * lengths(one, x).mean()


# ---- promises


def test_images_stay_images_and_black_and_white_ones_can_be_changed():
    for dtype in (torch.float32, torch.float64):
        net = mlp(dtype=dtype)
        x, _ = seen_right(net, 16, dtype=dtype)
        for images in (x, x.round()):
            y = net(images).argmax(1)
            found = carlini_wagner(net, images.clone().requires_grad_(), y, steps=100, lr=0.3, c=1.0, search_steps=3)
            assert found.shape == x.shape and found.dtype == dtype and not found.requires_grad
            assert found.min() >= 0 and found.max() <= 1
            assert not right(net, found, y).any()


def test_what_is_never_fooled_comes_back_unchanged():
    net, x, y = examples()
    assert torch.equal(carlini_wagner(net, x, y, steps=1), x)  # the only iterate is the image itself
    assert torch.equal(carlini_wagner(net, x, y, steps=0), x)
    assert torch.equal(carlini_wagner(net, x, y, confidence=1e3, **FAST), x)
    some = carlini_wagner(net, x, y, steps=6, lr=0.05, c=1.0, search_steps=1)
    stands = right(net, some, y)
    assert 0 < stands.sum() < len(x) and torch.equal(some[stands], x[stands])


def test_an_image_is_attacked_alike_in_any_company():
    net, x, y = examples()
    together = carlini_wagner(net, x, y, **FAST)
    alone = torch.cat([carlini_wagner(net, x[i : i + 1], y[i : i + 1], **FAST) for i in range(len(x))])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-9)
    back = torch.arange(len(x)).flip(0)
    torch.testing.assert_close(carlini_wagner(net, x[back], y[back], **FAST)[back], alone, rtol=0, atol=1e-9)


def test_what_is_found_in_float32_is_found_in_other_batches_too():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 16, 3), nn.Tanh(), nn.Flatten(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 4))
    x, y = seen_right(net, 64)
    found = carlini_wagner(net, x, y, steps=150, lr=0.002, c=1.0, search_steps=2)
    changed = (found != x).flatten(1).any(1)
    assert changed.sum() > 30
    for size in (1, 3, 64):
        verdicts = torch.cat([right(net, a, b) for a, b in zip(found.split(size), y.split(size), strict=True)])
        assert not verdicts[changed].any()


def test_images_without_a_gradient_at_the_start_cost_no_search():
    class Corner(nn.Module):
        """Where the first pixel is below a half nothing matters but for it being so."""

        def forward(self, x):
            v = x.flatten(1)
            return torch.where(v[:, :1] < 0.5, v[:, :2] * 0 + torch.tensor([2.0, 1.0]), 3 * v[:, 1:3] + torch.tensor([2.0, 0.0]))

    x, _ = contract.images(32)
    y = torch.zeros(32, dtype=torch.long)
    net, still = Corner(), x.flatten(1)[:, 0] < 0.5
    moves = ~still & right(net, x, y)
    with Passes(net) as passes:
        found = carlini_wagner(net, x, y, **FAST)
    assert torch.equal(found[still], x[still]) and (found[moves] != x[moves]).any()
    assert max(map(len, passes.asked[2:])) == moves.sum() > 5


def test_beyond_the_hinge_no_gradient_is_computed():
    class Counts(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net, self.spent = net, 0

        def count(self, gradient):
            self.spent += len(gradient)

        def forward(self, x):
            if x.requires_grad:
                x.register_hook(self.count)
            return self.net(x)

    plain, x, y = examples(24)
    net = Counts(plain)
    with Passes(net) as passes:
        carlini_wagner(net, x, y, **{**FAST, "c": 100.0})
    assert net.spent < 0.75 * passes.images


def attack(net, x, y, *, epsilon, norm, draw):
    del epsilon, norm, draw
    return carlini_wagner(net, x, y, steps=20, lr=0.05, c=1.0, search_steps=2)


@pytest.mark.parametrize(
    "check",
    [
        contract.check_a_wrong_image_stays_as_it_is_and_costs_one_look,
        contract.check_one_image_and_none_work,
        contract.check_it_works_where_gradients_are_switched_off,
        contract.check_the_network_is_handed_back_as_it_came,
        contract.check_gradients_of_zero_or_nan_give_no_nan,
        contract.check_channels_stay_last_in_memory,
    ],
)
def test_contract(check):
    check(attack, "l2")


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf, 1e30])
def test_strange_gradients_in_one_pixel_give_no_nan(value):
    class Odd(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            if x.requires_grad:
                x = x * 1
                x.register_hook(lambda g: g.masked_fill(torch.arange(16).view(1, 4, 4) == 3, value))
            return self.net(x)

    net = mlp()
    x, y = seen_right(net)
    found = carlini_wagner(Odd(net), x, y, **FAST)
    assert found.isfinite().all() and not right(net, found, y).all()


def test_a_network_that_cuts_its_input_off_is_not_fooled():
    class Cut(nn.Module):
        def forward(self, x):
            return x.detach().flatten(1)[:, :3]

    x, _ = contract.images(8)
    assert torch.equal(carlini_wagner(Cut(), x, Cut()(x).argmax(1), **FAST), x)
