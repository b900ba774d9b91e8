"""A trial of a study in a final state."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from core.flags import FLAGS, raised
from core.space import Value
from trainables.study.trial_state import TrialState


@dataclass(frozen=True)
class Trial:
    """One trial in a final state."""

    number: int
    params: dict[str, Value]
    """Complete configuration in flat form."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Metrics by name; empty unless the trial is completed."""
    curve: Sequence[Mapping[str, float]] = ()
    """One row per epoch, `epoch` and `epoch/...`."""
    error: str = ""
    """Reason of a failure, one line; empty if there was none."""
    baseline: str = ""
    """Name of the baseline; empty if the trial is none."""
    reused_from: str = ""
    """Folder of the training that was reused; empty if the trial was trained in this study."""
    stopped_epoch: int = 0
    """Epoch after which the trial was stopped early; 0 if it was not."""

    @property
    def state(self) -> TrialState:
        """Final state of the trial."""
        return TrialState.of_result(self.error, self.stopped_epoch)

    @property
    def flags(self) -> list[str]:
        """Names of the raised flags."""
        return raised(self.metrics)

    @property
    def excluded(self) -> bool:
        """Whether a flag excludes the trial from every front."""
        return any(flag in FLAGS and FLAGS[flag].excludes for flag in self.flags)
