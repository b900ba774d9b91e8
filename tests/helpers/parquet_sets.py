"""Data sets in parquet files, valid and invalid ones."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from core.data import load
from core.errors import InputError


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def noise(n: int, shape=(6, 5, 3), seed=0) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, (n, *shape)).astype(np.uint8)


def write(path: Path, images, labels, *, column="img", kind=None) -> None:
    image_type = pa.struct([("bytes", kind or pa.binary()), ("path", pa.string())])
    rows = [None if image is None else {"bytes": image, "path": None} for image in images]
    labels = labels if isinstance(labels, pa.Array) else pa.array(labels, pa.int64())
    pq.write_table(pa.table({column: pa.array(rows, image_type), "label": labels}), path)


def assert_rejected(folder: Path, *texts: str, **options) -> None:
    """Check that a data set is rejected with a message of one line that contains all texts."""
    with pytest.raises(InputError) as caught:
        load(f"parquet:{folder}", **options)
    message = str(caught.value)
    assert "\n" not in message
    for text in texts:
        assert text in message, message
