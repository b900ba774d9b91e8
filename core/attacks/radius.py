"""How far an image is from being misread: a walk uphill without a ball, and a summary for attacks without one."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from core.attacks.ball import Norm, step
from core.attacks.gradient import frozen, slope
from core.attacks.losses import LOSSES
from core.stats import Interval, mean_interval


def adversarial_radius(
    net: nn.Module, x: Tensor, y: Tensor, *, norm: Norm = "l2", step_size: float | None = None, steps: int = 2000
) -> Tensor:
    """The length of the perturbation at the first step of a steepest ascent that changes the class (inversion paper, metric 3).

    Args:
        net: images -> logits; handed back as it came. x: images in [0, 1], [N, c, h, w]. y: labels, [N].
        norm: of the steps and of the length. step_size: default 0.01 in L2, 1/255 in Linf.
        steps: after which an image counts as never misread.

    Returns:
        [N]; 0 for an image that is wrong already, infinite for one that is never misread.
    """
    size = step_size or (0.01 if norm == "l2" else 1 / 255)
    radius = torch.full((len(x),), float("inf"), device=x.device)
    rows, adv = torch.arange(len(x), device=x.device), x
    with frozen(net, weights=True):
        for _ in range(steps + 1):
            if not len(rows):
                break
            gradient, hit = slope(net, adv, y[rows], LOSSES["ce"])
            if hit.any():
                radius[rows[hit]] = length(adv[hit] - x[rows[hit]], norm)
                rows, adv, gradient = rows[~hit], adv[~hit], gradient[~hit]
            adv = (adv + step(gradient, size, norm)).clamp_(0, 1)
    return radius


def length(offset: Tensor, norm: Norm) -> Tensor:
    """Of each image's perturbation, [N, c, h, w] -> [N]."""
    flat = offset.flatten(1)
    return flat.abs().amax(1) if norm == "linf" else flat.norm(dim=1)


@dataclass(frozen=True)
class Shortest:
    """What an attack without a ball did to the images that were classified right."""

    fooling_rate: float
    """Share of them that it fooled."""
    mean: float
    """Mean length over those that it fooled; 0 if there are none."""
    median: float
    interval: Interval
    """95 % interval of the mean (Student)."""


@torch.no_grad()
def shortest(net: nn.Module, x: Tensor, y: Tensor, adv: Tensor, norm: Norm = "l2") -> Shortest:
    """Fooling rate and lengths for images `adv` that an attack without a ball (DeepFool, C&W) made of x; verdicts anew.

    Raises:
        ValueError: no image is classified right.
    """
    with frozen(net):
        right = net(x).argmax(1) == y
        fell = right & (net(adv).argmax(1) != y)
    if not right.any():
        raise ValueError("no image is classified right, so none can be fooled")
    lengths = length(adv - x, norm)[fell].double().cpu()
    rate = (fell.sum() / right.sum()).item()
    if not len(lengths):
        return Shortest(rate, 0.0, 0.0, Interval(0.0, 0.0))
    mean, interval = mean_interval(lengths.tolist())
    return Shortest(rate, mean, lengths.median().item(), interval)
