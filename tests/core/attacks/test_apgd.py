"""Auto-PGD against the paper's algorithm written out for one image, closed forms, and bounds on its cost."""

import functools
import itertools
from fractions import Fraction

import pytest
import torch
from attack_contract import CHECKS, EPSILON, NORMS, Constant, Passes, Scaled, affine_case, correct, draw, labelled_by, mlp, trained

from core.attacks.apgd import _Run, apgd, checkpoints, targeted_apgd
from core.attacks.ball import draw_offset, project, step
from core.attacks.gradient import pgd
from core.attacks.losses import ATTACK_LOSSES, cw, targeted_dlr

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


def test_the_checkpoints_of_a_hundred_steps_are_those_of_the_paper():
    assert checkpoints(100) == [0, 22, 41, 57, 70, 80, 87, 93, 99]


@pytest.mark.parametrize("steps", [1, 2, 5, 10, 50, 100, 1000])
def test_checkpoints_follow_their_recursive_definition(steps):
    p = [Fraction(0), Fraction(22, 100)]
    while p[-1] <= 1:
        p.append(p[-1] + max(p[-1] - p[-2] - Fraction(3, 100), Fraction(6, 100)))
    marks = [-(-(share * steps).numerator // (share * steps).denominator) for share in p]
    assert checkpoints(steps) == sorted({mark for mark in marks if mark < steps})


def reference_apgd(net, x, y, start, epsilon, norm, steps, attack_loss):
    """Algorithm 1 for one image, with its whole history; returns the best point and all losses."""

    def f(point):
        point = point.clone().requires_grad_()
        loss = attack_loss(net, point, net(point), y)
        (gradient,) = torch.autograd.grad(loss.sum(), point)
        return loss.item(), gradient

    def stepped(point, size):
        return project(point + step(f(point)[1], size, norm), x, epsilon, norm)

    size, now, before, value = 2 * epsilon, start, start, f(start)[0]
    best, values, rises, marks = (value, start), [value], [], checkpoints(steps)
    at_mark = (size, value)
    for k in range(1, steps + 1):
        ahead = stepped(now, size)
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
def test_apgd_equals_the_algorithm_of_the_paper_for_each_image_separately(norm, loss):
    net = mlp(6, dtype=torch.float64)
    with torch.no_grad():
        net[1].weight *= 50  # far from linear
    x, y = labelled_by(net, 16, dtype=torch.float64)
    epsilon = EPSILON[norm] / 2
    adv = apgd(net, x, y, epsilon=epsilon, norm=norm, steps=50, loss=loss, draw=draw(16))
    robust = correct(net, adv, y).nonzero().squeeze(1)
    noise = draw_offset(draw(16).named("start", 0), x.shape, epsilon, norm).to(x)
    start, halved = project(x + noise, x, epsilon, norm), 0
    for i in robust.tolist():
        row = slice(i, i + 1)
        best, values = reference_apgd(net, x[row], y[row], start[row], epsilon, norm, 50, ATTACK_LOSSES[loss])
        torch.testing.assert_close(adv[row], best, rtol=0, atol=1e-7)
        halved += values.index(max(values)) > 11  # reached after the first checkpoint
    assert len(robust) >= 6 and halved >= 3


SCRIPTS = {  # loss after k steps, and checkpoints at which the step is halved
    "rising": (lambda k: k, []),
    "standing": (lambda k: 0, [22, 41, 57, 70, 80, 87, 93, 99]),
    "rising below its best": (lambda k: k / 1000 if k else 1, [22, 57, 80, 93]),  # not twice in a row
    "rising twice in three steps": (lambda k: k if k % 3 else 0, [22, 41, 57, 70, 80, 87, 93, 99]),
    "rising four times in five steps": (lambda k: k if k % 5 else 0, []),
}


@pytest.mark.parametrize(("script", "halvings"), SCRIPTS.values(), ids=SCRIPTS)
def test_steps_are_halved_if_the_loss_rises_too_rarely_or_its_best_value_does_not_improve(monkeypatch, script, halvings):
    net = mlp()
    x, y = labelled_by(net, 1)
    sizes, steps, check = [], itertools.count(), _Run.check

    def scripted_loss(net_, points, logits, labels):
        return 0 * logits.sum(1) + script(next(steps))

    def recorded(run, window):
        check(run, window)
        sizes.append(run.size.item())

    monkeypatch.setattr(_Run, "check", recorded)
    apgd(net, x, y, epsilon=0.01, steps=100, loss=scripted_loss, draw=draw(1))
    expected = [0.02 / 2 ** sum(k <= mark for k in halvings) for mark in checkpoints(100)]
    assert sizes == pytest.approx(expected)


@pytest.mark.parametrize("restarts", [1, 3])
@pytest.mark.parametrize("norm", NORMS)
def test_a_robust_image_is_returned_at_its_highest_loss(norm, restarts):
    net = mlp(5, dtype=torch.float64)
    x, y = labelled_by(net, 1, dtype=torch.float64)
    for epsilon in (0.003, 0.01):
        with Passes(net) as passes:
            adv = apgd(net, x, y, epsilon=epsilon, norm=norm, steps=20, loss="cw", restarts=restarts, draw=draw(1))
        assert correct(net, adv, y).all() and len(passes.outputs) == 1 + 21 * restarts
        losses = torch.cat([cw(logits, y) for logits in passes.outputs[1:]])
        assert cw(net(adv), y) == losses.max()
        assert len(torch.cat(passes.inputs[1::21]).unique(dim=0)) == restarts  # each from a different start


def test_a_loss_may_be_a_function_of_network_images_logits_and_labels():
    net = mlp()
    x, y = labelled_by(net)
    as_expected = []

    def loss_function(net_, points, logits, labels):
        as_expected.append(net_ is net and points.requires_grad and len(points) == len(logits) == len(labels))
        return ATTACK_LOSSES["ce"](net_, points, logits, labels)

    by_function, by_name = (apgd(net, x, y, epsilon=0.05, steps=10, loss=loss, draw=draw(32)) for loss in (loss_function, "ce"))
    assert torch.equal(by_function, by_name) and all(as_expected) and as_expected


@pytest.mark.parametrize("norm", NORMS)
def test_images_that_are_fooled_by_one_restart_stay_fooled_with_more_restarts(norm):
    net, x, y = trained()
    fooled = [~correct(net, apgd(net, x, y, epsilon=0.03, norm=norm, steps=2, restarts=r, draw=draw(200)), y) for r in (1, 2, 6)]
    assert fooled[1][fooled[0]].all() and fooled[2][fooled[1]].all() and fooled[2].sum() >= fooled[0].sum()


# ---- closed forms


@pytest.mark.parametrize("loss", ["ce", "cw"])
@pytest.mark.parametrize("norm", NORMS)
def test_apgd_fools_a_binary_affine_model_exactly_where_epsilon_reaches_its_boundary(norm, loss):
    net, x, y, epsilon, robust = affine_case(2, norm)
    adv = apgd(net, x, y, epsilon=epsilon, norm=norm, steps=20, loss=loss, draw=draw(300))
    assert torch.equal(correct(net, adv, y), robust)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("norm", NORMS)
def test_targeted_apgd_with_few_classes_fools_an_affine_model_exactly_where_a_class_is_within_epsilon(norm, classes):
    net, x, y, epsilon, robust = affine_case(classes, norm)
    adv = targeted_apgd(net, x, y, epsilon=epsilon, norm=norm, steps=20, draw=draw(300))
    assert torch.equal(correct(net, adv, y), robust)


@pytest.mark.parametrize("norm", NORMS)
def test_targeted_dlr_fools_an_affine_model_of_many_classes_where_a_class_is_within_epsilon(norm):
    """The gradient of the loss differs from that of the margin, but both have the same decision boundary."""
    net, x, y, epsilon, robust = affine_case(6, norm)
    still_correct = correct(net, targeted_apgd(net, x, y, epsilon=epsilon, norm=norm, steps=50, draw=draw(300)), y)
    assert still_correct[robust].all() and (still_correct & ~robust).sum() <= 2


# ---- targets


def test_targets_are_the_most_likely_other_classes_in_descending_order():
    x = torch.full((1, 1, 4, 4), 0.5)
    net, y = Constant(6), torch.tensor([0])
    with pytest.MonkeyPatch.context() as patch:
        targets_used = []

        def recorded(logits, labels, target):
            targets_used.append(target.item())
            return targeted_dlr(logits, labels, target)

        patch.setattr("core.attacks.apgd.targeted_dlr", recorded)
        for targets in (3, 9):
            targeted_apgd(net, x, y, epsilon=0.1, steps=4, targets=targets, draw=draw(1))
    assert targets_used == [t for t in (1, 2, 3) for _ in range(5)] + [t for t in (1, 2, 3, 4, 5) for _ in range(5)]


def test_targeted_apgd_continues_only_with_images_that_are_still_robust():
    net, x, y = trained()
    sizes = []
    for targets in (1, 2, 4):
        with Passes(net) as passes:
            adv = targeted_apgd(net, x, y, epsilon=0.06, steps=10, targets=targets, draw=draw(200))
        sizes.append(correct(net, adv, y).sum().item())
        assert len(passes.inputs) == 1 + 11 * targets
        assert len(passes.inputs[-1]) - sizes[-1] <= 2
    assert sizes[0] > sizes[1] >= sizes[2]


def test_with_a_single_class_targeted_apgd_returns_the_images_unchanged():
    net = mlp(classes=1)
    x, y = labelled_by(net, 3)
    adv = targeted_apgd(net, x, y, epsilon=0.1, steps=3, draw=draw(3))
    assert torch.equal(adv, x)


# ---- strength and cost


@pytest.mark.parametrize("loss", ["ce", "cw"])
@pytest.mark.parametrize(("norm", "epsilons"), [("linf", (0.03, 0.06, 0.1)), ("l2", (0.2, 0.4, 0.7))])
def test_apgd_fools_at_least_as_many_images_as_pgd_with_as_many_steps(norm, epsilons, loss):
    net, x, y = trained()
    by_apgd = by_pgd = 0
    for epsilon in epsilons:
        knobs = {"epsilon": epsilon, "norm": norm, "steps": 40, "loss": loss, "draw": draw(200)}
        by_apgd += correct(net, apgd(net, x, y, **knobs), y).sum().item()
        by_pgd += correct(net, pgd(net, x, y, **knobs, restarts=1, stop_when_fooled=True), y).sum().item()
    assert 0 < by_apgd <= by_pgd


@pytest.mark.parametrize("norm", NORMS)
def test_targeted_apgd_fools_at_least_as_many_images_as_apgd(norm):
    net, x, y = trained()
    attack = functools.partial(targeted_apgd, steps=20, targets=9)
    attacks = (ATTACKS["ce"], attack)
    robust = [correct(net, a(net, x, y, epsilon=EPSILON[norm], norm=norm, draw=draw(200)), y).sum() for a in attacks]
    assert robust[1] <= robust[0]


@pytest.mark.parametrize(("loss", "limit"), [("ce", "cw"), ("dlr", "dlr")])
@pytest.mark.parametrize("norm", NORMS)
def test_a_saturated_network_is_no_more_robust(norm, loss, limit):
    """The log-odds of a network that is certain are its margin."""
    net, x, y = trained(torch.float64)
    knobs = {"epsilon": EPSILON[norm], "norm": norm, "steps": 20, "draw": draw(200)}
    plain, saturated = apgd(net, x, y, loss=limit, **knobs), apgd(Scaled(net, 1000.0), x, y, loss=loss, **knobs)
    robust = [correct(net, adv, y).sum() for adv in (plain, saturated)]
    assert abs(robust[1] - robust[0]) <= 2 and robust[0] < correct(net, x, y).sum()


@pytest.mark.parametrize("norm", NORMS)
def test_the_cost_is_mainly_that_of_the_robust_images(norm):
    """Unit of cost: one pass of one image through the network, with or without a gradient."""
    net, x, y = trained()
    clean = correct(net, x, y)
    with Passes(net) as passes:
        adv = apgd(net, x, y, epsilon=EPSILON[norm], norm=norm, steps=50, draw=draw(200))
    robust = correct(net, adv, y).sum().item()
    fooled = clean.sum().item() - robust
    assert min(robust, fooled) > 10
    assert passes.images <= 1.15 * robust * 50 + 8 * fooled + (~clean).sum().item()


@pytest.mark.parametrize("norm", NORMS)
def test_a_run_takes_one_gradient_per_step_and_one_further_pass(norm):
    net = mlp(5, dtype=torch.float64)
    x, y = labelled_by(net, 1, dtype=torch.float64)
    gradients = []

    def recorded_loss(net_, points, logits, labels):
        points.register_hook(lambda gradient: gradients.append(1))
        return ATTACK_LOSSES["cw"](net_, points, logits, labels)

    with Passes(net) as passes:
        adv = apgd(net, x, y, epsilon=0.001, norm=norm, steps=12, loss=recorded_loss, draw=draw(1))
    assert len(gradients) == 12 and passes.images == 1 + 13 and not torch.equal(adv, x)
