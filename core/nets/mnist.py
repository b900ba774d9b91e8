"""The MNIST networks of the BPFC paper (Addepalli et al. 2020): M-LeNet, and Net-A, the source network of black-box attacks."""

from typing import Annotated, ClassVar

from torch import nn

from core.knobs import Bounds, knobs
from core.nets.net import Halves, check_size


@knobs
class MLeNet:
    """Four 5x5 convolutions and a hidden layer of 512, the features: 1,791,466 weights for 28x28 grey images, 10 classes."""

    square: ClassVar[bool] = True
    width: Annotated[int, Bounds(1)] = 32
    """Channels of the first two convolutions; the others have twice as many."""

    def build(self, channels: int, size: int, classes: int) -> Halves:
        """Build the body and the head; return them with the feature length."""
        check_size(4, size, "mlenet")
        w, pool = self.width, nn.MaxPool2d(2)
        body = nn.Sequential(
            nn.Conv2d(channels, w, 5, padding=2), nn.ReLU(inplace=True),
            nn.Conv2d(w, w, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(w, 2 * w, 5, padding=2), nn.ReLU(inplace=True),
            nn.Conv2d(2 * w, 2 * w, 5, padding=2), nn.ReLU(inplace=True), pool,
            nn.Flatten(), nn.Linear(2 * w * (size // 4) ** 2, 512), nn.ReLU(inplace=True),
        )  # fmt: skip
        return Halves(body, nn.Linear(512, classes), 512, pool)


@knobs
class NetA:
    """Two 5x5 convolutions without padding and a hidden layer of 128, the features; dropout 0.25 before it, 0.5 after it."""

    square: ClassVar[bool] = True
    width: Annotated[int, Bounds(1)] = 64
    """Channels of both convolutions."""

    def build(self, channels: int, size: int, classes: int) -> Halves:
        """Build the body and the head; return them with the feature length."""
        check_size(9, size, "net_a")
        w, flatten = self.width, nn.Flatten()
        body = nn.Sequential(
            nn.Conv2d(channels, w, 5), nn.ReLU(inplace=True), nn.Conv2d(w, w, 5), nn.ReLU(inplace=True),
            nn.Dropout(0.25), flatten, nn.Linear(w * (size - 8) ** 2, 128), nn.ReLU(inplace=True),
        )  # fmt: skip
        return Halves(body, nn.Sequential(nn.Dropout(0.5), nn.Linear(128, classes)), 128, flatten)
