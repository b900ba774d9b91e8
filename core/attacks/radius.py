"""Distance to misclassification: steepest ascent without a ball, and a summary for attacks without one."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from core.attacks.ball import Norm, step
from core.attacks.gradient import gradient_step
from core.attacks.losses import ATTACK_LOSSES
from core.modes import eval_mode, wide, with_autograd
from core.stats import Interval, mean_interval


@with_autograd
def adversarial_radius(
    net: nn.Module, x: Tensor, y: Tensor, *, norm: Norm = "l2", step_size: float | None = None, steps: int = 2000
) -> Tensor:
    """Length of the perturbation at the first step of a steepest ascent that changes the class (inversion paper, metric 3).

    Args:
        net: images -> logits; returned to its own mode.
        x: images in [0, 1], [N, c, h, w].
        y: true labels, [N].
        norm: norm of the steps and of the length.
        step_size: length of a step; default 0.01 in L2, 1/255 in Linf.
        steps: number of steps after which an image counts as never misclassified.

    Returns:
        [N], float64 for images in float64 and otherwise float32; 0 for an image that is misclassified already, infinite for one
        that is never misclassified.
    """
    size = step_size or (0.01 if norm == "l2" else 1 / 255)
    net, x = wide(net, x)
    radius = torch.full((len(x),), float("inf"), dtype=x.dtype, device=x.device)
    rows, adv = torch.arange(len(x), device=x.device), x
    with eval_mode(net, freeze_weights=True):
        for _ in range(steps + 1):
            if not len(rows):
                break
            gradient, hit = gradient_step(net, adv, y[rows], ATTACK_LOSSES["ce"])
            if hit.any():
                radius[rows[hit]] = length(adv[hit] - x[rows[hit]], norm)
                rows, adv, gradient = rows[~hit], adv[~hit], gradient[~hit]
            adv = (adv + step(gradient, size, norm)).clamp_(0, 1)
    return radius


def length(offset: Tensor, norm: Norm) -> Tensor:
    """Length of each image's perturbation, [N, c, h, w] -> [N]."""
    flat = offset.to(torch.promote_types(offset.dtype, torch.float32)).flatten(1)
    return flat.abs().amax(1) if norm == "linf" else flat.norm(dim=1)


@dataclass(frozen=True)
class PerturbationSummary:
    """Summary of an attack without a ball, over the images that were classified correctly before."""

    fooling_rate: float
    """Share of these images that the attack fooled."""
    mean: float
    """Mean length over the fooled images; 0 if there are none."""
    median: float
    """Median length over the fooled images; 0 if there are none."""
    interval: Interval
    """95 % interval of the mean (Student); infinite if fewer than two images were fooled."""


@torch.no_grad()
def summarise_perturbations(net: nn.Module, x: Tensor, y: Tensor, adv: Tensor, norm: Norm = "l2") -> PerturbationSummary:
    """Fooling rate and lengths of an attack without a ball (DeepFool, C&W); the images are classified again.

    Args:
        net: images -> logits; returned to its own mode.
        x: images in [0, 1], [N, c, h, w].
        y: true labels, [N].
        adv: images that the attack made of x.
        norm: norm of the lengths.

    Raises:
        ValueError: no image is classified correctly.
    """
    with eval_mode(net):
        correct = net(x).argmax(1) == y
        fooled = correct & (net(adv).argmax(1) != y)
    if not correct.any():
        raise ValueError("no image is classified correctly, so none can be fooled")
    lengths = length(adv - x, norm)[fooled].double().cpu()
    rate = (fooled.sum() / correct.sum()).item()
    if not len(lengths):
        return PerturbationSummary(rate, 0.0, 0.0, Interval(-math.inf, math.inf))
    mean, interval = mean_interval(lengths.tolist())
    return PerturbationSummary(rate, mean, lengths.median().item(), interval)
