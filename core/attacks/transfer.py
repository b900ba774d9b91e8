"""Transfer attack: images made on one network and tested on another, whose gradients are not needed (Papernot et al. 2016)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from core.attacks.losses import misclassified
from core.modes import eval_mode, with_autograd


@with_autograd
def transfer(net: nn.Module, x: Tensor, y: Tensor, *, source: nn.Module, attack: Callable[..., Tensor], **knobs) -> Tensor:
    """The images that `attack` makes on `source`; images that `net` misclassifies already are unchanged.

    Args:
        net: the attacked network, which is queried at x only.
        x: images in [0, 1], [B, c, h, w].
        y: true labels, [B].
        source: the network on which the images are made.
        attack: an attack of `core.attacks`. One that takes every step goes further beyond the source's boundary, and so transfers
            better, than one that stops when the source is fooled.
        knobs: keyword arguments of the attack: epsilon, norm, draw, ...

    Returns:
        Images like x.
    """
    with eval_mode(net), torch.no_grad():
        unchanged = misclassified(net(x), y) if len(x) else torch.zeros(0, dtype=torch.bool, device=x.device)
    return torch.where(unchanged.view(-1, 1, 1, 1), x, attack(source, x, y, **knobs))
