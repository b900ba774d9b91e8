"""The Square attack: its windows, the changes that it keeps, its cost, and closed forms."""

import functools
import math

import pytest
import torch
from attack_contract import (
    CHECKS,
    EPSILON,
    NORMS,
    Constant,
    Passes,
    affine_case,
    correct,
    distance,
    draw,
    labelled_by,
    mlp,
    trained,
)
from torch import nn

from core.attacks.ball import project
from core.attacks.gradient import pgd
from core.attacks.losses import cw
from core.attacks.square import _bump, square, window_side

torch.set_num_threads(1)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_the_contract_of_attacks(check, norm):
    check(functools.partial(square, queries=80), norm)


# ---- windows

SIDES = [  # first and last query out of 10 000, and side of the window on 28x28 images with an initial p of 0.8
    (0, 10, 25), (11, 50, 18), (51, 200, 13), (201, 500, 9), (501, 1000, 6), (1001, 2000, 4), (2001, 4000, 3),
    (4001, 6000, 2), (6001, 8000, 2), (8001, 9999, 1),
]  # fmt: skip


@pytest.mark.parametrize(("first", "last", "side"), SIDES)
def test_window_sides_follow_the_schedule(first, last, side):
    for query in (first, last):
        assert window_side(query, 10_000, 0.8, 28, 28, "linf") == side
        assert window_side(query, 10_000, 0.8, 28, 28, "l2") == max(side | 1, 3)


def test_the_schedule_is_rescaled_to_the_number_of_queries():
    for queries in (100, 5000):
        for part in (0.0, 0.01, 0.03, 0.07, 0.15, 0.3, 0.5, 0.7, 0.9):
            whole = window_side(round(part * 10_000), 10_000, 0.8, 28, 28, "linf")
            assert window_side(round(part * queries), queries, 0.8, 28, 28, "linf") == whole


@pytest.mark.parametrize("norm", NORMS)
def test_the_schedule_of_autoattack_is_that_of_10_000_queries_cut_off(norm):
    x, y = torch.full((6, 2, 12, 9), 0.5), torch.zeros(6, dtype=torch.long)
    tried = {}
    for queries, rescale in ((20, False), (70, False), (70, True)):
        with Passes(net := Constant()) as passes:
            square(net, x, y, epsilon=0.1, norm=norm, queries=queries, rescale=rescale, draw=draw(6))
        tried[queries, rescale] = torch.stack(passes.inputs)
    assert torch.equal(tried[20, False], tried[70, False][:21]) and not torch.equal(tried[70, True], tried[70, False])
    if norm == "linf":  # the constant network keeps no proposal, so each one shows its own window
        for query in range(1, 70):
            changed = (tried[70, False][query + 1] - tried[70, False][1]).abs() > 0.1
            assert max(max(extent(one)) for one in changed) <= window_side(query, 10_000, 0.8, 12, 9, norm)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 9), (32, 8)])
@pytest.mark.parametrize("norm", NORMS)
def test_windows_fit_into_images_of_any_size(norm, height, width):
    for p in (0.01, 0.8, 1.0):
        side = window_side(0, 100, p, height, width, norm)
        assert 1 <= side <= min(height, width) and (norm == "linf" or side % 2)
    net = mlp(shape=(2, height, width))
    x, y = labelled_by(net, 6, shape=(2, height, width))
    adv = square(net, x, y, epsilon=0.01, norm=norm, queries=30, draw=draw(6))
    assert (distance(adv, x, norm) <= 0.01 + 1e-6).all() and not torch.equal(adv, x)


def extent(changed):
    """Height and width of the smallest box around the changed pixels; `changed` is [C, H, W] bool."""
    down, across = (changed.any(0).any(axis).nonzero() for axis in (1, 0))
    return [int(v.max() - v.min()) + 1 if len(v) else 0 for v in (down, across)]


def test_linf_proposals_change_one_window_of_the_best_point_so_far_to_corners_of_the_ball():
    net = mlp(5, shape=(2, 6, 6), classes=4, dtype=torch.float64)
    x, y = labelled_by(net, 3, shape=(2, 6, 6), dtype=torch.float64)
    for i in range(3):
        row = slice(i, i + 1)
        with Passes(net) as passes:
            adv = square(net, x[row], y[row], epsilon=0.02, queries=150, draw=draw(3).at(torch.tensor([i])))
        values = [cw(logits, y[row]).item() for logits in passes.outputs]
        best, best_value, kept = passes.inputs[1], values[1], 0
        low, high = project(x[row] - 0.02, x[row], 0.02, "linf"), project(x[row] + 0.02, x[row], 0.02, "linf")
        up = best > x[row]
        assert (up == up[:, :, :1])[best != x[row]].all()  # stripes
        for query, (tried, value) in enumerate(zip(passes.inputs[2:], values[2:], strict=True), start=1):
            side = window_side(query, 150, 0.8, 6, 6, "linf")
            assert max(extent((tried != best)[0])) <= side
            assert ((tried == low) | (tried == high)).all()
            if value > best_value:
                best, best_value, kept = tried, value, kept + 1
        assert kept >= 5
        assert torch.equal(adv, best)


