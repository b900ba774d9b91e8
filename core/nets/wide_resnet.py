"""Wide ResNets (Zagoruyko and Komodakis 2016), WRN-depth-widen."""

from typing import Annotated

from torch import Tensor, nn

from core.nets.net import Halves, at_least, depth_of_form, kaiming
from core.space import Bounds, Choice, Uniform, knobs


@knobs
class WideResNet:
    """A pre-activation ResNet of basic blocks, three stages wide 16, 32, 64 times `widen`; the pooled last are the features.

    depth = 6n + 4 counts the convolutions, those of the three shortcuts included, for n blocks a stage. WRN-28-10 has
    36.5 million weights. The network of Madry's CIFAR-10 challenge is called w28-10 and w32-10 but has n = 5: it is
    depth=34 slope=0.1, but for its shortcuts, which average and pad with zeros where these are 1x1 convolutions.
    """

    depth: Annotated[int, Bounds(10), Choice((16, 22, 28, 34, 40))] = 28
    """6n + 4."""
    widen: Annotated[int, Bounds(1)] = 10
    """Multiplier of all channels but the stem's."""
    dropout: Annotated[float, Bounds(0, 0.95), Uniform(0.0, 0.5)] = 0.0
    """Dropout between the two convolutions of each block; at 0 there is no such layer."""
    slope: Annotated[float, Bounds(0, 1)] = 0.0
    """Slope of the activation below zero; 0 is ReLU."""

    def check(self) -> None:
        """Refuse a depth that is not 6n + 4."""
        depth_of_form(6, self.depth)

    def build(self, channels: int, size: int, classes: int) -> Halves:
        """Body, head and feature length."""
        at_least(8, size, "wrn")
        into = 16
        layers: list[nn.Module] = [nn.Conv2d(channels, into, 3, padding=1, bias=False)]
        for out, first_stride in ((16, 1), (32, 2), (64, 2)):
            for block in range((self.depth - 4) // 6):
                layers.append(_Block(into, out * self.widen, first_stride if block == 0 else 1, self.dropout, self.slope))
                into = out * self.widen
        body = nn.Sequential(*layers, *_bn_act(into, self.slope), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        kaiming(body)
        return body, nn.Linear(into, classes), into


class _Block(nn.Module):
    """x + residual; where the shape changes, the shortcut is a 1x1 convolution of the activated x."""

    def __init__(self, into: int, out: int, stride: int, dropout: float, slope: float):
        super().__init__()
        self.enter = nn.Sequential(*_bn_act(into, slope))
        self.residual = nn.Sequential(
            nn.Conv2d(into, out, 3, stride, padding=1, bias=False), *_bn_act(out, slope),
            *([nn.Dropout(dropout)] if dropout else []), nn.Conv2d(out, out, 3, padding=1, bias=False),
        )  # fmt: skip
        self.shortcut = nn.Conv2d(into, out, 1, stride, bias=False) if into != out or stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        active = self.enter(x)
        return self.residual(active) + (x if self.shortcut is None else self.shortcut(active))


def _bn_act(channels: int, slope: float) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True)]
