"""Independent random streams, all folded from one seed.

A stream is named by what it is for (`"order", epoch`), so no stream depends on how much another has drawn, and a run
that is resumed at an epoch draws what the uninterrupted run would have drawn.
"""

import hashlib

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
