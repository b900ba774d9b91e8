"""Auto-PGD against the paper's algorithm written out for one image, closed forms, and what it may cost."""

import functools
import itertools
from fractions import Fraction

import pytest
import torch
from attack_contract import CHECKS, EPSILON, NORMS, Constant, Passes, affine_case, draw, mlp, right, seen_right, trained
from torch import nn

from core.attacks.apgd import _Run, apgd, checkpoints, targeted_apgd
from core.attacks.ball import draw_offset, project, step
from core.attacks.gradient import pgd
from core.attacks.losses import LOSSES, cw, targeted_dlr

torch.set_num_threads(1)

ATTACKS = {
    "ce": functools.partial(apgd, steps=20),
    "dlr": functools.partial(apgd, steps=20, loss="dlr"),
    "restarts": functools.partial(apgd, steps=10, restarts=2),
    "targeted": functools.partial(targeted_apgd, steps=10, targets=3),
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_the_contract_of_attacks(check, attack, norm):
    check(attack, norm)


# ---- the algorithm


def test_the_checkpoints_of_a_hundred_steps_are_the_papers():
    assert checkpoints(100) == [0, 22, 41, 57, 70, 80, 87, 93, 99]


@pytest.mark.parametrize("steps", [1, 2, 5, 10, 50, 100, 1000])
def test_checkpoints_follow_their_recursion(steps):
    p = [Fraction(0), Fraction(22, 100)]
    while p[-1] <= 1:
        p.append(p[-1] + max(p[-1] - p[-2] - Fraction(3, 100), Fraction(6, 100)))
    marks = [-(-(share * steps).numerator // (share * steps).denominator) for share in p]
    assert checkpoints(steps) == sorted({mark for mark in marks if mark < steps})


def apgd_by_the_book(net, x, y, start, epsilon, norm, steps, climb):
    """Algorithm 1 for one image, with its whole history; returns the best point and all the losses."""

    def f(point):
        point = point.clone().requires_grad_()
        loss = climb(net, point, net(point), y)
        (gradient,) = torch.autograd.grad(loss.sum(), point)
        return loss.item(), gradient

    def toward(point, size):
        return project(point + step(f(point)[1], size, norm), x, epsilon, norm)

    size, now, before, value = 2 * epsilon, start, start, f(start)[0]
    best, values, rises, marks = (value, start), [value], [], checkpoints(steps)
    at_mark = (size, value)
    for k in range(1, steps + 1):
        ahead = toward(now, size)
        if k > 1:
            ahead = project(now + 0.75 * (ahead - now) + 0.25 * (now - before), x, epsilon, norm)
        before, now = now, ahead
        rises.append(f(now)[0] > value)
        value = f(now)[0]
        values.append(value)
        if value > best[0]:
            best = (value, now)
        if k in marks:
            window = k - marks[marks.index(k) - 1]
            stuck = sum(rises[-window:]) < 0.75 * window or at_mark == (size, best[0])
            at_mark = (size, best[0])
            if stuck:
                size, (value, now) = size / 2, best
    return best[1], values


@pytest.mark.parametrize("loss", ["ce", "cw"])
@pytest.mark.parametrize("norm", NORMS)
def test_apgd_is_the_papers_algorithm_for_each_image_on_its_own(norm, loss):
    net = mlp(6, dtype=torch.float64)
    with torch.no_grad():
        net[1].weight *= 50  # far from linear
    x, y = seen_right(net, 16, dtype=torch.float64)
    epsilon = EPSILON[norm] / 2
    adv = apgd(net, x, y, epsilon=epsilon, norm=norm, steps=50, loss=loss, draw=draw(16))
    stands = right(net, adv, y).nonzero().squeeze(1)
    noise = draw_offset(draw(16).named("start", 0), x.shape, epsilon, norm).to(x)
    start, halved = project(x + noise, x, epsilon, norm), 0
    for i in stands.tolist():
        own = slice(i, i + 1)
        best, values = apgd_by_the_book(net, x[own], y[own], start[own], epsilon, norm, 50, LOSSES[loss])
        torch.testing.assert_close(adv[own], best, rtol=0, atol=1e-7)
        halved += values.index(max(values)) > 11  # found after the first checkpoint
    assert len(stands) >= 6 and halved >= 3


SCRIPTS = {  # loss after k steps; after which checkpoints the step is halved
    "rising": (lambda k: k, []),
    "standing": (lambda k: 0, [22, 41, 57, 70, 80, 87, 93, 99]),
    "rising below its best": (lambda k: k / 1000 if k else 1, [22, 57, 80, 93]),  # not twice in a row
    "rising twice in three steps": (lambda k: k if k % 3 else 0, [22, 41, 57, 70, 80, 87, 93, 99]),
    "rising four times in five steps": (lambda k: k if k % 5 else 0, []),
}


@pytest.mark.parametrize(("script", "halvings"), SCRIPTS.values(), ids=SCRIPTS)
def test_steps_are_halved_where_the_loss_rises_too_seldom_or_finds_nothing_better(monkeypatch, script, halvings):
    net = mlp()
    x, y = seen_right(net, 1)
    sizes, steps, check = [], itertools.count(), _Run.check

    def climb(net_, points, logits, labels):
        return 0 * logits.sum(1) + script(next(steps))

    def noted(run, window):
        check(run, window)
        sizes.append(run.size.item())

    monkeypatch.setattr(_Run, "check", noted)
    apgd(net, x, y, epsilon=0.01, steps=100, loss=climb, draw=draw(1))
    expected = [0.02 / 2 ** sum(k <= mark for k in halvings) for mark in checkpoints(100)]
    assert sizes == pytest.approx(expected)


@pytest.mark.parametrize("restarts", [1, 3])
@pytest.mark.parametrize("norm", NORMS)
def test_an_image_that_stands_comes_back_at_the_highest_loss_that_was_seen(norm, restarts):
    net = mlp(5, dtype=torch.float64)
    x, y = seen_right(net, 1, dtype=torch.float64)
    for epsilon in (0.003, 0.01):
        with Passes(net) as passes:
            adv = apgd(net, x, y, epsilon=epsilon, norm=norm, steps=20, loss="cw", restarts=restarts, draw=draw(1))
        assert right(net, adv, y).all() and len(passes.answered) == 1 + 21 * restarts
        seen = torch.cat([cw(logits, y) for logits in passes.answered[1:]])
        assert cw(net(adv), y) == seen.max()
        assert len(torch.cat(passes.asked[1::21]).unique(dim=0)) == restarts  # each from a start of its own


def test_a_loss_may_be_a_function_of_more_than_logits():
    net = mlp()
    x, y = seen_right(net)
    seen = []

    def climb(net_, points, logits, labels):
        seen.append(net_ is net and points.requires_grad and len(points) == len(logits) == len(labels))
        return LOSSES["ce"](net_, points, logits, labels)

    by_function, by_name = (apgd(net, x, y, epsilon=0.05, steps=10, loss=loss, draw=draw(32)) for loss in (climb, "ce"))
    assert torch.equal(by_function, by_name) and all(seen) and seen


@pytest.mark.parametrize("norm", NORMS)
def test_a_further_restart_keeps_what_the_earlier_ones_fooled(norm):
    net, x, y = trained()
    fallen = [~right(net, apgd(net, x, y, epsilon=0.03, norm=norm, steps=2, restarts=r, draw=draw(200)), y) for r in (1, 2, 6)]
    assert fallen[1][fallen[0]].all() and fallen[2][fallen[1]].all() and fallen[2].sum() >= fallen[0].sum()


# ---- closed forms


@pytest.mark.parametrize("loss", ["ce", "cw"])
@pytest.mark.parametrize("norm", NORMS)
def test_apgd_breaks_a_binary_affine_model_exactly_where_epsilon_reaches_its_boundary(norm, loss):
    net, x, y, epsilon, stands = affine_case(2, norm)
    adv = apgd(net, x, y, epsilon=epsilon, norm=norm, steps=20, loss=loss, draw=draw(300))
    assert torch.equal(right(net, adv, y), stands)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("norm", NORMS)
def test_targeted_apgd_with_few_classes_breaks_an_affine_model_exactly_where_some_class_is_in_reach(norm, classes):
    net, x, y, epsilon, stands = affine_case(classes, norm)
    adv = targeted_apgd(net, x, y, epsilon=epsilon, norm=norm, steps=20, draw=draw(300))
    assert torch.equal(right(net, adv, y), stands)


@pytest.mark.parametrize("norm", NORMS)
def test_targeted_dlr_breaks_an_affine_model_of_many_classes_where_some_class_is_in_reach(norm):
    """Its slope is not that of the margin, but it meets the same boundary."""
    net, x, y, epsilon, stands = affine_case(6, norm)
    found = right(net, targeted_apgd(net, x, y, epsilon=epsilon, norm=norm, steps=50, draw=draw(300)), y)
    assert found[stands].all() and (found & ~stands).sum() <= 2


# ---- targets


def test_targets_are_the_likeliest_other_classes_one_after_another():
    x = torch.full((1, 1, 4, 4), 0.5)
    net, y = Constant(6), torch.tensor([0])
    with pytest.MonkeyPatch.context() as patch:
        aims = []

        def noted(logits, labels, target):
            aims.append(target.item())
            return targeted_dlr(logits, labels, target)

        patch.setattr("core.attacks.apgd.targeted_dlr", noted)
        for targets in (3, 9):
            targeted_apgd(net, x, y, epsilon=0.1, steps=4, targets=targets, draw=draw(1))
    assert aims == [t for t in (1, 2, 3) for _ in range(5)] + [t for t in (1, 2, 3, 4, 5) for _ in range(5)]


def test_targeted_apgd_goes_on_with_survivors_only():
    net, x, y = trained()
    sizes = []
    for targets in (1, 2, 4):
        with Passes(net) as passes:
            adv = targeted_apgd(net, x, y, epsilon=0.06, steps=10, targets=targets, draw=draw(200))
        sizes.append(right(net, adv, y).sum().item())
        assert len(passes.asked) == 1 + 11 * targets
        assert len(passes.asked[-1]) - sizes[-1] <= 2
    assert sizes[0] > sizes[1] >= sizes[2]


def test_one_class_cannot_be_left():
    net = mlp(classes=1)
    x, y = seen_right(net, 3)
    adv = targeted_apgd(net, x, y, epsilon=0.1, steps=3, draw=draw(3))
    assert torch.equal(adv, x)


# ---- strength and cost


@pytest.mark.parametrize("loss", ["ce", "cw"])
@pytest.mark.parametrize(("norm", "epsilons"), [("linf", (0.03, 0.06, 0.1)), ("l2", (0.2, 0.4, 0.7))])
def test_apgd_fools_no_fewer_than_pgd_with_the_same_steps(norm, epsilons, loss):
    net, x, y = trained()
    by_apgd = by_pgd = 0
    for epsilon in epsilons:
        knobs = {"epsilon": epsilon, "norm": norm, "steps": 40, "loss": loss, "draw": draw(200)}
        by_apgd += right(net, apgd(net, x, y, **knobs), y).sum().item()
        by_pgd += right(net, pgd(net, x, y, **knobs, restarts=1, stop_when_fooled=True), y).sum().item()
    assert 0 < by_apgd <= by_pgd


@pytest.mark.parametrize("norm", NORMS)
def test_targeted_apgd_fools_no_fewer_than_apgd(norm):
    net, x, y = trained()
    attack = functools.partial(targeted_apgd, steps=20, targets=9)
    stands = [right(net, a(net, x, y, epsilon=EPSILON[norm], norm=norm, draw=draw(200)), y).sum() for a in (ATTACKS["ce"], attack)]
    assert stands[1] <= stands[0]


class Times(nn.Module):
    def __init__(self, net, factor):
        super().__init__()
        self.net, self.factor = net, factor

    def forward(self, x):
        return self.net(x) * self.factor


@pytest.mark.parametrize(("loss", "limit"), [("ce", "cw"), ("dlr", "dlr")])
@pytest.mark.parametrize("norm", NORMS)
def test_a_saturated_network_stands_no_better(norm, loss, limit):
    """The log-odds of a sure network are its margin."""
    net, x, y = trained(torch.float64)
    knobs = {"epsilon": EPSILON[norm], "norm": norm, "steps": 20, "draw": draw(200)}
    plain, sure = apgd(net, x, y, loss=limit, **knobs), apgd(Times(net, 1000.0), x, y, loss=loss, **knobs)
    stands = [right(net, adv, y).sum() for adv in (plain, sure)]
    assert abs(stands[1] - stands[0]) <= 2 and stands[0] < right(net, x, y).sum()


@pytest.mark.parametrize("norm", NORMS)
def test_the_cost_is_that_of_the_images_that_stand(norm):
    """Image-steps: one image through the network once, with or without a gradient."""
    net, x, y = trained()
    clean = right(net, x, y)
    with Passes(net) as passes:
        adv = apgd(net, x, y, epsilon=EPSILON[norm], norm=norm, steps=50, draw=draw(200))
    stands = right(net, adv, y).sum().item()
    fallen = clean.sum().item() - stands
    assert min(stands, fallen) > 10
    assert passes.images <= 1.15 * stands * 50 + 8 * fallen + (~clean).sum().item()


@pytest.mark.parametrize("norm", NORMS)
def test_steps_are_many_gradients_and_one_more_pass(norm):
    net = mlp(5, dtype=torch.float64)
    x, y = seen_right(net, 1, dtype=torch.float64)
    gradients = []

    def climb(net_, points, logits, labels):
        points.register_hook(lambda gradient: gradients.append(1))
        return LOSSES["cw"](net_, points, logits, labels)

    with Passes(net) as passes:
        adv = apgd(net, x, y, epsilon=0.001, norm=norm, steps=12, loss=climb, draw=draw(1))
    assert len(gradients) == 12 and passes.images == 1 + 13 and not torch.equal(adv, x)
