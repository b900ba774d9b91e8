"""The place where a study would run: its processes, their memory, and the time that they take to start."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Place:
    """The processes of a study, described by what was measured in the process of `--dry-run`, which resembles the study's own."""

    at_a_time: int
    """Number of trials at a time."""
    workers: int = 0
    """Ray Train workers per trial; 0 trains in the trial's own process."""
    start: float
    """CPU seconds of the start of this process. A worker loads the same libraries."""
    driver_bytes: float
    """Memory of this process without the pool."""
    pool_bytes: float
    """Bytes of the pool's pixels."""
    shared_bytes: float = 0.0
    """Memory of the files of libraries in this process, which every process counts and which is there once."""

    def processes(self, networks: float) -> float:
        """The number of worker processes that a step starts for a number of networks.

        Ray uses a process for one network after the other, but new processes for the confirmation step. Ray Train starts new
        processes for each network.
        """
        return self.workers * networks if self.workers else min(networks, self.at_a_time)


def file_bytes() -> float:
    """Memory of files, mostly libraries, in this process; 0 on other systems than Linux."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) * 1024 for line in lines if line.startswith("RssFile:")), 0.0)
