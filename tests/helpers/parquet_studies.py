"""A finished study of images in parquet files, and changes of these images."""

import io
from collections.abc import Callable
from pathlib import Path

import finished
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from core import data
from trainables.storage.store import Store
from trainables.study.data_identity import DataIdentity
from trainables.study.plan import Plan

COUNT = 128
"""Number of images in each of the two files."""
Arrays = tuple[np.ndarray, np.ndarray]


def images() -> Arrays:
    """Images [2 * COUNT, 8, 8] and labels of two classes."""
    digits = data.load("digits")
    return digits.x[: 2 * COUNT, 0].numpy(), np.arange(2 * COUNT) % 2


def write(folder: Path, x: np.ndarray, y: np.ndarray) -> None:
    """Write the two files of a data set."""

    def png(image: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        return buffer.getvalue()

    folder.mkdir(parents=True, exist_ok=True)
    for name, part in (("train", slice(0, COUNT)), ("test", slice(COUNT, None))):
        table = pa.table({"img": [{"bytes": png(image)} for image in x[part]], "label": y[part].tolist()})
        pq.write_table(table, folder / f"{name}.parquet")


def one_pixel(x: np.ndarray, y: np.ndarray) -> Arrays:
    """One pixel of the last image changes; the labels stay the same."""
    x = x.copy()
    x[-1, -1, -1] ^= 1
    return x, y


def other_order(x: np.ndarray, y: np.ndarray) -> Arrays:
    """Two images of the same class change places."""
    order = np.arange(len(y))
    order[[0, 2]] = 2, 0
    return x[order], y


def labels(x: np.ndarray, y: np.ndarray) -> Arrays:
    """Two labels change places."""
    y = y.copy()
    y[[0, 1]] = 1, 0
    return x, y


CHANGES: dict[str, tuple[Callable[[np.ndarray, np.ndarray], Arrays], str]] = {
    "one pixel": (one_pixel, "other pixels"),
    "the order": (other_order, "other pixels"),
    "two labels": (labels, "other labels"),
    "one image more": (lambda x, y: (np.concatenate([x, x[:1]]), np.append(y, 0)), "images: 256 then, 257 now"),
    "the size": (lambda x, y: (np.pad(x, ((0, 0), (0, 0), (0, 1))), y), "width: 8 then, 9 now"),
    "the classes": (lambda x, y: (x, np.arange(len(y)) % 3), "classes: 2 then, 3 now"),
}
"""Changes of a data set, with the words for them."""


def plan(folder: Path) -> Plan:
    """A plan on the data set in a folder, which exists."""
    config = finished.plan().config.set({"dataset": f"parquet:{folder}"})
    return finished.plan(study="crl_tradeoff", config=config, data=DataIdentity.of(data.load(config.dataset)))


def study(cwd: Path) -> Store:
    """Write data set and study, cwd/data and cwd/runs/s-1."""
    write(cwd / "set", *images())
    return finished.study(cwd / "runs", plan(cwd / "set"))
