"""The place where a study would run: its processes, their memory, and the time that they take to start."""

from dataclasses import dataclass


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

    def processes(self, networks: float) -> float:
        """The number of worker processes that a step starts for a number of networks.

        Ray uses a process for one network after the other, but new processes for the confirmation step. Ray Train starts new
        processes for each network.
        """
        return self.workers * networks if self.workers else min(networks, self.at_a_time)
