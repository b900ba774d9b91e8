"""The single-layer network of the sparsity paper (Schwartz et al. 2020), on which it penalises activations (Section 4.1)."""

from typing import Annotated, ClassVar

from torch import nn

from core.knobs import Bounds, knobs
from core.nets.net import Halves, check_size


@knobs
class SingleLayer:
    """One convolution of 5x5 filters with ReLU, and a linear layer: 39,200 hidden units, as in the paper, for 32x32 images.

    The paper gives only the number of units. It is that of 50 maps of 28x28.
    """

    square: ClassVar[bool] = True
    filters: Annotated[int, Bounds(1)] = 50
    """Number of filters."""
    padding: Annotated[int, Bounds(0, 2)] = 0
    """Zero pixels added on every side; 2 keeps the image size, which makes 39,200 units of 28x28 images."""

    def build(self, channels: int, size: int, classes: int) -> Halves:
        """Build the body and the head; return them with the feature length, the number of hidden units."""
        check_size(5, size, "single_layer")
        flatten = nn.Flatten()
        units = self.filters * (size - 4 + 2 * self.padding) ** 2
        body = nn.Sequential(nn.Conv2d(channels, self.filters, 5, padding=self.padding), nn.ReLU(inplace=True), flatten)
        return Halves(body, nn.Linear(units, classes), units, flatten)
