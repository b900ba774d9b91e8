"""A valid data set in parquet files."""

import pytest
from parquet_sets import encoded, noise, write


@pytest.fixture
def folder(tmp_path):
    """A valid data set: 20 training and 10 test images of two classes, 5 wide and 6 high."""
    pixels = noise(30)
    write(tmp_path / "train.parquet", [encoded(p) for p in pixels[:20]], [i % 2 for i in range(20)])
    write(tmp_path / "test.parquet", [encoded(p) for p in pixels[20:]], [i % 2 for i in range(10)])
    return tmp_path
