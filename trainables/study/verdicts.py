"""Verdicts of the confirmation step: the replicates of every confirmed point, aggregated and compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from core import pareto
from core.estimates import Estimates, Measurement
from core.front_estimates import front_probabilities, hypervolume_estimate
from core.shrinkage import shrunken
from core.stats import Interval
from core.study import Constraint
from trainables.study.contrasts import answers
from trainables.study.leakage import Points, chance_level_of, common_audits, leaks_of, selected_audits, tiers_of
from trainables.study.outcome import Confirmation, Confirmed
from trainables.study.plan import Plan
from trainables.study.replicates import OVER_EPSILON, Replicate
from trainables.study.results import NetworkResult
from trainables.study.trial import Trial

ROC_GRID = tuple(float(rate) for rate in np.logspace(-4, 0, 81))
"""False-positive rates at which ROC curves are stored."""
MIA_AUC = "mia_auc"
"""Metric that is measured anew: of the largest AUC of each replicate, neither mean nor interval would be correct."""


@dataclass(frozen=True)
class Standing:
    """The confirmed points compared with each other, as far as the next replicates depend on it."""

    points: Points
    """Replicates that succeeded, by point, at least one for each."""
    measured: Mapping[int, Mapping[int, Mapping[str, Measurement]]]
    """Measurements by point, replicate and metric."""
    estimates: Estimates[int]
    means: list[dict[str, float]]
    """Means by point, in the same order, also of metrics that not every replicate of every point has."""
    chance: Mapping[int, float]
    """Chance level of the mean `mia_auc` by point; empty if that is neither an objective nor constrained."""
    names: Mapping[int, tuple[str, ...]]
    """Names of the audits that were chosen for `mia_auc`, by point."""
    flags: list[dict[str, float]]
    """Excluding flags by point, 1 where any replicate raises them."""
    eligible: np.ndarray
    """Which points may be on the front, bool [points]."""
    floors: Mapping[str, float]
    """Values up to which a metric counts as this value."""
    probabilities: np.ndarray
    """Probability that each point is on the front, [points]."""
    losses: np.ndarray
    """Losses of the means, [points, objectives]."""

    def rival(self, i: int) -> int:
        """Index of the point that comes nearest to dominating point `i`, on which its verdict depends most; `i` if it is alone."""
        others = [j for j in np.flatnonzero(self.eligible) if j != i]
        return int(min(others, key=lambda j: (self.losses[j] - self.losses[i]).max(), default=i))


def confirmation(
    plan: Plan, trials: Sequence[Trial], front: Sequence[int], replicates: Mapping[tuple[int, int], Replicate],
    known_chance: dict[tuple[int, ...], float] | None = None,
) -> Confirmation | None:  # fmt: skip
    """Aggregate the replicates into one record per confirmed point, and answer the contrasts of the study.

    Args:
        plan: plan of the study.
        trials: ended trials of the study.
        front: numbers of the trials on the sweep's front, in order.
        replicates: replicate r of trial n, by (n, r), including those that failed.
        known_chance: chance levels by number of the trial and numbers of its replicates; it receives those that are computed.

    Returns:
        The confirmation, or None if no replicate of a completed trial succeeded.
    """
    standing = stand(plan, trials, front, replicates, known_chance)
    return concluded(plan, trials, front, replicates, standing) if standing else None


def concluded(
    plan: Plan, trials: Sequence[Trial], front: Sequence[int], replicates: Mapping[tuple[int, int], Replicate], standing: Standing
) -> Confirmation:
    """The confirmation, given how its points stand; see `confirmation`."""
    estimates, objectives, numbers = standing.estimates, plan.objectives, list(standing.points)
    rows = [
        means | flags | _chance_metric(standing.chance, number)
        for number, means, flags in zip(numbers, standing.means, standing.flags, strict=True)
    ]
    on_front = pareto.front(rows, objectives, plan.require)
    audits = common_audits(standing.points)
    tiers, leaks, shrunk = tiers_of(standing.points, audits), leaks_of(standing.points), _shrunken(standing, plan)
    curves = _over_epsilon(standing.points)
    lacking = {name for means in standing.means for name in means} - set(estimates.metrics)
    partial = {name: _partial(standing.measured, name) for name in lacking}
    points = tuple(
        Confirmed(
            number=number, replicates=len(own), failed=sum(n == number for n, _ in replicates) - len(own),
            means=standing.means[i],
            intervals={name: partial.get(name, estimates).interval(number, name) for name in standing.means[i]},
            probability=float(standing.probabilities[i]), on_front=bool(on_front[i]), from_front=number in front,
            flags=tuple(flag.removeprefix("flag/") for flag, raised in standing.flags[i].items() if raised),
            chance=standing.chance.get(number, float("nan")), audits=standing.names.get(number, ()), tiers=tiers[number],
            shrunk={name: value for name, (value, _) in shrunk[number].items()},
            shrunk_intervals={name: interval for name, (_, interval) in shrunk[number].items()},
            leaks=leaks[number], curves=_mean_curves([replicate.result for replicate in own.values()]),
            histogram=_summed_histogram([replicate.result for replicate in own.values()]),
            over_epsilon=curves[number],
        )
        for i, (number, own) in enumerate(standing.points.items())
    )  # fmt: skip
    unconfirmed = _not_confirmed(trials, front, numbers, replicates)
    answered, unanswered = answers(plan, trials, points, estimates, unconfirmed)
    return Confirmation(
        points=points, estimates=estimates, contrasts=answered, unanswered=unanswered, not_confirmed=unconfirmed,
        hypervolume=hypervolume_estimate(estimates, objectives, standing.eligible, standing.floors),
        seconds_per_replicate=float(np.mean([one.result.seconds for own in standing.points.values() for one in own.values()])),
    )  # fmt: skip


def stand(
    plan: Plan, trials: Sequence[Trial], front: Sequence[int], replicates: Mapping[tuple[int, int], Replicate],
    known_chance: dict[tuple[int, ...], float] | None = None,
) -> Standing | None:  # fmt: skip
    """Compare the confirmed points; None if no replicate of a completed trial succeeded.

    Args:
        plan, trials, front, replicates, known_chance: see `confirmation`.
    """
    metrics = [o.metric for o in plan.objectives]
    points = _succeeded(trials, front, replicates, metrics)
    if not points:
        return None
    wanted = list(dict.fromkeys(metrics + [constraint.metric for constraint in plan.require]))
    audits, names, best, chance = common_audits(points), {}, {}, {}
    if MIA_AUC in wanted:
        selected = selected_audits(points, audits)
        names = {number: one.names for number, one in selected.items()}
        best = {number: one.measurements for number, one in selected.items()}
        known = {} if known_chance is None else known_chance
        for number, own in points.items():
            key = (number, *own)
            if key not in known:
                known[key] = chance_level_of(own, audits)
            chance[number] = known[key]
    measured = {
        number: {r: _measurements(one, wanted, best.get(number, {}).get(r)) for r, one in own.items()}
        for number, own in points.items()
    }
    common = [name for name in wanted if all(name in m for own in measured.values() for m in own.values())]
    estimates = Estimates.of(measured, common)
    means = [
        {name: float(np.mean([m[name].value for m in own.values()])) for name in wanted if all(name in m for m in own.values())}
        for own in measured.values()
    ]
    flags = [
        {flag: max(one.result.metrics.get(flag, 0.0) for one in own.values()) for flag in pareto.EXCLUDING_FLAGS}
        for own in points.values()
    ]
    eligible = pareto.eligible([m | f for m, f in zip(means, flags, strict=True)], plan.objectives, plan.require)
    floors = {MIA_AUC: max(chance.values())} if chance else {}
    return Standing(
        points, measured, estimates, means, chance, names, flags, eligible, floors,
        probabilities=_probabilities(plan, estimates, means, flags, eligible, floors),
        losses=pareto.losses([m | _chance_metric(chance, n) for m, n in zip(means, points, strict=True)], plan.objectives),
    )  # fmt: skip


def _probabilities(
    plan: Plan, estimates: Estimates[int], means: Sequence[Mapping[str, float]], flags: Sequence[Mapping[str, float]],
    eligible: np.ndarray, floors: Mapping[str, float],
) -> np.ndarray:  # fmt: skip
    """Probability that each point meets the constraints and is on the front; 0 for flagged points.

    A point whose means miss a constraint displaces no other one, and neither does it leave the front for certain. If no point has
    two replicates, the errors are unknown, so none of several points is decided.
    """
    if np.isnan(estimates.seed_variances).any():
        return np.where(eligible, 0.5 if eligible.sum() > 1 else 1.0, 0.0)
    unconstrained = pareto.eligible([{**m, **f} for m, f in zip(means, flags, strict=True)], plan.objectives)
    feasible = np.array([_feasibility(plan.require, estimates, i, own) for i, own in enumerate(means)])
    probabilities = front_probabilities(estimates, plan.objectives, eligible, floors)
    for i in np.flatnonzero(unconstrained & ~eligible):
        probabilities[i] = front_probabilities(estimates, plan.objectives, eligible | (np.arange(len(means)) == i), floors)[i]
    return probabilities * feasible


def _feasibility(require: Sequence[Constraint], estimates: Estimates[int], i: int, means: Mapping[str, float]) -> float:
    """The probability that a point meets all constraints."""
    probability = 1.0
    for constraint in require:
        met = not constraint.violation(means.get(constraint.metric, float("nan")))
        if constraint.metric not in estimates.metrics:
            probability *= met
            continue
        j = estimates.metrics.index(constraint.metric)
        distance, error = abs(means[constraint.metric] - constraint.value), float(np.sqrt(estimates.covariance[i, j, i, j]))
        sure = NormalDist().cdf(distance / error) if error else 1.0
        probability *= sure if met else 1 - sure
    return probability


def _succeeded(
    trials: Sequence[Trial], front: Sequence[int], replicates: Mapping[tuple[int, int], Replicate], metrics: Sequence[str]
) -> dict[int, dict[int, Replicate]]:
    """Replicates that measured every objective, by point: the points of the front in order, then the other ones by number."""
    completed = {trial.number for trial in trials if trial.metrics}
    numbers = sorted({n for n, _ in replicates} & completed, key=lambda n: (front.index(n) if n in front else len(front), n))
    points = {
        number: {r: replicates[n, r] for n, r in sorted(replicates) if n == number and not _failure(replicates[n, r], metrics)}
        for number in numbers
    }
    return {number: own for number, own in points.items() if own}


def _failure(replicate: Replicate, metrics: Sequence[str]) -> str:
    """The reason why a replicate does not count; empty if it does."""
    if replicate.result.error:
        return replicate.result.error
    lacking = [name for name in metrics if name != MIA_AUC and replicate.measurement(name) is None]
    return f"{' and '.join(lacking)} was not measured" if lacking else ""


def _measurements(replicate: Replicate, wanted: Sequence[str], best: Measurement | None) -> dict[str, Measurement]:
    """Measurements of the wanted metrics; `mia_auc` is that of the best audit."""
    every = {name: best if name == MIA_AUC else replicate.measurement(name) for name in wanted}
    return {name: measurement for name, measurement in every.items() if measurement}


def _chance_metric(chance: Mapping[int, float], number: int) -> dict[str, float]:
    """The chance level of a point's `mia_auc` as a metric, by which `core.pareto` limits its loss; empty if it has none."""
    return {f"{MIA_AUC}_chance": chance[number]} if number in chance else {}


