"""The choice of one confirmed point for given requirements, and the points that cannot be distinguished from it.

Points are compared by their shrunken means (`core.shrinkage`), which are also the numbers of the chosen point: the best of several
means as measured would be too good (the winner's curse).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from core.errors import InputError, unknown
from core.estimates import Difference, Estimates
from core.pareto import losses_of
from core.shrinkage import shrunken
from core.stats import Interval, mean_bounds, normal_quantile
from core.study import Constraint, Objective
from trainables.study.outcome import Confirmation, Confirmed
from trainables.study.text import counted, decimal
from trainables.study.verdicts import MIA_AUC

MIN_PROBABILITY = 0.05
"""Probability of being the best from which a point is a runner-up; half an equal share if that is less."""
CERTAIN = 0.975
"""Probability of meeting a constraint from which that is no caveat: the bound is outside the 95 % interval."""
TIE = 1e-9
"""Difference up to which two values are equal."""


@dataclass(frozen=True)
class Preference:
    """The criterion by which points that meet the constraints are compared."""

    metric: str = ""
    """Metric to optimise; empty for the balanced compromise, which is the knee of the front (`core.pareto.knee`)."""
    maximize: bool = False
    """Whether to choose the highest value of the metric rather than the lowest."""

    @property
    def words(self) -> list[str]:
        """The preference as words of a command line."""
        if not self.metric:
            return ["--balanced"]
        return ["--maximize" if self.maximize else "--minimize", self.metric]

    def __str__(self) -> str:
        return f"the {'highest' if self.maximize else 'lowest'} {self.metric}" if self.metric else "the balanced compromise"


@dataclass(frozen=True)
class Estimate:
    """A metric of a confirmed point."""

    mean: float
    """Mean over replicates, as measured."""
    interval: Interval
    """95 % interval of the mean."""
    shrunk: float
    """Mean after shrinkage towards the other points."""
    shrunk_interval: Interval
    """95 % interval of the true value, given the means of all points."""
    chance: float = math.nan
    """Chance level; NaN if the metric has none."""

    @property
    def is_certain(self) -> bool:
        """Whether there is a finite interval; a single replicate has none."""
        return math.isfinite(self.shrunk_interval.high - self.shrunk_interval.low)

    @property
    def resolved(self) -> bool:
        """Whether the mean exceeds its chance level; true if it has none."""
        return not self.mean <= self.chance

    def probability_of(self, constraint: Constraint) -> float:
        """Probability that the true value meets a constraint, from the end of the shrunken interval towards the bound.

        It is NaN if there is no interval.
        """
        sign, end = (1, self.shrunk_interval.low) if constraint.sign == ">=" else (-1, self.shrunk_interval.high)
        if not self.is_certain:
            return math.nan
        error, margin = abs(self.shrunk - end) / normal_quantile(0.95), sign * (self.shrunk - constraint.value)
        return NormalDist().cdf(margin / error) if error else float(margin >= 0)


@dataclass(frozen=True)
class RunnerUp:
    """A point that cannot be distinguished from the chosen one."""

    point: Confirmed
    probability: float
    """Probability that it is the best point; NaN if no point has an interval."""
    differences: Mapping[str, Difference]
    """This point minus the chosen one, by metric: the difference of the shrunken means, with the width of the paired interval."""


@dataclass(frozen=True)
class Distance:
    """The distance to the ideal: that of the losses to the best ones on the front, in units of the extent of the front."""

    objectives: tuple[Objective, ...]
    floor: float
    """Chance level up to which an AUC counts as this level; NaN if there is none."""
    best: np.ndarray
    """Lowest loss on the front, [objectives]."""
    extent: np.ndarray
    """Difference between the highest and the lowest loss on the front, [objectives]; 1 where they are equal."""

    @classmethod
    def on(cls, objectives: Sequence[Objective], floor: float, values: Mapping[str, np.ndarray]) -> "Distance":
        """The distance on a front with these values, [points] by metric."""
        losses = _losses(objectives, floor, values)
        extent = np.ptp(losses, axis=0)
        return cls(tuple(objectives), floor, losses.min(0), np.where(extent > 0, extent, 1.0))

    def of(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """The distance of points, [...], given their values by metric, [...] each."""
        losses = _losses(self.objectives, self.floor, values)
        return np.sqrt((((losses - self.best) / self.extent) ** 2).sum(-1))

    def of_one(self, values: Mapping[str, float]) -> float:
        """The distance of one point or network, given its values by metric."""
        return float(self.of({name: np.asarray(value) for name, value in values.items()}))


@dataclass(frozen=True)
class Chosen:
    """The chosen point with its numbers, and the points that may be better."""

    point: Confirmed
    preference: Preference
    constraints: tuple[Constraint, ...]
    values: Mapping[str, Estimate]
    """The point's numbers: objectives first, then constrained metrics and the preferred one."""
    meets: Mapping[Constraint, float]
    """Probability that the point meets each constraint."""
    probability: float
    """Probability that the point is the best one; NaN if no point has an interval."""
    runners_up: tuple[RunnerUp, ...]
    """Points that cannot be distinguished from the chosen one, the most probable one first."""
    feasible: int
    """Number of points on the confirmed front that meet the constraints."""
    among: int
    """Number of points on the confirmed front."""
    distance: Distance
    """The distance that the balanced compromise minimises."""

    @property
    def words(self) -> list[str]:
        """The constraints and the preference as words of a command line."""
        return [word for constraint in self.constraints for word in ("--require", str(constraint))] + self.preference.words


