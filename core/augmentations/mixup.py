"""Mixup (Zhang et al. 2018): train on convex combinations of two images and of their labels."""

from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from core.augmentations.crop_flip import CropFlip
from core.errors import InputError
from core.knobs import Bounds, knobs
from core.rng import Draw
from core.slots import Context, Part
from core.space import IntRange, LogUniform


@knobs
class Mixup:
    """Mixed images lambda x + (1 - lambda) x', with one lambda ~ Beta(a, a) and one permutation for the whole batch."""

    a: Annotated[float, Bounds(0), LogUniform(0.1, 2.0)] = 1.0
    """Both parameters of the Beta distribution; 0 disables mixing."""
    padding: Annotated[int, Bounds(0, 32), IntRange(0, 4)] = 0
    """Padding of a random crop before mixing, as for crop_flip; 0 is none. The authors' CIFAR recipe uses 4, with flips."""
    flip: bool = False
    """Mirror half of the images before mixing."""

    mixes = True

    def check_compatible(self, config) -> None:
        """Reject losses that need one class per image.

        Raises:
            InputError: the loss does not accept distributions over classes.
        """
        if not getattr(config.loss, "soft_labels", False):
            from core.losses import LOSSES

            name = next(name for name, cls in LOSSES.items() if cls is type(config.loss))
            compatible = [name for name, cls in LOSSES.items() if getattr(cls, "soft_labels", False)]
            raise InputError(
                f"augmentation=mixup gives an image two classes, loss={name} needs one; use loss={', '.join(compatible)}"
            )

    def bind(self, context: Context) -> Part:
        """Bind the augmentation; see `core.slots`."""
        crop_flip = CropFlip(padding=self.padding, flip=self.flip).bind(context)
        return _Mixup(self.a, crop_flip, context.classes)


class _Mixup(Part):
    whole_batch = True  # an image's partner may be in another worker's share

    def __init__(self, a: float, crop_flip: Part, classes: int):
        super().__init__()
        self.a, self.crop_flip, self.classes = a, crop_flip, classes

    def forward(self, x: Tensor, labels: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """Mix images x, [B, c, h, w] in 0..255, and their labels, [B] or [B, C]; return images and labels [B, C]."""
        x, labels = self.crop_flip(x, labels, draw)
        if labels.dim() == 1:
            labels = F.one_hot(labels, self.classes).float()
        if not self.a:
            return x, labels
        share, partner = draw.beta(self.a), draw.permutation()
        mixed = torch.lerp(x[partner].float(), x.float(), share)
        return mixed, torch.lerp(labels[partner], labels, share)
