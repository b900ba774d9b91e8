"""MobileNet v1 (Howard et al. 2017) for 32x32 images."""

from typing import Annotated

from torch import nn

from core.knobs import Bounds, knobs
from core.nets.net import Halves, check_size, conv_bn_relu, kaiming

STEM = 32
SEPARABLE = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
"""Output channels and stride of each depthwise separable convolution (Table 1)."""


@knobs
class MobileNet:
    """MobileNet v1 with a 3x3 stem of stride 1; features are the pooled 1024 channels (times `width`)."""

    width: Annotated[float, Bounds(0.125, 4)] = 1.0
    """Multiplier of all channels, the paper's alpha."""

    def build(self, channels: int, size: int, classes: int) -> Halves:
        """Build the body and the head; return them with the feature length."""
        check_size(16, size, "mobilenet")
        into = int(self.width * STEM)
        layers = conv_bn_relu(channels, into, 3)
        for full, stride in SEPARABLE:
            out = int(self.width * full)
            layers += conv_bn_relu(into, into, 3, stride, groups=into) + conv_bn_relu(into, out, 1)
            into = out
        pool = nn.AdaptiveAvgPool2d(1)
        body = nn.Sequential(*layers, pool, nn.Flatten())
        kaiming(body)
        return Halves(body, nn.Linear(into, classes), into, pool)
