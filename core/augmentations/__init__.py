"""The `augmentation` slot: how training images are varied, on the device."""

from core.augmentations.crop_flip import CropFlip, NoAugmentation
from core.augmentations.mixup import Mixup

AUGMENTATIONS = {"none": NoAugmentation, "crop_flip": CropFlip, "mixup": Mixup}
