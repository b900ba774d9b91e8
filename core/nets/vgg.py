"""VGG (Simonyan and Zisserman 2015) for 32x32 images, with two hidden layers of 512 instead of 4096, or with none (VGG19)."""

from typing import Annotated

from torch import nn

from core.knobs import Bounds, knobs
from core.nets.net import Halves, check_size, kaiming
from core.space import Uniform

POOL = 0
LAYERS_11 = (64, POOL, 128, POOL, 256, 256, POOL, 512, 512, POOL, 512, 512, POOL)
LAYERS_16 = (64, 64, POOL, 128, 128, POOL, 256, 256, 256, POOL, 512, 512, 512, POOL, 512, 512, 512, POOL)
LAYERS_19 = (64, 64, POOL, 128, 128, POOL, *(256,) * 4, POOL, *(512,) * 4, POOL, *(512,) * 4, POOL)


@knobs
class VGG11BN:
    """VGG11 with batch norm for 32x32 images and two hidden layers of 512; features are the second of these, before its ReLU."""

    dropout: Annotated[float, Bounds(0, 0.95), Uniform(0.0, 0.5)] = 0.5
    """Dropout before both hidden layers."""

    def build(self, channels: int, size: int, classes: int) -> Halves:
        """Build the body and the head; return them with the feature length."""
        check_size(32, size, "vgg11_bn")
        return _halves(LAYERS_11, True, self.dropout, channels, classes)


@knobs
class VGG16:
    """VGG16 for 32x32 images and two hidden layers of 512; features are the second of these, before its ReLU."""

    width: Annotated[int, Bounds(1)] = 64
    """Channels of the first block; all layers scale with it, and the hidden layers have eight times as many units."""
    batch_norm: bool = True
    """Batch norm after each convolution. The paper's version has none; without it, Adam at 1e-3 may stay at chance accuracy."""
    dropout: Annotated[float, Bounds(0, 0.95), Uniform(0.0, 0.5)] = 0.5
    """Dropout before both hidden layers."""

    def build(self, channels: int, size: int, classes: int) -> Halves:
        """Build the body and the head; return them with the feature length."""
        check_size(32, size, "vgg16")
        plan = tuple(self.width * layer // 64 for layer in LAYERS_16)
        halves = _halves(plan, self.batch_norm, self.dropout, channels, classes)
        kaiming(halves.body)
        return halves


@knobs
class VGG19:
    """VGG19 with batch norm for 32x32 images and a linear layer on its 512 pooled features, as BPFC's authors use it."""

    width: Annotated[int, Bounds(1)] = 64
    """Channels of the first block; the later blocks have 2, 4, 8 and 8 times as many."""

    def build(self, channels: int, size: int, classes: int) -> Halves:
        """Build the body and the head; return them with the feature length."""
        check_size(32, size, "vgg19")
        layers, dim = _convolutions(tuple(self.width * out // 64 for out in LAYERS_19), True, channels), 8 * self.width
        body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        kaiming(body)
        return Halves(body, nn.Linear(dim, classes), dim, pool=layers[-1])


def _halves(plan: tuple[int, ...], batch_norm: bool, dropout: float, channels: int, classes: int) -> Halves:
    layers, d = _convolutions(plan, batch_norm, channels), max(plan)
    body = nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Dropout(dropout), nn.Linear(d, d), nn.ReLU(inplace=True), nn.Dropout(dropout), nn.Linear(d, d),
    )  # fmt: skip
    return Halves(body, nn.Sequential(nn.ReLU(), nn.Linear(d, classes)), d, pool=layers[-1])


def _convolutions(plan: tuple[int, ...], batch_norm: bool, channels: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    into = channels
    for out in plan:
        if out == POOL:
            layers.append(nn.MaxPool2d(2))
            continue
        layers.append(nn.Conv2d(into, out, 3, padding=1))
        layers += [nn.BatchNorm2d(out)] * batch_norm
        layers.append(nn.ReLU(inplace=True))
        into = out
    return layers
