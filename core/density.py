"""How sparse a network is: the share of its hidden units that are active, and of its weights that are next to zero."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from core.attacks.gradient import frozen

RECTIFIERS = (nn.ReLU, nn.LeakyReLU, nn.ReLU6)


@contextlib.contextmanager
def activations(net: nn.Module) -> Iterator[list[Tensor]]:
    """What each rectifier of the network gives out during the forward passes inside, in order, each [B, ...]."""
    heard: list[Tensor] = []
    rectifiers = [module for module in net.modules() if isinstance(module, RECTIFIERS)]
    hooks = [module.register_forward_hook(lambda _, given, out: heard.append(out)) for module in rectifiers]  # pyright: ignore[reportArgumentType]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


def activation_density(net: nn.Module, x: Tensor, batch_size: int = 256) -> float:
    """Active units (a > 0 after the rectifier) as a share of all units, mean over images, in evaluation mode.

    Args:
        net: with rectifiers; without any, the density is 1.
        x: images in [0, 1], [N, c, h, w].
    """
    active = units = 0
    with frozen(net), torch.no_grad():
        for part in x.split(batch_size):
            with activations(net) as heard:
                net(part)
            active += sum(int((a > 0).sum()) for a in heard)
            units += sum(a.numel() for a in heard)
    return active / units if units else 1.0


def share_near_zero(net: nn.Module, below: float = 1e-3) -> float:
    """Kernel weights of convolutions and linear layers with |w| < `below`, as a share of them all."""
    kernels = [m.weight.detach() for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    small = sum(int((w.abs() < below).sum()) for w in kernels)
    return small / max(1, sum(w.numel() for w in kernels))
