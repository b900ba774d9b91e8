"""A network in two halves, and what several families share."""

import math

from torch import Tensor, nn

from core.errors import InputError

Halves = tuple[nn.Module, nn.Module, int]
"""Body, head and feature length."""


class Net(nn.Module):
    """A classifier in two halves: images [B, c, h, w] in [0, 1] -> features [B, d] -> logits [B, C]."""

    mean: Tensor
    std: Tensor

    def __init__(self, body: nn.Module, head: nn.Module, dim: int, mean: Tensor, std: Tensor):
        """`mean`, `std`: per channel, [c]; (0, 1) leaves images as they are."""
        super().__init__()
        self.body, self.head, self.dim = body, head, dim
        self.register_buffer("mean", mean.view(-1, 1, 1).clone())
        self.register_buffer("std", std.view(-1, 1, 1).clone())

    def features(self, x: Tensor) -> Tensor:
        """The vector that the head reads, [B, d]."""
        return self.body((x - self.mean) / self.std)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, [B, C]."""
        return self.head(self.features(x))


def at_least(needed: int, size: int, name: str) -> None:
    """Refuse images that are too small for a network.

    Raises:
        InputError: `size`, the shorter side of the images, is below `needed`.
    """
    if size < needed:
        raise InputError(
            f"net={name} needs images of at least {needed}x{needed}, these are {size}x{size}; use net=convnet or net=allconv"
        )


def depth_of_form(step: int, depth: int) -> None:
    """Refuse a depth that is not 4 layers more than a multiple of `step`.

    Raises:
        InputError: with the nearest depths on both sides.
    """
    below = depth - (depth - 4) % step
    if depth != below:
        raise InputError(f"depth={depth} is not {step}n + 4; the nearest that are: {below}, {below + step}")


def conv_bn_relu(into: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution that keeps the size at stride 1; no bias, since batch norm would take it away again."""
    conv = nn.Conv2d(into, out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out), nn.ReLU(inplace=True)]


def kaiming(body: nn.Module) -> None:
    """Convolutions start as in torchvision's ResNet: He et al. 2015 for ReLU, by outgoing connections; biases at zero.

    A grouped convolution has only its group's connections, which `nn.init.kaiming_normal_` does not know: by its count a
    fresh MobileNet answers every image with its biases until batch norm has seen some batches.
    """
    for layer in body.modules():
        if isinstance(layer, nn.Conv2d):
            outgoing = layer.weight[0, 0].numel() * layer.out_channels // layer.groups
            nn.init.normal_(layer.weight, std=math.sqrt(2 / outgoing))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
