"""What a study has found so far: its trials, their front, and what confirm made of it. Plain data, no Ray, no MLflow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from core import pareto
from core.config import Limit, Objective
from core.flags import FLAGS, raised
from core.space import Range, Value
from core.stats import Interval

WHEN = "%Y-%m-%d %H:%M:%S %z"
"""How a moment is written."""

RENEWED = ("flag/more_steps_help", "flag/audit_is_blind", "flag/audit_is_biased", "flag/audit_lacks_models")
"""Flags about an attack and not about the network: the newest verdict counts."""


def merged(known: Mapping[str, float], found: Mapping[str, float]) -> dict[str, float]:
    """A trial's metrics after a later look.

    What was measured anew replaces what was known. Flags add up: that a stronger attack sees no sign of masked gradients does
    not explain away the sign that a weaker one has seen on the same network. Those in `RENEWED` are no such signs: they say that
    an attack had not come to its end, or that an audit was not sound, and the later look that was asked the same has the last word.
    """
    flags = {name for name in found if name.startswith("flag/") and name not in RENEWED}
    return {**known, **found, **{name: max(known.get(name, 0.0), found[name]) for name in flags}}


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
    taken_from: str = ""
    """Where its training was found; empty if it was trained in this study."""
    stopped: int = 0
    """The epoch after which it was given up as dominated; 0 if it was trained to the end."""

    @property
    def flags(self) -> list[str]:
        """Names of the flags that are raised."""
        return raised(self.metrics)

    @property
    def barred(self) -> bool:
        """Whether a flag keeps it off every front."""
        return any(flag in FLAGS and FLAGS[flag].bars for flag in self.flags)


@dataclass(frozen=True)
class Leak:
    """What one audit found on the replicates of a point."""

    auc: float
    """Mean, not folded."""
    interval: Interval
    """95 % interval of the mean (Student)."""
    tprs: Mapping[float, float] = field(default_factory=dict)
    """Mean true-positive rate by false-positive rate, where there are enough non-members for one."""


@dataclass(frozen=True)
class Confirmed:
    """A front point after re-training with fresh seeds and members, judged on the test part."""

    number: int
    """Of the trial that was confirmed."""
    replicates: int
    means: dict[str, float]
    """Mean over replicates of each objective metric, and of what is required."""
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
    leaks: Mapping[str, Leak] = field(default_factory=dict)
    """By audit, the worst first."""
    curves: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    """ROC curves, (FPR, mean TPR over replicates), of the audits by other networks."""
    histogram: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Counts of `members` and `non_members` by confidence, over all replicates, in equal parts of [0, 1]."""
    over_epsilon: Mapping[float, tuple[float, Interval]] = field(default_factory=dict)
    """Mean robust accuracy and its 95 % interval in balls of a multiple of epsilon, where it was measured."""


@dataclass
class Tracked:
    """Where MLflow keeps a study, as far as it is known."""

    uri: str = ""
    """Of the tracking server or database; may hold a password."""
    experiment: str = ""
    parent: str = ""
    """The study's run."""
    runs: dict[int, str] = field(default_factory=dict)
    """By trial."""


class Move(NamedTuple):
    """How a metric changed over trials."""

    mean: float
    largest: float
    """The change that is farthest from zero, with its sign."""
    trial: int
    """Whose that is."""


