"""Arrays as .npz files."""

import io
from collections.abc import Mapping

import numpy as np


def to_npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Serialise arrays; a slash in a name becomes a dot, because it would be a folder in the file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name.replace("/", "."): array for name, array in arrays.items()})  # pyright: ignore[reportArgumentType]
    return buffer.getvalue()


def of_npz(data: bytes) -> dict[str, np.ndarray]:
    """Restore arrays from `to_npz`; nothing in the file is executed.

    Raises:
        ValueError: the data are not such a file.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            return {name.replace(".", "/"): stored[name] for name in stored.files}
    except Exception:  # of many kinds; the message of some advises to execute the code in the file
        raise ValueError("it is truncated, or is not a .npz file of plain arrays") from None
