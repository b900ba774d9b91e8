"""The state of a trial."""

import enum


class TrialState(enum.Enum):
    """State of a trial, with this life cycle:

        RUNNING ──────> COMPLETED        trained and evaluated; it has metrics
         │  ▲   ├─────> FAILED           training or evaluation raised an error; it has no metrics
         ▼  │   └─────> EARLY_STOPPED    dominated by other trials at a rung; it has no metrics
        INTERRUPTED                      the driver or the machine stopped; `--resume` continues from the last checkpoint

    A trial is RUNNING from the moment its suggestion is stored. COMPLETED, FAILED and EARLY_STOPPED are final: a trial in one of
    these states has a result in the store and is never run again.
    """

    RUNNING = "running"
    INTERRUPTED = "interrupted"
    COMPLETED = "completed"
    FAILED = "failed"
    EARLY_STOPPED = "early-stopped"

    @classmethod
    def of_result(cls, error: str, stopped_epoch: int) -> "TrialState":
        """The final state of a trial, given its error (empty if none) and the epoch after which it was stopped early (0 if not)."""
        if error:
            return cls.FAILED
        return cls.EARLY_STOPPED if stopped_epoch else cls.COMPLETED
