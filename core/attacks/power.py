"""Attacks of equal power: images with a chosen mean L2 norm of the perturbation (Lee, Han, Lee 2017, section 4).

The paper plots accuracy over "perturbation power" without a definition. Here it is the mean over the images of the L2 norm of the
difference between a perturbed image, clipped to [0, 1], and the image itself. Every image is perturbed, also one that the
network misclassifies already.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from core.attacks.ball import Norm, step
from core.attacks.gradient import input_gradient
from core.attacks.losses import ATTACK_LOSSES
from core.attacks.suite import EVAL_BATCH, correct
from core.modes import eval_mode, with_autograd

TOLERANCE = 1e-4
"""Share of the requested power by which that of the images may differ, in addition to the rounding of pixels."""
MAX_CORRECTIONS = 200
"""Number of corrections of a step's length after which a power counts as out of reach; far from saturation, a few suffice."""


class Powered(NamedTuple):
    """Images of a chosen power, and the step that makes them."""

    x_adv: Tensor
    """The perturbed images in [0, 1], [N, c, h, w]."""
    epsilon: float
    """Length of the step before clipping, in units of [0, 1] images."""


def power(x_adv: Tensor, x: Tensor) -> float:
    """Mean over images of the L2 norm of x_adv - x, in units of [0, 1] images; both are [N, c, h, w]."""
    return (x_adv - x).flatten(1).norm(dim=1).double().mean().item()


@with_autograd
def fast_gradient(net: nn.Module, x: Tensor, y: Tensor, *, norm: Norm = "l2") -> Tensor:
    """The direction of the fast gradient attack: the gradient's sign (Eq. 1), or in L2 its unit vector (Eq. 3).

    Args:
        net: images -> logits, whose cross-entropy is increased; returned to its own mode.
        x: images in [0, 1], [N, c, h, w].
        y: true labels, [N].
        norm: norm in which the step is the steepest.

    Returns:
        Directions like x; zero where the gradient is zero.
    """
    with eval_mode(net, freeze_weights=True):
        parts = zip(x.split(EVAL_BATCH), y.split(EVAL_BATCH), strict=True)
        return torch.cat([step(input_gradient(net, *part, ATTACK_LOSSES["ce"])[0], 1.0, norm) for part in parts])


def with_power(x: Tensor, direction: Tensor, wanted: float) -> Powered:
    """The images clip(x + epsilon * direction) whose power is `wanted`, with one epsilon for all images.

    The power divided by epsilon never increases with epsilon, because of clipping; so multiplying epsilon by wanted / power
    approaches the solution from one side.

    Args:
        x: images in [0, 1], [N, c, h, w].
        direction: direction of each image's step, such as `fast_gradient`.
        wanted: power of the images.

    Raises:
        ValueError: no step has this power, because every pixel is clipped or most gradients are zero.
    """
    if not wanted:
        return Powered(x.clone(), 0.0)
    epsilon, reached = 1.0, 0.0
    rounding = torch.finfo(x.dtype).eps / 4 * math.sqrt(x[0].numel())  # of a pixel in [0, 1], times the root of their number
    for _ in range(MAX_CORRECTIONS):
        x_adv = (x + epsilon * direction).clamp(0, 1)
        reached = power(x_adv, x)
        if abs(reached - wanted) <= TOLERANCE * wanted + 2 * rounding:
            return Powered(x_adv, epsilon)
        if not reached:
            break
        epsilon *= wanted / reached
    raise ValueError(f"no step in these directions has a mean L2 norm of {wanted:g}; the last one has {reached:g}")


def accuracy_over_power(net: nn.Module, x: Tensor, y: Tensor, direction: Tensor, powers: Sequence[float]) -> list[float]:
    """Accuracy of a network on images of each power, made by steps along a direction.

    Args:
        net: images -> logits; returned to its own mode.
        x: images in [0, 1], [N, c, h, w].
        y: true labels, [N].
        direction: direction of each image's step: `fast_gradient` of the network itself (a direct attack), or of another one
            (an indirect attack).
        powers: the powers; 0 is the clean images.

    Raises:
        ValueError: see `with_power`.
    """
    return [correct(net, with_power(x, direction, wanted).x_adv, y).double().mean().item() for wanted in powers]
