"""Labels that are not the classes 0 to C-1: each mistake has its own message."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from parquet_sets import assert_rejected, encoded, noise, write


@pytest.mark.parametrize(
    "labels, text",
    [
        ([3] * 10, "no image has label 2; found 0, 1, 3; number the 3 classes 0 to 2 without gaps"),
        ([0, 0, 0, 0, 0, -1, -1, -1, -1, -2], "5 labels are negative, the first one is -1 in {}/test.parquet row 5; drop these"),
        ([0, 1, None, 1, 0, 1, None, 1, 0, 1], "2 labels are missing"),
        ([0] * 9 + [2], "class 2 has 1 images; each needs at least 8"),
        ([0, 1] * 4 + [10**12, 0], "label 1000000000000 in {}/test.parquet row 8 is too large, there are only 30 images"),
    ],
    ids=["gap", "negative", "null", "too-few", "huge"],
)
def test_labels_that_are_not_classes_are_rejected(folder, labels, text):
    write(folder / "test.parquet", [encoded(p) for p in noise(10)], pa.array(labels, pa.int64()))
    assert_rejected(folder, text.format(folder))


def test_classes_numbered_from_1_are_listed(tmp_path):
    for name in ("train", "test"):
        write(tmp_path / f"{name}.parquet", [encoded(p) for p in noise(60)], [1 + i % 12 for i in range(60)])
    assert_rejected(tmp_path, "no image has label 0; found 1, 2, 3, 4, 5, 6, 7, 8, 9, ..., 12; number the 12 classes 0 to 11")


@pytest.mark.parametrize(
    "labels, kind, found",
    [
        ([True, False] * 5, "bool", "True, False"),
        ([0.0, 1.5] * 5, "double", "0.0, 1.5"),
        (["cat", "dog"] * 5, "string", "'cat', 'dog'"),
        ([[0], [1]] * 5, "list", "[0], [1]"),
        ([None] * 10, "null", "None"),
        (["a long text " * 500] * 10, "string", "such as 'a long text ... a long text '), expected"),
    ],
)
def test_labels_of_another_type_are_shown_with_the_remedy(folder, labels, kind, found):
    write(folder / "train.parquet", [encoded(p) for p in noise(10)], pa.array(labels))
    assert_rejected(folder, "train.parquet: column label is", kind, found, "number the classes 0, 1, ... and save them as int64")


@pytest.mark.parametrize("name", ["img", "label"])
def test_a_column_that_exists_twice_is_rejected(folder, name):
    table = pq.read_table(folder / "test.parquet")
    pq.write_table(pa.table([*table.columns, table[name]], names=[*table.column_names, name]), folder / "test.parquet")
    assert_rejected(folder, f"{folder}/test.parquet has several columns {name}; keep one of them")


def test_unsigned_labels_beyond_int64_are_too_large_and_not_negative(folder):
    write(folder / "test.parquet", [encoded(p) for p in noise(10)], pa.array([0] * 9 + [2**64 - 1], pa.uint64()))
    assert_rejected(folder, "test.parquet: a label is too large", str(2**64 - 1))


def test_a_single_class_is_rejected(folder):
    for name, n in (("train", 20), ("test", 10)):
        write(folder / f"{name}.parquet", [encoded(p) for p in noise(n)], [0] * n)
    assert_rejected(folder, "all 30 images have the same label, 0; a classifier needs at least 2 classes")


def test_files_without_rows_are_rejected(folder):
    for name in ("train", "test"):
        write(folder / f"{name}.parquet", [], [])
    assert_rejected(folder, "train.parquet has no rows")


@pytest.mark.parametrize("size, text", [(31, "pool=31 is more than the 30 images"), (15, "pool=15 is too small")])
def test_a_pool_that_cannot_be_drawn_is_rejected(folder, size, text):
    assert_rejected(folder, text, pool=size)
