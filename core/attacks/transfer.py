"""Transfer: images made on one network, tried on another (Papernot et al. 2016). It needs nothing of the attacked one."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from core.attacks.gradient import frozen
from core.attacks.losses import fooled


def transfer(net: nn.Module, x: Tensor, y: Tensor, *, source: nn.Module, attack: Callable[..., Tensor], **knobs) -> Tensor:
    """The images that `attack` makes on `source`; for an image that `net` gets wrong already, the image itself.

    Args:
        net: the network that is attacked; asked for its answers on x only.
        x: images in [0, 1], [B, c, h, w]. y: labels to leave, [B].
        source: the network that the images are made on.
        attack: any of `core.attacks`; one that takes every step goes further into the source's wrong class, and so transfers
            better, than one that stops when the source is fooled.
        knobs: what it takes: epsilon, norm, draw, ...

    Returns:
        Images like x.
    """
    with frozen(net), torch.no_grad():
        wrong = fooled(net(x), y) if len(x) else torch.zeros(0, dtype=torch.bool, device=x.device)
    return torch.where(wrong.view(-1, 1, 1, 1), x, attack(source, x, y, **knobs))
