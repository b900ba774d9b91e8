"""Random noise, the control for every attack: a network that falls to it is not robust to anything."""

import torch
from torch import Tensor, nn

from core.attacks.ball import Norm, project, step
from core.attacks.gradient import frozen
from core.attacks.losses import fooled
from core.rng import PerImage


@torch.no_grad()
def noise(net: nn.Module, x: Tensor, y: Tensor, *, epsilon: float, norm: Norm = "linf", tries: int = 10, draw: PerImage) -> Tensor:
    """The edge of the ball in random directions: epsilon * sign(n) in Linf, epsilon * n / |n| in L2, n normal.

    Args:
        net: images -> logits; handed back as it came. x: images in [0, 1], [B, c, h, w]. y: labels to leave, [B].
        epsilon, norm: the ball. tries: directions for each image that still stands. draw: where they come from.

    Returns:
        Images like x: one that fools the network where one was found, else x.
    """
    best, rows = x.clone(), torch.arange(len(x), device=x.device)
    with frozen(net):
        for t in range(-1, tries):  # first the image itself: one that is wrong already is left alone
            if not len(rows):
                break
            adv = x[rows]
            if t >= 0:
                offset = step(draw.named(t).at(rows).normal(*x.shape[1:]).to(x), epsilon, norm)
                adv = project(adv + offset, adv, epsilon, norm)
            hit = fooled(net(adv), y[rows])
            best[rows[hit]] = adv[hit]
            rows = rows[~hit]
    return best
