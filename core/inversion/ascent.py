"""Inversion by gradient ascent on the logit of a class, from a start that contains no information on it (inversion paper, Eq. 1).

    X <- clip(X + lr * G),    G = d z_c(X) / dX

There is no ball: only the pixel range bounds the image. Images are in [0, 1], so G is per unit of [0, 1], not per grey level.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from core.errors import unknown
from core.modes import eval_mode, wide, with_autograd
from core.rng import PerImage

Penalty = Callable[[Tensor], Tensor]
"""Images [K, c, h, w] -> penalty of each image, [K]."""
SCALINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "raw": lambda flat: torch.ones_like(flat[:, :1]),
    "l2": lambda flat: flat.norm(dim=1, keepdim=True),
    "mean_abs": lambda flat: flat.abs().mean(1, keepdim=True),
}
"""Divisors of gradients by name: gradients of images, flat [K, d] -> [K, 1]."""


@dataclass(frozen=True)
class Inverted:
    """Result of the ascent of K images."""

    images: Tensor
    """Final images in [0, 1], [K, c, h, w]."""
    first: Tensor
    """First iteration at which the network predicted the class, int64 [K]; 0 is the start, -1 is never."""
    logits: Tensor
    """Logits of the classes at the final images, [K]."""
    trajectory: Tensor
    """Logits of the classes during the ascent, the final ones last, [T, K]."""


@with_autograd
def gradient_ascent(
    net: nn.Module, classes: Tensor, start: Tensor, *, lr: float, iterations: int,
    scaling: Literal["raw", "l2", "mean_abs"] = "raw", penalty: Penalty | None = None, every: int | None = None,
    batch_size: int = 256,
) -> Inverted:  # fmt: skip
    """The first attack of the inversion paper, for all classes and restarts at once.

    Args:
        net: images -> logits; in evaluation mode during the attack, and returned to its own mode.
        classes: class whose logit each image ascends, int64 [K]; classes may repeat.
        start: images in [0, 1], [K, c, h, w]: `constant`, `uniform`, or real ones.
        lr: step size, in units of [0, 1] images per unit of the gradient.
        iterations: number of steps; the paper took 10,000.
        scaling: divisor of each image's gradient: 1 (the paper), its L2 norm or its mean absolute value.
        penalty: ascend z_c - penalty(X) instead of z_c.
        every: iterations between two entries of the trajectory; see `recorded_iterations`.
        batch_size: images per forward pass.

    Raises:
        ValueError: `classes` and `start` differ in number.
        InputError: there is no such scaling.
    """
    if len(classes) != len(start):
        raise ValueError(f"one class per image is needed, got {len(classes)} classes and {len(start)} images")
    if scaling not in SCALINGS:
        raise unknown("scaling", scaling, SCALINGS)
    recorded, dtype = set(recorded_iterations(iterations, every)), start.dtype
    net, start = wide(net, start)
    parts = []
    with eval_mode(net, freeze_weights=True):
        for rows in torch.arange(len(start), device=start.device).split(batch_size):
            parts.append(_ascend(net, classes[rows], start[rows], lr, iterations, SCALINGS[scaling], penalty, recorded))
    result = Inverted(*(torch.cat(column, -1 if i == 3 else 0) for i, column in enumerate(zip(*parts, strict=True))))
    return replace(result, images=result.images.to(dtype))


def _ascend(net, classes, x, lr, iterations, scale, penalty, recorded):
    first = torch.full((len(x),), -1, dtype=torch.long, device=x.device)
    trajectory = []
    for t in range(iterations + 1):
        gradient, logits = _logit_gradient(net, x, classes, penalty)
        first = torch.where((first < 0) & (logits.argmax(1) == classes), t, first)
        if t in recorded:
            trajectory.append(_class_logit(logits, classes))
        if t < iterations:
            length = scale(gradient.flatten(1)).view(-1, 1, 1, 1)
            x = (x + lr * torch.where(length > 0, gradient / length, 0.0)).clamp_(0, 1)
    return x, first, trajectory[-1], torch.stack(trajectory)


def recorded_iterations(iterations: int, every: int | None = None) -> list[int]:
    """The iterations at which `Inverted.trajectory` has logits: 0, every `every`-th (default a hundredth of all), and the last."""
    return sorted({*range(0, iterations, every or max(1, iterations // 100)), iterations})


@with_autograd
def logit_gradient(net: nn.Module, x: Tensor, classes: Tensor, penalty: Penalty | None = None) -> tuple[Tensor, Tensor]:
    """The gradient of z_c - penalty by the images, like x (0 in place of NaN), and all logits, [K, C]."""
    return _logit_gradient(net, x, classes, penalty)


def _logit_gradient(net: nn.Module, x: Tensor, classes: Tensor, penalty: Penalty | None) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        logits = net(x)
        total = _class_logit(logits, classes).sum()
        if penalty is not None:
            total = total - penalty(x).sum()
        gradient = torch.zeros_like(x)
        if total.requires_grad:  # not if the network detaches its input
            (gradient,) = torch.autograd.grad(total, x, allow_unused=True, materialize_grads=True)
    return gradient.nan_to_num_(nan=0.0), logits.detach()


def class_logits(net: nn.Module, images: Tensor, classes: Tensor, batch_size: int = 256) -> Tensor:
    """Logit of each image's class, [K], usually under another network than the attacked one (cross-network logit)."""
    with eval_mode(net), torch.no_grad():
        parts = zip(images.split(batch_size), classes.split(batch_size), strict=True)
        return torch.cat([_class_logit(net(x), c) for x, c in parts])


