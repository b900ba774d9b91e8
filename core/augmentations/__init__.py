"""The `augmentation` slot: how training images are varied, on the device and per image."""

from core.augmentations.crop_flip import CropFlip, NoAugmentation

AUGMENTATIONS = {"none": NoAugmentation, "crop_flip": CropFlip}
