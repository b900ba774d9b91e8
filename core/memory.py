"""Memory allocation during training on CPUs."""

import ctypes
import functools
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # from glibc's malloc.h


@functools.cache
def keep_freed() -> None:
    """Make malloc keep freed memory in the process instead of returning it to the operating system.

    Every training step on a CPU frees and allocates its activations again; with glibc's defaults, a fifth of the time is spent
    on page faults (tests/benchmarks/bench_training.py). The process then holds its peak memory until it ends. Without glibc,
    this function does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 32 << 20)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_TOP_PAD, 64 << 20)
