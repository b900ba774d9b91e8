"""DenseNet-BC (Huang et al. 2017) for 32x32 images: three dense blocks, bottlenecks of 4 x growth, compression 0.5."""

from typing import Annotated

import torch
from torch import Tensor, nn

from core.nets.net import Halves, at_least, depth_of_form, kaiming
from core.space import Bounds, Choice, knobs


@knobs
class DenseNet:
    """The "DenseNet-121" of the CRL paper: growth 12, 405 pooled features. Not the ImageNet network of that name.

    A block has n = (depth - 4) // 6 layers of two convolutions, which makes 6n + 4 weighted layers with the stem, two
    transitions and the head. 121 is not of that form; the public CIFAR code (bearpaw/pytorch-classification) takes every
    3n + 4, the rule without bottlenecks, and rounds down. So 121 is the network of 118, with 19 layers a block.
    """

    depth: Annotated[int, Bounds(10), Choice((40, 100, 121))] = 121
    """3n + 4; those that are not 6n + 4 too are the next shallower network."""
    growth: Annotated[int, Bounds(1)] = 12
    """Channels that each layer adds."""

    def check(self) -> None:
        """Refuse a depth that is not 3n + 4."""
        depth_of_form(3, self.depth)

    def build(self, channels: int, size: int, classes: int) -> Halves:
        """Body, head and feature length."""
        at_least(8, size, "densenet")
        width = 2 * self.growth
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1, bias=False)]
        for block in range(3):
            if block:
                layers += [*_bn_relu_conv(width, width // 2, 1), nn.AvgPool2d(2)]
                width //= 2
            for _ in range((self.depth - 4) // 6):
                layers.append(_Layer(width, self.growth))
                width += self.growth
        layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        body = nn.Sequential(*layers)
        kaiming(body)
        return body, nn.Linear(width, classes), width


class _Layer(nn.Module):
    """Adds `growth` channels to those that come in."""

    def __init__(self, into: int, growth: int):
        super().__init__()
        self.new = nn.Sequential(*_bn_relu_conv(into, 4 * growth, 1), *_bn_relu_conv(4 * growth, growth, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.new(x)], 1)


def _bn_relu_conv(into: int, out: int, kernel: int) -> list[nn.Module]:
    conv = nn.Conv2d(into, out, kernel, padding=kernel // 2, bias=False)
    return [nn.BatchNorm2d(into), nn.ReLU(inplace=True), conv]
