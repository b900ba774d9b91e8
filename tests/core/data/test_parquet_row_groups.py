"""Images in many row groups, and in one that is larger than Arrow's arrays."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from parquet_sets import encoded, noise

from core.data import load


def group_reads(monkeypatch) -> list[list[int]]:
    """Record the row groups whose images are read."""
    reads, original = [], pq.ParquetFile.iter_batches

    def recorded(self, batch_size, row_groups, columns, **options):
        reads.append(row_groups)
        return original(self, batch_size, row_groups, columns, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", recorded)
    return reads


@pytest.mark.parametrize("size", [1, 3, 7, 50])
def test_images_do_not_depend_on_the_row_groups(tmp_path, size):
    pixels, stream = noise(100), np.random.RandomState(1)
    labels = stream.permutation(np.arange(100) % 2)
    for name, own in (("train", slice(0, 60)), ("test", slice(60, 100))):
        rows = [{"bytes": encoded(p), "path": None} for p in pixels[own]]
        table = pa.table({"img": pa.array(rows), "label": labels[own]})
        pq.write_table(table, tmp_path / f"{name}.parquet", row_group_size=size)
    images = load(f"parquet:{tmp_path}")
    assert np.array_equal(images.x.numpy(), pixels.transpose(0, 3, 1, 2)) and np.array_equal(images.y.numpy(), labels)
    part = load(f"parquet:{tmp_path}", pool=40)
    chosen = [int(np.flatnonzero((images.x == image).flatten(1).all(1))[0]) for image in part.x]
    assert chosen == sorted(chosen) and np.array_equal(images.y.numpy()[chosen], part.y.numpy())


def test_only_row_groups_with_images_of_the_pool_are_read(tmp_path, monkeypatch):
    rows = [{"bytes": encoded(p), "path": None} for p in noise(400, (4, 4))]
    for name in ("train", "test"):
        table = pa.table({"img": pa.array(rows), "label": np.arange(400) % 2})
        pq.write_table(table, tmp_path / f"{name}.parquet", row_group_size=2)
    reads = group_reads(monkeypatch)
    assert len(load(f"parquet:{tmp_path}", pool=16).y) == 16
    assert 0 < sum(map(len, reads)) <= 16


@pytest.mark.slow
def test_a_row_group_with_more_than_2_gib_of_images_is_read_page_by_page(tmp_path):
    image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for name, parts in (("train", 18), ("test", 1)):  # a BMP stores pixels as they are, so 40 images have 120 MiB
        chunks = [
            pa.array([{"bytes": encoded(np.full((1024, 1024, 3), i, np.uint8), "BMP"), "path": None}] * 40, image_type)
            for i in range(parts)
        ]
        table = pa.table({"img": pa.chunked_array(chunks), "label": np.arange(40 * parts) % 2})
        options = {"row_group_size": len(table), "write_batch_size": 8, "compression": "none", "use_dictionary": False}
        pq.write_table(table, tmp_path / f"{name}.parquet", **options)
        del chunks, table
    assert (tmp_path / "train.parquet").stat().st_size > 2**31
    code = """
import pathlib, re, sys
from core.data import load
images = load(f"parquet:{sys.argv[1]}", pool=int(sys.argv[2]))
peak = re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1]  # ru_maxrss includes the parent's
print(len(images.y), int(peak) >> 10)
"""
    for pool, mib in ((16, 1000), (0, 3800)):
        command = [sys.executable, "-c", code, str(tmp_path), str(pool)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        count, peak = map(int, done.stdout.split())
        assert count == (pool or 760) and peak < mib
