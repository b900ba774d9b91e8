"""HopSkipJump: how near it comes where the distance is known, that labels are all it uses, and what attacks promise."""

import itertools
import math

import attack_contract as contract
import pytest
import torch
from attack_contract import Constant, Passes, distance, draw, mlp, right, seen_right
from torch import nn

from core.attacks.hop_skip_jump import hop_skip_jump

torch.set_num_threads(1)


class Through(nn.Module):
    """A network whose logits pass through a function."""

    def __init__(self, net, function):
        super().__init__()
        self.net, self.function = net, function

    def forward(self, x):
        return self.function(self.net(x))


class Above(nn.Module):
    """Class 1 where a function of the images exceeds a level, else class 0."""

    def __init__(self, function, level):
        super().__init__()
        self.function, self.level = function, level

    def forward(self, x):
        height = self.function(x) - self.level
        return torch.stack([-height, height], 1)


def distances(net, x, y):
    """To the nearest other class of an affine network, [N]."""
    with torch.no_grad():
        logits = net(x)
    w = net[1].weight.detach()
    away = (logits.gather(1, y[:, None]) - logits) / (w[y][:, None] - w).norm(dim=2)
    return away.scatter(1, y[:, None], float("inf")).amin(1)


# ---- how near it comes


@pytest.mark.parametrize(("steps", "samples", "within"), [(8, 50, 1.04), (4, 50, 1.12), (8, 20, 1.08)])
def test_between_two_classes_of_an_affine_network_every_image_comes_close_to_the_true_distance(steps, samples, within):
    net, x, y, *_ = contract.affine_case(2, "l2", 100)
    found = distance(hop_skip_jump(net, x, y, draw=draw(100), steps=steps, samples=samples), x, "l2")
    ratio = found / distances(net, x, y)
    assert ratio.min() >= 1 - 1e-9 and ratio.median() < within and ratio.max() < 3 * within - 2


@pytest.mark.parametrize("classes", [3, 4])
def test_among_several_classes_the_median_comes_within_15_percent_of_the_true_distance(classes):
    net, x, y, *_ = contract.affine_case(classes, "l2", 200)
    found = distance(hop_skip_jump(net, x, y, draw=draw(200)), x, "l2")
    ratio = found / distances(net, x, y)
    assert ratio.min() >= 1 - 1e-9 and ratio.median() < 1.15


def written_out(net, x, y, noise, *, steps, samples):
    """The walk of one image whose first noise is misread: boundary, then normal, step and boundary again."""

    def wrong(image):
        return int(net(image.clamp(0, 1)[None]).argmax()) != y

    def to_boundary(far):
        low, high = 0.0, 1.0
        for _ in range(12):
            middle = (low + high) / 2
            low, high = (low, middle) if wrong(x + middle * (far - x)) else (middle, high)
        return x + high * (far - x)

    near = to_boundary(noise.named("start", 0).uniform(*x.shape)[0].double())
    for t in range(1, steps + 1):
        far, stream, ways, sides = (near - x).norm(), noise.named("around", t), [], []
        reach = far * (0.1 if t == 1 else x.numel() ** -0.5)
        for _ in range(round(samples * math.sqrt(t))):
            way = stream.normal(*x.shape)[0].double()
            ways.append(way / way.norm())
            sides.append(1.0 if wrong(near + reach * ways[-1]) else -1.0)
        usual = sum(sides) / len(sides)
        usual = 0.0 if abs(usual) == 1 else usual
        normal = sum((side - usual) * way for side, way in zip(sides, ways, strict=True))
        size = far / math.sqrt(t)
        for _ in range(12):
            there = (near + size * normal / normal.norm()).clamp(0, 1)
            if wrong(there):
                near = there
                break
            size = size / 2
        near = to_boundary(near)
    return near


def test_it_is_the_written_out_walk_image_by_image():
    net, noise = mlp(1, dtype=torch.float64), draw(12)
    with torch.no_grad():
        net[1].weight.mul_(10)  # a boundary so curved that how far one looks around matters
    x, y = seen_right(net, 12, dtype=torch.float64)
    with torch.no_grad():
        starts = noise.named("start", 0).uniform(*x.shape[1:]).double()
        rows = (net(starts).argmax(1) != y).nonzero().squeeze(1)
        assert len(rows) >= 4
        expected = [written_out(net, x[i], int(y[i]), noise.at(i[None]), steps=4, samples=9) for i in rows]
    found = hop_skip_jump(net, x, y, draw=noise, steps=4, samples=9)
    torch.testing.assert_close(found[rows], torch.stack(expected), rtol=0, atol=1e-9)


def test_more_steps_and_more_samples_come_nearer():
    net, x, y = contract.trained()
    x, y = x[:60], y[:60]
    medians = [
        distance(hop_skip_jump(net, x, y, draw=draw(60), steps=steps, samples=samples), x, "l2").median()
        for steps, samples in ((1, 10), (3, 10), (8, 10), (8, 60))
    ]
    assert all(after < 0.97 * before for before, after in itertools.pairwise(medians))