def _partial(measured: Mapping[int, Mapping[int, Mapping[str, Measurement]]], metric: str) -> Estimates[int]:
    """Means of a metric over the points of which all replicates have it."""
    having = {number: own for number, own in measured.items() if all(metric in m for m in own.values())}
    return Estimates.of(having, [metric])


def _shrunken(standing: Standing, plan: Plan) -> dict[int, dict[str, tuple[float, Interval]]]:
    """Each objective's shrunken mean with its 95 % interval, by point; points that a flag or a constraint excludes keep theirs."""
    estimates = standing.estimates
    found = {
        n: {o.metric: (estimates.mean(n, o.metric), estimates.interval(n, o.metric)) for o in plan.objectives}
        for n in standing.points
    }  # fmt: skip
    kept = [estimates.points[i] for i in np.flatnonzero(standing.eligible)]
    return found | shrunken(estimates, kept, [o.metric for o in plan.objectives])


def _not_confirmed(
    trials: Sequence[Trial], front: Sequence[int], confirmed: Sequence[int], replicates: Mapping[tuple[int, int], Replicate]
) -> dict[int, str]:
    """Reasons why points of the front and baselines are not confirmed, by number."""
    reasons = {}
    for trial in trials:
        if trial.number in confirmed or not (trial.number in front or trial.baseline):
            continue
        errors = [replicate.result.error for (n, _), replicate in sorted(replicates.items()) if n == trial.number]
        stopped = f"it was stopped early, after epoch {trial.stopped_epoch}" if trial.stopped_epoch else ""
        own = trial.error or stopped
        reasons[trial.number] = own or (f"every replicate failed: {errors[-1]}" if any(errors) else "it has no replicates")
    return reasons