def _class_logit(logits: Tensor, classes: Tensor) -> Tensor:
    return logits.gather(1, classes.unsqueeze(1)).squeeze(1)


def constant(
    count: int, shape: tuple[int, ...], *, level: float = 0.5, noise: float = 0.0, draw: PerImage | None = None
) -> Tensor:  # fmt: skip
    """Starts of one shade (the paper's grey 128 is 0.5) plus normal noise, clipped to [0, 1].

    Args:
        count: number of images.
        shape: (c, h, w).
        level: shade, in units of [0, 1] images.
        noise: standard deviation of the noise, in units of [0, 1] images.
        draw: source of the noise.

    Raises:
        ValueError: `noise` without `draw`.
    """
    if noise and draw is None:
        raise ValueError("noise needs a draw")
    images = torch.full((count, *shape), level)
    return (images.to(draw.keys.device) + noise * draw.normal(*shape)).clamp(0, 1) if noise and draw is not None else images


def uniform(shape: tuple[int, ...], draw: PerImage) -> Tensor:
    """Starts whose pixels are uniformly distributed in [0, 1), one for each image of the draw."""
    return draw.uniform(*shape)


def calibrated_lr(
    net: nn.Module, classes: Tensor, start: Tensor, *, target: int = 1000, low: float = 1e-4, high: float = 10.0, rounds: int = 8
) -> float:
    """The lr at which half of the images reach their class in about `target` iterations; for comparisons between networks.

    The paper gives no lr, but reports 1136 iterations for an adversarially trained network and 3 for a normally trained one.
    Bisection on a logarithmic scale; it costs rounds * target iterations, and the result is within a factor
    (high / low) ** (0.5 ** (rounds + 1)).

    Args:
        net, classes, start: see `gradient_ascent`.
        target: number of iterations to aim for.
        low, high: ends of the searched interval.
        rounds: rounds of bisection.

    Returns:
        An lr between `low` and `high`; close to one of these ends if the solution is outside.
    """
    for _ in range(rounds):
        middle = math.sqrt(low * high)
        first = gradient_ascent(net, classes, start, lr=middle, iterations=target, every=target).first
        if reached(first, target + 1).median().item() < target:
            high = middle
        else:
            low = middle
    return math.sqrt(low * high)


def reached(first: Tensor, never: int) -> Tensor:
    """`Inverted.first` with -1 replaced by `never`, so that it can be averaged."""
    return torch.where(first < 0, never, first)
