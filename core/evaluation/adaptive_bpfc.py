"""Adaptive attack on BPFC: PGD whose loss contains the regularizer that the network was trained with.

It finds images where the regularizer no longer holds, in case the network satisfies it only near its training images.
"""

import torch
from torch import Tensor, nn

from core import rng
from core.attacks.ball import Norm
from core.attacks.contract import attack
from core.attacks.gradient import pgd
from core.attacks.losses import AttackLoss, margin
from core.regularizers.bpfc import BPFC, distance, quantise
from core.rng import PerImage


@attack
def adaptive_pgd(
    net: nn.Module, x: Tensor, y: Tensor, *, epsilon: float, norm: Norm = "linf", steps: int = 20, restarts: int = 1,
    defence: BPFC, weight: float = 1.0, passes: int = 1, draw: PerImage,
) -> Tensor:  # fmt: skip
    """PGD on log-odds(g(x')) + weight * d(g(x'), g(q(x'))), with the identity as the quantiser's gradient.

    The log-odds replace the cross-entropy, as in all attacks here (`core.attacks.losses`), so that the first term does not vanish
    where the network is certain. The quantiser's noise is fixed for each pass and pixel, so that the iteration of an image
    depends on the image alone.

    Args:
        net, x, y, epsilon, norm, steps, restarts, draw: see `core.attacks.gradient.pgd`.
        defence: the BPFC knobs that the network was trained with.
        weight: weight of the regularizer.
        passes: number of noise draws over which the regularizer is averaged (expectation over transformation).

    Returns:
        Images like x; see `pgd`.
    """
    regularizer = bpfc_loss(defence, weight, passes)
    return pgd(
        net, x, y, epsilon=epsilon, norm=norm, steps=steps, restarts=restarts, loss=regularizer, draw=draw, stop_when_fooled=True
    )


def bpfc_loss(defence: BPFC, weight: float, passes: int = 1) -> AttackLoss:
    """The attack loss of `adaptive_pgd`: (net, x, logits, y) -> [B]."""

    def loss(net: nn.Module, x: Tensor, logits: Tensor, y: Tensor) -> Tensor:
        total = -margin(logits, y)
        for number in range(passes):
            coarse = quantise(x, defence.k, defence.noise, _Pattern(number, x.device))
            straight = x + (coarse - x).detach()
            total = total + weight / passes * distance(logits, net(straight), defence.distance)
        return total

    return loss


class _Pattern:
    """Noise that is equal for all images."""

    def __init__(self, number: int, device: torch.device):
        self.ids = torch.tensor([number], device=device)

    def uniform(self, *shape: int) -> Tensor:
        """Numbers in [0, 1), float32 [1, *shape], the same in every call."""
        return rng.per_image(0, "pattern", ids=self.ids).uniform(*shape)
