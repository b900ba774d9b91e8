"""A small network for quick trials."""

from typing import Annotated

from torch import nn

from core.knobs import Bounds, knobs
from core.nets.net import Halves


@knobs
class ConvNet:
    """Three small convolutions and a hidden layer, for images of any size; meant for 8x8 digits and quick trials."""

    width: Annotated[int, Bounds(1)] = 16
    """Channels of the first convolution; the others have twice as many."""
    hidden: Annotated[int, Bounds(1)] = 64
    """Length of the feature vector."""

    def build(self, channels: int, size: int, classes: int) -> Halves:
        """Build the body and the head; return them with the feature length."""
        del size
        w, pool = self.width, nn.AdaptiveAvgPool2d(4)
        body = nn.Sequential(
            nn.Conv2d(channels, w, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(w, 2 * w, 3, stride=2, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(2 * w, 2 * w, 3, padding=1), nn.ReLU(inplace=True),
            pool, nn.Flatten(), nn.Linear(32 * w, self.hidden), nn.ReLU(inplace=True),
        )  # fmt: skip
        return Halves(body, nn.Linear(self.hidden, classes), self.hidden, pool)
