"""DenseNet-BC (Huang et al. 2017) for 32x32 images: three dense blocks, bottlenecks of 4 x growth, compression 0.5."""

from typing import Annotated

import torch
from torch import Tensor, nn

from core.knobs import Bounds, knobs
from core.nets.net import Halves, check_depth, check_size, kaiming
from core.space import Choice


@knobs
class DenseNet:
    """The "DenseNet-121" of the CRL paper: growth 12, 405 pooled features; not the ImageNet network of that name.

    A block has n = (depth - 4) // 6 layers of two convolutions, so the network has 6n + 4 weighted layers, including the stem, two
    transitions and the head. 121 is not of this form; the public CIFAR code (bearpaw/pytorch-classification) accepts every
    3n + 4, the rule without bottlenecks, and rounds down. So depth 121 is the network of depth 118, with 19 layers per block.
    """

    depth: Annotated[int, Bounds(10), Choice((40, 100, 121))] = 121
    """Depth, of the form 3n + 4; a depth that is not also of the form 6n + 4 yields the next shallower network."""
    growth: Annotated[int, Bounds(1)] = 12
    """Channels that each layer adds."""

    def check(self) -> None:
        """Reject a depth that is not of the form 3n + 4."""
        check_depth(3, self.depth)

    def build(self, channels: int, size: int, classes: int) -> Halves:
        """Build the body and the head; return them with the feature length."""
        check_size(8, size, "densenet")
        width = 2 * self.growth
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1, bias=False)]
        for block in range(3):
            if block:
                layers += [*_bn_relu_conv(width, width // 2, 1), nn.AvgPool2d(2)]
                width //= 2
            for _ in range((self.depth - 4) // 6):
                layers.append(_Layer(width, self.growth))
                width += self.growth
        pool = nn.AdaptiveAvgPool2d(1)
        layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True), pool, nn.Flatten()]
        body = nn.Sequential(*layers)
        kaiming(body)
        return Halves(body, nn.Linear(width, classes), width, pool)


class _Layer(nn.Module):
    """A layer that adds `growth` channels to its input."""

    def __init__(self, into: int, growth: int):
        super().__init__()
        self.new = nn.Sequential(*_bn_relu_conv(into, 4 * growth, 1), *_bn_relu_conv(4 * growth, growth, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.new(x)], 1)


def _bn_relu_conv(into: int, out: int, kernel: int) -> list[nn.Module]:
    conv = nn.Conv2d(into, out, kernel, padding=kernel // 2, bias=False)
    return [nn.BatchNorm2d(into), nn.ReLU(inplace=True), conv]
