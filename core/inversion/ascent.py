"""Inversion by gradient ascent (inversion paper, Eq. 1): climb the logit of a class from a start that knows nothing of it.

    X <- clip(X + lr * G),    G = d z_c(X) / dX

There is no ball: the pixel range alone bounds the image. Images are in [0, 1], so G is per unit of [0, 1], not per grey level.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from core.attacks.gradient import frozen
from core.errors import unknown
from core.rng import PerImage

Penalty = Callable[[Tensor], Tensor]
"""Images [K, c, h, w] -> what each of them costs, [K]; image by image."""
SCALINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "raw": lambda flat: torch.ones_like(flat[:, :1]),
    "l2": lambda flat: flat.norm(dim=1, keepdim=True),
    "mean_abs": lambda flat: flat.abs().mean(1, keepdim=True),
}
"""What an image's gradient, flat [K, d], is divided by, [K, 1]."""


@dataclass(frozen=True)
class Inverted:
    """Where the ascent of K images ended."""

    images: Tensor
    """In [0, 1], [K, c, h, w]."""
    first: Tensor
    """The first iteration at which the class was the network's answer, 0 being the start; -1 never. int64 [K]."""
    logits: Tensor
    """The class's logit of `images`, [K]."""
    trajectory: Tensor
    """The class's logit on the way, `images` last, [T, K]."""


def gradient_ascent(
    net: nn.Module, classes: Tensor, start: Tensor, *, lr: float, iterations: int,
    scaling: Literal["raw", "l2", "mean_abs"] = "raw", penalty: Penalty | None = None, every: int | None = None,
    batch_size: int = 256,
) -> Inverted:  # fmt: skip
    """The inversion paper's first attack, over all classes and restarts at once.

    Args:
        net: images -> logits; in eval mode meanwhile, handed back as it came.
        classes: whose logit each image climbs, int64 [K]; a class may come several times.
        start: images in [0, 1], [K, c, h, w]: `constant`, `uniform`, or real ones.
        lr: length of a step for each unit of the gradient.
        iterations: steps; the paper took 10,000.
        scaling: what the gradient is divided by: nothing (the paper), its L2 norm or its mean absolute value, per image.
        penalty: climb z_c - penalty(X) instead.
        every: iterations between two entries of the trajectory; default a hundredth of them.
        batch_size: images that climb together.

    Raises:
        ValueError: `classes` and `start` are not of the same number.
    """
    if len(classes) != len(start):
        raise ValueError(f"one class per image is needed, got {len(classes)} classes and {len(start)} images")
    if scaling not in SCALINGS:
        raise unknown("scaling", scaling, SCALINGS)
    every = every or max(1, iterations // 100)
    parts = []
    with frozen(net, weights=True):
        for rows in torch.arange(len(start), device=start.device).split(batch_size):
            parts.append(_climb(net, classes[rows], start[rows], lr, iterations, SCALINGS[scaling], penalty, every))
    return Inverted(*(torch.cat(column, -1 if i == 3 else 0) for i, column in enumerate(zip(*parts, strict=True))))


def _climb(net, classes, x, lr, iterations, scale, penalty, every):
    first = torch.full((len(x),), -1, dtype=torch.long, device=x.device)
    trajectory = []
    for t in range(iterations + 1):
        gradient, logits = uphill(net, x, classes, penalty)
        first = torch.where((first < 0) & (logits.argmax(1) == classes), t, first)
        if t % every == 0 or t == iterations:
            trajectory.append(_of(logits, classes))
        if t < iterations:
            length = scale(gradient.flatten(1)).view(-1, 1, 1, 1)
            x = (x + lr * torch.where(length > 0, gradient / length, 0.0)).clamp_(0, 1)
    return x, first, trajectory[-1], torch.stack(trajectory)


def uphill(net: nn.Module, x: Tensor, classes: Tensor, penalty: Penalty | None = None) -> tuple[Tensor, Tensor]:
    """The gradient of z_c - penalty by the images, like x (zero where it is NaN), and all logits, [K, C]."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        logits = net(x)
        rise = _of(logits, classes).sum()
        if penalty is not None:
            rise = rise - penalty(x).sum()
        gradient = torch.zeros_like(x)
        if rise.requires_grad:  # a network may cut its input off
            (gradient,) = torch.autograd.grad(rise, x, allow_unused=True, materialize_grads=True)
    return gradient.nan_to_num_(nan=0.0), logits.detach()


def class_logits(net: nn.Module, images: Tensor, classes: Tensor, batch_size: int = 256) -> Tensor:
    """What a network, often another one than the attacked, answers: the logit of each image's class, [K] (cross-network logit)."""
    with frozen(net), torch.no_grad():
        parts = zip(images.split(batch_size), classes.split(batch_size), strict=True)
        return torch.cat([_of(net(x), c) for x, c in parts])


def _of(logits: Tensor, classes: Tensor) -> Tensor:
    return logits.gather(1, classes.unsqueeze(1)).squeeze(1)


def constant(
    count: int, shape: tuple[int, ...], *, level: float = 0.5, noise: float = 0.0, draw: PerImage | None = None
) -> Tensor:  # fmt: skip
    """Starts of one shade (the paper's grey 128 is 0.5), with normal noise of that deviation, clipped to [0, 1].

    Args:
        count: images. shape: (c, h, w). level, noise: in units of [0, 1] images. draw: where `noise` comes from.

    Raises:
        ValueError: `noise` without `draw`.
    """
    if noise and draw is None:
        raise ValueError("noise needs a draw")
    images = torch.full((count, *shape), level)
    return (images.to(draw.keys.device) + noise * draw.normal(*shape)).clamp(0, 1) if noise and draw is not None else images


def uniform(shape: tuple[int, ...], draw: PerImage) -> Tensor:
    """Starts whose pixels are even in [0, 1), one for each image of the draw."""
    return draw.uniform(*shape)


def calibrated_lr(
    net: nn.Module, classes: Tensor, start: Tensor, *, wanted: int = 1000, low: float = 1e-4, high: float = 10.0, rounds: int = 8
) -> float:
    """The lr at which half of the images reach their class in about `wanted` iterations, to compare other networks at.

    The paper gives no lr, but says that an adversarially trained network took 1136 iterations and a normally trained one 3.
    Bisection in powers; costs rounds * wanted iterations, and ends within a factor (high / low) ** (0.5 ** (rounds + 1)).

    Args:
        net, classes, start: as in `gradient_ascent`. wanted: iterations. low, high: where to look. rounds: of bisection.

    Returns:
        An lr between `low` and `high`; near one of them if it takes a smaller or larger one.
    """
    for _ in range(rounds):
        middle = math.sqrt(low * high)
        first = gradient_ascent(net, classes, start, lr=middle, iterations=wanted, every=wanted).first
        if reached(first, wanted + 1).median().item() < wanted:
            high = middle
        else:
            low = middle
    return math.sqrt(low * high)


def reached(first: Tensor, never: int) -> Tensor:
    """`Inverted.first` with `never` where it is -1, so that it can be averaged."""
    return torch.where(first < 0, never, first)
