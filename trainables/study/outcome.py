"""The outcome of a study so far: its trials, their Pareto front, the confirmation of the front, and its revisions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from core import pareto
from core.flags import FLAGS
from core.space import Range
from core.stats import Interval
from core.study import Constraint, Objective
from trainables.study.plan import Plan
from trainables.study.trial import Trial
from trainables.study.trial_state import TrialState

TIMESTAMP_FORMAT = "%Y-%m-%d %H:%M:%S %z"
"""Format of stored and printed timestamps."""


@dataclass(frozen=True)
class Leak:
    """Leakage that one audit found, over the replicates of a point."""

    auc: float
    """Mean AUC, not folded."""
    interval: Interval
    """95 % interval of the mean (Student)."""
    tprs: Mapping[float, float] = field(default_factory=dict)
    """Mean true-positive rate by false-positive rate, where there are enough non-members to resolve it."""


@dataclass(frozen=True)
class Confirmed:
    """A front point after it was trained again with new seeds and members, and evaluated on the test part."""

    number: int
    """Number of the trial that was confirmed."""
    replicates: int
    """Number of replicates that succeeded."""
    means: dict[str, float]
    """Mean over replicates of each objective and each constrained metric."""
    intervals: dict[str, Interval]
    """95 % interval of each mean (Student)."""
    probability: float
    """Probability that the point is non-dominated among the confirmed points."""
    on_front: bool
    """Whether the means are on the front of the confirmed points."""
    failed: int = 0
    """Number of replicates that failed."""
    flags: tuple[str, ...] = ()
    """Excluding flags that any replicate raises."""
    leaks: Mapping[str, Leak] = field(default_factory=dict)
    """Leakage by audit, the largest first."""
    curves: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    """ROC curves of audits by other networks, as (FPR, mean TPR over replicates)."""
    histogram: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Counts of `members` and `non_members` by confidence, over all replicates, in equal parts of [0, 1]."""
    over_epsilon: Mapping[float, tuple[float, Interval]] = field(default_factory=dict)
    """Mean robust accuracy and its 95 % interval by multiple of epsilon, where it was measured."""


@dataclass
class MLflowRefs:
    """The location of a study in MLflow, as far as it is known."""

    uri: str = ""
    """Tracking URI; it may contain a password."""
    experiment: str = ""
    """Experiment ID."""
    parent: str = ""
    """Run ID of the study."""
    runs: dict[int, str] = field(default_factory=dict)
    """Run IDs of trials, by number."""


class MetricShift(NamedTuple):
    """Change of a metric over trials."""

    mean: float
    largest: float
    """Signed change with the largest absolute value."""
    trial: int
    """Number of the trial with that change."""


@dataclass(frozen=True)
class FrontRevision:
    """Effect of re-evaluating the stored networks on the front."""

    version: int
    """Version of the front that the re-evaluation produced."""
    how: str
    """Description of the re-evaluation, which continues "networks ..."."""
    when: str
    """Time at which it finished."""
    left: tuple[int, ...]
    """Numbers of trials that left the front."""
    entered: tuple[int, ...]
    """Numbers of trials that entered the front."""
    shifts: Mapping[str, MetricShift]
    """Changes by objective, of those that changed."""
    raised: Mapping[int, tuple[str, ...]]
    """New flags by trial."""
    measured: Mapping[int, tuple[str, ...]]
    """Names of the metrics that were measured, by trial."""