@pytest.mark.parametrize("norm", NORMS)
def test_the_returned_point_is_the_best_one_that_was_tried(norm):
    net = mlp(5, dtype=torch.float64)
    x, y = labelled_by(net, 1, dtype=torch.float64)
    with Passes(net) as passes:
        adv = square(net, x, y, epsilon=0.01, norm=norm, queries=100, draw=draw(1))
    values = torch.cat([cw(logits, y) for logits in passes.outputs[1:]])
    assert correct(net, adv, y).all() and cw(net(adv), y) == values.max() > values[0]


def test_linf_windows_have_all_positions_full_size_and_all_signs():
    """With a constant network no proposal is kept, so each one shows its own window."""
    x = torch.full((400, 2, 6, 6), 0.5)
    with Passes(net := Constant()) as passes:
        square(net, x, torch.zeros(400, dtype=torch.long), epsilon=0.1, queries=40, p_init=1.0, draw=draw(400))
    assert window_side(1, 40, 1.0, 6, 6, "linf") == 2
    start, tried = passes.inputs[1] - x, passes.inputs[2] - x
    torch.testing.assert_close(start, start[:, :, :1].expand_as(start))
    torch.testing.assert_close(start.abs(), torch.full_like(start, 0.1))
    assert (start[:, :, 0].sign().flatten(1).mean(0).abs() < 0.25).all()  # five standard errors
    changed = (tried - start).abs() > 0.1
    assert all(max(extent(one)) <= 2 for one in changed)
    windows = {tuple(one.any(0).nonzero().amin(0).tolist()) for one in changed if extent(one) == [2, 2]}
    assert windows == {(top, left) for top in range(5) for left in range(5)}


def test_l2_proposals_change_two_windows_and_use_the_whole_radius():
    x = torch.full((60, 2, 10, 10), 0.5, dtype=torch.float64)
    with Passes(net := Constant()) as passes:
        square(net, x, torch.zeros(60, dtype=torch.long), epsilon=0.3, norm="l2", queries=20, p_init=0.1, draw=draw(60))
    start, tried = passes.inputs[1], passes.inputs[2:]
    for points in passes.inputs[1:]:
        torch.testing.assert_close(distance(points, x, "l2"), torch.full((60,), 0.3).double(), rtol=1e-6, atol=0)
    for query, points in enumerate(tried, start=1):
        side = window_side(query, 20, 0.1, 10, 10, "l2")
        changed = (points - start).abs() > 1e-12
        assert (changed.flatten(1).sum(1) <= 2 * 2 * side * side).all() and changed.flatten(1).any(1).all()
        assert ((points == x) & (start != x)).all(1).sum() > 200  # pixels, of 60 * 9, that only the second window covers


def test_l2_proposals_move_the_perturbation_of_one_window_to_another():
    """Reference: Algorithm 3 of the paper, written out for each proposal."""
    x = torch.full((1, 2, 9, 9), 0.5, dtype=torch.float64)
    with Passes(net := Constant()) as passes:
        square(net, x, torch.zeros(1, dtype=torch.long), epsilon=0.3, norm="l2", queries=12, p_init=0.15, draw=draw(1))
    old, side, explained = (passes.inputs[1] - x)[0], window_side(1, 12, 0.15, 9, 9, "l2"), 0
    bump = _bump(side, torch.float64, x.device)
    for points in passes.inputs[2:]:
        new, matches = (points - x)[0], False
        for top, left, top2, left2 in torch.cartesian_prod(*[torch.arange(10 - side)] * 4).tolist():
            one, two = torch.zeros(9, 9, dtype=torch.bool), torch.zeros(9, 9, dtype=torch.bool)
            one[top : top + side, left : left + side] = two[top2 : top2 + side, left2 : left2 + side] = True
            if ((new != old).any(0) & ~(one | two)).any() or (new * (two & ~one)).abs().amax() > 1e-12:
                continue
            norms = (old.square() * (one | two)).sum((1, 2)).sqrt()
            candidates = []
            for turned in (bump, bump.T):
                for sign in (-1, 1):
                    window = old[:, top : top + side, left : left + side]
                    proposed = sign * turned + window / window.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None]
                    candidates.append(proposed / proposed.flatten(1).norm(dim=1)[:, None, None] * norms[:, None, None])
            actual = new[:, top : top + side, left : left + side]
            close = [[torch.allclose(tensor[c], actual[c], rtol=0, atol=1e-6) for c in (0, 1)] for tensor in candidates]
            matches |= any(all(close[2 * t + s[c]][c] for c in (0, 1)) for t in (0, 1) for s in ((0, 0), (0, 1), (1, 0), (1, 1)))
        explained += matches
    assert explained == len(passes.inputs[2:]) == 11


