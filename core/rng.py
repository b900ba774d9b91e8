"""Independent random streams, all folded from one seed.

A stream is named by what it is for (`"order", epoch`), so no stream depends on how much another has drawn, and a run
that is resumed at an epoch draws what the uninterrupted run would have drawn.
"""

import hashlib
import math

import numpy as np
import torch
from torch import Tensor


def fold(seed: int, *names: str | int) -> int:
    """A seed that depends on the seed and on every name; 31 bits, which every library takes."""
    digest = hashlib.sha256(repr((int(seed), *names)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def generator(seed: int, *names: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """The stream with that name."""
    return torch.Generator(device=device).manual_seed(fold(seed, *names))


class Draw:
    """Per-image noise for one worker's share of a global batch.

    Every worker draws for the whole batch and keeps its rows, so the numbers do not depend on how many workers there are.
    """

    def __init__(self, stream: torch.Generator, total: int, rows: slice = slice(None)):
        """`total` images in the global batch, of which this worker holds `rows`."""
        self.stream, self.total, self.rows = stream, total, rows

    def uniform(self, *shape: int) -> Tensor:
        """Numbers in [0, 1), [rows, *shape]."""
        return torch.rand(self.total, *shape, generator=self.stream, device=self.stream.device)[self.rows]

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, [rows, *shape]."""
        return torch.randn(self.total, *shape, generator=self.stream, device=self.stream.device)[self.rows]

    def integers(self, high: int) -> Tensor:
        """Whole numbers in [0, high), [rows]."""
        return torch.randint(high, (self.total,), generator=self.stream, device=self.stream.device)[self.rows]

    def beta(self, a: float) -> float:
        """One number from Beta(a, a), the same on every worker."""
        seed = int(torch.randint(2**31, (1,), generator=self.stream, device=self.stream.device))
        return float(np.random.Generator(np.random.PCG64(seed)).beta(a, a))

    def permutation(self) -> Tensor:
        """A shuffle of the global batch, [total]; for those who hold all of it."""
        return torch.randperm(self.total, generator=self.stream, device=self.stream.device)


class PerImage:
    """Noise that belongs to an image and not to its place in a batch, for judging.

    What an image gets depends on the seed, on the names of the stream, on the image's own number and on how often this
    stream has been asked; not on the batch that it is in, nor on which other images are still there, nor on the device.
    It is computed from a counter (SplitMix64, Steele et al. 2014), so there is no state to keep for each image.
    """

    def __init__(self, keys: Tensor):
        """`keys`: int64 [N]; see `per_image`."""
        self.keys, self.calls = keys, 0

    def named(self, *names: str | int) -> "PerImage":
        """Another stream for the same images."""
        return PerImage(_mix(self.keys ^ fold(0, *names)))

    def at(self, rows: Tensor) -> "PerImage":
        """This stream from its beginning, for some of the images: `rows` is an index or a mask."""
        return PerImage(self.keys[rows])

    def uniform(self, *shape: int) -> Tensor:
        """Numbers in [0, 1), float32 [N, *shape]."""
        return self._top(self._words(shape), 40).float() * 2.0**-24

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, float32 [N, *shape] (Box and Muller)."""
        words = self._words(shape)
        radius = (-2 * torch.log((self._top(words, 40) + 1).float() * 2.0**-24)).sqrt_()
        return radius * torch.cos((words & 0xFFFFFF).float() * (2 * torch.pi * 2.0**-24))

    def signs(self, *shape: int) -> Tensor:
        """-1 or 1 with equal chances, float32 [N, *shape]."""
        return self._words(shape).sign_().float()

    def integers(self, high: int, *shape: int) -> Tensor:
        """Whole numbers in [0, high), int64 [N, *shape]; `high` far below 2^31."""
        return self._top(self._words(shape), 32) * high >> 32

    @staticmethod
    def _top(words: Tensor, drop: int) -> Tensor:
        return (words >> drop) & ((1 << (64 - drop)) - 1)

    def _words(self, shape: tuple[int, ...]) -> Tensor:
        """64 random bits for each number."""
        self.calls += 1
        start = _mix(self.keys + _signed(self.calls * _GOLDEN))
        steps = torch.arange(1, math.prod(shape) + 1, device=start.device) * _signed(_GOLDEN)
        return _mix(start.unsqueeze(1) + steps).view(len(start), *shape)


def per_image(seed: int, *names: str | int, ids: Tensor) -> PerImage:
    """The stream with that name for the images with these numbers, int64 [N]."""
    return PerImage(_mix(_mix(ids.long()) ^ fold(seed, *names)))


def words(count: int, device: torch.device | str = "cpu") -> Tensor:
    """That many fixed random odd numbers, int64, to make fingerprints with."""
    return _mix(torch.arange(1, count + 1, device=device)) | 1


_GOLDEN = 0x9E3779B97F4A7C15


def _signed(word: int) -> int:
    word %= 1 << 64
    return word - (1 << 64) if word >> 63 else word


def _mix(z: Tensor) -> Tensor:
    """SplitMix64's finaliser, on int64 that wrap around."""
    z = (z ^ ((z >> 30) & 0x3FFFFFFFF)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ ((z >> 27) & 0x1FFFFFFFFF)) * _signed(0x94D049BB133111EB)
    return z ^ ((z >> 31) & 0x1FFFFFFFF)