@dataclass(frozen=True)
class Change:
    """What a later look at the stored networks did to a front."""

    version: int
    """Of the front that it led to."""
    how: str
    """In words: by which attacks, say."""
    when: str
    """When it was finished."""
    left: tuple[int, ...]
    """Trials that were on the front before."""
    entered: tuple[int, ...]
    """Trials that were not."""
    moves: Mapping[str, Move]
    """By objective, of those that moved."""
    raised: Mapping[int, tuple[str, ...]]
    """New flags, by trial."""
    measured: Mapping[int, tuple[str, ...]]
    """Names of the metrics that were measured anew, by trial."""


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
    pictures: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """By trial, the arrays of reconstructions and heat maps (`core.visible`), of some trials of the front."""
    changes: list[Change] = field(default_factory=list)
    """Later looks at the stored networks, oldest first; the trials and confirmed points are those after all of them."""
    require: Sequence[Limit] = ()
    """What every point of the front must meet."""
    tracked: Tracked = field(default_factory=Tracked)

    @property
    def version(self) -> int:
        """Of the front: 1 as the study ended, one more with each later look."""
        return len(self.changes) + 1

    @property
    def done(self) -> list[Trial]:
        """Trials with metrics."""
        return [t for t in self.trials if not t.error and not t.stopped]

    @property
    def failed(self) -> list[Trial]:
        """Trials without."""
        return [t for t in self.trials if t.error]

    @property
    def stopped(self) -> list[Trial]:
        """Trials that were given up early."""
        return [t for t in self.trials if t.stopped]

    def front(self) -> list[Trial]:
        """The front of the sweep, best first objective first."""
        done = self.done
        mask = pareto.front([t.metrics for t in done], self.objectives, self.require)
        first = self.objectives[0]
        return sorted((t for t, on in zip(done, mask, strict=True) if on), key=lambda t: first.loss(t.metrics[first.metric]))

    def flags(self) -> dict[str, list[Trial]]:
        """Every flag that is raised, with the finished trials that it is raised on; those that bar from the front come first."""
        found: dict[str, list[Trial]] = {}
        for trial in self.done:
            for flag in trial.flags:
                found.setdefault(flag, []).append(trial)
        return dict(sorted(found.items(), key=lambda pair: (not (pair[0] in FLAGS and FLAGS[pair[0]].bars), pair[0])))

    def kept_off(self) -> list[Trial]:
        """Trials that would be on the front by their numbers and are not because of a flag."""
        done = self.done
        unflagged = [{**t.metrics, **dict.fromkeys(pareto.EXCLUDING_FLAGS, 0.0)} for t in done]
        mask = pareto.front(unflagged, self.objectives, self.require)
        return [t for t, on in zip(done, mask, strict=True) if on and t.barred]

    def hypervolume(self) -> float:
        """Of the front, between ideal and references."""
        return pareto.hypervolume(pareto.losses([t.metrics for t in self.front()], self.objectives))

    def hypervolume_curve(self) -> list[float]:
        """The hypervolume after the first 1, 2, ... finished trials, by number."""
        whole = sorted(self.done, key=lambda t: t.number)
        mask = pareto.eligible([t.metrics for t in whole], self.objectives, self.require)
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


def change(before: Outcome, after: Outcome, how: str, when: str, measured: Mapping[int, tuple[str, ...]]) -> Change:
    """What became of a front; `after` has the trials of a version one later than `before`."""
    old_front, new_front = ({t.number for t in outcome.front()} for outcome in (before, after))
    old = {t.number: t for t in before.done}
    pairs = [(old[t.number], t) for t in after.done]
    moves = {}
    for metric in (o.metric for o in before.objectives):
        both = [(a.metrics[metric], b.metrics[metric], b.number) for a, b in pairs if metric in a.metrics and metric in b.metrics]
        shifts = [(now - was, number) for was, now, number in both]
        if any(shift for shift, _ in shifts):
            largest = max(shifts, key=lambda pair: abs(pair[0]))
            moves[metric] = Move(sum(shift for shift, _ in shifts) / len(shifts), *largest)
    new = {b.number: tuple(flag for flag in b.flags if flag not in a.flags) for a, b in pairs}
    return Change(
        version=before.version + 1, how=how, when=when, left=tuple(sorted(old_front - new_front)),
        entered=tuple(sorted(new_front - old_front)),
        moves=moves, raised={number: flags for number, flags in new.items() if flags}, measured=measured,
    )  # fmt: skip
