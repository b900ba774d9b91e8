"""Inversion by DeepDream: normalised ascent on a blurred image that becomes sharper, in several passes (inversion paper, Eq. 2).

    X <- clip(X + lr * G / mean|G|),    G = d (z_c(X) - weight * sum |x_n|^power) / dX

with x_n the image in mean/std units (Mahendran and Vedaldi's alpha-norm). The paper's text calls the whole fraction an average, but
means the denominator. At octave o the image is scaled down by scale^o and back again; the network always sees the full size, as in
the author's notebook, because VGG16 accepts no smaller images.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.inversion.ascent import Inverted, gradient_ascent
from core.modes import wide, with_autograd

STEPS = 10
"""Steps of ascent at each octave in the paper."""


@with_autograd
def deepdream(
    net: nn.Module, classes: Tensor, start: Tensor, *, lr: float = 1.5 / 255, passes: int = 5, octaves: int = 4,
    scale: float = 2.0, steps: int = STEPS, weight: float = 1e-3, power: int = 6, blend: float = 0.0,
    mean: Tensor | None = None, std: Tensor | None = None, scaling: Literal["raw", "l2", "mean_abs"] = "mean_abs",
    batch_size: int = 256,
) -> Inverted:  # fmt: skip
    """The second attack of the inversion paper: several passes from the coarsest octave to the full size.

    With one octave, weight=0 and scaling="raw" it equals `gradient_ascent` with passes * steps iterations.

    Args:
        net, classes, start, scaling, batch_size: see `gradient_ascent`.
        lr: mean absolute change of a pixel in a step before clipping, in units of [0, 1] images.
        passes: passes over all octaves.
        octaves: octaves per pass.
        scale: factor between the sizes of two octaves; the smallest image is scale^(octaves - 1) times smaller.
        steps: steps of ascent at each octave.
        weight, power: weight and exponent of the norm penalty, which the paper does not give; weight=0 disables it.
        blend: share of the sharp image that is kept when it is blurred; 0.4 in the author's notebook.
        mean, std: mean and standard deviation of the channels for the penalty, [c]; default 0 and 1.

    Returns:
        See `gradient_ascent`. Iterations are counted over all octaves; the trajectory has one entry for each octave of each pass.
    """
    dtype, channels = start.dtype, start.shape[1]
    net, start = wide(net, start)
    shift = torch.zeros(channels) if mean is None else mean
    spread = torch.ones(channels) if std is None else std
    shift, spread = (v.to(start).view(-1, 1, 1) for v in (shift, spread))

    def alpha_norm(x: Tensor) -> Tensor:
        return weight * ((x - shift) / spread).abs().pow(power).flatten(1).sum(1)

    x, done = start, 0
    first = torch.full_like(classes, -1)
    logits, trajectory = torch.zeros(len(start)).to(start), []
    for _ in range(passes):
        for octave in reversed(range(octaves)):
            x = blend * x + (1 - blend) * blurred(x, scale**octave) if octave else x
            result = gradient_ascent(
                net, classes, x, lr=lr, iterations=steps, scaling=scaling, penalty=alpha_norm if weight else None,
                every=steps, batch_size=batch_size,
            )  # fmt: skip
            first = torch.where((first < 0) & (result.first >= 0), done + result.first, first)
            x, logits, done = result.images, result.logits, done + steps
            trajectory.append(logits)
    return Inverted(x.to(dtype), first, logits, torch.stack(trajectory))


def blurred(x: Tensor, factor: float) -> Tensor:
    """Images scaled down by `factor`, to at least one pixel, and back to their size (bilinear, antialiased); like x."""
    size = x.shape[2:]
    small = [max(1, round(side / factor)) for side in size]
    down = F.interpolate(x, small, mode="bilinear", antialias=True)
    return F.interpolate(down, size, mode="bilinear", antialias=True).clamp_(0, 1)
