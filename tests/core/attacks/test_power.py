"""Attacks of equal power: the direction of the fast gradient, the length of a step with a given mean L2 norm, and curves."""

import math

import gradient_attacks as grad
import pytest
import torch
from torch import nn

from core.attacks.gradient import fgsm
from core.attacks.power import TOLERANCE, accuracy_over_power, fast_gradient, power, with_power

torch.set_num_threads(1)


def test_power_is_the_mean_over_images_of_the_l2_norm():
    x = torch.zeros(2, 1, 2, 2)
    x_adv = x.clone()
    x_adv[0, 0, 0] = torch.tensor([0.3, 0.4])
    x_adv[1, 0, 1, 1] = -0.1
    assert power(x_adv, x) == pytest.approx((0.5 + 0.1) / 2)


@pytest.mark.parametrize("norm, epsilon", [("l2", 0.4), ("linf", 0.1)])
def test_a_step_along_the_fast_gradient_makes_the_images_of_fgsm(norm, epsilon):
    net, (x, y) = grad.mlp(), grad.images()
    stepped = (x + epsilon * fast_gradient(net, x, y, norm=norm)).clamp(0, 1)
    torch.testing.assert_close(stepped, fgsm(net, x, y, epsilon=epsilon, norm=norm), rtol=0, atol=1e-6)


def test_the_fast_gradient_is_the_unit_vector_of_the_cross_entropys_gradient():
    """Eq. 3 of the paper, and Eq. 1 for the sign; in batches as in one."""
    net, (x, y) = grad.mlp(), grad.images(300)
    gradient = grad.cross_entropy_gradient(net, x, y)
    unit = gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    torch.testing.assert_close(fast_gradient(net, x, y), unit, rtol=1e-4, atol=1e-5)
    assert torch.equal(fast_gradient(net, x, y, norm="linf"), gradient.sign())


def test_without_clipping_the_length_of_the_step_is_the_power():
    x = torch.full((3, 1, 4, 4), 0.5)
    direction = torch.zeros_like(x)
    direction[:, 0, 0, 0] = 1
    made = with_power(x, direction, 0.25)
    assert made.epsilon == pytest.approx(0.25, rel=TOLERANCE)
    signs = with_power(x, torch.ones_like(x), 0.25)  # 16 pixels, so that a signed step of epsilon has length 4 epsilon
    assert signs.epsilon == pytest.approx(0.25 / 4, rel=TOLERANCE)


def test_a_clipped_step_is_lengthened_until_the_mean_norm_is_the_power():
    """The first image is clipped after 0.1, the second after 0.9: (0.1 + epsilon) / 2 = 0.4 for epsilon = 0.7."""
    x = torch.tensor([0.9, 0.1]).view(2, 1, 1, 1)
    made = with_power(x, torch.ones_like(x), 0.4)
    assert made.epsilon == pytest.approx(0.7, rel=1e-3)
    torch.testing.assert_close(made.x_adv.flatten(), torch.tensor([1.0, 0.8]), rtol=0, atol=1e-3)


@pytest.mark.parametrize("wanted", [1e-6, 0.01, 0.5, 1.5])
def test_random_steps_reach_the_power_within_the_tolerance(wanted):
    stream = torch.Generator().manual_seed(0)
    x, direction = torch.rand(20, 3, 8, 8, generator=stream), torch.randn(20, 3, 8, 8, generator=stream)
    made = with_power(x, direction, wanted)
    assert abs(power(made.x_adv, x) - wanted) <= TOLERANCE * wanted + 2 * 2**-25 * math.sqrt(3 * 64)  # pixels are rounded
    assert made.x_adv.min() >= 0 and made.x_adv.max() <= 1


def test_no_power_leaves_the_images_unchanged():
    x = torch.rand(4, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(with_power(x, torch.ones_like(x), 0.0).x_adv, x)


@pytest.mark.parametrize("direction", [0.0, 1.0])
def test_a_power_out_of_reach_is_an_error(direction):
    """Images of half grey have no perturbation of more than half their length, 0.5 * 4."""
    x = torch.full((2, 1, 4, 4), 0.5)
    with pytest.raises(ValueError, match=r"no step in these directions has a mean L2 norm of 2\.1"):
        with_power(x, torch.full_like(x, direction), 2.1)


class Threshold(nn.Module):
    """Class 1 if the image's only pixel is above 0.5, otherwise class 0."""

    def forward(self, x):
        z = 10 * (x.flatten(1) - 0.5)
        return torch.cat([-z, z], 1)


def test_accuracy_falls_by_one_image_where_the_power_exceeds_its_distance():
    x, y = torch.tensor([0.45, 0.35, 0.25, 0.15]).view(4, 1, 1, 1), torch.zeros(4, dtype=torch.long)
    direction = fast_gradient(Threshold(), x, y)
    assert torch.equal(direction, torch.ones_like(x))
    powers = [0.0, 0.04, 0.1, 0.2, 0.3, 0.4]
    assert accuracy_over_power(Threshold(), x, y, direction, powers) == [1.0, 1.0, 0.75, 0.5, 0.25, 0.0]


def test_images_that_are_misclassified_already_are_perturbed_too():
    """An indirect attack may move them back; the accuracy of the source's images is what the paper plots."""
    x, y = torch.tensor([0.6]).view(1, 1, 1, 1), torch.zeros(1, dtype=torch.long)
    assert accuracy_over_power(Threshold(), x, y, -torch.ones_like(x), [0.0, 0.2]) == [0.0, 1.0]


def test_the_network_keeps_its_mode_and_gradients_and_autograd_is_not_needed():
    net, (x, y) = grad.mlp(), grad.images(8)
    net.train()
    with torch.inference_mode():
        direction = fast_gradient(net, x, y)
        accuracy = accuracy_over_power(net, x, y, direction, [0.1])
    assert 0 <= accuracy[0] <= 1 and not math.isnan(direction.sum().item())
    assert net.training and all(p.grad is None and p.requires_grad for p in net.parameters())
