"""HopSkipJump: its distances where the true ones are known, its use of labels only, and the contract of attacks."""

import itertools
import math

import attack_contract as contract
import pytest
import torch
from attack_contract import Constant, Passes, correct, distance, draw, labelled_by, mlp
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
    """A network that predicts class 1 where a function of the images exceeds a level, and class 0 elsewhere."""

    def __init__(self, function, level):
        super().__init__()
        self.function, self.level = function, level

    def forward(self, x):
        excess = self.function(x) - self.level
        return torch.stack([-excess, excess], 1)


def distances(net, x, y):
    """Distances to the nearest other class of an affine network, [N]."""
    with torch.no_grad():
        logits = net(x)
    w = net[1].weight.detach()
    gaps = (logits.gather(1, y[:, None]) - logits) / (w[y][:, None] - w).norm(dim=2)
    return gaps.scatter(1, y[:, None], float("inf")).amin(1)


# ---- distances


@pytest.mark.parametrize(("steps", "samples", "within"), [(8, 50, 1.04), (4, 50, 1.12), (8, 20, 1.08)])
def test_with_two_classes_of_an_affine_network_every_length_is_close_to_the_true_distance(steps, samples, within):
    net, x, y, *_ = contract.affine_case(2, "l2", 100)
    reached = distance(hop_skip_jump(net, x, y, draw=draw(100), steps=steps, samples=samples), x, "l2")
    ratio = reached / distances(net, x, y)
    assert ratio.min() >= 1 - 1e-9 and ratio.median() < within and ratio.max() < 3 * within - 2


@pytest.mark.parametrize("classes", [3, 4])
def test_with_several_classes_the_median_length_is_within_15_percent_of_the_true_distance(classes):
    net, x, y, *_ = contract.affine_case(classes, "l2", 200)
    reached = distance(hop_skip_jump(net, x, y, draw=draw(200)), x, "l2")
    ratio = reached / distances(net, x, y)
    assert ratio.min() >= 1 - 1e-9 and ratio.median() < 1.15


def reference(net, x, y, noise, *, steps, samples):
    """The walk of one image whose first noise is of another class: boundary, then normal, step and boundary again."""

    def fooled(image):
        return int(net(image.clamp(0, 1)[None]).argmax()) != y

    def to_boundary(far):
        low, high = 0.0, 1.0
        for _ in range(12):
            middle = (low + high) / 2
            low, high = (low, middle) if fooled(x + middle * (far - x)) else (middle, high)
        return x + high * (far - x)

    near = to_boundary(noise.named("start", 0).uniform(*x.shape)[0].double())
    reached = [near]
    for t in range(1, steps + 1):
        far, stream, directions, sides = (near - x).norm(), noise.named("around", t), [], []
        reach = far * (0.1 if t == 1 else x.numel() ** -0.5)
        for _ in range(round(samples * math.sqrt(t))):
            direction = stream.normal(*x.shape)[0].double()
            directions.append(direction / direction.norm())
            sides.append(1.0 if fooled(near + reach * directions[-1]) else -1.0)
        mean = sum(sides) / len(sides)
        mean = 0.0 if abs(mean) == 1 else mean
        normal = sum((side - mean) * direction for side, direction in zip(sides, directions, strict=True))
        size = far / math.sqrt(t)
        for _ in range(12):
            there = (near + size * normal / normal.norm()).clamp(0, 1)
            if fooled(there):
                near = there
                break
            size = size / 2
        near = to_boundary(near)
        reached.append(near)
    return min(reached, key=lambda point: (point - x).norm())


def test_results_equal_those_of_the_reference_implementation_image_by_image():
    net, noise = mlp(1, dtype=torch.float64), draw(12)
    with torch.no_grad():
        net[1].weight.mul_(10)  # a curved boundary, for which the radius of the samples matters
    x, y = labelled_by(net, 12, dtype=torch.float64)
    with torch.no_grad():
        starts = noise.named("start", 0).uniform(*x.shape[1:]).double()
        rows = (net(starts).argmax(1) != y).nonzero().squeeze(1)
        assert len(rows) >= 4
        expected = [reference(net, x[i], int(y[i]), noise.at(i[None]), steps=4, samples=9) for i in rows]
    adv = hop_skip_jump(net, x, y, draw=noise, steps=4, samples=9)
    torch.testing.assert_close(adv[rows], torch.stack(expected), rtol=0, atol=1e-9)


def test_more_steps_and_more_samples_give_shorter_perturbations():
    net, x, y = contract.trained()
    x, y = x[:60], y[:60]
    medians = [
        distance(hop_skip_jump(net, x, y, draw=draw(60), steps=steps, samples=samples), x, "l2").median()
        for steps, samples in ((1, 10), (3, 10), (8, 10), (8, 60))
    ]
    assert all(after < 0.97 * before for before, after in itertools.pairwise(medians))


def test_the_walk_ends_on_the_boundary():
    net, x, y, *_ = contract.affine_case(3, "l2", 50)
    adv = hop_skip_jump(net, x, y, draw=draw(50), steps=4, samples=10)
    just_before = x + (1 - 1e-3) * (adv - x)
    assert not correct(net, adv, y).any() and correct(net, just_before, y).all()


