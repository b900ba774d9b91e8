"""The `augmentation` slot: random variations of training images, made on the device.

Perturbations that depend on the network belong in `core.perturbations`.
"""

from core.augmentations.crop_flip import CropFlip, NoAugmentation
from core.augmentations.mixup import Mixup

AUGMENTATIONS = {"none": NoAugmentation, "crop_flip": CropFlip, "mixup": Mixup}
