"""The outcome of a study so far: its trials, their Pareto front, the confirmation of the front, and its revisions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, NamedTuple

from core import pareto
from core.estimates import Difference, Estimates
from core.flags import FLAGS
from core.front_estimates import LEAVES, STAYS
from core.space import Range
from core.stats import Interval
from core.study import Constraint, Contrast, Objective
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
    """95 % interval of the mean."""
    tprs: Mapping[float, float] = field(default_factory=dict)
    """Mean true-positive rate by false-positive rate, where there are enough non-members to resolve it."""


class Verdict(StrEnum):
    """Whether a confirmed point is on the front, by its probability to be."""

    STAYS = "stays"
    LEAVES = "leaves"
    UNDECIDED = "undecided"

    @classmethod
    def of(cls, probability: float) -> "Verdict":
        """The verdict on a point that is non-dominated with this probability."""
        return cls.STAYS if probability >= STAYS else cls.LEAVES if probability <= LEAVES else cls.UNDECIDED


@dataclass(frozen=True)
class Confirmed:
    """A point after it was trained again with new seeds and members, and evaluated on the test part."""

    number: int
    """Number of the trial that was confirmed."""
    replicates: int
    """Number of replicates that succeeded."""
    means: dict[str, float]
    """Mean over replicates of each objective and each constrained metric; `mia_auc` is that of the best audit, chosen on other
    images than those it is measured on."""
    intervals: dict[str, Interval]
    """95 % interval of each mean, with the errors due to seeds, members and images."""
    probability: float
    """Probability that the point is non-dominated among the confirmed points; 0 if a flag or a constraint excludes it."""
    on_front: bool
    """Whether the means are on the front of the confirmed points."""
    from_front: bool = True
    """Whether the point is of the sweep's front; the others are confirmed because they are baselines."""
    failed: int = 0
    """Number of replicates that failed."""
    flags: tuple[str, ...] = ()
    """Excluding flags that any replicate raises."""
    chance: float = math.nan
    """Chance level of the mean `mia_auc`; NaN if that is not measured."""
    audits: tuple[str, ...] = ()
    """Names of the audits that were chosen for `mia_auc`, the most frequent one first."""
    tiers: Mapping[str, tuple[float, Interval]] = field(default_factory=dict)
    """`mia_auc` and its 95 % interval with the audits of each tier of `trainables.study.leakage.TIERS` and all tiers before it."""
    shrunk: Mapping[str, float] = field(default_factory=dict)
    """Means of the objectives after shrinkage towards the other points, which makes them free of the winner's curse."""
    shrunk_intervals: Mapping[str, Interval] = field(default_factory=dict)
    """95 % interval of each of them."""
    leaks: Mapping[str, Leak] = field(default_factory=dict)
    """Leakage by audit, the largest first."""
    curves: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    """ROC curves of audits by other networks, as (FPR, mean TPR over replicates)."""
    histogram: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Counts of `members` and `non_members` by confidence, over all replicates, in equal parts of [0, 1]."""
    over_epsilon: Mapping[float, tuple[float, Interval]] = field(default_factory=dict)
    """Mean robust accuracy and its 95 % interval by multiple of epsilon, where it was measured."""

    @property
    def verdict(self) -> Verdict:
        """Whether the point stays on the front, leaves it, or is undecided."""
        return Verdict.of(self.probability)

    @property
    def resolved(self) -> bool:
        """Whether `mia_auc` exceeds its chance level; true if it is not measured."""
        return not self.means.get("mia_auc", math.inf) <= self.chance


@dataclass(frozen=True)
class ContrastAnswer:
    """The answer to a contrast, from the paired differences between two confirmed points."""

    contrast: Contrast
    treatment: int
    """Number of the treatment's trial."""
    control: int
    """Number of the control's trial."""
    answer: Literal["yes", "no", "undecided"]
    """Yes if the 95 % interval of the objective's difference lies on the better side of 0; no if it lies on the worse side, or
    within the margin. A treatment that is decidedly worse in the matched metric cannot yield yes, and a better one not no."""
    differences: Mapping[str, Difference]
    """Treatment minus control, by objective."""
    replicates_needed: float
    """Number of replicates per point at which a difference of the observed size would be decided, roughly; infinite if none."""


@dataclass(frozen=True)
class Confirmation:
    """The confirmation step of a study so far."""

    points: tuple[Confirmed, ...]
    """Points with at least one replicate that succeeded: those of the sweep's front, best first, then the other baselines."""
    estimates: Estimates[int]
    """Means of all objectives and constrained metrics that every replicate has, by number of the trial."""
    hypervolume: tuple[float, Interval]
    """Hypervolume of the confirmed points without noise, and its 95 % interval."""
    contrasts: tuple[ContrastAnswer, ...] = ()
    """Answers to the contrasts of the study, as far as their points are confirmed."""
    unanswered: Mapping[str, str] = field(default_factory=dict)
    """Reasons why the other contrasts have no answer, by question."""
    not_confirmed: Mapping[int, str] = field(default_factory=dict)
    """Reasons why points of the front and baselines are not confirmed, by number of the trial."""
    seconds_per_replicate: float = 0.0
    """Mean wall-clock time of one replicate with its audits."""


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
    confirmation: Confirmation | None = None
    """The confirmation step; None if no point is confirmed."""
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
    def confirmed(self) -> list[Confirmed]:
        """The confirmed points."""
        return list(self.confirmation.points) if self.confirmation else []

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

    def to_confirm(self) -> list[Trial]:
        """Trials that the confirmation step trains again: the front, and all other baselines that are completed."""
        front = self.front()
        on_front = {trial.number for trial in front}
        return front + sorted((t for t in self.completed if t.baseline and t.number not in on_front), key=lambda t: t.number)

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


def front_revision(before: Outcome, after: Outcome, how: str, when: str, measured: Mapping[int, tuple[str, ...]]) -> FrontRevision:
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
