"""The interface of a data set that can be loaded."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

CheckSize = Callable[[tuple[int, ...]], None]
"""Called with the shape (C, H, W) of the images before memory for all of them is allocated."""


@dataclass(frozen=True)
class Source:
    """A data set whose labels have been read, and whose pixels can be read."""

    where: str
    """Name of the data set, for messages."""
    labels: np.ndarray
    """Labels as they are stored, integers [N]."""
    place: Callable[[int], str]
    """Returns the place of a row, for messages."""
    pixels: Callable[[np.ndarray, CheckSize, list[str]], np.ndarray]
    """Reads the images in some rows, which are sorted: uint8 [n, C, H, W]. It checks their size first, and appends its notes."""
    notes: tuple[str, ...] = ()
    """Remarks on files that are not used, one line each."""
    test_images: int = 0
    """Number of images of the test file, which are the last ones; 0 if there is no such file."""


def in_memory(name: str, x: np.ndarray, y: np.ndarray, test_images: int = 0) -> Source:
    """A data set whose images, uint8 [N, C, H, W], are in memory already."""

    def pixels(rows: np.ndarray, check_size: CheckSize, notes: list[str]) -> np.ndarray:
        del check_size, notes
        return np.ascontiguousarray(x[rows])

    return Source(name, y, lambda row: f"image {row}", pixels, test_images=test_images)
