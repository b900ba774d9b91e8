"""Random noise, R-FGSM and attacks of radius zero: perturbed images by their definition, and reductions to ordinary training."""

import pytest
import torch
from small_batches import classifier, context, grey_images
from tiny_training import draw, fit, weights
from torch import nn
from torch.nn import functional as F

from core import train
from core.attacks.gradient import fgsm, rfgsm
from core.bound import Bound
from core.config import PERTURBATIONS
from core.losses.cross_entropy import CrossEntropy
from core.perturbations.adversarial import RFGSM, Noise
from core.slots import Part, Step

torch.set_num_threads(1)


# -- reductions to ordinary training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("attack", ["pgd", "fgsm"])
def test_an_attack_of_radius_zero_is_bit_identical_to_ordinary_training(attack):
    plain = weights(fit({}).net)
    assert torch.equal(plain, weights(fit({"perturbation": attack, "perturbation.epsilon": 0.0}).net))
    assert not torch.equal(plain, weights(fit({"perturbation": attack, "perturbation.epsilon": 0.1}).net))


def test_the_clean_loss_with_weight_one_is_bit_identical_to_ordinary_training():
    clean = fit({"perturbation": "pgd", "perturbation.epsilon": 0.1, "perturbation.alpha": 1.0})
    assert torch.equal(weights(clean.net), weights(fit({}).net))


@pytest.mark.parametrize("name", ["noise", "rfgsm"])
def test_a_perturbation_of_length_zero_or_without_weight_is_bit_identical_to_ordinary_training(name):
    plain, perturbed = weights(fit({}).net), {"perturbation": name, "perturbation.epsilon": 0.1}
    assert torch.equal(plain, weights(fit({"perturbation": name, "perturbation.epsilon": 0.0}).net))
    assert torch.equal(plain, weights(fit(perturbed | {"perturbation.alpha": 1.0}).net))
    assert not torch.equal(plain, weights(fit(perturbed).net))


# -- noise ------------------------------------------------------------------------------------------------------------


def test_sign_noise_moves_every_pixel_by_epsilon_and_half_of_them_up():
    x, y = grey_images(40, (1, 8, 8))
    noise = Noise(epsilon=0.1).bind(context(None))(None, x, y, draw(40)) - x
    torch.testing.assert_close(noise.abs(), torch.full_like(noise, 0.1))
    assert (noise > 0).double().mean().item() == pytest.approx(0.5, abs=0.04)
    assert not torch.equal(noise[0], noise[1])


def test_l2_noise_has_length_epsilon_in_a_random_direction():
    x, y = grey_images(40, (1, 8, 8))
    noise = Noise(epsilon=0.5, norm="l2").bind(context(None))(None, x, y, draw(40)) - x
    torch.testing.assert_close(noise.flatten(1).norm(dim=1), torch.full((40,), 0.5, dtype=torch.float64))
    cosines = F.normalize(noise.flatten(1)) @ F.normalize(noise.flatten(1)).T - torch.eye(40)
    assert cosines.abs().max() < 0.6 and cosines.mean().abs() < 0.02


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_noise_is_clipped_at_black_and_white(norm):
    x = torch.arange(2.0).repeat(8).view(1, 1, 4, 4)
    out = Noise(epsilon=0.5, norm=norm).bind(context(None))(None, x, torch.zeros(1).long(), draw(1))
    assert out.min() == 0 and out.max() == 1
    assert ((out - x).abs() > 0).any() and ((out - x).abs() == 0).any()


class ZeroPenalty(Part):
    def forward(self, step):
        return step.x.new_zeros(())


def test_the_loss_of_a_step_is_the_weighted_sum_over_clean_and_noisy_images():
    net = classifier()
    x, y = grey_images()
    noise = Noise(epsilon=0.3, alpha=0.2).bind(context(net))
    noisy = noise(net, x, y, draw(6))
    no_update = torch.optim.SGD(net.parameters(), lr=0.0)
    assert PERTURBATIONS["none"]().bind(context(net))(net, x, y, draw(6)) is None
    bound = Bound(net, CrossEntropy().bind(context(net)), noise, ZeroPenalty(), Part(), no_update)
    value, _ = train._update(bound, Step(net, x, y, noisy, draw(6), 1), 6)
    losses = [-net(z).log_softmax(1)[torch.arange(6), y].mean() for z in (x, noisy)]
    torch.testing.assert_close(value, 0.2 * losses[0] + 0.8 * losses[1])


# -- R-FGSM -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.25, 0.75, 1.0])
def test_r_fgsm_stays_within_epsilon_and_between_black_and_white(share):
    net = classifier()
    x = torch.rand(20, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    out = RFGSM(epsilon=0.2, random_share=share).bind(context(net))(net, x, torch.arange(20) % 3, draw(20))
    assert (out - x).abs().max() <= 0.2 + 1e-12 and (out - x).abs().max() > 0.1
    assert out.min() >= 0 and out.max() <= 1


def test_r_fgsm_without_a_random_step_is_bit_identical_to_fgsm():
    net, (x, y) = classifier(), grey_images()
    out = RFGSM(epsilon=0.1, random_share=0.0).bind(context(net))(net, x, y, draw(6))
    assert torch.equal(out, fgsm(net, x, y, epsilon=0.1))


def test_r_fgsm_without_a_gradient_step_is_sign_noise():
    net, (x, y) = classifier(), grey_images()
    out = RFGSM(epsilon=0.1, random_share=1.0).bind(context(net))(net, x, y, draw(6))
    torch.testing.assert_close(out, Noise(epsilon=0.1).bind(context(net))(None, x, y, draw(6)))
    torch.testing.assert_close((out - x).abs(), torch.full_like(x, 0.1))


class Bowl(nn.Module):
    """The cross-entropy of class 0 grows with the distance of the pixels from 0.5; there, its gradient is zero."""

    def forward(self, x):
        distance = (x.flatten(1) - 0.5).square().sum(1)
        return torch.stack([-distance, distance], 1)


@pytest.mark.parametrize("total, second", [(True, 0.3 - 0.1), (False, 0.3)])
def test_the_gradient_step_of_r_fgsm_starts_at_the_random_point(total, second):
    x = torch.full((50, 1, 4, 4), 0.5, dtype=torch.float64)  # where the gradient is zero
    signs = draw(50).normal(1, 4, 4).sign()
    out = rfgsm(Bowl(), x, torch.zeros(50).long(), epsilon=0.3, start=0.1, draw=draw(50), total=total)
    torch.testing.assert_close(out, x + (0.1 + second) * signs)
