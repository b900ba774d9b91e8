"""Data sets that other packages contain or download."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from core.data.files import pointer_in
from core.data.source import Source, in_memory
from core.errors import InputError, first_line


def digits(data_dir: Path) -> Source:
    """The 1,797 digits of scikit-learn, 8x8 grey."""
    del data_dir
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return in_memory("digits", np.round(np.asarray(x).reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8), np.asarray(y))


def torchvision_set(name: str, parts: Sequence[Mapping[str, object]], data_dir: Path) -> Source:
    """A data set of torchvision, which downloads it if it is not there.

    Args:
        name: name of the class in `torchvision.datasets`.
        parts: arguments that select the training and the test images.
        data_dir: folder of downloaded data sets.

    Raises:
        InputError: the files cannot be read or downloaded.
    """
    import torchvision.datasets

    x, y = [], []
    before = {data_dir, *data_dir.rglob("*")} if data_dir.exists() else set()
    for part in parts:
        try:
            data = getattr(torchvision.datasets, name)(str(data_dir), download=True, **part)
        except Exception as error:  # readers raise many kinds of errors on malformed files
            _prune(data_dir, keep=before)
            if pointer := pointer_in(before):
                raise InputError(f"cannot read {name}: {pointer}") from None
            raise InputError(f"cannot read {name} from {data_dir} or download it: {first_line(error)}") from None
        x.append(np.asarray(data.data))
        y.append(np.asarray(data.labels if name == "SVHN" else data.targets))
    pixels, labels = np.concatenate(x), np.concatenate(y)
    if name != "SVHN":  # SVHN is [N, C, H, W]; the others have channels last, or no channel axis
        pixels = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
    return in_memory(name, pixels, labels, len(y[-1]))


def _prune(folder: Path, keep: set[Path]) -> None:
    """Remove empty folders that a failed download has created."""
    for path in sorted({folder, *folder.rglob("*")} - keep, reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