def test_it_ends_on_the_boundary():
    net, x, y, *_ = contract.affine_case(3, "l2", 50)
    adv = hop_skip_jump(net, x, y, draw=draw(50), steps=4, samples=10)
    just_before = x + (1 - 1e-3) * (adv - x)
    assert not right(net, adv, y).any() and right(net, just_before, y).all()


def test_images_that_noise_does_not_mislead_start_from_single_colours():
    bright = Above(lambda x: x.mean((1, 2, 3)), 0.6)  # uniform noise has a mean of 0.5
    x, y = 0.3 * torch.rand(40, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.zeros(40, dtype=torch.long)
    adv = hop_skip_jump(bright, x, y, draw=draw(40), steps=1, samples=4)
    found = ~right(bright, adv, y)
    assert found.sum() >= 38 and torch.equal(adv[~found], x[~found])


def test_a_start_is_looked_for_again_only_where_the_first_one_failed():
    half = Above(lambda x: x[:, 0, 0, 0], 0.5)  # every other noise image has it
    x, y = torch.full((60, 1, 4, 4), 0.2), torch.zeros(60, dtype=torch.long)
    with Passes(half) as passes:
        adv = hop_skip_jump(half, x, y, draw=draw(60), steps=1, samples=2)
    sizes = [len(asked) for asked in passes.asked]
    assert sizes[:2] == [60, 60] and 15 < sizes[2] < 45 and sizes[3] < sizes[2]
    assert not right(half, adv, y).any()


# ---- labels are all it uses


@pytest.mark.parametrize(
    "function",
    [
        lambda z: z.pow(3) + z, lambda z: (5 * z).exp(), lambda z: 1e-3 * z + 100,
        lambda z: torch.nn.functional.one_hot(z.argmax(1), z.shape[1]).double(),
    ],
    ids=["cubic", "exp", "scaled", "one_hot"],
)  # fmt: skip
def test_logits_that_keep_their_largest_place_give_the_same_images(function):
    net = mlp(3, dtype=torch.float64)
    x, y = seen_right(net, 20, dtype=torch.float64)
    given = hop_skip_jump(net, x, y, draw=draw(20), steps=3, samples=12)
    assert (distance(given, x, "l2") > 0).sum() > 10
    assert torch.equal(given, hop_skip_jump(Through(net, function), x, y, draw=draw(20), steps=3, samples=12))


def test_it_asks_for_about_as_many_labels_as_it_says_and_for_no_gradient():
    net = mlp(1)
    x, y = seen_right(net, 10)
    asking = []
    hook = net.register_forward_hook(lambda module, args, out: asking.append(out.requires_grad))
    with Passes(net) as passes:
        adv = hop_skip_jump(net, x, y, draw=draw(10), steps=8, samples=50, chunk=7)
    hook.remove()
    assert not any(asking) and max(map(len, passes.asked)) <= 7
    assert (distance(adv, x, "l2") > 0).all()
    directions = sum(round(50 * t**0.5) for t in range(1, 9))
    assert directions < passes.images / 10 < directions + 9 * 12 + 8 * 12 + 32 + 2
    assert passes.images / 10 == pytest.approx(8**1.5 * 50, rel=0.25)


# ---- what it promises


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 8, 8)])
def test_what_it_returns_is_an_image_that_is_misread_or_the_image_itself(shape, dtype):
    moved = 0
    for seed in range(4):
        net = mlp(seed, shape=shape, dtype=dtype)
        x, y = contract.images(100, shape=shape, dtype=dtype)
        x = x.round() if seed % 2 else x
        before = x.clone()
        adv = hop_skip_jump(net, x, y, draw=draw(100, seed), steps=4, samples=5)
        assert torch.equal(x, before) and adv.shape == x.shape and adv.dtype == dtype and not adv.requires_grad
        assert adv.min() >= 0 and adv.max() <= 1
        same = (adv == x).flatten(1).all(1)
        assert (same | ~right(net, adv, y)).all()
        was_right = right(net, x, y)
        assert same[~was_right].all()
        moved += int((~same).sum())
    assert moved > 50


def test_images_of_a_network_that_knows_one_class_come_back_as_they_are():
    x, _ = contract.images()
    assert torch.equal(hop_skip_jump(Constant(), x, torch.zeros(32, dtype=torch.long), draw=draw(32), steps=2, samples=3), x)


def attack(net, x, y, *, epsilon, norm, draw):
    del epsilon, norm  # it knows no ball
    return hop_skip_jump(net, x, y, draw=draw, steps=3, samples=8, chunk=64)


KEPT = (
    "a_wrong_image_stays_as_it_is_and_costs_one_look", "an_image_is_attacked_alike_in_any_company",
    "the_same_draw_gives_the_same_images_and_another_tries_others", "one_image_and_none_work",
    "it_works_where_gradients_are_switched_off", "the_network_is_handed_back_as_it_came",
    "gradients_of_zero_or_nan_give_no_nan",
)  # fmt: skip


@pytest.mark.parametrize("check", [contract.CHECKS[name] for name in KEPT], ids=KEPT)
def test_contract(check):
    check(attack, "l2")