def test_starts_are_single_colours_where_uniform_noise_has_the_same_class():
    bright = Above(lambda x: x.mean((1, 2, 3)), 0.6)  # uniform noise has a mean of 0.5
    x, y = 0.3 * torch.rand(40, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.zeros(40, dtype=torch.long)
    adv = hop_skip_jump(bright, x, y, draw=draw(40), steps=1, samples=4)
    fooled = ~correct(bright, adv, y)
    assert fooled.sum() >= 38 and torch.equal(adv[~fooled], x[~fooled])


@pytest.mark.parametrize("shape", [(3, 32, 8), (3, 8, 32), (1, 64, 2), (1, 2, 64)])
def test_starts_are_found_on_images_of_every_shape_as_often_as_on_square_ones(shape):
    bright = Above(lambda x: x.mean((1, 2, 3)), 0.7)
    square = (shape[0], 16, 16) if shape[0] == 3 else (1, 11, 11)
    started = []
    for size in (square, shape):
        x = 0.3 * torch.rand(40, *size, generator=torch.Generator().manual_seed(0))
        adv = hop_skip_jump(bright, x, torch.zeros(40, dtype=torch.long), draw=draw(40), steps=1, samples=2)
        started.append(int((adv != x).flatten(1).any(1).sum()))
    assert abs(started[0] - started[1]) <= 6 and started[1] >= 24


def test_the_nearest_boundary_point_is_returned_and_no_step_makes_the_result_worse():
    """With few samples a step often leads away from x; the walks of 0, 1, 2, ... steps are beginnings of the same walk."""
    net, x, y = contract.trained()
    x, y = x[:60], y[:60]
    lengths = torch.stack([
        distance(hop_skip_jump(net, x, y, draw=draw(60), steps=steps, samples=2), x, "l2") for steps in range(6)
    ])  # fmt: skip
    assert (lengths[1:] <= lengths[:-1]).all()
    assert (lengths[1:] == lengths[:-1])[:, lengths[0] > 0].sum() > 10  # steps that led away


def test_a_start_is_searched_again_only_for_images_without_one():
    half = Above(lambda x: x[:, 0, 0, 0], 0.5)  # true for half of the noise images
    x, y = torch.full((60, 1, 4, 4), 0.2), torch.zeros(60, dtype=torch.long)
    with Passes(half) as passes:
        adv = hop_skip_jump(half, x, y, draw=draw(60), steps=1, samples=2)
    sizes = [len(batch) for batch in passes.inputs]
    assert sizes[:2] == [60, 60] and 15 < sizes[2] < 45 and sizes[3] < sizes[2]
    assert not correct(half, adv, y).any()


# ---- only labels are used


@pytest.mark.parametrize(
    "function",
    [
        lambda z: z.pow(3) + z, lambda z: (5 * z).exp(), lambda z: 1e-3 * z + 100,
        lambda z: torch.nn.functional.one_hot(z.argmax(1), z.shape[1]).double(),
    ],
    ids=["cubic", "exp", "scaled", "one_hot"],
)  # fmt: skip
def test_the_result_depends_on_the_argmax_of_the_logits_only(function):
    net = mlp(3, dtype=torch.float64)
    x, y = labelled_by(net, 20, dtype=torch.float64)
    adv = hop_skip_jump(net, x, y, draw=draw(20), steps=3, samples=12)
    assert (distance(adv, x, "l2") > 0).sum() > 10
    assert torch.equal(adv, hop_skip_jump(Through(net, function), x, y, draw=draw(20), steps=3, samples=12))


def test_the_number_of_queries_is_as_documented_and_no_gradient_is_computed():
    net = mlp(1)
    x, y = labelled_by(net, 10)
    required = []
    hook = net.register_forward_hook(lambda module, args, out: required.append(out.requires_grad))
    with Passes(net) as passes:
        adv = hop_skip_jump(net, x, y, draw=draw(10), steps=8, samples=50, chunk=7)
    hook.remove()
    assert not any(required) and max(map(len, passes.inputs)) <= 7
    assert (distance(adv, x, "l2") > 0).all()
    directions = sum(round(50 * t**0.5) for t in range(1, 9))
    assert directions < passes.images / 10 < directions + 9 * 12 + 8 * 12 + 32 + 2
    assert passes.images / 10 == pytest.approx(8**1.5 * 50, rel=0.25)


# ---- invariants


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 8, 8)])
def test_results_are_misclassified_images_or_the_images_themselves(shape, dtype):
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
        assert (same | ~correct(net, adv, y)).all()
        was_correct = correct(net, x, y)
        assert same[~was_correct].all()
        moved += int((~same).sum())
    assert moved > 50


def test_images_are_unchanged_if_the_network_predicts_a_single_class():
    x, _ = contract.images()
    assert torch.equal(hop_skip_jump(Constant(), x, torch.zeros(32, dtype=torch.long), draw=draw(32), steps=2, samples=3), x)


def attack(net, x, y, *, epsilon, norm, draw):
    del epsilon, norm  # it has no ball
    return hop_skip_jump(net, x, y, draw=draw, steps=3, samples=8, chunk=64)


APPLICABLE = (
    "misclassified_images_are_returned_unchanged_after_one_forward_pass", "the_result_for_an_image_does_not_depend_on_the_batch",
    "equal_draws_give_equal_images_and_different_draws_try_different_ones", "batches_of_one_and_of_none_work",
    "the_attack_works_under_no_grad", "modes_weights_and_gradients_of_the_network_are_unchanged",
    "gradients_of_zero_or_nan_give_no_nan",
)  # fmt: skip


@pytest.mark.parametrize("check", [contract.CHECKS[name] for name in APPLICABLE], ids=APPLICABLE)
def test_the_contract_of_attacks(check):
    check(attack, "l2")
