"""Networks as body and head, and functions that several families share."""

import math
from typing import NamedTuple

from torch import Tensor, nn

from core.errors import InputError


class Halves(NamedTuple):
    """The two halves of a network."""

    body: nn.Module
    """Normalised images [B, c, h, w] -> features [B, d]."""
    head: nn.Module
    """Features -> logits [B, C]."""
    dim: int
    """Feature length d."""
    pool: nn.Module | None = None
    """The body's layer that reads its last feature maps: the pooling after the last convolution, or the flattening if there is
    none; VGG's first one of two, which reads the maps that the Grad-CAM paper explains. None: `last_maps_of` looks for it."""


class Net(nn.Module):
    """A classifier in two halves: images [B, c, h, w] in [0, 1] -> features [B, d] -> logits [B, C]."""

    mean: Tensor
    std: Tensor

    def __init__(self, halves: Halves, mean: Tensor, std: Tensor):
        """`mean`, `std`: statistics of each channel, [c]; 0 and 1 leave images unchanged."""
        super().__init__()
        self.body, self.head, self.dim, self.pool = halves
        self.register_buffer("mean", mean.view(-1, 1, 1).clone())
        self.register_buffer("std", std.view(-1, 1, 1).clone())

    def features(self, x: Tensor) -> Tensor:
        """The feature vectors that the head reads, [B, d]."""
        return self.body((x - self.mean) / self.std)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, [B, C]."""
        return self.head(self.features(x))


def check_size(needed: int, size: int, name: str) -> None:
    """Reject images that are too small for a network.

    Raises:
        InputError: `size`, the shorter side of the images, is below `needed`.
    """
    if size < needed:
        raise InputError(
            f"net={name} needs images of at least {needed}x{needed}, these are {size}x{size}; use net=convnet or net=allconv"
        )


def check_depth(step: int, depth: int) -> None:
    """Reject a depth that is not 4 more than a multiple of `step`.

    Raises:
        InputError: the depth is not of this form; the message names the nearest depths on both sides.
    """
    below = depth - (depth - 4) % step
    if depth != below:
        raise InputError(f"depth={depth} is not {step}n + 4; the nearest legal depths: {below}, {below + step}")


def conv_bn_relu(into: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution, which keeps the image size at stride 1, with batch norm and ReLU; without bias, as batch norm removes it."""
    conv = nn.Conv2d(into, out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out), nn.ReLU(inplace=True)]


def kaiming(body: nn.Module) -> None:
    """Initialise convolutions as torchvision's ResNet does: He et al. 2015 for ReLU, by outgoing connections; zero biases.

    A grouped convolution has only its group's connections, which `nn.init.kaiming_normal_` does not consider: with its count, a
    new MobileNet returns only its biases for every image until batch norm has seen some batches.
    """
    for layer in body.modules():
        if isinstance(layer, nn.Conv2d):
            outgoing = layer.weight[0, 0].numel() * layer.out_channels // layer.groups
            nn.init.normal_(layer.weight, std=math.sqrt(2 / outgoing))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
