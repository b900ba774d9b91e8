"""Checks of the labels of a data set, and the draw of a smaller pool."""

from collections.abc import Callable

import numpy as np

from core.data.protocols import stratified
from core.errors import InputError
from core.rng import fold

MIN_IMAGES = 8
"""Images that each class needs, so that a stratified split has some in every part."""
SHOWN = 10
"""Labels that a message lists at most."""


def checked_labels(y: np.ndarray, where: str, place: Callable[[int], str]) -> np.ndarray:
    """Check that labels are the classes 0 to C-1 of a data set that can be split.

    Args:
        y: labels, integers [N].
        where: name of the data set, for messages.
        place: returns the place of a row, for messages.

    Returns:
        The labels, int64 [N].

    Raises:
        InputError: the message names the labels that were found, the place, and the remedy.
    """
    if not len(y):
        raise InputError(f"{where} has no images")
    found, counts = np.unique(y, return_counts=True)
    if found[0] < 0:
        row, count = int(np.argmax(y < 0)), int(counts[found < 0].sum())
        raise InputError(
            f"{where}: {count} labels are negative, the first one is {y[row]} in {place(row)}; drop these images if they are "
            "unlabelled (often marked -1), otherwise number the classes from 0"
        )
    if found[-1] >= len(y):
        row = int(np.argmax(y))
        raise InputError(
            f"{where}: label {y[row]} in {place(row)} is too large, there are only {len(y)} images; labels are class numbers "
            f"from 0, so number the {len(found)} classes 0 to {len(found) - 1}"
        )
    if len(found) <= found[-1]:
        absent = np.setdiff1d(np.arange(found[-1] + 1), found)
        raise InputError(
            f"{where}: no image has label {_listed(absent)}; found {_listed(found)}; number the {len(found)} classes 0 to "
            f"{len(found) - 1} without gaps"
        )
    if len(found) < 2:
        raise InputError(f"{where}: all {len(y)} images have the same label, {found[0]}; a classifier needs at least 2 classes")
    if counts.min() < MIN_IMAGES:
        rare = int(counts.argmin())
        raise InputError(
            f"{where}: class {rare} has {counts[rare]} images; each needs at least {MIN_IMAGES} to be split, so add images or "
            "drop the class"
        )
    return y.astype(np.int64)


def _listed(labels: np.ndarray) -> str:
    """Labels as text; many are shortened."""
    shown = [str(label) for label in labels[:SHOWN]]
    return ", ".join(shown if len(labels) <= SHOWN else [*shown[: SHOWN - 1], "...", str(labels[-1])])


def pool_rows(y: np.ndarray, pool: int, where: str) -> np.ndarray:
    """Rows of a stratified pool of `pool` images, in order; all rows if `pool` is 0.

    Raises:
        InputError: the pool is larger than the data set, or too small for its classes.
    """
    if not pool:
        return np.arange(len(y))
    classes = y.max() + 1
    if pool > len(y):
        raise InputError(f"pool={pool} is more than the {len(y)} images of {where}")
    if pool < MIN_IMAGES * classes:
        raise InputError(f"pool={pool} is too small, {where} needs at least {MIN_IMAGES} images for each of {classes} classes")
    return np.sort(stratified(np.arange(len(y)), y, pool / len(y), fold(0, "pool", pool))[0])
