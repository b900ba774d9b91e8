"""The memory of this machine: how much is free, and how it is allocated during training on CPUs."""

import ctypes
import functools
import math
import os
import sys
from pathlib import Path

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


def available() -> int:
    """Memory in bytes that this process can still allocate: free memory of the machine, within the limits of its cgroups.

    On systems other than Linux, the size of the memory.
    """
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) << 10
        own = next((line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")), "/")
    except (OSError, KeyError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    root = Path("/sys/fs/cgroup")
    folder = root / own.lstrip("/")
    return int(min(free, *(_left_in(path) for path in (folder, *folder.parents) if path.is_relative_to(root))))


def _left_in(cgroup: Path) -> float:
    """Bytes below the limit of a cgroup (version 2); the page cache of files that are not in use does not count as used."""
    try:
        limit, used = ((cgroup / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        return math.inf if limit == "max" else max(0, int(limit) - int(used) + int(stat["inactive_file"]))
    except (OSError, ValueError, KeyError):  # the root has no limit, and not every kernel counts memory
        return math.inf


def gib(count: float) -> str:
    """A number of bytes in GiB, as text."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**30:.2g} GiB"