@dataclass
class Outcome:
    """A study with everything that is known of its results so far."""

    name: str
    """Name of this run of the study; `--resume` takes it."""
    study: str
    question: str
    objectives: Sequence[Objective]
    space: dict[str, Range]
    planned: int
    """Planned number of trials."""
    facts: dict[str, str] = field(default_factory=dict)
    """Command, versions, commit and hardware as text, in display order."""
    trials: list[Trial] = field(default_factory=list)
    """Ended trials, in the order in which they ended."""
    confirmed: list[Confirmed] = field(default_factory=list)
    pictures: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """Arrays of reconstructions and attribution maps (`core.evaluation.inspection`) of some trials of the front, by number."""
    revisions: list[FrontRevision] = field(default_factory=list)
    """Revisions of the front, oldest first; trials and confirmed points are those after all of them."""
    require: Sequence[Constraint] = ()
    """Constraints that every point of the front must meet."""
    mlflow: MLflowRefs = field(default_factory=MLflowRefs)

    @classmethod
    def of_plan(cls, plan: Plan, facts: Mapping[str, str], trials: Sequence[Trial]) -> "Outcome":
        """The outcome of a planned study with these ended trials."""
        return cls(
            name=plan.name, study=plan.study, question=plan.question, objectives=plan.objectives, space=plan.space,
            planned=plan.trials, facts=dict(facts), trials=list(trials), require=plan.require,
        )  # fmt: skip

    @property
    def version(self) -> int:
        """Version of the front: 1 when the study ends, and one more for each revision."""
        return len(self.revisions) + 1

    @property
    def completed(self) -> list[Trial]:
        """Trials with metrics."""
        return [t for t in self.trials if t.state is TrialState.COMPLETED]

    @property
    def failed(self) -> list[Trial]:
        """Trials that failed."""
        return [t for t in self.trials if t.state is TrialState.FAILED]

    @property
    def early_stopped(self) -> list[Trial]:
        """Trials that were stopped early."""
        return [t for t in self.trials if t.state is TrialState.EARLY_STOPPED]

    def front(self) -> list[Trial]:
        """The front of the sweep, sorted by the first objective, best first."""
        completed = self.completed
        mask = pareto.front([t.metrics for t in completed], self.objectives, self.require)
        first = self.objectives[0]
        on_front = [t for t, on in zip(completed, mask, strict=True) if on]
        return sorted(on_front, key=lambda t: (first.loss(t.metrics[first.metric]), t.number))

    def flags(self) -> dict[str, list[Trial]]:
        """Every raised flag with the completed trials that raise it; flags that exclude from the front come first."""
        by_flag: dict[str, list[Trial]] = {}
        for trial in self.completed:
            for flag in trial.flags:
                by_flag.setdefault(flag, []).append(trial)
        return dict(sorted(by_flag.items(), key=lambda pair: (not (pair[0] in FLAGS and FLAGS[pair[0]].excludes), pair[0])))

    def excluded(self) -> list[Trial]:
        """Trials whose metrics would be on the front but that a flag excludes."""
        completed = self.completed
        unflagged = [{**t.metrics, **dict.fromkeys(pareto.EXCLUDING_FLAGS, 0.0)} for t in completed]
        mask = pareto.front(unflagged, self.objectives, self.require)
        return [t for t, on in zip(completed, mask, strict=True) if on and t.excluded]

    def hypervolume(self) -> float:
        """Hypervolume of the front between ideals and references."""
        return pareto.hypervolume(pareto.losses([t.metrics for t in self.front()], self.objectives))

    def hypervolume_curve(self) -> list[float]:
        """Hypervolume after the first 1, 2, ... completed trials, by number."""
        completed = sorted(self.completed, key=lambda t: t.number)
        mask = pareto.eligible([t.metrics for t in completed], self.objectives, self.require)
        values = pareto.losses([t.metrics for t in completed], self.objectives)
        return [pareto.hypervolume(values[: i + 1][mask[: i + 1]]) for i in range(len(completed))]

    def columns(self) -> list[str]:
        """Names of the parameters that differ between trials, including those that some trials do not have.

        Their order does not depend on the order in which trials ended.
        """
        seen: dict[str, set] = {}
        for trial in sorted(self.trials, key=lambda trial: trial.number):
            for name, value in trial.params.items():
                seen.setdefault(name, set()).add(value)
        varied = {name for name, values in seen.items() if len(values) > 1 or any(name not in t.params for t in self.trials)}
        return [name for name in seen if name in varied]


def front_revision(
    before: Outcome, after: Outcome, how: str, when: str, measured: Mapping[int, tuple[str, ...]]
) -> FrontRevision:
    """Compare two versions of a front; `after` has the trials of the version after `before`."""
    old_front, new_front = ({t.number for t in outcome.front()} for outcome in (before, after))
    old = {t.number: t for t in before.completed}
    pairs = [(old[t.number], t) for t in after.completed]
    shifts = {}
    for metric in (o.metric for o in before.objectives):
        both = [(a.metrics[metric], b.metrics[metric], b.number) for a, b in pairs if metric in a.metrics and metric in b.metrics]
        changes = [(new - previous, number) for previous, new, number in both]
        if any(change for change, _ in changes):
            largest = max(changes, key=lambda pair: abs(pair[0]))
            shifts[metric] = MetricShift(sum(change for change, _ in changes) / len(changes), *largest)
    new_flags = {b.number: tuple(flag for flag in b.flags if flag not in a.flags) for a, b in pairs}
    return FrontRevision(
        version=before.version + 1, how=how, when=when, left=tuple(sorted(old_front - new_front)),
        entered=tuple(sorted(new_front - old_front)), shifts=shifts,
        raised={number: flags for number, flags in new_flags.items() if flags}, measured=measured,
    )  # fmt: skip
