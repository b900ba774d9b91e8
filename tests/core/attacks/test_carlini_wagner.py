"""Carlini and Wagner's attack against closed forms on affine models and a reference implementation, and the contract of attacks."""

import math

import attack_contract as contract
import pytest
import torch
from attack_contract import Passes, correct, labelled_by, mlp
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
    x, y = labelled_by(net, n, low=low, high=high, dtype=torch.float64)
    y[::6] = (y[::6] + 1) % 4
    return net, x, y


# ---- closed form, reference implementation


def test_on_a_binary_affine_model_lengths_are_close_to_the_distance_of_the_boundary_and_not_below():
    w = torch.randn(2, 16, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    net = affine(w)
    x, y = labelled_by(net, 40, low=0.4, high=0.6, dtype=torch.float64)
    logits = net(x).detach()
    distance = (logits[:, 0] - logits[:, 1]).abs() / (w[0] - w[1]).norm()
    adv = carlini_wagner(net, x, y, steps=200, lr=0.01, c=0.1, search_steps=6)
    assert not correct(net, adv, y).any()
    reached = lengths(adv, x)
    assert (reached >= distance - 1e-5).all()  # images are scaled towards grey by a millionth
    assert (reached < 1.02 * distance + 0.002).all()  # Adam's steps have a length of about 0.01
    assert (reached / distance).median() < 1.01


def reference(net, x, y, *, steps, lr, confidence=0.0, c, search_steps):
    """The attack on one image, with PyTorch's Adam."""
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
def test_results_equal_those_of_the_reference_implementation_image_by_image(knobs):
    net, x, y = examples(4)
    knobs = {"steps": 20, "lr": 0.15, **knobs}
    adv = carlini_wagner(net, x, y, **knobs)
    was_correct = correct(net, x, y)
    expected = torch.stack([reference(net, a, int(b), **knobs) for a, b in zip(x, y, strict=True)])
    torch.testing.assert_close(adv, torch.where(was_correct.view(-1, 1, 1, 1), expected, x), rtol=0, atol=1e-7)
    assert (lengths(adv, x) > 0).sum() >= 3


def test_with_confidence_another_class_leads_by_the_confidence_and_perturbations_are_longer():
    net, x, y = examples()
    was_correct = correct(net, x, y)
    near, far = (carlini_wagner(net, x, y, confidence=k, **FAST) for k in (0.0, 0.3))
    logits = net(far).detach()
    lead = logits.scatter(1, y[:, None], -math.inf).amax(1) - logits.gather(1, y[:, None]).squeeze(1)
    fooled = (lengths(far, x) > 0) & was_correct
    assert fooled.sum() > 5 and (lead[fooled] > 0.3).all()
    assert (lengths(far, x) > lengths(near, x))[fooled].all()


def test_the_search_finds_a_suitable_c_from_a_poor_initial_value():
    net, x, y = examples()
    for c, searches in ((1e-4, 6), (1e3, 12)):
        one, many = (carlini_wagner(net, x, y, steps=60, lr=0.02, c=c, search_steps=n) for n in (1, searches))
        was_correct = correct(net, x, y)
        assert not correct(net, many, y).any()
        if c < 1:
            assert torch.equal(one[was_correct], x[was_correct])
        else:
            assert (lengths(many, x) <= lengths(one, x)).all() and lengths(many, x).mean() < 0.9 * lengths(one, x).mean()


# ---- invariants


def test_results_are_images_and_black_and_white_pixels_can_be_changed():
    for dtype in (torch.float32, torch.float64):
        net = mlp(dtype=dtype)
        x, _ = labelled_by(net, 16, dtype=dtype)
        for images in (x, x.round()):
            y = net(images).argmax(1)
            adv = carlini_wagner(net, images.clone().requires_grad_(), y, steps=100, lr=0.3, c=1.0, search_steps=3)
            assert adv.shape == x.shape and adv.dtype == dtype and not adv.requires_grad
            assert adv.min() >= 0 and adv.max() <= 1
            assert not correct(net, adv, y).any()


def test_images_that_are_never_fooled_are_returned_unchanged():
    net, x, y = examples()
    assert torch.equal(carlini_wagner(net, x, y, steps=1), x)  # the only iterate is the image itself
    assert torch.equal(carlini_wagner(net, x, y, steps=0), x)
    assert torch.equal(carlini_wagner(net, x, y, confidence=1e3, **FAST), x)
    adv = carlini_wagner(net, x, y, steps=6, lr=0.05, c=1.0, search_steps=1)
    robust = correct(net, adv, y)
    assert 0 < robust.sum() < len(x) and torch.equal(adv[robust], x[robust])


def test_the_result_for_an_image_does_not_depend_on_the_batch():
    net, x, y = examples()
    together = carlini_wagner(net, x, y, **FAST)
    alone = torch.cat([carlini_wagner(net, x[i : i + 1], y[i : i + 1], **FAST) for i in range(len(x))])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-9)
    reverse = torch.arange(len(x)).flip(0)
    torch.testing.assert_close(carlini_wagner(net, x[reverse], y[reverse], **FAST)[reverse], alone, rtol=0, atol=1e-9)