def choose_point(
    confirmation: Confirmation, objectives: Sequence[Objective], constraints: Sequence[Constraint], preference: Preference,
    other: Estimates[int] | None = None,
) -> Chosen:  # fmt: skip
    """Choose the best point of the confirmed front that meets the constraints.

    Means that do not exceed the chance level count as equal; ties are broken by the distance to the ideal, then by number.

    Args:
        confirmation: the confirmation step.
        objectives: objectives of the study.
        constraints: constraints that the shrunken means must meet.
        preference: the criterion to optimise.
        other: estimates of further metrics for all points on the front, by number of the trial. Their errors are taken as
            independent of those of the objectives.

    Raises:
        InputError: a metric is unknown, or no point meets the constraints; the message names the nearest one.
    """
    front = [point for point in confirmation.points if point.on_front]
    if not front:
        raise InputError("no confirmed point is on the front")
    sources = [confirmation.estimates, *([other] if other else [])]
    names = [o.metric for o in objectives] + [c.metric for c in constraints] + ([preference.metric] if preference.metric else [])
    values = {name: _estimates(name, sources, confirmation, front) for name in dict.fromkeys(names)}
    shrunk = {name: np.array([own.shrunk for own in column]) for name, column in values.items()}
    floor = max((point.chance for point in confirmation.points if math.isfinite(point.chance)), default=math.nan)
    distance = Distance.on(objectives, floor, shrunk)
    feasible = [i for i in range(len(front)) if not any(c.violation(shrunk[c.metric][i]) for c in constraints)]
    if not feasible:
        raise _none_feasible(front, shrunk, constraints)
    losses, ideal = _preferred(preference, distance, shrunk), distance.of(shrunk)
    lowest = min(losses[i] for i in feasible)
    best = min((i for i in feasible if losses[i] <= lowest + TIE), key=lambda i: (ideal[i], front[i].number))
    probabilities = _probabilities(sources, front, values, feasible, constraints, preference, distance)
    others = [
        RunnerUp(front[i], p, {name: _difference(name, sources, front[i], front[best], column[i], column[best])
                               for name, column in values.items()})
        for i, p in probabilities.items() if i != best and not p < min(MIN_PROBABILITY, 0.5 / len(feasible))
    ]  # fmt: skip
    own = {name: column[best] for name, column in values.items()}
    return Chosen(
        point=front[best], preference=preference, constraints=tuple(constraints), values=own,
        meets={c: own[c.metric].probability_of(c) for c in constraints}, probability=probabilities[best],
        runners_up=tuple(sorted(others, key=lambda o: (-o.probability, o.point.number))),
        feasible=len(feasible), among=len(front), distance=distance,
    )  # fmt: skip


def _source(metric: str, sources: Sequence[Estimates[int]]) -> Estimates[int]:
    """The estimates that have a metric."""
    for source in sources:
        if metric in source.metrics:
            return source
    raise unknown("metric", metric, [name for source in sources for name in source.metrics])


