"""Random crop of the zero-padded image, and horizontal flip: one gather for the whole batch."""

from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from core.rng import Draw
from core.slots import Context, Part
from core.space import Bounds, knobs


@knobs
class NoAugmentation:
    """Images as they are."""

    per_image = True

    def bind(self, context: Context) -> Part:
        """See `core.slots`."""
        del context
        return _CropFlip(0, False)


@knobs
class CropFlip:
    """The usual CIFAR augmentation, drawn anew for every image."""

    padding: Annotated[int, Bounds(0, 32)] = 4
    """Zero pixels added on every side before the crop."""
    flip: bool = True
    """Mirror half of the images; wrong for digits and letters."""

    per_image = True

    def bind(self, context: Context) -> Part:
        """See `core.slots`."""
        del context
        return _CropFlip(self.padding, self.flip)


class _CropFlip(Part):
    def __init__(self, padding: int, flip: bool):
        super().__init__()
        self.padding, self.flip = padding, flip

    def forward(self, x: Tensor, labels: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """x: [B, C, H, W] of any type; the result has its type, channels last in memory. Labels stay."""
        return (self.varied(x, draw) if self.padding or self.flip else x), labels

    def varied(self, x: Tensor, draw: Draw) -> Tensor:
        """The images, cropped and flipped."""
        batch, channels, height, width = x.shape
        p, span = self.padding, 2 * self.padding + 1
        top, left = draw.integers(span), draw.integers(span)
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, p, p, p, p))  # [B, H, W, C], so that lines of a crop are contiguous
        image, line, pixel = (height + 2 * p) * (width + 2 * p) * channels, (width + 2 * p) * channels, channels
        windows = padded.contiguous().as_strided((batch, span, span, height, width * channels), (image, line, pixel, line, 1))
        out = windows[torch.arange(batch, device=x.device), top, left].view(batch, height, width, channels)
        if self.flip:
            mirrored = draw.integers(2).bool()
            out[mirrored] = out[mirrored].flip(2)
        return out.permute(0, 3, 1, 2)