def test_images_that_fool_a_float32_network_also_fool_it_in_other_batches():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 16, 3), nn.Tanh(), nn.Flatten(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 4))
    x, y = labelled_by(net, 64)
    adv = carlini_wagner(net, x, y, steps=150, lr=0.002, c=1.0, search_steps=2)
    changed = (adv != x).flatten(1).any(1)
    assert changed.sum() > 30
    for size in (1, 3, 64):
        verdicts = torch.cat([correct(net, a, b) for a, b in zip(adv.split(size), y.split(size), strict=True)])
        assert not verdicts[changed].any()


def test_images_without_a_gradient_at_the_start_take_no_search():
    class Corner(nn.Module):
        """Constant where the first pixel is below a half."""

        def forward(self, x):
            v = x.flatten(1)
            return torch.where(v[:, :1] < 0.5, v[:, :2] * 0 + torch.tensor([2.0, 1.0]), 3 * v[:, 1:3] + torch.tensor([2.0, 0.0]))

    x, _ = contract.images(32)
    y = torch.zeros(32, dtype=torch.long)
    net, flat = Corner(), x.flatten(1)[:, 0] < 0.5
    moves = ~flat & correct(net, x, y)
    with Passes(net) as passes:
        adv = carlini_wagner(net, x, y, **FAST)
    assert torch.equal(adv[flat], x[flat]) and (adv[moves] != x[moves]).any()
    assert max(map(len, passes.inputs[2:])) == moves.sum() > 5


def test_beyond_the_hinge_no_gradient_is_computed():
    class Counts(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net, self.gradients = net, 0

        def count(self, gradient):
            self.gradients += len(gradient)

        def forward(self, x):
            if x.requires_grad:
                x.register_hook(self.count)
            return self.net(x)

    plain, x, y = examples(24)
    net = Counts(plain)
    with Passes(net) as passes:
        carlini_wagner(net, x, y, **{**FAST, "c": 100.0})
    assert net.gradients < 0.75 * passes.images


def attack(net, x, y, *, epsilon, norm, draw):
    del epsilon, norm, draw
    return carlini_wagner(net, x, y, steps=20, lr=0.05, c=1.0, search_steps=2)


@pytest.mark.parametrize(
    "check",
    [
        contract.check_misclassified_images_are_returned_unchanged_after_one_forward_pass,
        contract.check_batches_of_one_and_of_none_work,
        contract.check_the_attack_works_under_no_grad,
        contract.check_modes_weights_and_gradients_of_the_network_are_unchanged,
        contract.check_gradients_of_zero_or_nan_give_no_nan,
        contract.check_channels_stay_last_in_memory,
    ],
)
def test_the_contract_of_attacks(check):
    check(attack, "l2")


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf, 1e30])
def test_an_unusable_gradient_in_one_pixel_gives_no_nan(value):
    class Disturbed(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            if x.requires_grad:
                x = x * 1
                x.register_hook(lambda g: g.masked_fill(torch.arange(16).view(1, 4, 4) == 3, value))
            return self.net(x)

    net = mlp()
    x, y = labelled_by(net)
    adv = carlini_wagner(Disturbed(net), x, y, **FAST)
    assert adv.isfinite().all() and not correct(net, adv, y).all()


def test_a_network_that_detaches_its_input_is_not_fooled():
    class Detached(nn.Module):
        def forward(self, x):
            return x.detach().flatten(1)[:, :3]

    x, _ = contract.images(8)
    assert torch.equal(carlini_wagner(Detached(), x, Detached()(x).argmax(1), **FAST), x)
