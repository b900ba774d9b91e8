"""Random noise, the control for every attack: a network that is fooled by it is not robust to anything."""

import torch
from torch import Tensor, nn

from core.attacks.ball import Norm, project, step
from core.attacks.contract import attack
from core.attacks.losses import misclassified
from core.modes import eval_mode
from core.rng import PerImage


@attack
@torch.no_grad()
def noise(net: nn.Module, x: Tensor, y: Tensor, *, epsilon: float, norm: Norm = "linf", tries: int = 10, draw: PerImage) -> Tensor:
    """Steps of length epsilon in random directions: epsilon * sign(n) in Linf, epsilon * n / |n| in L2, with n normal.

    Args:
        net: images -> logits; returned to its own mode.
        x: images in [0, 1], [B, c, h, w].
        y: true labels, [B].
        epsilon: radius of the ball.
        norm: norm of the ball.
        tries: number of directions for each image that is still classified correctly.
        draw: source of the directions.

    Returns:
        Images like x: a misclassified one where one was found, otherwise x.
    """
    best, rows = x.clone(), torch.arange(len(x), device=x.device)
    with eval_mode(net):
        for t in range(-1, tries):  # -1 is the image itself, which is unchanged if it is misclassified already
            if not len(rows):
                break
            adv = x[rows]
            if t >= 0:
                offset = step(draw.named(t).at(rows).normal(*x.shape[1:]).to(x), epsilon, norm)
                adv = project(adv + offset, adv, epsilon, norm)
            hit = misclassified(net(adv), y[rows])
            best[rows[hit]] = adv[hit]
            rows = rows[~hit]
    return best
