"""FGSM: its formulas, and the modes in which it runs."""

import pytest
import torch
from attack_contract import NORMS
from gradient_attacks import cross_entropy_gradient, images, mlp, with_batch_norm

from core.attacks.gradient import fgsm, pgd

torch.set_num_threads(1)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_fgsm_equals_pgd_with_one_step_of_length_epsilon_bit_for_bit(norm, targeted):
    net, (x, y) = mlp(), images()
    one = fgsm(net, x, y, epsilon=0.1, norm=norm, targeted=targeted)
    assert torch.equal(one, pgd(net, x, y, epsilon=0.1, steps=1, step_size=0.1, norm=norm, targeted=targeted))
    assert not torch.equal(one, x)


@pytest.mark.parametrize("targeted", [False, True])
def test_fgsm_steps_along_the_sign_of_the_gradient_of_the_cross_entropy(targeted):
    net, (x, y) = mlp(dtype=torch.float64), images(200, dtype=torch.float64)
    step = 0.1 * cross_entropy_gradient(net, x, y).sign()
    assert torch.equal(fgsm(net, x, y, epsilon=0.1, targeted=targeted), (x - step if targeted else x + step).clamp(0, 1))


def test_fgsm_in_l2_steps_by_epsilon_along_the_unit_gradient_of_the_cross_entropy():
    net, (x, y) = mlp(dtype=torch.float64), images(100, low=0.4, high=0.6, dtype=torch.float64)
    gradient = cross_entropy_gradient(net, x, y)
    expected = x + 0.3 * gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    torch.testing.assert_close(fgsm(net, x, y, epsilon=0.3, norm="l2"), expected, rtol=0, atol=1e-9)


def test_attacks_run_the_network_in_evaluation_mode():
    """With active dropout and batch statistics two attacks would differ."""
    net, (x, y) = with_batch_norm(), images()
    net.train()
    first, again = (fgsm(net, x, y, epsilon=0.1) for _ in range(2))
    net.eval()
    assert torch.equal(first, again) and torch.equal(first, fgsm(net, x, y, epsilon=0.1))


def test_attacks_work_under_no_grad():
    net, (x, y) = mlp(), images()
    with torch.no_grad():
        without_grad = fgsm(net, x, y, epsilon=0.1)
    assert torch.equal(without_grad, fgsm(net, x, y, epsilon=0.1))
