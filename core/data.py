"""Data sets as two tensors, and their split into members and non-members.

    images = load("cifar10", data_dir="data")       # uint8 [N, C, H, W], int64 [N]
    parts = split(images, config.split)              # row numbers: members, val, test, shadow

Training and test files form one pool, as in the CRL paper: half of it is the target half, half the shadow pool. Half of the target
half are members; the non-members are halved into `val`, which a sweep may use, and `test`, which only the confirmation step may
use. The draw of `test` depends on the data and the pool size alone, so no trial trains on it.
"""

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from core.errors import InputError, first_line, unknown
from core.rng import fold

MAX_BYTES = 16 << 30  # decoded size of a whole pool
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")  # modes with 8 bits per channel; 16-bit grey would be truncated
MAX_SIDE = 1024  # pixels; a small image file may decode to far more
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")  # decoded by Pillow itself; other formats may start external programs


@dataclass(frozen=True)
class Images:
    """A labelled pool of images."""

    x: Tensor
    """Pixels, uint8 [N, C, H, W]."""
    y: Tensor
    """Labels in [0, classes), int64 [N]."""
    classes: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return tuple(self.x.shape[1:])  # pyright: ignore[reportReturnType]

    def at(self, rows: np.ndarray | Tensor) -> "Images":
        """The images in these rows."""
        rows = torch.as_tensor(rows)
        return Images(self.x[rows], self.y[rows], self.classes)

    def to(self, device: torch.device) -> "Images":
        """The pool on a device, channels last in memory."""
        return Images(self.x.to(device, memory_format=torch.channels_last), self.y.to(device), self.classes)


@dataclass(frozen=True)
class Parts:
    """Disjoint sets of row numbers of a pool."""

    members: np.ndarray
    val: np.ndarray
    test: np.ndarray
    shadow: np.ndarray

    def judged(self, part: str) -> np.ndarray:
        """The non-members that `judge.part` names."""
        if part != "both":
            return getattr(self, part)
        return np.random.Generator(np.random.PCG64(0)).permutation(np.concatenate([self.val, self.test]))


def _digits(data_dir: Path) -> tuple[np.ndarray, np.ndarray]:
    del data_dir
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return np.round(np.asarray(x).reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8), np.asarray(y)


def _torchvision(name: str, train: dict, test: dict) -> Callable[[Path], tuple[np.ndarray, np.ndarray]]:
    def read(data_dir: Path) -> tuple[np.ndarray, np.ndarray]:
        import torchvision.datasets

        x, y = [], []
        before = {data_dir, *data_dir.rglob("*")} if data_dir.exists() else set()
        for part in (train, test):
            try:
                data = getattr(torchvision.datasets, name)(str(data_dir), download=True, **part)
            except (RuntimeError, OSError) as error:
                _prune(data_dir, keep=before)
                raise InputError(f"cannot read {name} from {data_dir} or download it: {first_line(error)}") from None
            x.append(np.asarray(data.data))
            y.append(np.asarray(data.labels if name == "SVHN" else data.targets))
        pixels, labels = np.concatenate(x), np.concatenate(y)
        if name != "SVHN":  # SVHN is [N, C, H, W]; the others have channels last, or no channel axis
            pixels = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
        return pixels, labels

    return read


