"""Geometry of perturbations: steepest steps, projections and random starts in Linf and L2 balls.

Images are [B, C, H, W] in [0, 1] and epsilon is in the same units; L2 norms are taken per image over C, H, W.
"""

import math
from typing import Literal

import torch
from torch import Tensor

Norm = Literal["linf", "l2"]
ROUNDING, PER_PIXEL = 1e-5, 2e-9
"""Shares of the radius by which projections may be wrong: of the arithmetic, and of an L2 length in float32, whose error grows with
the number of pixels (1.1e-4 for equal differences in 3x224x224)."""


def step(gradient: Tensor, size: float, norm: Norm) -> Tensor:
    """The step of length `size` in the direction of steepest ascent; zero where the gradient is zero."""
    if norm == "linf":
        return size * gradient.sign()
    steepest = gradient.flatten(1).abs().amax(1).view(-1, 1, 1, 1)
    gradient = gradient / torch.where(steepest > 0, steepest, 1)  # squares underflow early
    return size * gradient / _length(gradient).clamp(min=1)


def project(x_adv: Tensor, x: Tensor, epsilon: float, norm: Norm) -> Tensor:
    """Project images onto the ball around x, then onto [0, 1]; clipping does not leave a ball around an image in [0, 1]."""
    if norm == "linf":
        return torch.minimum(torch.maximum(x_adv, (x - epsilon).clamp_(min=0)), (x + epsilon).clamp_(max=1))
    offset = x_adv - x
    length = _length(offset)
    return (x + offset * torch.where(length > epsilon, epsilon / length, 1)).clamp_(0, 1)


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


def inside(x_adv: Tensor, x: Tensor, epsilon: float, norm: Norm) -> bool:
    """Whether all images are in [0, 1] and within epsilon of x; see `inside_each`."""
    return bool(inside_each(x_adv, x, epsilon, norm).all().item())


def inside_each(x_adv: Tensor, x: Tensor, epsilon: float, norm: Norm) -> Tensor:
    """Which images are in [0, 1] and within epsilon of x, up to rounding, [N] bool; False if a pixel is NaN.

    Rounding is a share of the radius (`ROUNDING` and, in L2, `PER_PIXEL`), and that of pixels in [0, 1], u each, 2^-25 in float32:
    together u in Linf and up to sqrt(d) * u in L2, if all d pixels are rounded away from x.
    """
    if not len(x):
        return x.new_zeros(0, dtype=torch.bool)
    wide, u = torch.promote_types(x.dtype, torch.float32), torch.finfo(x.dtype).eps / 4
    offset, pixels = (x_adv.to(wide) - x.to(wide)).flatten(1), x_adv.flatten(1)
    d = offset.shape[1]
    if norm == "linf":
        length, limit = offset.abs().amax(1), epsilon * (1 + ROUNDING) + 2 * u  # x - epsilon is rounded too
    else:
        length = torch.linalg.vector_norm(offset, dim=1, dtype=torch.float64)
        limit = epsilon * (1 + ROUNDING + PER_PIXEL * d) + u * math.sqrt(d)
    return (length <= limit) & (pixels >= 0).all(1) & (pixels <= 1).all(1)