def _over_epsilon(points: Points) -> dict[int, dict[float, tuple[float, Interval]]]:
    """Robust accuracy by multiple of epsilon, by point, where all replicates of a point were measured."""
    names = {name for own in points.values() for one in own.values() for name in one.shares if name.startswith(OVER_EPSILON)}
    curves: dict[int, dict[float, tuple[float, Interval]]] = {number: {} for number in points}
    for name in sorted(names, key=_multiple):
        measured = {number: {r: _measurements(one, [name], None) for r, one in own.items()} for number, own in points.items()}
        estimates = _partial(measured, name)
        for number in estimates.points:
            curves[number][_multiple(name)] = (estimates.mean(number, name), estimates.interval(number, name))
    return curves


def _multiple(name: str) -> float:
    return float(name.removeprefix(OVER_EPSILON))


def _mean_curves(results: Sequence[NetworkResult]) -> dict[str, list[tuple[float, float]]]:
    """(FPR, mean TPR over replicates) by audit, at the rates that all replicates resolve."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for name in results[0].curves:
        columns = zip(*(result.curves.get(name, [None] * len(ROC_GRID)) for result in results), strict=True)
        curves[name] = [(x, float(np.mean(ys))) for x, ys in zip(ROC_GRID, columns, strict=True) if None not in ys]
    return curves


def _summed_histogram(results: Sequence[NetworkResult]) -> dict[str, list[int]]:
    """Sum of the replicates' histograms."""
    histograms = [result.histogram for result in results if result.histogram]
    if not histograms:
        return {}
    return {name: np.sum([h[name] for h in histograms], axis=0).tolist() for name in histograms[0]}
