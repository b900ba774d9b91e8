"""Random crops and flips against all variants of an image, computed in a loop."""

import math

import numpy as np
import pytest
import torch
from small_batches import classifier, context
from tiny_training import fit, images, weights

from core import rng
from core.config import AUGMENTATIONS

torch.set_num_threads(1)


def augment(x, seed=0, **knobs):
    module = AUGMENTATIONS["crop_flip"](**knobs).bind(context(classifier()))
    return module(x, torch.zeros(len(x)), rng.Draw(torch.Generator().manual_seed(seed), len(x)))[0]


def variants(image: np.ndarray, padding: int, flip: bool):
    """Every image that padding, cropping and mirroring can make, each with its offsets and whether it is mirrored."""
    channels, height, width = image.shape
    padded = np.zeros((channels, height + 2 * padding, width + 2 * padding), image.dtype)
    padded[:, padding : padding + height, padding : padding + width] = image
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            crop = padded[:, top : top + height, left : left + width]
            yield (top, left, False), crop
            if flip:
                yield (top, left, True), crop[:, :, ::-1]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_crop_flip_makes_all_variants_equally_often_and_no_others(padding, flip, dtype):
    x = torch.randint(1, 256, (600, 2, 5, 4), generator=torch.Generator().manual_seed(1)).to(dtype)
    out = augment(x, padding=padding, flip=flip)
    assert out.dtype == dtype and out.shape == x.shape
    counts = {}
    for before, after in zip(x.numpy(), out.numpy(), strict=True):
        (variant,) = [variant for variant, image in variants(before, padding, flip) if np.array_equal(image, after)]
        counts[variant] = counts.get(variant, 0) + 1
    total = (2 * padding + 1) ** 2 * (1 + flip)
    assert len(counts) == total  # every offset and both orientations occur ...
    expected = 600 / total
    chi2 = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi2 < total + 5 * math.sqrt(2 * total)  # ... about equally often


def test_crop_flip_draws_per_image_and_not_per_worker():
    x = images(8).x
    module = AUGMENTATIONS["crop_flip"](padding=2).bind(context(classifier()))
    whole = module(x, x, rng.Draw(torch.Generator().manual_seed(3), 8))[0]
    shares = [slice(0, 3), slice(3, 8)]
    parts = [module(x[s], x[s], rng.Draw(torch.Generator().manual_seed(3), 8, s))[0] for s in shares]
    assert torch.equal(torch.cat(parts), whole)


def test_a_shared_draw_crops_and_flips_all_images_of_a_batch_alike_on_every_worker():
    x = torch.randint(1, 256, (6, 2, 5, 4), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    module = AUGMENTATIONS["crop_flip"](padding=1, shared=True).bind(context(classifier()))
    seen = set()
    for seed in range(150):
        shares = [slice(0, 2), slice(2, 6)]
        out = torch.cat([module(x[s], x[s], rng.Draw(torch.Generator().manual_seed(seed), 6, s))[0] for s in shares])
        drawn = {v for before, after in zip(x.numpy(), out.numpy(), strict=True)
                 for v, image in variants(before, 1, True) if np.array_equal(image, after)}  # fmt: skip
        assert len(drawn) == 1
        seen |= drawn
    assert len(seen) == 18  # all nine offsets, in both orientations


def test_no_augmentation_returns_the_images_unchanged():
    x, y = images(4).x, images(4).y
    out = AUGMENTATIONS["none"]().bind(context(classifier()))(x, y, None)
    assert out[0] is x and out[1] is y


def test_crop_flip_without_padding_and_flips_is_bit_identical_to_ordinary_training():
    params = {"augmentation": "crop_flip", "augmentation.padding": 0, "augmentation.flip": False}
    assert torch.equal(weights(fit(params).net), weights(fit({}).net))
