"""GoogLeNet (Szegedy et al. 2015) for 32x32 images, with batch norm."""

from typing import Annotated

import torch
from torch import Tensor, nn

from core.knobs import Bounds, knobs
from core.nets.net import Halves, check_size, conv_bn_relu, kaiming
from core.space import Uniform

STEM = (64, 64, 192)
"""Channels of the 3x3 convolutions before the first max-pooling."""
STAGES = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)  # fmt: skip
"""Channels of the inception modules, in stages that begin with a max-pooling: 1x1; reduction, 3x3; reduction, 5x5; pooled branch.

The values are those of Table 1.
"""


@knobs
class GoogLeNet:
    """The CRL paper's GoogLeNet: a stem of three 3x3 convolutions, two 3x3 for each 5x5; 1024 pooled features.

    The dropout is part of the head, so the features are those before it.
    """

    dropout: Annotated[float, Bounds(0, 0.95), Uniform(0.0, 0.5)] = 0.4
    """Dropout of the features before the linear layer."""

    def build(self, channels: int, size: int, classes: int) -> Halves:
        """Build the body and the head; return them with the feature length."""
        check_size(8, size, "googlenet")
        layers: list[nn.Module] = []
        into = channels
        for out in STEM:
            layers += conv_bn_relu(into, out, 3)
            into = out
        for stage in STAGES:
            layers.append(nn.MaxPool2d(3, stride=2, padding=1))
            for one, reduce3, three, reduce5, five, pool in stage:
                layers.append(_Inception(into, one, reduce3, three, reduce5, five, pool))
                into = one + three + five + pool
        pool = nn.AdaptiveAvgPool2d(1)
        body = nn.Sequential(*layers, pool, nn.Flatten())
        kaiming(body)
        return Halves(body, nn.Sequential(nn.Dropout(self.dropout), nn.Linear(into, classes)), into, pool)


class _Inception(nn.Module):
    """An inception module: four parallel branches."""

    def __init__(self, into: int, one: int, reduce3: int, three: int, reduce5: int, five: int, pool: int):
        super().__init__()
        branches = (
            conv_bn_relu(into, one, 1),
            conv_bn_relu(into, reduce3, 1) + conv_bn_relu(reduce3, three, 3),
            conv_bn_relu(into, reduce5, 1) + conv_bn_relu(reduce5, five, 3) + conv_bn_relu(five, five, 3),
            [nn.MaxPool2d(3, stride=1, padding=1), *conv_bn_relu(into, pool, 1)],
        )
        self.branches = nn.ModuleList(nn.Sequential(*branch) for branch in branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)
