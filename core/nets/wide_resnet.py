"""Wide ResNets (Zagoruyko and Komodakis 2016), WRN-depth-widen."""

from typing import Annotated

from torch import Tensor, nn

from core.knobs import Bounds, knobs
from core.nets.net import Halves, check_depth, check_size, kaiming
from core.space import Choice, Uniform


@knobs
class WideResNet:
    """A pre-activation ResNet of basic blocks, in three stages of 16, 32 and 64 channels times `widen`; features are pooled.

    depth = 6n + 4 counts the convolutions, including those of the three shortcuts, for n blocks per stage. WRN-28-10 has 36.5
    million weights. The network of Madry's CIFAR-10 challenge is called w28-10 and w32-10 but has n = 5: it corresponds to
    depth=34 slope=0.1, except that its shortcuts average and pad with zeros instead of using 1x1 convolutions.
    """

    depth: Annotated[int, Bounds(10), Choice((16, 22, 28, 34, 40))] = 28
    """Depth, of the form 6n + 4."""
    widen: Annotated[int, Bounds(1)] = 10
    """Multiplier of all channels except the stem's."""
    dropout: Annotated[float, Bounds(0, 0.95), Uniform(0.0, 0.5)] = 0.0
    """Dropout between the two convolutions of each block; at 0 the network has no dropout layers."""
    slope: Annotated[float, Bounds(0, 1)] = 0.0
    """Slope of the activation below zero; 0 is ReLU."""

    def check(self) -> None:
        """Reject a depth that is not of the form 6n + 4."""
        check_depth(6, self.depth)

    def build(self, channels: int, size: int, classes: int) -> Halves:
        """Build the body and the head; return them with the feature length."""
        check_size(8, size, "wrn")
        into = 16
        layers: list[nn.Module] = [nn.Conv2d(channels, into, 3, padding=1, bias=False)]
        for out, first_stride in ((16, 1), (32, 2), (64, 2)):
            for block in range((self.depth - 4) // 6):
                layers.append(_Block(into, out * self.widen, first_stride if block == 0 else 1, self.dropout, self.slope))
                into = out * self.widen
        pool = nn.AdaptiveAvgPool2d(1)
        body = nn.Sequential(*layers, *_bn_act(into, self.slope), pool, nn.Flatten())
        kaiming(body)
        return Halves(body, nn.Linear(into, classes), into, pool)


class _Block(nn.Module):
    """A residual block; where the shape changes, its shortcut is a 1x1 convolution of the activated x."""

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
