"""Data sets from parquet files in the Hugging Face image layout, `train.parquet` and `test.parquet` in one folder.

The labels are read first; images are then read and decoded in small batches, from the row groups that the pool needs.
"""

import reprlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.data.decode import decode
from core.data.files import mistaken
from core.data.images import size_text
from core.data.source import CheckSize, Source
from core.errors import InputError, first_line

PARQUET = "parquet:"
FILES = ("train.parquet", "test.parquet")
BATCH = 32
"""Images that are read at a time; Arrow cannot hold more than 2 GiB of them in one array."""
SHOWN = 5
"""Files that a message lists at most."""


@dataclass(frozen=True)
class _File:
    path: Path
    column: str
    """Name of the column of images."""
    labels: np.ndarray


def parquet(folder: Path) -> Source:
    """Open the data set in a folder and read its labels.

    Raises:
        InputError: a file is missing or unreadable, or its columns are not images and labels.
    """
    others = sorted(str(p.relative_to(folder)) for depth in ("*", "*/*") for p in folder.glob(f"{depth}.parquet"))
    others = [name for name in others if name not in FILES]
    listed = ", ".join(others if len(others) <= SHOWN else [*others[: SHOWN - 1], f"... ({len(others)} files)"])
    files = [_open(folder / name, listed) for name in FILES]
    sizes = [len(file.labels) for file in files]
    starts = np.cumsum([0, *sizes])

    def place(row: int) -> str:
        part = int(np.searchsorted(starts, row, side="right")) - 1
        return f"{files[part].path} row {row - starts[part]}"

    def pixels(rows: np.ndarray, check_size: CheckSize, notes: list[str]) -> np.ndarray:
        remarks: Counter[str] = Counter()
        x = np.empty(0, np.uint8)
        for i, (row, data) in enumerate(zip(rows, _encoded(files, starts, rows), strict=True)):
            image = decode(data, place(row), remarks)
            if not i:
                check_size(image.shape)
                x = np.empty((len(rows), *image.shape), np.uint8)
            if image.shape != x.shape[1:]:
                raise InputError(
                    f"{place(row)}: image is {size_text(image.shape)}, the first one is {size_text(x.shape[1:])}; all must have "
                    "one size and colour mode, after turning them as their EXIF orientation says"
                )
            x[i] = image
        notes += [f"{count} images {text}" for text, count in remarks.items()]
        return x

    unused = (f"not used: {listed} in {folder} (only {' and '.join(FILES)} are read)",) if others else ()
    return Source(f"{PARQUET}{folder}", np.concatenate([file.labels for file in files]), place, pixels, unused, sizes[-1])


def _open(path: Path, others: str) -> _File:
    """Check the columns of a file and read its labels; `others` lists the other parquet files of its folder."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.parent.is_file():
            raise InputError(f"{path.parent} is a file; {_needs()}")
        if not path.exists():
            found = f"; found {others}: join the files of each part into one" if others else ""
            raise InputError(f"no file {path}; {_needs()}{found}")
        with path.open("rb") as start:
            reason = mistaken(start.read(128))
        if reason:
            raise InputError(f"cannot read {path}: {reason}")
        with pq.ParquetFile(path) as file:
            column = _image_column(file.schema_arrow, path)
            labels = file.read(columns=["label"]).column("label")
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"cannot read {path}: {first_line(error)}; is it complete, and a parquet file?") from None
    if not len(labels):
        raise InputError(f"{path} has no rows")
    return _File(path, column, _integers(labels, path))


def _needs() -> str:
    return f"{PARQUET}DIR needs {' and '.join(f'DIR/{name}' for name in FILES)}"


def _image_column(schema, path: Path) -> str:
    """The name of the column of encoded images."""
    import pyarrow as pa

    column = next((name for name in ("img", "image") if name in schema.names), None)
    if column is None or "label" not in schema.names:
        raise InputError(f"{path} has columns {', '.join(schema.names)}; expected img (with img.bytes) and label")
    if repeated := [name for name in (column, "label") if schema.names.count(name) > 1]:
        raise InputError(f"{path} has several columns {repeated[0]}; keep one of them")
    kind = schema.field(column).type
    encoded = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 and kind.field("bytes").type
    if not encoded or not (pa.types.is_binary(encoded) or pa.types.is_large_binary(encoded)):
        raise InputError(f"{path}: column {column} is {kind}, expected a struct with encoded images in {column}.bytes")
    return column


def _integers(labels, path: Path) -> np.ndarray:
    """The labels of a file as int64."""
    import pyarrow as pa

    if not pa.types.is_integer(labels.type):
        found = ", ".join(list(dict.fromkeys(map(reprlib.repr, labels[:1000].to_pylist())))[:SHOWN])
        raise InputError(
            f"{path}: column label is {labels.type} (such as {found}), expected integers; number the classes 0, 1, ... and save "
            "them as int64"
        )
    if labels.null_count:
        raise InputError(f"{path}: {labels.null_count} labels are missing; drop these rows")
    try:
        return labels.cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: a label is too large ({first_line(error)}); labels are class numbers from 0") from None


def _encoded(files: list[_File], starts: np.ndarray, rows: np.ndarray) -> Iterator[bytes | None]:
    """The encoded images in some rows of all files together; the rows are sorted."""
    import pyarrow as pa

    for file, start, end in zip(files, starts[:-1], starts[1:], strict=True):
        try:
            yield from _of_file(file, rows[(rows >= start) & (rows < end)] - start)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"cannot read {file.path}: {first_line(error)}; is it complete?") from None


def _of_file(file: _File, rows: np.ndarray) -> Iterator[bytes | None]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(file.path, buffer_size=1 << 20, pre_buffer=False) as reader:  # otherwise Arrow reads whole row groups
        counts = [reader.metadata.row_group(group).num_rows for group in range(reader.num_row_groups)]
        ends = np.cumsum(counts)
        groups = np.unique(np.searchsorted(ends, rows, side="right")).tolist()
        at = [range(ends[group] - counts[group], ends[group]) for group in groups]
        wanted = np.concatenate([np.isin(own, rows) for own in at]) if at else np.empty(0, bool)
        for batch in reader.iter_batches(BATCH, groups, [f"{file.column}.bytes"], use_threads=False):
            keep, wanted = wanted[: len(batch)], wanted[len(batch) :]
            if keep.any():
                yield from batch.column(0).flatten()[0].filter(pa.array(keep)).to_pylist()
