"""The digits of scikit-learn, made harder: turned, scaled, shifted, faded and noisy, so that networks overfit and leak members.

Networks classify the original digits so well that almost no leak can be measured, and better data would have to be downloaded.
"""

from pathlib import Path

import numpy as np

from core.data.named import digits
from core.data.source import Source, in_memory

COPIES = 2
"""Number of images that are made of each digit, with transformations of their own."""
MAX_DEGREES, SCALES, MAX_SHIFT, CONTRASTS, MAX_NOISE = 30.0, (0.8, 1.2), 1.0, (0.7, 1.0), 0.15
"""Largest rotation and shift (in pixels) in each direction, ends of scale and contrast, and the largest brightness of the noise."""


def hard_digits(data_dir: Path) -> Source:
    """Two images, 8x8 grey, of each of the 1,797 digits of scikit-learn, transformed with all parameters drawn uniformly.

    A digit is rotated, scaled and shifted, by bilinear interpolation on a black background; then its contrast is lowered, and
    noise that is uniform for every pixel is added. The generator is seeded, so the images are always the same. The two images of a
    digit are no exact copies, so a split may put them into different parts.
    """
    source = digits(data_dir)
    x = source.pixels(np.arange(len(source.labels)), lambda shape: None, [])[:, 0] / 255
    x, y = np.tile(x, (COPIES, 1, 1)), np.tile(source.labels, COPIES)
    stream = np.random.Generator(np.random.PCG64(0))
    count, side = len(y), x.shape[1]
    angle = np.radians(MAX_DEGREES) * _uniform(stream, -1, 1, count)
    scale, shift = _uniform(stream, *SCALES, count), _uniform(stream, -MAX_SHIFT, MAX_SHIFT, count, 2)
    moved = _transformed(x, angle, scale, shift) * _uniform(stream, *CONTRASTS, count)[:, None, None]
    noisy = (moved + _uniform(stream, 0, MAX_NOISE, count, side, side)) / (1 + MAX_NOISE)
    return in_memory("hard_digits", np.rint(255 * noisy).astype(np.uint8)[:, None], y)


def _uniform(stream: np.random.Generator, low: float, high: float, *shape: int) -> np.ndarray:
    return low + (high - low) * stream.random(shape)


def _transformed(x: np.ndarray, angle: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Rotate images [N, s, s] about their centres by angles [N], in radians, scale them by [N] and shift them by [N, 2] pixels."""
    side = x.shape[1]
    framed = np.pad(x, ((0, 0), (1, 1), (1, 1)))  # what lies outside of an image is black
    centred = np.arange(side) - (side - 1) / 2
    down = centred[None, :, None] - shift[:, 0, None, None]
    right = centred[None, None, :] - shift[:, 1, None, None]
    cos, sin = (f(angle)[:, None, None] / scale[:, None, None] for f in (np.cos, np.sin))
    top = np.clip(cos * down - sin * right + (side + 1) / 2, 0, side + 1 - 1e-9)
    left = np.clip(sin * down + cos * right + (side + 1) / 2, 0, side + 1 - 1e-9)
    row, column = top.astype(int), left.astype(int)
    below, beside = top - row, left - column
    image = np.arange(len(x))[:, None, None]
    upper = framed[image, row, column] * (1 - beside) + framed[image, row, column + 1] * beside
    lower = framed[image, row + 1, column] * (1 - beside) + framed[image, row + 1, column + 1] * beside
    return upper * (1 - below) + lower * below
