"""The layers of a network with the shapes of their outputs and their numbers of weights, as in a paper's table of architectures."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from core.modes import eval_mode


class Layer(NamedTuple):
    """A layer with the activation that follows it."""

    name: str
    """Kind, size and activation, such as `3x3 conv 48, stride 2, ReLU`."""
    output: tuple[int, ...]
    """Shape of its output for one image."""
    weights: int
    """Number of its parameters, biases included; 0 for a layer that was called before."""


ACTIVATIONS: dict[type[nn.Module], str] = {nn.ReLU: "ReLU", nn.Tanh: "tanh"}


def layers_of(net: nn.Module, shape: tuple[int, int, int]) -> list[Layer]:
    """The layers of a network in the order of their calls.

    Dropout, which has no effect in evaluation mode, and flattening are left out.

    Args:
        net: images -> any tensor; returned to its own mode.
        shape: channels, height and width of an image.
    """
    found: list[Layer] = []
    counted: set[nn.Module] = set()

    def record(layer: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        del inputs
        if type(layer) in ACTIVATIONS and found:
            found[-1] = found[-1]._replace(name=f"{found[-1].name}, {ACTIVATIONS[type(layer)]}")
        elif not isinstance(layer, nn.Dropout | nn.Flatten | nn.Identity):
            weights = 0 if layer in counted else sum(p.numel() for p in layer.parameters())
            counted.add(layer)
            found.append(Layer(_name(layer), tuple(out.shape[1:]), weights))

    hooks = [layer.register_forward_hook(record) for layer in net.modules() if not any(layer.children())]
    try:
        with eval_mode(net), torch.no_grad():
            net(next(net.parameters()).new_zeros(1, *shape))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _name(layer: nn.Module) -> str:
    if isinstance(layer, nn.Conv2d):
        stride = f", stride {layer.stride[0]}" if layer.stride[0] != 1 else ""
        return f"{layer.kernel_size[0]}x{layer.kernel_size[1]} conv {layer.out_channels}{stride}"
    if isinstance(layer, nn.Linear):
        return f"linear {layer.out_features}"
    return "global average" if isinstance(layer, nn.AdaptiveAvgPool2d) and layer.output_size == 1 else type(layer).__name__
