"""The data sets that can be loaded, by name or by the prefix of their folder."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from core import memory
from core.data.hard_digits import hard_digits
from core.data.images import Images, size_text
from core.data.labels import checked_labels, pool_rows
from core.data.named import digits, torchvision_set
from core.data.parquet import PARQUET, parquet
from core.data.source import Source
from core.errors import InputError, unknown

MAX_BYTES = 16 << 30  # decoded size of a whole pool


@dataclass(frozen=True)
class Named:
    """A data set with a name, and the customary Linf radius for it."""

    open: Callable[[Path], Source]
    """Opens the data set in the folder of downloaded data sets."""
    epsilon: float


_PARTS = ({"train": True}, {"train": False})
DATASETS: dict[str, Named] = {
    "digits": Named(digits, 0.1),
    "hard_digits": Named(hard_digits, 0.05),
    "mnist": Named(partial(torchvision_set, "MNIST", _PARTS), 0.3),
    "fashion_mnist": Named(partial(torchvision_set, "FashionMNIST", _PARTS), 0.1),
    "cifar10": Named(partial(torchvision_set, "CIFAR10", _PARTS), 8 / 255),
    "cifar100": Named(partial(torchvision_set, "CIFAR100", _PARTS), 8 / 255),
    "svhn": Named(partial(torchvision_set, "SVHN", ({"split": "train"}, {"split": "test"})), 8 / 255),
}


def default_epsilon(dataset: str) -> float:
    """The customary Linf radius for a data set; 8/255 for a data set without a name."""
    return DATASETS[dataset].epsilon if dataset in DATASETS else 8 / 255


def load(dataset: str, data_dir: str | Path = "data", pool: int = 0) -> Images:
    """Load a data set by name, or from `parquet:DIR` in the Hugging Face image layout.

    Args:
        dataset: a name in `DATASETS`, or parquet:DIR.
        data_dir: folder of downloaded data sets.
        pool: number of images to use; see `core.config.TrialConfig`.

    Raises:
        InputError: the name is unknown, files are missing or unreadable, or the images do not form one data set that fits into
            memory.
    """
    if dataset.startswith(PARQUET):
        source = parquet(Path(dataset.removeprefix(PARQUET)))
    elif dataset in DATASETS:
        source = DATASETS[dataset].open(Path(data_dir))
    else:
        raise unknown("dataset", dataset, [*DATASETS, f"{PARQUET}DIR"])
    y = checked_labels(source.labels, source.where, source.place)
    rows = pool_rows(y, pool, source.where)
    notes = list(source.notes)
    x = source.pixels(rows, partial(_check_size, len(rows)), notes)
    in_test_file = torch.from_numpy(rows >= len(y) - source.test_images) if source.test_images else None
    return Images(torch.from_numpy(x), torch.from_numpy(y[rows]), int(y.max()) + 1, notes=tuple(notes), in_test_file=in_test_file)


def _check_size(count: int, shape: tuple[int, ...]) -> None:
    """Check that `count` images of a shape fit into memory.

    Raises:
        InputError: the message names the largest pool that fits.
    """
    each, limit = int(np.prod(shape)), min(MAX_BYTES, memory.available())
    if count * each > limit:
        whose = "the limit of a pool" if limit == MAX_BYTES else "the free memory of this machine"
        raise InputError(
            f"{count} images of {size_text(shape)} need {memory.gib(count * each)}, {whose} is {memory.gib(limit)}; "
            f"use --set pool={limit // each}, or smaller images"
        )
