"""Keeping freed memory in the process."""

import ctypes
import functools
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # from glibc's malloc.h


@functools.cache
def keep_freed() -> None:
    """Let malloc reuse what a training step frees, instead of handing it back and faulting it in again every step.

    On CPUs the activations of a batch are freed and asked for again thousands of times; with glibc's defaults a fifth of
    the time goes into page faults (tests/benchmarks/bench_training.py). The process then holds its peak memory until it
    ends. Does nothing where there is no glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 32 << 20)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_TOP_PAD, 64 << 20)
