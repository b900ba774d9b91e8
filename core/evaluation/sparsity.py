"""Sparsity of a network: the share of hidden units that are active, and the share of weights that are close to zero."""

import torch
from torch import Tensor, nn

from core.modes import eval_mode
from core.nets.activations import activations


def activation_density(net: nn.Module, x: Tensor, batch_size: int = 256) -> float:
    """Share of units that are active (a > 0 after the rectifier), mean over images, in evaluation mode.

    Args:
        net: a network with rectifiers; the density of a network without any is 1.
        x: images in [0, 1], [N, c, h, w].
        batch_size: images per forward pass.
    """
    active = units = 0
    with eval_mode(net), torch.no_grad():
        for part in x.split(batch_size):
            with activations(net) as outputs:
                net(part)
            active += sum(int((a > 0).sum()) for a in outputs)
            units += sum(a.numel() for a in outputs)
    return active / units if units else 1.0


def share_near_zero(net: nn.Module, below: float = 1e-3) -> float:
    """Share of the kernel weights of convolutions and linear layers with |w| < `below`."""
    kernels = [m.weight.detach() for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    small = sum(int((w.abs() < below).sum()) for w in kernels)
    return small / max(1, sum(w.numel() for w in kernels))
