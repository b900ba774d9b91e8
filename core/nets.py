"""Networks: `NETS` maps a name to its settings; each network is Normalize, then `features`, then `head`.

Images go in as they are, in [0, 1]: normalisation is the first layer, so that epsilon, clipping and every other
arithmetic on images is in pixel units. `head(features(x))` are logits, never probabilities.
"""

from typing import Annotated

import torch
from torch import Tensor, nn

from core.errors import InputError
from core.space import Bounds, knobs


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


Halves = tuple[nn.Module, nn.Module, int]


@knobs
class ConvNet:
    """Three small convolutions and a hidden layer; any image size, made for 8x8 digits and quick trials."""

    width: Annotated[int, Bounds(1)] = 16
    """Channels of the first convolution; the others have twice as many."""
    hidden: Annotated[int, Bounds(1)] = 64
    """Length of the feature vector."""

    def build(self, channels: int, size: int, classes: int) -> Halves:
        """Body, head and feature length."""
        del size
        w = self.width
        body = nn.Sequential(
            nn.Conv2d(channels, w, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(w, 2 * w, 3, stride=2, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(2 * w, 2 * w, 3, padding=1), nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(32 * w, self.hidden), nn.ReLU(inplace=True),
        )  # fmt: skip
        return body, nn.Linear(self.hidden, classes), self.hidden


@knobs
class AllConv:
    """The all-convolutional net of the GAT paper (Table 1): 240,058 weights for 10 classes at width 48.

    The paper averages the logits of a 1x1 convolution over 8x8 positions; here the features are averaged first, which is
    the same function. Xavier initialisation, no batch norm, no dropout.
    """

    width: Annotated[int, Bounds(1)] = 48
    """Channels of the first two layers; the others have twice as many."""

    def build(self, channels: int, size: int, classes: int) -> Halves:
        """Body, head and feature length."""
        del size
        w = self.width
        plan = [(channels, w, 3, 1), (w, w, 3, 2), (w, 2 * w, 3, 1), (2 * w, 2 * w, 3, 2), (2 * w, 2 * w, 3, 1)]
        layers: list[nn.Module] = []
        for into, out, kernel, stride in [*plan, (2 * w, 2 * w, 1, 1)]:
            layers += [nn.Conv2d(into, out, kernel, stride, padding=kernel // 2), nn.ReLU(inplace=True)]
        body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        head = nn.Linear(2 * w, classes)
        for layer in [*body, head]:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType]
        return body, head, 2 * w


@knobs
class ResNet18:
    """ResNet-18 for 32x32 images: 3x3 stem with stride 1, no max-pooling; features are the pooled 512 channels."""

    def build(self, channels: int, size: int, classes: int) -> Halves:
        """Body, head and feature length."""
        from torchvision.models import resnet18  # two seconds of import that only this net needs

        _at_least(16, size, "resnet18")
        net = resnet18(num_classes=classes)
        net.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
        net.maxpool = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
        head, net.fc = net.fc, nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
        return net, head, 512


@knobs
class VGG11BN:
    """VGG11 with batch norm for 32x32 images and two hidden layers of 512; features are the second one before its ReLU."""

    dropout: Annotated[float, Bounds(0, 0.95)] = 0.5
    """Dropout before both hidden layers."""

    def build(self, channels: int, size: int, classes: int) -> Halves:
        """Body, head and feature length."""
        _at_least(32, size, "vgg11_bn")
        layers: list[nn.Module] = []
        into = channels
        for out, pooled in [(64, 1), (128, 1), (256, 0), (256, 1), (512, 0), (512, 1), (512, 0), (512, 1)]:
            layers += [nn.Conv2d(into, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
            layers += [nn.MaxPool2d(2)] * pooled
            into = out
        body = nn.Sequential(
            *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Dropout(self.dropout), nn.Linear(512, 512), nn.ReLU(inplace=True), nn.Dropout(self.dropout), nn.Linear(512, 512),
        )  # fmt: skip
        return body, nn.Sequential(nn.ReLU(), nn.Linear(512, classes)), 512


NETS = {"convnet": ConvNet, "allconv": AllConv, "resnet18": ResNet18, "vgg11_bn": VGG11BN}


def _at_least(needed: int, size: int, name: str) -> None:
    if size < needed:
        raise InputError(
            f"net={name} needs images of at least {needed}x{needed}, these are {size}x{size}; use net=convnet or net=allconv"
        )


def has_batch_norm(net: nn.Module) -> bool:
    """Whether any layer normalises over the batch."""
    return any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in net.modules())


def build(settings, shape: tuple[int, int, int], classes: int, mean: Tensor | None = None, std: Tensor | None = None) -> Net:
    """The network for images of `shape` (channels, height, width), with the current global random state.

    Raises:
        InputError: the images are too small for it.
    """
    body, head, dim = settings.build(shape[0], min(shape[1:]), classes)
    mean = torch.zeros(shape[0]) if mean is None else mean
    std = torch.ones(shape[0]) if std is None else std
    return Net(body, head, dim, mean, std)