def _prune(folder: Path, keep: set[Path]) -> None:
    """Remove empty folders that a failed download has created."""
    for path in sorted({folder, *folder.rglob("*")} - keep, reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


@dataclass(frozen=True)
class Source:
    """The reader of a named data set, and the customary Linf radius for it."""

    read: Callable[[Path], tuple[np.ndarray, np.ndarray]]
    epsilon: float


_PARTS = ({"train": True}, {"train": False})
DATASETS: dict[str, Source] = {
    "digits": Source(_digits, 0.1),
    "mnist": Source(_torchvision("MNIST", *_PARTS), 0.3),
    "fashion_mnist": Source(_torchvision("FashionMNIST", *_PARTS), 0.1),
    "cifar10": Source(_torchvision("CIFAR10", *_PARTS), 8 / 255),
    "cifar100": Source(_torchvision("CIFAR100", *_PARTS), 8 / 255),
    "svhn": Source(_torchvision("SVHN", {"split": "train"}, {"split": "test"}), 8 / 255),
}
PARQUET = "parquet:"


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
        InputError: the name is unknown, files are missing or unreadable, or the images do not form one data set.
    """
    if dataset.startswith(PARQUET):
        return _parquet(Path(dataset.removeprefix(PARQUET)), pool)
    if dataset not in DATASETS:
        raise unknown("dataset", dataset, [*DATASETS, f"{PARQUET}DIR"])
    x, y = DATASETS[dataset].read(Path(data_dir))
    y = _checked_labels(y, dataset)
    rows = _pool_rows(y, pool, dataset)
    return Images(torch.from_numpy(np.ascontiguousarray(x[rows])), torch.from_numpy(y[rows]), int(y.max()) + 1)


def _checked_labels(y: np.ndarray, where: str) -> np.ndarray:
    y = np.asarray(y).astype(np.int64)
    usable = len(y) and y.min() >= 0 and y.max() < len(y)  # otherwise one huge label would allocate terabytes below
    counts = np.bincount(y) if usable else np.zeros(1, int)
    if (counts == 0).any():
        raise InputError(f"{where}: labels must be 0, 1, ..., C-1 without gaps")
    if len(counts) < 2:
        raise InputError(f"{where}: all {len(y)} images have the same label; a classifier needs at least 2 classes")
    if counts.min() < 8:
        smallest = int(counts.argmin())
        raise InputError(f"{where}: class {smallest} has {counts[smallest]} images; each needs at least 8 to be split")
    return y


def _pool_rows(y: np.ndarray, pool: int, where: str) -> np.ndarray:
    if not pool:
        return np.arange(len(y))
    if pool > len(y):
        raise InputError(f"pool={pool} is more than the {len(y)} images of {where}")
    if pool < 8 * (y.max() + 1):
        raise InputError(f"pool={pool} is too small, {where} needs at least 8 images for each of {y.max() + 1} classes")
    return np.sort(_stratified(np.arange(len(y)), y, pool / len(y), fold(0, "pool", pool))[0])


def _parquet(folder: Path, pool: int) -> Images:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns, origin = [], []
    for name in ("train.parquet", "test.parquet"):
        path = folder / name
        if not path.is_file():
            raise InputError(f"no file {path}; parquet:DIR needs DIR/train.parquet and DIR/test.parquet")
        try:
            table = pq.read_table(path)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"cannot read {path}: {first_line(error)}") from None
        columns.append(_image_columns(table, path))
        origin += [(path, row) for row in range(len(table))]
    payload = [b for bytes_, _ in columns for b in bytes_]
    y = _checked_labels(np.concatenate([labels for _, labels in columns]), f"{PARQUET}{folder}")
    rows = _pool_rows(y, pool, f"{PARQUET}{folder}")
    first = _decode(payload[rows[0]], *origin[rows[0]])
    if len(rows) * first.nbytes > MAX_BYTES:
        max_images = MAX_BYTES // first.nbytes
        raise InputError(
            f"{len(rows)} images of {_size(first)} do not fit into {MAX_BYTES >> 30} GiB; "
            f"use --set pool={max_images}, or smaller images"
        )
    x = np.empty((len(rows), *first.shape), np.uint8)
    for i, row in enumerate(rows):
        image = _decode(payload[row], *origin[row])
        if image.shape != first.shape:
            raise InputError(
                f"{origin[row][0]} row {origin[row][1]}: image is {_size(image)}, the first one is {_size(first)}; "
                "all must have one size and colour mode"
            )
        x[i] = image
    return Images(torch.from_numpy(x), torch.from_numpy(y[rows]), int(y.max()) + 1)


def _image_columns(table, path: Path) -> tuple[list, np.ndarray]:
    """The encoded images and the labels of one file."""
    import pyarrow as pa

    field = next((n for n in ("img", "image") if n in table.column_names), None)
    if field is None or "label" not in table.column_names:
        raise InputError(f"{path} has columns {', '.join(table.column_names)}; expected img (with img.bytes) and label")
    kind = table.schema.field(field).type
    encoded = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 and kind.field("bytes").type
    if not encoded or not (pa.types.is_binary(encoded) or pa.types.is_large_binary(encoded)):
        raise InputError(f"{path}: column {field} is {kind}, expected a struct with encoded images in {field}.bytes")
    if not pa.types.is_integer(table.schema.field("label").type):
        raise InputError(f"{path}: column label is {table.schema.field('label').type}, expected integers")
    labels = table["label"].combine_chunks()
    if labels.null_count:
        raise InputError(f"{path}: {labels.null_count} labels are missing")
    return table[field].combine_chunks().field("bytes").to_pylist(), labels.to_numpy(zero_copy_only=False)


def _decode(data: bytes | None, path: Path, row: int) -> np.ndarray:
    from PIL import Image

    try:
        with (
            warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning),
            Image.open(io.BytesIO(data or b""), formats=FORMATS) as image,
        ):
            if max(image.size) > MAX_SIDE:
                raise InputError(f"{path} row {row}: image is {image.size[0]}x{image.size[1]}, at most {MAX_SIDE} a side")
            if image.mode not in MODES:
                raise InputError(f"{path} row {row}: image has mode {image.mode}, expected 8 bits a channel: {', '.join(MODES)}")
            pixels = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    except InputError:
        raise
    except Exception as error:  # decoders raise many kinds of errors on malformed files
        raise InputError(f"{path} row {row}: the image cannot be decoded ({first_line(error)})") from None
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _size(image: np.ndarray) -> str:
    return f"{image.shape[2]}x{image.shape[1]} {'grey' if image.shape[0] == 1 else 'RGB'}"


def split(images: Images, protocol: str = "stratified", replicate: int = 0, shadow: int = 0) -> Parts:
    """Split a pool into member, validation, test and shadow indices.

    Args:
        images: the pool.
        protocol: "stratified", or "paper" for the shuffles of the CRL paper's code (seed 0, not stratified).
        replicate: above 0, members are redrawn from members + val; `test` and `shadow` stay the same.
        shadow: above 0, return the parts of that shadow model: members and `val` are halves of the shadow pool, the others are
            empty.
    """
    y = images.y.numpy()
    rows = np.arange(len(y))
    if protocol == "paper":
        target, others = _paper_halves(rows, 0)
        members, non_members = _paper_halves(target, 0)
    else:
        target, others = _stratified(rows, y, 0.5, fold(0, "target"))
        members, non_members = _stratified(target, y, 0.5, fold(0, "members"))
    if shadow:
        paper = protocol == "paper"
        halves = _paper_halves(others, shadow - 1) if paper else _stratified(others, y, 0.5, fold(0, "shadow", shadow))
        return Parts(*halves, others[:0], others[:0])
    val, test = _stratified(non_members, y, 0.5, fold(0, "val"))
    if replicate:
        candidates = np.concatenate([members, val])
        members, val = _stratified(candidates, y, len(members) / len(candidates), fold(0, "replicate", replicate))
    return Parts(members, val, test, others)


def hold_out(y: Tensor, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Hold out a reference set from the members, stratified by class.

    Args:
        y: labels of the members, [N].
        share: share of the members that is held out, in (0, 1).
        seed: seed of the draw.

    Returns:
        Rows of the members to train on, and rows of the reference set.

    Raises:
        InputError: one of them would be empty.
    """
    labels = y.cpu().numpy()
    reference, kept = _stratified(np.arange(len(labels)), labels, share, fold(seed, "reference"))
    if not len(reference) or not len(kept):
        part, remedy = ("no reference image", "raise it") if not len(reference) else ("no member to train on", "lower it")
        raise InputError(f"a reference share of {share:g} leaves {part} of {len(labels)} members; {remedy}, or use a larger pool")
    return np.sort(kept), np.sort(reference)


def _stratified(rows: np.ndarray, y: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split rows into two shuffled parts, stratified by class to within one image; `round(share * len(rows))` are in the first."""
    stream = np.random.Generator(np.random.PCG64(seed))
    count = round(share * len(rows))
    shuffled = [stream.permutation(rows[y[rows] == c]) for c in np.unique(y[rows])]
    exact = np.array([share * len(r) for r in shuffled])
    take = np.floor(exact).astype(int)
    largest_remainder = np.argsort(-(exact - take) + 1e-9 * stream.random(len(take)))
    take[largest_remainder[: count - take.sum()]] += 1
    first = np.concatenate([r[:n] for r, n in zip(shuffled, take, strict=True)])
    second = np.concatenate([r[n:] for r, n in zip(shuffled, take, strict=True)])
    return stream.permutation(first), stream.permutation(second)


def _paper_halves(rows: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The result of scikit-learn's train_test_split(rows, test_size=0.5, random_state=seed)."""
    order = np.random.RandomState(seed).permutation(len(rows))
    held_out = -(-len(rows) // 2)
    return rows[order[held_out:]], rows[order[:held_out]]
