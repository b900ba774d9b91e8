"""Arrays as .npz files."""

import io
from collections.abc import Mapping

import numpy as np

ESCAPES = (("%", "%25"), (".", "%2E"), ("/", "."))
"""Characters of names and what is stored for them, in the order of replacement; a slash would be a folder in the file."""


def to_npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Serialise arrays under their names."""
    buffer, stored = io.BytesIO(), {}
    for name, array in arrays.items():
        for character, escaped in ESCAPES:
            name = name.replace(character, escaped)
        stored[name] = array
    np.savez_compressed(buffer, **stored)
    return buffer.getvalue()


def of_npz(data: bytes) -> dict[str, np.ndarray]:
    """Restore arrays from `to_npz`; nothing in the file is executed.

    Raises:
        ValueError: the data are not such a file.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            return {_original(name): stored[name] for name in stored.files}
    except Exception:  # of many kinds; the message of some advises to execute the code in the file
        raise ValueError("it is truncated, or is not a .npz file of plain arrays") from None


def _original(name: str) -> str:
    for character, escaped in reversed(ESCAPES):
        name = name.replace(escaped, character)
    return name
