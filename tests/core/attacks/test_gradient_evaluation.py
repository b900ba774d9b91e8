"""PGD for evaluation: it stops on fooled images, restarts on the others, and returns misclassified images unchanged."""

import functools
import itertools

import pytest
import torch
from attack_contract import NORMS, correct
from gradient_attacks import cross_entropy_gradient, images, mlp, trained
from tiny_training import draw
from torch import nn

from core import rng
from core.attacks.ball import draw_offset, project
from core.attacks.gradient import pgd

torch.set_num_threads(1)


@pytest.mark.parametrize("norm", NORMS)
def test_misclassified_images_are_unchanged_in_evaluation(norm):
    net, x, y = trained()
    misclassified = ~correct(net, x, y)
    adv = pgd(net, x, y, epsilon=0.1, steps=3, norm=norm, stop_when_fooled=True)
    assert misclassified.sum() >= 5 and torch.equal(adv[misclassified], x[misclassified])


@pytest.mark.parametrize("epsilon", [0.03, 0.06])
def test_stopping_when_fooled_fools_the_images_that_any_iterate_of_the_plain_attack_fools(epsilon):
    """Oracle: the plain attack, ended after 0, 1, 2, ... of the same steps."""
    net, x, y = trained()
    attack = functools.partial(pgd, net, x, y, epsilon=epsilon, step_size=epsilon / 3)
    plain = [correct(net, x, y)] + [correct(net, attack(steps=n), y) for n in range(1, 7)]
    stopped = correct(net, attack(steps=6, stop_when_fooled=True), y)
    assert torch.equal(stopped, torch.stack(plain).all(0))
    assert not stopped[~plain[-1]].any()  # in particular, never weaker than the plain attack
    assert 0 < stopped.sum() < len(x)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("stop", [True, False], ids=["stop", "plain"])
def test_images_that_are_fooled_by_one_restart_stay_fooled_with_more_restarts(stop, targeted):
    net, x, y = trained()
    y = (y + 1) % 10 if targeted else y
    fooled = []
    for restarts in (1, 2, 4):
        adv = pgd(
            net, x, y, epsilon=0.1, steps=1, step_size=0.05, restarts=restarts, draw=draw(len(x)),
            targeted=targeted, stop_when_fooled=stop,
        )  # fmt: skip
        fooled.append(correct(net, adv, y) if targeted else ~correct(net, adv, y))
    for fewer, more in itertools.pairwise(fooled):
        assert more[fewer].all()
    assert fooled[-1].sum() > fooled[0].sum()


class CountingNetwork(nn.Module):
    """A network with counters of the images that it was evaluated on, with and without a gradient."""

    def __init__(self, net):
        super().__init__()
        self.net, self.gradients, self.evaluations = net, 0, 0

    def forward(self, x):
        if x.requires_grad:
            self.gradients += len(x)
        else:
            self.evaluations += len(x)
        return self.net(x)


@pytest.mark.parametrize("epsilon", [0.05, 0.1, 0.15])
@pytest.mark.parametrize(("steps", "restarts"), [(20, 0), (100, 0), (20, 4)])
def test_evaluation_gives_the_verdicts_of_the_plain_attack_at_much_lower_cost(epsilon, steps, restarts):
    """The plain attack, written out: every step from every start on every image, which is fooled if any iterate is."""
    net, x, y = trained()
    size, stream = epsilon / 4, rng.per_image(7, ids=torch.arange(len(x)))
    robust = correct(net, x, y)
    for _ in range(max(1, restarts)):
        adv = project(x + draw_offset(stream, x.shape, epsilon, "linf"), x, epsilon, "linf") if restarts else x
        for _ in range(steps):
            adv = (adv + size * cross_entropy_gradient(net, adv, y).sign()).clamp(x - epsilon, x + epsilon).clamp(0, 1)
            robust &= correct(net, adv, y)
    counted = CountingNetwork(net)
    stream = rng.per_image(7, ids=torch.arange(len(x)))
    ours = pgd(counted, x, y, epsilon=epsilon, steps=steps, step_size=size, restarts=restarts, draw=stream, stop_when_fooled=True)
    assert torch.equal(correct(net, ours, y), robust) and 0.05 < robust.double().mean() < 0.9
    tries = steps * max(1, restarts)
    assert counted.gradients <= 1.15 * int(robust.sum()) * tries + 8 * int((~robust).sum())
    assert steps < 100 or counted.gradients < 0.6 * int(robust.sum()) * tries + 5 * int((~robust).sum())  # most cycle by then
    assert counted.evaluations <= len(x) * (1 + restarts)


def test_an_iteration_in_a_cycle_is_stopped_but_tried_again_from_another_start():
    """Between two walls the sign of the gradient alternates; the hole cannot be reached by a step, but by a random start."""

    class Valley(nn.Module):
        def forward(self, x):
            s = x.flatten(1).mean(1) - 0.5
            wall = torch.where((s > 0.028) & (s < 0.032), -1.0, 1.0)
            return torch.stack([wall + 100 * s.abs() * wall.sign(), torch.zeros_like(s)], 1)

    x, y = torch.full((4, 1, 1, 1), 0.5), torch.zeros(4, dtype=torch.long)
    counted = CountingNetwork(Valley())
    stuck = pgd(counted, x, y, epsilon=0.04, steps=200, step_size=0.01, stop_when_fooled=True)
    assert correct(counted, stuck, y).all() and counted.gradients < 4 * 20
    many = pgd(
        counted, x, y, epsilon=0.04, steps=3, step_size=0.01, restarts=100, stop_when_fooled=True,
        draw=rng.per_image(0, ids=torch.arange(4)),
    )  # fmt: skip
    assert not correct(counted, many, y).any()


def test_restarts_without_a_draw_are_rejected():
    net, (x, y) = mlp(), images()
    with pytest.raises(ValueError, match="draw"):
        pgd(net, x, y, epsilon=0.1, steps=2, restarts=1)


def test_equal_draws_give_equal_images_and_different_draws_give_different_ones():
    net, (x, y) = mlp(), images()
    a, b, c = (pgd(net, x, y, epsilon=0.1, steps=2, step_size=0.01, restarts=1, draw=draw(32, s)) for s in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_the_result_for_an_image_does_not_depend_on_the_batch():
    net, (x, y) = mlp(), images(8)
    together = pgd(net, x, y, epsilon=0.1, steps=4, stop_when_fooled=True)
    alone = torch.cat([pgd(net, x[i : i + 1], y[i : i + 1], epsilon=0.1, steps=4, stop_when_fooled=True) for i in range(8)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("stop", [True, False])
def test_a_batch_of_one_works(norm, stop):
    net, (x, y) = mlp(), images(1)
    adv = pgd(net, x, y, epsilon=0.1, steps=2, norm=norm, restarts=2, draw=draw(1), stop_when_fooled=stop)
    assert adv.shape == x.shape and torch.isfinite(adv).all()
