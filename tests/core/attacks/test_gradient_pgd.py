"""PGD against its iteration, closed forms on affine models, and invariants that hold for any network."""

import functools
import itertools

import pytest
import torch
import torch.nn.functional as F
from attack_contract import NORMS, Scaled, correct, distance
from gradient_attacks import affine, cross_entropy_gradient, images, mlp, trained, with_batch_norm
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_training import draw
from torch import nn

from core.attacks.ball import draw_offset
from core.attacks.gradient import fgsm, pgd
from core.attacks.losses import margin

torch.set_num_threads(1)


# -- the iteration ------------------------------------------------------------------------------------------------------


def test_pgd_equals_the_iteration_written_out():
    net, (x, y) = mlp(dtype=torch.float64), images(50, dtype=torch.float64)
    adv = x
    for _ in range(5):
        adv = (adv + 0.04 * cross_entropy_gradient(net, adv, y).sign()).clamp(x - 0.1, x + 0.1).clamp(0, 1)
    torch.testing.assert_close(pgd(net, x, y, epsilon=0.1, steps=5, step_size=0.04), adv, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_the_default_step_size_is_two_and_a_half_radii_divided_by_the_number_of_steps(norm):
    net, (x, y) = mlp(), images(low=0.4, high=0.6)
    inputs = []
    net.register_forward_pre_hook(lambda module, args: inputs.append(args[0].detach()))
    pgd(net, x, y, epsilon=0.1, steps=10, norm=norm)
    torch.testing.assert_close(distance(inputs[1], inputs[0], norm), torch.full((32,), 0.025).double(), rtol=1e-4, atol=0)


# -- the ball -----------------------------------------------------------------------------------------------------------


@given(
    norm=st.sampled_from(NORMS), epsilon=st.sampled_from([0.0, 1e-3, 8 / 255, 0.3, 1.0, 5.0]), steps=st.integers(1, 4),
    restarts=st.integers(0, 2), targeted=st.booleans(), stop=st.booleans(), seed=st.integers(0, 10**6),
    corner=st.booleans(), step_size=st.sampled_from([None, 0.01, 3.0]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_pgd_stays_in_the_ball_and_in_zero_one(norm, epsilon, steps, restarts, targeted, stop, seed, corner, step_size):
    net, (x, y) = mlp(seed), images(5, seed=seed)
    x = x.round() if corner else x
    before = x.clone()
    adv = pgd(
        net, x, y, epsilon=epsilon, steps=steps, step_size=step_size, norm=norm, restarts=restarts,
        targeted=targeted, draw=draw(5, seed), stop_when_fooled=stop,
    )  # fmt: skip
    assert torch.equal(x, before)
    assert adv.shape == x.shape and adv.dtype == x.dtype and not adv.requires_grad
    assert adv.min() >= 0 and adv.max() <= 1
    assert (distance(adv, x, norm) <= epsilon + 1e-6).all()


@pytest.mark.parametrize("norm", NORMS)
def test_a_random_start_is_the_image_plus_a_random_offset(norm):
    net, (x, y) = mlp(), images(20, low=0.5, high=0.5)
    start = pgd(net, x, y, epsilon=0.2, steps=1, step_size=0.0, norm=norm, restarts=1, draw=draw(20, 4))
    torch.testing.assert_close(start, x + draw_offset(draw(20, 4), x.shape, 0.2, norm))
    assert (distance(start, x, norm) > 0.05).all()


# -- closed forms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("targeted", [False, True])
def test_pgd_on_an_affine_model_reaches_the_corner_of_highest_loss(targeted, start):
    w = torch.randn(2, 16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    net, (x, y) = affine(w), images(20, 2, low=0.3, high=0.7, dtype=torch.float64)
    ascent = w[1 - y] - w[y]  # direction in which the loss of y rises, [B, 16]
    corner = x + (-0.1 if targeted else 0.1) * ascent.sign().view_as(x)
    adv = pgd(net, x, y, epsilon=0.1, steps=10, restarts=start, draw=draw(20), targeted=targeted)
    torch.testing.assert_close(adv, corner, rtol=0, atol=1e-12)
    loss, best = (F.cross_entropy(net(images_), y, reduction="none") for images_ in (adv, corner))
    torch.testing.assert_close(loss, best, rtol=0, atol=1e-9)


@pytest.mark.parametrize("targeted", [False, True])
def test_pgd_on_an_affine_model_reaches_the_l2_point_of_highest_loss(targeted):
    w = torch.randn(2, 16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    net, (x, y) = affine(w), images(20, 2, low=0.4, high=0.6, dtype=torch.float64)
    ascent = w[1 - y] - w[y]
    best = x + (-0.2 if targeted else 0.2) * (ascent / ascent.norm(dim=1, keepdim=True)).view_as(x)
    adv = pgd(net, x, y, epsilon=0.2, steps=10, norm="l2", targeted=targeted)
    torch.testing.assert_close(adv, best, rtol=0, atol=1e-9)


def test_pgd_fools_a_binary_affine_model_exactly_where_epsilon_reaches_its_boundary():
    """An image is fooled if and only if its margin is below epsilon * |w|_1."""
    w = torch.randn(2, 16, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    net, (x, y) = affine(w), images(300, 2, low=0.2, high=0.8, dtype=torch.float64)
    logits = net(x).detach()
    gap = logits.gather(1, y[:, None]).squeeze(1) - logits.gather(1, 1 - y[:, None]).squeeze(1)
    robust = gap > 0.1 * (w[0] - w[1]).abs().sum()
    adv = pgd(net, x, y, epsilon=0.1, steps=5, stop_when_fooled=True)
    assert 0 < robust.sum() < (gap > 0).sum()
    assert torch.equal(correct(net, adv, y), robust)


# -- strength -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.06), ("l2", 0.4)])
def test_accuracy_does_not_rise_with_the_number_of_steps_from_the_same_start(norm, epsilon):
    net, x, y = trained()
    for stop, slack in ((True, 0.0), (False, 0.005)):
        attack = functools.partial(pgd, epsilon=epsilon, step_size=epsilon / 4, norm=norm, stop_when_fooled=stop)
        accuracies = [correct(net, attack(net, x, y, steps=n), y).double().mean().item() for n in (1, 2, 4, 8, 16)]
        assert all(b <= a + slack for a, b in itertools.pairwise(accuracies))
        assert accuracies[-1] < accuracies[0] - 0.02


@pytest.mark.parametrize(("norm", "radii"), [("linf", (0, 0.01, 0.03, 0.06, 0.12, 0.3)), ("l2", (0, 0.1, 0.3, 0.6, 1.2, 3))])
def test_accuracy_falls_with_epsilon_from_the_clean_accuracy_to_zero(norm, radii):
    net, x, y = trained()
    accuracies = [correct(net, pgd(net, x, y, epsilon=e, steps=8, norm=norm), y).double().mean().item() for e in radii]
    assert all(b <= a + 0.005 for a, b in itertools.pairwise(accuracies))
    assert accuracies[0] == correct(net, x, y).double().mean().item()
    assert accuracies[-1] < 0.02


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 1.0), ("l2", 8.0)])
def test_without_a_bound_every_image_is_fooled(norm, epsilon):
    net, x, y = trained()
    adv = pgd(net, x, y, epsilon=epsilon, steps=40, step_size=epsilon / 20, norm=norm, stop_when_fooled=True)
    assert not correct(net, adv, y).any()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("restarts", [0, 2])
def test_images_are_unchanged_with_epsilon_zero(norm, restarts):
    net, (x, y) = mlp(), images()
    adv = pgd(net, x, y, epsilon=0.0, steps=3, norm=norm, restarts=restarts, draw=draw(32))
    torch.testing.assert_close(adv, x, rtol=0, atol=1e-7)


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.15), ("l2", 0.8)])
def test_targeted_pgd_reaches_the_target_more_often_than_untargeted_pgd_and_than_one_step(norm, epsilon):
    net, x, y = trained()
    target = (y + 3) % 10
    reached, by_one, untargeted = (
        correct(net, adv, target).double().mean()
        for adv in (
            pgd(net, x, target, epsilon=epsilon, steps=10, norm=norm, targeted=True),
            fgsm(net, x, target, epsilon=epsilon, norm=norm, targeted=True),
            pgd(net, x, y, epsilon=epsilon, steps=10, norm=norm),
        )
    )
    assert reached > by_one and reached > untargeted + 0.2


