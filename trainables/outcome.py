"""What a study has found so far: its trials, their front, and what confirm made of it. Plain data, no Ray, no MLflow."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from core import pareto
from core.config import Objective
from core.space import Range, Value
from core.stats import Interval


@dataclass(frozen=True)
class Trial:
    """One trial that ended, well or not."""

    number: int
    params: dict[str, Value]
    """The whole flat configuration."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Empty for a failed trial."""
    curve: list[dict[str, float]] = field(default_factory=list)
    """One row per epoch, `epoch` and `epoch/...`."""
    error: str = ""
    """Why it failed, one line; empty if it did not."""
    baseline: str = ""
    """Its name if it is one of the study's baselines."""

    @property
    def flags(self) -> list[str]:
        """Names of the flags that are raised."""
        return [name.removeprefix("flag/") for name, value in self.metrics.items() if name.startswith("flag/") and value]


@dataclass(frozen=True)
class Confirmed:
    """A front point after re-training with fresh seeds and members, judged on the test part."""

    number: int
    """Of the trial that was confirmed."""
    replicates: int
    means: dict[str, float]
    """Mean over replicates of each objective metric."""
    intervals: dict[str, Interval]
    """95 % interval of each mean (Student)."""
    probability: float
    """How likely the point is non-dominated among the confirmed ones."""
    on_front: bool
    """Whether its means are still on the front of the confirmed points."""
    failed: int = 0
    """Replicates that failed."""
    flags: tuple[str, ...] = ()
    """Flags under which it may be on no front, raised by any replicate."""


@dataclass
class Outcome:
    """A study and everything that came out of it so far."""

    name: str
    """Of this execution; what --resume takes."""
    study: str
    question: str
    objectives: Sequence[Objective]
    space: dict[str, Range]
    planned: int
    """Trials asked for."""
    facts: dict[str, str] = field(default_factory=dict)
    """Command, versions, commit, hardware: for people, in this order."""
    trials: list[Trial] = field(default_factory=list)
    """Ended trials, in the order in which they ended."""
    confirmed: list[Confirmed] = field(default_factory=list)

    @property
    def done(self) -> list[Trial]:
        """Trials with metrics."""
        return [t for t in self.trials if not t.error]

    @property
    def failed(self) -> list[Trial]:
        """Trials without."""
        return [t for t in self.trials if t.error]

    def front(self) -> list[Trial]:
        """The front of the sweep, best first objective first."""
        done = self.done
        mask = pareto.front([t.metrics for t in done], self.objectives)
        first = self.objectives[0]
        return sorted((t for t, on in zip(done, mask, strict=True) if on), key=lambda t: first.loss(t.metrics[first.metric]))

    def hypervolume(self) -> float:
        """Of the front, between ideal and references."""
        return pareto.hypervolume(pareto.losses([t.metrics for t in self.front()], self.objectives))

    def hypervolume_curve(self) -> list[float]:
        """The hypervolume after the first 1, 2, ... finished trials, by number."""
        whole = sorted(self.done, key=lambda t: t.number)
        mask = pareto.eligible([t.metrics for t in whole], self.objectives)
        values = pareto.losses([t.metrics for t in whole], self.objectives)
        return [pareto.hypervolume(values[: i + 1][mask[: i + 1]]) for i in range(len(whole))]

    def columns(self) -> list[str]:
        """The parameters worth a column: slots and knobs that differ between trials."""
        seen: dict[str, set] = {}
        for trial in self.trials:
            for name, value in trial.params.items():
                seen.setdefault(name, set()).add(value)
        varied = {name for name, values in seen.items() if len(values) > 1 or any(name not in t.params for t in self.trials)}
        return [name for name in seen if name in varied]
