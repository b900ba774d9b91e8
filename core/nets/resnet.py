"""ResNets (He et al. 2016) for 32x32 images: torchvision's blocks, with a 3x3 stem of stride 1 and no max-pooling.

With `relu_before_addition`, a basic block has a ReLU also at the end of its residual branch. This is the ResNet-18 of the BPFC
paper's authors (the block of the public val-iisc/SAT-Rx, tools/networks/resnet.py).
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from torch import Tensor, nn

from core.knobs import Bounds, knobs
from core.nets.net import Halves, check_size, kaiming

if TYPE_CHECKING:
    from torchvision.models.resnet import BasicBlock, Bottleneck

    Block = BasicBlock | Bottleneck

@knobs
class ResNet10:
    """A ResNet of one basic block per stage, in the design of ResNet-18; at width 16 it trains on 32x32 images on a CPU."""

    width: Annotated[int, Bounds(1)] = 64
    """Channels of the first stage; each of the three others has twice as many as the one before."""
    relu_before_addition: bool = False
    """Apply a ReLU to the residual branch of a block before it is added to the shortcut, as in the BPFC paper's code."""

    def build(self, channels: int, size: int, classes: int) -> Halves:
        """Build the body and the head; return them with the feature length."""
        check_size(16, size, "resnet10")
        return _halves(_basic_block(self.relu_before_addition), (1, 1, 1, 1), self.width, channels, classes)


@knobs
class ResNet18:
    """ResNet-18 for 32x32 images: 3x3 stem with stride 1, no max-pooling; 512 pooled features at width 64."""

    width: Annotated[int, Bounds(1)] = 64
    """Channels of the first stage; each of the three others has twice as many as the one before."""
    relu_before_addition: bool = False
    """Apply a ReLU to the residual branch of a block before it is added to the shortcut, as in the BPFC paper's code."""

    def build(self, channels: int, size: int, classes: int) -> Halves:
        """Build the body and the head; return them with the feature length."""
        check_size(16, size, "resnet18")
        return _halves(_basic_block(self.relu_before_addition), (2, 2, 2, 2), self.width, channels, classes)


@knobs
class ResNet50:
    """ResNet-50 for 32x32 images: bottleneck blocks, 3x3 stem with stride 1, no max-pooling; 2048 pooled features at width 64."""

    width: Annotated[int, Bounds(1)] = 64
    """Channels of the stem and of the first stage's 3x3 convolutions; the first stage returns four times as many."""

    def build(self, channels: int, size: int, classes: int) -> Halves:
        """Build the body and the head; return them with the feature length."""
        from torchvision.models.resnet import Bottleneck

        check_size(16, size, "resnet50")
        return _halves(Bottleneck, (3, 4, 6, 3), self.width, channels, classes)


class ReLUBeforeAddition(nn.Module):
    """A basic block whose residual branch ends with a ReLU: relu(relu(bn(conv(relu(bn(conv(x)))))) + shortcut(x)).

    Its parameters have the names, and are created in the order, of those of torchvision's basic block.
    """

    expansion = 1

    def __init__(self, into: int, planes: int, stride: int = 1, downsample: nn.Module | None = None):
        """`downsample`: the shortcut if it is not the identity."""
        super().__init__()
        self.conv1 = nn.Conv2d(into, planes, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, into, h, w] -> [B, planes, h / stride, w / stride]."""
        residual = self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))
        return self.relu(residual + (x if self.downsample is None else self.downsample(x)))


def _basic_block(relu_before_addition: bool) -> "type[Block | ReLUBeforeAddition]":
    if relu_before_addition:
        return ReLUBeforeAddition
    from torchvision.models.resnet import BasicBlock

    return BasicBlock


def _halves(
    block: "type[Block | ReLUBeforeAddition]", blocks: tuple[int, ...], width: int, channels: int, classes: int
) -> Halves:  # fmt: skip
    """Body and head of a ResNet, initialised as torchvision does, whose 7x7 stem is drawn too and then replaced."""
    stem = nn.Conv2d(3, width, 7, bias=False)
    into, stages = width, []
    for i, count in enumerate(blocks):
        planes = width * 2**i
        stages.append(nn.Sequential(*_stage(block, into, planes, count, stride=2 if i else 1)))
        into = planes * block.expansion
    head = nn.Linear(into, classes)
    for part in (stem, *stages):
        kaiming(part)
    stem = nn.Conv2d(channels, width, 3, padding=1, bias=False)
    kaiming(stem)
    pool = nn.AdaptiveAvgPool2d((1, 1))
    layers = {f"layer{i}": stage for i, stage in enumerate(stages, start=1)}
    body = {"conv1": stem, "bn1": nn.BatchNorm2d(width), "relu": nn.ReLU(inplace=True), **layers, "avgpool": pool}
    return Halves(nn.Sequential(OrderedDict(body, flatten=nn.Flatten())), head, into, pool)


def _stage(block: "type[Block | ReLUBeforeAddition]", into: int, planes: int, count: int, stride: int) -> Iterator[nn.Module]:
    """The blocks of a stage; the first one's shortcut is a 1x1 convolution where the shape changes."""
    out, shortcut = planes * block.expansion, None
    if stride > 1 or into != out:
        shortcut = nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))
    yield block(into, planes, stride, shortcut)
    for _ in range(1, count):
        yield block(out, planes)