# -- networks that are hard to attack without being robust --------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
def test_a_saturated_network_is_fooled_although_its_cross_entropy_has_no_gradient(norm):
    net, x, y = trained()
    keep = correct(net, x, y) & (margin(net(x), y).detach() > 0.3)
    x, y, saturated = x[keep], y[keep], Scaled(net, 1000.0)
    assert (cross_entropy_gradient(saturated, x, y) == 0).all()  # an attack on the cross-entropy would never move
    epsilon = 0.15 if norm == "linf" else 1.2
    robust = [correct(net, pgd(n, x, y, epsilon=epsilon, steps=10, norm=norm), y).double().mean() for n in (net, saturated)]
    assert robust[0] < 0.2
    assert robust[1] < robust[0] + 0.05


@pytest.mark.parametrize("norm", NORMS)
def test_images_without_a_gradient_are_unchanged(norm):
    class Flat(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :3] * 0

    x, y = images()
    assert torch.equal(pgd(Flat(), x, y, epsilon=0.1, steps=3, norm=norm), x)


# -- the network is unchanged -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [True, False])
def test_modes_statistics_and_gradients_of_the_network_are_unchanged(stop):
    net, (x, y) = with_batch_norm(), images()
    F.cross_entropy(net(x), y).backward()
    modes = [m.training for m in net.modules()]
    buffers = {k: v.clone() for k, v in net.state_dict().items()}
    gradients = [p.grad.clone() for p in net.parameters()]
    flags = [p.requires_grad for p in net.parameters()]
    pgd(net, x, y, epsilon=0.1, steps=3, restarts=2, draw=draw(32), stop_when_fooled=stop)
    assert [m.training for m in net.modules()] == modes and len(set(modes)) == 2
    assert all(torch.equal(v, buffers[k]) for k, v in net.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), gradients, strict=True))
    assert [p.requires_grad for p in net.parameters()] == flags


def test_a_network_without_gradients_receives_none():
    net, (x, y) = mlp(), images()
    pgd(net, x, y, epsilon=0.1, steps=2)
    assert all(p.grad is None for p in net.parameters())
