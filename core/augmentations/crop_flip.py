"""Random crop of the zero-padded image, and horizontal flip, with one gather for the whole batch."""

from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from core.knobs import Bounds, knobs
from core.rng import Draw
from core.slots import Context, Part


@knobs
class NoAugmentation:
    """No augmentation: images are unchanged."""

    per_image = True

    def bind(self, context: Context) -> Part:
        """Bind the augmentation; see `core.slots`."""
        del context
        return _CropFlip(0, False)


@knobs
class CropFlip:
    """The usual CIFAR augmentation, random crop and horizontal flip, by default drawn independently for every image."""

    padding: Annotated[int, Bounds(0, 32)] = 4
    """Zero pixels added on every side before the crop."""
    flip: bool = True
    """Mirror half of the images; unsuitable for digits and letters."""
    shared: bool = False
    """Draw one crop and one flip for the whole batch, as the CRL paper's code does, instead of one for every image."""

    per_image = True

    def bind(self, context: Context) -> Part:
        """Bind the augmentation; see `core.slots`."""
        del context
        return _CropFlip(self.padding, self.flip, self.shared)


class _CropFlip(Part):
    def __init__(self, padding: int, flip: bool, shared: bool = False):
        super().__init__()
        self.padding, self.flip, self.shared = padding, flip, shared

    def forward(self, x: Tensor, labels: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """Augment images x, [B, C, H, W] of any type; the result has the same type, channels last in memory. Keep the labels."""
        return (self._crop_and_flip(x, draw) if self.padding or self.flip else x), labels

    def _crop_and_flip(self, x: Tensor, draw: Draw) -> Tensor:
        batch, channels, height, width = x.shape
        p, span = self.padding, 2 * self.padding + 1
        integers = draw.one_integer if self.shared else draw.integers
        top, left = integers(span), integers(span)
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, p, p, p, p))  # [B, H, W, C], so that lines of a crop are contiguous
        image, line, pixel = (height + 2 * p) * (width + 2 * p) * channels, (width + 2 * p) * channels, channels
        windows = padded.contiguous().as_strided((batch, span, span, height, width * channels), (image, line, pixel, line, 1))
        out = windows[torch.arange(batch, device=x.device), top, left].view(batch, height, width, channels)
        if self.flip:
            mirrored = integers(2).bool().expand(batch)
            out[mirrored] = out[mirrored].flip(2)
        return out.permute(0, 3, 1, 2)