def _estimates(
    metric: str, sources: Sequence[Estimates[int]], confirmation: Confirmation, front: Sequence[Confirmed]
) -> list[Estimate]:  # fmt: skip
    """A metric of each point of the front."""
    source = _source(metric, sources)
    if all(metric in point.shrunk for point in front):
        after = {point.number: (point.shrunk[metric], point.shrunk_intervals[metric]) for point in front}
    else:
        kept = [point.number for point in confirmation.points if not point.flags and point.number in source.points]
        after = {number: own[metric] for number, own in shrunken(source, kept, [metric]).items()}
    return [
        Estimate(source.mean(point.number, metric), source.interval(point.number, metric), *after[point.number],
                 chance=point.chance if metric == MIA_AUC else math.nan)
        for point in front
    ]  # fmt: skip


def _losses(objectives: Sequence[Objective], floor: float, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Normalised losses, [..., objectives], of values by metric, [...] each."""
    return losses_of(np.stack([values[o.metric] for o in objectives], -1), objectives, {MIA_AUC: floor})


def _preferred(preference: Preference, distance: Distance, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """The value that the preference minimises, [...], given values by metric, [...] each."""
    if not preference.metric:
        return distance.of(values)
    value = values[preference.metric]
    value = np.fmax(value, distance.floor) if preference.metric == MIA_AUC else value
    return -value if preference.maximize else value


def _probabilities(
    sources: Sequence[Estimates[int]], front: Sequence[Confirmed], values: Mapping[str, Sequence[Estimate]],
    feasible: Sequence[int], constraints: Sequence[Constraint], preference: Preference, distance: Distance,
) -> dict[int, float]:  # fmt: skip
    """The probability that each feasible point meets the constraints and is the best of those that do; equal points share it.

    The shrunken means are drawn with the errors of the means, which the points have in common or not, and not with the posterior
    covariance: of points that are equal after shrinkage, none is the best.
    """
    if any(np.isnan(source.seed_variances).any() for source in sources):
        return dict.fromkeys(feasible, math.nan)
    numbers, drawn = [front[i].number for i in feasible], {}
    for seed, source in enumerate(sources):
        draws, rows = source.draws(seed=seed), [source.points.index(number) for number in numbers]
        for name in [name for name in values if _source(name, sources) is source]:
            j = source.metrics.index(name)
            centres = np.array([values[name][i].shrunk for i in feasible])
            drawn[name] = draws[:, rows, j] - source.means[rows, j] + centres
    losses = _preferred(preference, distance, drawn)
    for c in constraints:
        met = drawn[c.metric] >= c.value if c.sign == ">=" else drawn[c.metric] <= c.value
        losses = np.where(met, losses, np.inf)
    wins = (losses <= losses.min(1, keepdims=True) + TIE) & np.isfinite(losses)
    shares = wins / np.maximum(1, wins.sum(1, keepdims=True))
    return dict(zip(feasible, shares.mean(0).tolist(), strict=True))


def _difference(
    metric: str, sources: Sequence[Estimates[int]], point: Confirmed, other: Confirmed, own: Estimate, others: Estimate
) -> Difference:  # fmt: skip
    """The difference of two shrunken means, with the paired interval moved there."""
    low, high = _source(metric, sources).difference(point.number, other.number, metric).interval
    value = own.shrunk - others.shrunk
    return Difference(value, mean_bounds(value, (high - low) / 2))


def _none_feasible(
    front: Sequence[Confirmed], shrunk: Mapping[str, np.ndarray], constraints: Sequence[Constraint]
) -> InputError:  # fmt: skip
    """The error that no point meets the constraints; the nearest one violates the fewest, and then by the least."""

    def violations(i: int) -> tuple[int, float]:
        amounts = [c.violation(shrunk[c.metric][i]) / (abs(c.value) or 1.0) for c in constraints]
        return sum(map(bool, amounts)), sum(amounts)

    nearest = min(range(len(front)), key=violations)
    measured = ", ".join(f"{name} {decimal(shrunk[name][nearest], 4)}" for name in dict.fromkeys(c.metric for c in constraints))
    return InputError(
        f"no point on the front has {' and '.join(map(str, constraints))}; "
        f"the nearest of {counted(len(front), 'point')} is trial {front[nearest].number} with {measured}"
    )
