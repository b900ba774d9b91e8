"""A labelled pool of images, in which exact copies are recognised by their pixels."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Images:
    """A labelled pool of images."""

    x: Tensor
    """Pixels, uint8 [N, C, H, W]; in images that were computed, such as adversarial ones, floats in [0, 1]."""
    y: Tensor
    """Labels in [0, classes), int64 [N]."""
    classes: int
    ids: Tensor = None  # pyright: ignore[reportAssignmentType]
    """Fingerprint of each image's pixels, the same for exact copies, int64 [N]; computed unless it is given."""
    notes: tuple[str, ...] = ()
    """Remarks of the loader, one line each: what it did not use or had to convert."""
    in_test_file: Tensor | None = None
    """Whether each image is from the data set's test file, bool [N] on the CPU; None if it has no test file."""

    def __post_init__(self):
        if self.ids is None:
            object.__setattr__(self, "ids", fingerprints(self.x))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return tuple(self.x.shape[1:])  # pyright: ignore[reportReturnType]

    def at(self, rows: np.ndarray | Tensor) -> "Images":
        """The images in these rows."""
        rows = torch.as_tensor(rows)
        in_test_file = None if self.in_test_file is None else self.in_test_file[rows.cpu()]
        return Images(self.x[rows], self.y[rows], self.classes, self.ids[rows], in_test_file=in_test_file)

    def to(self, device: torch.device) -> "Images":
        """The pool on a device, channels last in memory."""
        x = self.x.to(device, memory_format=torch.channels_last)
        return Images(x, self.y.to(device), self.classes, self.ids.to(device), in_test_file=self.in_test_file)

    def arrays(self) -> dict[str, Any]:
        """The pool as NumPy arrays and plain data, which other processes can receive; `of_arrays` is the inverse."""
        fields = {"x": self.x, "y": self.y, "ids": self.ids, "in_test_file": self.in_test_file}
        return {name: tensor.numpy() for name, tensor in fields.items() if tensor is not None} | {"classes": self.classes}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, Any]) -> "Images":
        """Restore a pool, without its notes, from `arrays`; it uses the same memory."""
        tensors: dict[str, Any] = {name: torch.from_numpy(own) for name, own in arrays.items() if name != "classes"}
        return cls(**tensors, classes=arrays["classes"])

    def copies_of(self, rows: np.ndarray) -> np.ndarray:
        """All rows of the pool with the pixels of an image in `rows`, in order; `rows` are among them."""
        ids = self.ids.cpu().numpy()
        return np.flatnonzero(np.isin(ids, ids[rows]))


def fingerprints(x: Tensor) -> Tensor:
    """A 64-bit hash (BLAKE2b) of each image's pixels, int64 [N] on the CPU; copies have the same.

    Among a million images, two different ones have the same hash with probability 3e-8.
    """
    pixels = x.cpu().contiguous().flatten(1).numpy()
    digests = b"".join(hashlib.blake2b(image, digest_size=8).digest() for image in pixels)
    return torch.from_numpy(np.frombuffer(digests, "<i8").astype(np.int64))


def channel_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of uint8 images, or of floats in [0, 1], on the CPU.

    Computed for uint8 images from one histogram per channel, so that no float copy of the pool is made.

    Args:
        x: images, [N, c, h, w].

    Returns:
        Means [c] and standard deviations [c], in units of [0, 1].
    """
    if x.is_floating_point():
        pixels = x.transpose(0, 1).flatten(1).double().cpu()
        return pixels.mean(1).float(), pixels.std(1).float().clamp(min=1e-3)
    levels = torch.arange(256, dtype=torch.float64) / 255
    counts = torch.stack([x[:, c].reshape(-1).bincount(minlength=256).cpu() for c in range(x.shape[1])]).double()
    n = counts.sum(1)
    mean = counts @ levels / n
    variance = (counts * (levels - mean.unsqueeze(1)).square()).sum(1) / (n - 1).clamp(min=1)
    return mean.float(), variance.sqrt().float().clamp(min=1e-3)


def size_text(shape: tuple[int, ...]) -> str:
    """Width, height and colour mode of images of a shape (C, H, W)."""
    return f"{shape[2]}x{shape[1]} {'grey' if shape[0] == 1 else 'RGB'}"
