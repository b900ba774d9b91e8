"""Geometry of perturbations: steepest steps, projections and random starts in Linf and L2 balls.

Images are [B, C, H, W] in [0, 1] and epsilon is in the same units; L2 norms are taken per image over C, H, W.
"""

from typing import Literal

import torch
from torch import Tensor

Norm = Literal["linf", "l2"]


def step(gradient: Tensor, size: float, norm: Norm) -> Tensor:
    """The step of length `size` in the direction of steepest ascent; zero where the gradient is zero."""
    if norm == "linf":
        return size * gradient.sign()
    gradient = gradient / gradient.flatten(1).abs().amax(1).clamp(min=1e-45).view(-1, 1, 1, 1)  # squares underflow early
    return size * gradient / (_length(gradient) + 1e-12)


def project(x_adv: Tensor, x: Tensor, epsilon: float, norm: Norm) -> Tensor:
    """Project images onto the ball around x, then onto [0, 1]; clipping does not leave a ball around an image in [0, 1]."""
    if norm == "linf":
        return torch.minimum(torch.maximum(x_adv, (x - epsilon).clamp_(min=0)), (x + epsilon).clamp_(max=1))
    offset = x_adv - x
    shrink = (epsilon / _length(offset).clamp(min=1e-12)).clamp(max=1)
    return (x + offset * shrink).clamp_(0, 1)


def random_offset(uniform: Tensor, normal: Tensor | None, epsilon: float, norm: Norm) -> Tensor:
    """Offsets that are uniformly distributed in the ball, before clipping.

    Args:
        uniform: numbers in [0, 1), [B, C, H, W] for Linf; for L2, [B, 1, 1, 1], they give the radius.
        normal: standard normal numbers, [B, C, H, W]; for L2 only, they give the direction.
        epsilon: radius of the ball.
        norm: norm of the ball.
    """
    if norm == "linf":
        return (2 * uniform - 1) * epsilon
    assert normal is not None
    radius = epsilon * uniform ** (1 / normal[0].numel())
    return radius * normal / _length(normal)


def draw_offset(draw, shape: torch.Size, epsilon: float, norm: Norm) -> Tensor:
    """Draw `random_offset` from a `core.rng.Draw` or `PerImage`; `shape` is the shape of one worker's images."""
    if norm == "linf":
        return random_offset(draw.uniform(*shape[1:]), None, epsilon, norm)
    return random_offset(draw.uniform(1, 1, 1), draw.normal(*shape[1:]), epsilon, norm)


def _length(v: Tensor) -> Tensor:
    return v.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def inside(x_adv: Tensor, x: Tensor, epsilon: float, norm: Norm, slack: float = 1e-5) -> bool:
    """Whether all images are in [0, 1] and within epsilon of x, up to rounding; False if a pixel is NaN."""
    offset = (x_adv - x).flatten(1)
    far = offset.abs().amax(1) if norm == "linf" else offset.norm(dim=1)
    return bool(((far <= epsilon + slack).all() & (x_adv >= 0).all() & (x_adv <= 1).all()).item()) if len(x) else True