@pytest.mark.parametrize("side", [1, 3, 5, 6, 9])
def test_the_bump_consists_of_two_stacks_of_nested_squares_with_opposite_signs(side):
    def stack(height, width):
        out = torch.zeros(height, width, dtype=torch.float64)
        for k in range(max(height, width) // 2 + 1):
            for r in range(height):
                for c in range(width):
                    if abs(r - height // 2) <= k and abs(c - width // 2) <= k:
                        out[r, c] += 1 / (k + 1) ** 2
        return out

    expected = torch.cat([stack(side // 2, side), -stack(side - side // 2, side)])
    bump = _bump(side, torch.float64, torch.device("cpu"))
    torch.testing.assert_close(bump, expected / expected.norm())


# ---- strength and cost


@pytest.mark.parametrize("norm", NORMS)
def test_each_query_is_one_forward_pass_and_the_clean_image_takes_one_more(norm):
    net = mlp(5)
    x, y = labelled_by(net, 10)
    with Passes(net) as passes:
        square(net, x, y, epsilon=0.001, norm=norm, queries=70, draw=draw(10))
    assert passes.images == 10 * 71


def test_an_affine_model_is_fooled_in_linf_exactly_where_a_class_is_within_epsilon():
    """The windows shrink to single pixels, and the optimum is a corner."""
    net, x, y, epsilon, robust = affine_case(2, "linf", n=100)
    adv = square(net, x, y, epsilon=epsilon, queries=400, draw=draw(100))
    assert torch.equal(correct(net, adv, y), robust)


def test_in_l2_no_image_beyond_epsilon_of_an_affine_model_is_fooled_and_every_image_within_two_thirds_is():
    net, x, y, epsilon, robust = affine_case(2, "l2", n=100)
    at_epsilon, farther = (
        correct(net, square(net, x, y, epsilon=e, norm="l2", queries=400, draw=draw(100)), y) for e in (epsilon, 1.5 * epsilon)
    )
    assert at_epsilon[robust].all() and at_epsilon.sum() < 100
    assert not farther[~robust].any()


@pytest.mark.parametrize("norm", NORMS)
def test_more_queries_fool_more_images_almost_as_many_as_gradients(norm):
    net, x, y = trained()
    epsilon = EPSILON[norm]
    few, many = (correct(net, square(net, x, y, epsilon=epsilon, norm=norm, queries=q, draw=draw(200)), y).sum() for q in (20, 500))
    by_gradient = correct(net, pgd(net, x, y, epsilon=epsilon, norm=norm, steps=20, stop_when_fooled=True), y).sum()
    assert by_gradient - 2 <= many < few < correct(net, x, y).sum()
    assert many - by_gradient <= (10 if norm == "linf" else 45)  # windows of 3x3 are large for images of 8x8 pixels


class Rounded(nn.Module):
    """A network without useful gradients: it rounds images to 20 grey levels."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x + ((x * 20).round() / 20 - x).detach() - x + x.detach())


def test_a_network_without_useful_gradients_is_fooled():
    net, x, y = trained()
    rounded = Rounded(net)
    clean = correct(rounded, x, y).sum()
    by_gradient = correct(rounded, pgd(rounded, x, y, epsilon=0.06, steps=20, stop_when_fooled=True), y).sum()
    by_queries = correct(rounded, square(rounded, x, y, epsilon=0.06, queries=200, draw=draw(200)), y).sum()
    assert by_gradient == clean and by_queries < clean - 10


@pytest.mark.parametrize("norm", NORMS)
def test_no_gradient_is_computed(norm):
    net = mlp()
    x, y = labelled_by(net)
    required = []
    net.register_forward_hook(lambda module, args, logits: required.append(logits.requires_grad or args[0].requires_grad))
    square(net, x, y, epsilon=0.05, norm=norm, queries=20, draw=draw(32))
    assert required and not any(required)


def test_p_init_is_the_share_of_the_first_windows():
    assert [window_side(0, 100, p, 20, 20, "linf") for p in (1.0, 0.25, 0.01)] == [20, 10, 2]
    assert math.isclose(window_side(0, 100, 0.5, 1000, 1000, "linf") ** 2, 500_000, rel_tol=1e-3)
