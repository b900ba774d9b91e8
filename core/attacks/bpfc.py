"""The adaptive attack on BPFC: its own regularizer inside the attack loss, so that a network that only learned to please the
regularizer near its training images is pulled to where it no longer does."""

import torch
from torch import Tensor, nn

from core import rng
from core.attacks.ball import Norm
from core.attacks.gradient import pgd
from core.attacks.losses import Loss, margin
from core.regularizers.bpfc import BPFC, distance, quantise
from core.rng import PerImage


def adaptive_pgd(
    net: nn.Module, x: Tensor, y: Tensor, *, epsilon: float, norm: Norm = "linf", steps: int = 20, restarts: int = 1,
    defence: BPFC, weight: float = 1.0, passes: int = 1, draw: PerImage,
) -> Tensor:  # fmt: skip
    """PGD on log-odds(g(x')) + weight * d(g(x'), g(q(x'))), the quantiser's gradient taken as that of the identity.

    The log-odds stand for the cross-entropy as everywhere here (`core.attacks.losses`), so that the first term does not die out
    where the network is sure. Noise of the quantiser is fixed for each pass and pixel, which makes each image's iteration a
    function of the image.

    Args:
        net, x, y, epsilon, norm, steps, restarts, draw: as in `core.attacks.gradient.pgd`.
        defence: the knobs that the network was trained with: k, noise, distance.
        weight: of the regularizer.
        passes: draws of the quantiser's noise that the regularizer is averaged over (expectation over transformation).

    Returns:
        Images like x, as `pgd` gives them.
    """
    regularizer = bpfc_loss(defence, weight, passes)
    return pgd(
        net, x, y, epsilon=epsilon, norm=norm, steps=steps, restarts=restarts, loss=regularizer, draw=draw, stop_when_fooled=True
    )


def bpfc_loss(defence: BPFC, weight: float, passes: int = 1) -> Loss:
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
    """Noise that is the same for every image."""

    def __init__(self, number: int, device: torch.device):
        self.ids = torch.tensor([number], device=device)

    def uniform(self, *shape: int) -> Tensor:
        """[1, *shape]."""
        return rng.per_image(0, "pattern", ids=self.ids).uniform(*shape)
