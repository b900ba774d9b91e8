"""Independent random streams, all derived from one seed.

A stream is named by its use (`"order", epoch`), so it does not depend on the amount drawn from other streams, and a run that is
resumed at an epoch draws the same numbers as an uninterrupted run.
"""

import hashlib
import math

import numpy as np
import torch
from torch import Tensor


def fold(seed: int, *names: str | int) -> int:
    """Derive a seed from a seed and names; it has 31 bits, which every library accepts."""
    digest = hashlib.sha256(repr((int(seed), *names)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def generator(seed: int, *names: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """The random stream with this name."""
    return torch.Generator(device=device).manual_seed(fold(seed, *names))


class Draw:
    """Per-image noise for one worker's share of a global batch.

    Every worker draws for the whole batch and keeps its own rows, so the numbers do not depend on the number of workers.
    """

    def __init__(self, stream: torch.Generator, total: int, rows: slice = slice(None)):
        """`total`: number of images in the global batch. `rows`: rows of this worker."""
        self.stream, self.total, self.rows = stream, total, rows

    def uniform(self, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), [rows, *shape]."""
        return torch.rand(self.total, *shape, generator=self.stream, device=self.stream.device)[self.rows]

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, [rows, *shape]."""
        return torch.randn(self.total, *shape, generator=self.stream, device=self.stream.device)[self.rows]

    def integers(self, high: int) -> Tensor:
        """Integers in [0, high), [rows]."""
        return torch.randint(high, (self.total,), generator=self.stream, device=self.stream.device)[self.rows]

    def one_integer(self, high: int) -> Tensor:
        """One integer in [0, high) for the whole batch, [1], the same on every worker."""
        return torch.randint(high, (1,), generator=self.stream, device=self.stream.device)

    def beta(self, a: float) -> float:
        """One number from Beta(a, a), the same on every worker."""
        seed = int(torch.randint(2**31, (1,), generator=self.stream, device=self.stream.device))
        return float(np.random.Generator(np.random.PCG64(seed)).beta(a, a))

    def permutation(self) -> Tensor:
        """A permutation of the global batch, [total]; for components that receive the whole batch."""
        return torch.randperm(self.total, generator=self.stream, device=self.stream.device)


class PerImage:
    """Noise for evaluation, which belongs to an image and not to its place in a batch.

    The numbers of an image depend on the seed, the names of the stream, the image's id, and the number of earlier draws from
    this stream. They do not depend on the other images of the batch or on the device. They are computed from a counter
    (SplitMix64, Steele et al. 2014), so no state is kept per image.
    """

    def __init__(self, keys: Tensor):
        """`keys`: one random key per image, int64 [N]; see `per_image`."""
        self.keys, self.calls = keys, 0

    def named(self, *names: str | int) -> "PerImage":
        """Another stream for the same images."""
        return PerImage(_mix(self.keys ^ fold(0, *names)))

    def at(self, rows: Tensor) -> "PerImage":
        """This stream, restarted from its beginning, for some of the images; `rows` is an index or a mask."""
        return PerImage(self.keys[rows])

    def uniform(self, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), float32 [N, *shape]."""
        return self._top(self._words(shape), 40).float() * 2.0**-24

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, float32 [N, *shape] (Box and Muller)."""
        words = self._words(shape)
        radius = (-2 * torch.log((self._top(words, 40) + 1).float() * 2.0**-24)).sqrt_()
        return radius * torch.cos((words & 0xFFFFFF).float() * (2 * torch.pi * 2.0**-24))

    def signs(self, *shape: int) -> Tensor:
        """-1 or 1 with equal probability, float32 [N, *shape]."""
        return self._words(shape).sign_().float()

    def integers(self, high: int, *shape: int) -> Tensor:
        """Integers in [0, high), int64 [N, *shape]; `high` must be far below 2^31."""
        return self._top(self._words(shape), 32) * high >> 32

    @staticmethod
    def _top(words: Tensor, drop: int) -> Tensor:
        return (words >> drop) & ((1 << (64 - drop)) - 1)

    def _words(self, shape: tuple[int, ...]) -> Tensor:
        """64 random bits per number, int64 [N, *shape]."""
        self.calls += 1
        start = _mix(self.keys + _signed(self.calls * _GOLDEN))
        steps = torch.arange(1, math.prod(shape) + 1, device=start.device) * _signed(_GOLDEN)
        return _mix(start.unsqueeze(1) + steps).view(len(start), *shape)


def per_image(seed: int, *names: str | int, ids: Tensor) -> PerImage:
    """The random stream with this name for the images with these ids, int64 [N]."""
    return PerImage(_mix(_mix(ids.long()) ^ fold(seed, *names)))


def words(count: int, device: torch.device | str = "cpu") -> Tensor:
    """Fixed random odd numbers for fingerprints, int64 [count]."""
    return _mix(torch.arange(1, count + 1, device=device)) | 1


_GOLDEN = 0x9E3779B97F4A7C15


def _signed(word: int) -> int:
    word %= 1 << 64
    return word - (1 << 64) if word >> 63 else word


def _mix(z: Tensor) -> Tensor:
    """The finaliser of SplitMix64, on int64 that wraps around on overflow."""
    z = (z ^ ((z >> 30) & 0x3FFFFFFFF)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ ((z >> 27) & 0x1FFFFFFFFF)) * _signed(0x94D049BB133111EB)
    return z ^ ((z >> 31) & 0x1FFFFFFFF)
