"""The network of the GAT paper (Lee, Han, Lee 2017)."""

from typing import Annotated

from torch import nn

from core.knobs import Bounds, knobs
from core.nets.net import Halves
from core.space import Uniform


@knobs
class AllConv:
    """The all-convolutional net of the GAT paper (Table 1): 240,058 weights for 10 classes at width 48.

    The paper averages the logits of a 1x1 convolution over 8x8 positions; here the features are averaged first, which is
    equivalent. Xavier initialisation, no batch norm; dropout is the paper's baseline, not part of its defence.
    """

    width: Annotated[int, Bounds(1)] = 48
    """Channels of the first two layers; the others have twice as many."""
    dropout: Annotated[float, Bounds(0, 0.95), Uniform(0.0, 0.5)] = 0.0
    """Dropout after both convolutions of stride 2; at 0 the network has no dropout layers."""

    def build(self, channels: int, size: int, classes: int) -> Halves:
        """Build the body and the head; return them with the feature length."""
        del size
        w = self.width
        plan = [(channels, w, 3, 1), (w, w, 3, 2), (w, 2 * w, 3, 1), (2 * w, 2 * w, 3, 2), (2 * w, 2 * w, 3, 1)]
        layers: list[nn.Module] = []
        for into, out, kernel, stride in [*plan, (2 * w, 2 * w, 1, 1)]:
            layers += [nn.Conv2d(into, out, kernel, stride, padding=kernel // 2), nn.ReLU(inplace=True)]
            if stride == 2 and self.dropout:
                layers.append(nn.Dropout(self.dropout))
        pool = nn.AdaptiveAvgPool2d(1)
        body = nn.Sequential(*layers, pool, nn.Flatten())
        head = nn.Linear(2 * w, classes)
        for layer in [*body, head]:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType]
        return Halves(body, head, 2 * w, pool)
