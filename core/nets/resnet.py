"""ResNets (He et al. 2016) for 32x32 images: torchvision's blocks, with a 3x3 stem of stride 1 and no max-pooling."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from torch import nn

from core.knobs import Bounds, knobs
from core.nets.net import Halves, check_size, kaiming

if TYPE_CHECKING:
    from torchvision.models.resnet import BasicBlock, Bottleneck


@knobs
class ResNet10:
    """A ResNet of one basic block per stage, in the design of ResNet-18; at width 16 it trains on 32x32 images on a CPU."""

    width: Annotated[int, Bounds(1)] = 64
    """Channels of the first stage; each of the three others has twice as many as the one before."""

    def build(self, channels: int, size: int, classes: int) -> Halves:
        """Build the body and the head; return them with the feature length."""
        from torchvision.models.resnet import BasicBlock

        check_size(16, size, "resnet10")
        return _halves(BasicBlock, (1, 1, 1, 1), self.width, channels, classes)


@knobs
class ResNet18:
    """ResNet-18 for 32x32 images: 3x3 stem with stride 1, no max-pooling; 512 pooled features at width 64."""

    width: Annotated[int, Bounds(1)] = 64
    """Channels of the first stage; each of the three others has twice as many as the one before."""

    def build(self, channels: int, size: int, classes: int) -> Halves:
        """Build the body and the head; return them with the feature length."""
        from torchvision.models.resnet import BasicBlock

        check_size(16, size, "resnet18")
        return _halves(BasicBlock, (2, 2, 2, 2), self.width, channels, classes)


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


def _halves(
    block: "type[BasicBlock | Bottleneck]", blocks: tuple[int, ...], width: int, channels: int, classes: int
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


def _stage(block: "type[BasicBlock | Bottleneck]", into: int, planes: int, count: int, stride: int) -> Iterator[nn.Module]:
    """The blocks of a stage; the first one's shortcut is a 1x1 convolution where the shape changes."""
    out, shortcut = planes * block.expansion, None
    if stride > 1 or into != out:
        shortcut = nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))
    yield block(into, planes, stride, shortcut)
    for _ in range(1, count):
        yield block(out, planes)
