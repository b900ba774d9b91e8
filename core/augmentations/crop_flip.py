"""Random crop of the zero-padded image, and horizontal flip: one gather for the whole batch."""

from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.rng import Draw
from core.slots import Context
from core.space import Bounds, knobs


@knobs
class NoAugmentation:
    """Images as they are."""

    def bind(self, context: Context) -> nn.Module:
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

    def bind(self, context: Context) -> nn.Module:
        """See `core.slots`."""
        del context
        return _CropFlip(self.padding, self.flip)


class _CropFlip(nn.Module):
    def __init__(self, padding: int, flip: bool):
        super().__init__()
        self.padding, self.flip = padding, flip

    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        """x: [B, C, H, W] of any type; the result has its type and memory layout."""
        if not self.padding and not self.flip:
            return x
        batch, _, height, width = x.shape
        span = 2 * self.padding + 1
        top, left = draw.integers(span), draw.integers(span)
        columns = torch.arange(width, device=x.device).expand(batch, width)
        if self.flip:
            mirrored = draw.integers(2).bool().unsqueeze(1)
            columns = torch.where(mirrored, columns.flip(1), columns)
        columns = columns + left.unsqueeze(1)
        lines = torch.arange(height, device=x.device) + top.unsqueeze(1)
        padded = F.pad(x, (self.padding,) * 4).permute(0, 2, 3, 1)
        images = torch.arange(batch, device=x.device).view(-1, 1, 1)
        return padded[images, lines.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2)
