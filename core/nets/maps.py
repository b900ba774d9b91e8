"""The last feature maps of a network: those that it pools or flattens before its head."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from core.modes import eval_mode, with_autograd
from core.nets.net import Net


class LastMaps(NamedTuple):
    """The place of a network's last feature maps."""

    layer: nn.Module
    """A layer that reads or returns them."""
    at_input: bool
    """Whether they are its input; otherwise they are its output."""


@with_autograd
def last_maps_of(net: nn.Module, x: Tensor) -> LastMaps:
    """The place of the network's last feature maps: the input of `Net.pool` if that is declared.

    In other networks it is found by the last layer that is called with maps of more than one position: its input, if it leaves at
    most one position, as global pooling and flattening do, and otherwise its output, which the network then pools in a function.
    The logits must depend on the image through this layer alone.

    Args:
        net: images -> logits; returned to its own mode.
        x: images in [0, 1], [N, c, h, w]; one is used.

    Raises:
        ValueError: the network has no convolution, or a path that avoids the layer, like a residual connection after it.
    """
    if isinstance(net, Net) and net.pool is not None:
        return LastMaps(net.pool, at_input=True)
    calls: list[tuple[nn.Module, bool]] = []

    def record(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        if inputs and _positions(inputs[0]) > 1:
            calls.append((module, _positions(out) <= 1))

    layers = [module for module in net.modules() if not any(module.children()) and module is not net]
    hooks = [layer.register_forward_hook(record) for layer in layers]
    try:
        with eval_mode(net), torch.no_grad():
            net(x[:1])
    finally:
        for hook in hooks:
            hook.remove()
    if not any(isinstance(layer, nn.Conv2d) for layer, _ in calls):
        raise ValueError("this network has no last maps: it would need a convolution, but has none")
    last, pools = calls[-1]
    if _bypassed(net, x, last):
        name = type(last).__name__
        raise ValueError(f"cannot find this network's last maps: not all of them pass through the last layer with maps, {name}")
    return LastMaps(last, at_input=pools)


def _positions(value: object) -> int:
    """Number of positions of maps [B, c, h, w]; 0 if the value is none."""
    return value.shape[2] * value.shape[3] if isinstance(value, Tensor) and value.ndim == 4 else 0


def _bypassed(net: nn.Module, x: Tensor, layer: nn.Module) -> bool:
    """Whether the logits of an image depend on it also by a path that avoids a layer."""
    hook = layer.register_forward_hook(lambda module, inputs, out: out.detach())
    try:
        with eval_mode(net, freeze_weights=True), torch.enable_grad():
            return net(x[:1].detach().requires_grad_() + 0).requires_grad
    finally:
        hook.remove()
