"""Verdicts of the confirmation step: the replicates of each front point, aggregated and compared."""

from collections.abc import Mapping, Sequence

import numpy as np

from core import pareto
from core.audits.threshold import FPRS
from core.stats import Interval, mean_interval
from core.study import Constraint, Objective
from trainables.study.outcome import Confirmed, Leak
from trainables.study.results import NetworkResult
from trainables.study.trial import Trial

ROC_GRID = tuple(float(rate) for rate in np.logspace(-4, 0, 81))
"""False-positive rates at which ROC curves are stored."""


def verdicts(
    points: Sequence[Trial], results: Mapping[tuple[int, int], NetworkResult], objectives: Sequence[Objective],
    require: Sequence[Constraint] = (),
) -> list[Confirmed]:  # fmt: skip
    """Aggregate the replicates into one `Confirmed` record per front point.

    Args:
        points: the points that were trained again.
        results: results of replicate r of point n, by (n, r).
        objectives: objectives of the study.
        require: constraints that the points' means must meet.

    Returns:
        One record per point of which at least one replicate succeeded.
    """
    kept: list[tuple[Trial, list[NetworkResult], int]] = []
    for point in points:
        ended = [result for (number, _), result in sorted(results.items()) if number == point.number]
        succeeded = [result for result in ended if not result.error]
        if succeeded:
            kept.append((point, succeeded, len(ended) - len(succeeded)))
    if not kept:
        return []
    by_point = [[result.metrics for result in succeeded] for _, succeeded, _ in kept]
    wanted = dict.fromkeys([o.metric for o in objectives] + [constraint.metric for constraint in require])
    means = [
        {name: float(np.mean([m[name] for m in metrics])) for name in wanted if all(name in m for m in metrics)}
        for metrics in by_point
    ]  # fmt: skip
    flags = [{flag: max(m.get(flag, 0.0) for m in metrics) for flag in pareto.EXCLUDING_FLAGS} for metrics in by_point]
    rows = [m | f for m, f in zip(means, flags, strict=True)]
    eligible, on_front = pareto.eligible(rows, objectives, require), pareto.front(rows, objectives, require)
    probabilities = np.zeros(len(kept))
    if eligible.any():  # a point that may be on no front must not displace another one
        losses = [pareto.losses(metrics, objectives) for metrics, may in zip(by_point, eligible, strict=True) if may]
        probabilities[eligible] = pareto.probability_non_dominated(losses)
    return [
        Confirmed(
            number=point.number, replicates=len(succeeded), failed=failed, means=means[i],
            intervals={name: mean_interval([m[name] for m in by_point[i]])[1] for name in means[i]},
            probability=float(probabilities[i]), on_front=bool(on_front[i]),
            flags=tuple(flag.removeprefix("flag/") for flag, raised in flags[i].items() if raised),
            leaks=leaks(by_point[i]), curves=_mean_curves(succeeded), histogram=_summed_histogram(succeeded),
            over_epsilon=over_epsilon(by_point[i]),
        )
        for i, (point, succeeded, failed) in enumerate(kept)
    ]  # fmt: skip


def leaks(metrics: Sequence[Mapping[str, float]]) -> dict[str, Leak]:
    """Leakage by audit over the replicates of a point, the largest first."""
    names = [name.removeprefix("mia_auc/") for name in metrics[0] if name.startswith("mia_auc/")]
    by_audit = {}
    for name in names:
        values = [m[f"mia_auc/{name}"] for m in metrics if f"mia_auc/{name}" in m]
        rates = {
            rate: float(np.mean([m[f"mia_tpr_at_fpr_{rate:g}/{name}"] for m in metrics]))
            for rate in FPRS if all(f"mia_tpr_at_fpr_{rate:g}/{name}" in m for m in metrics)
        }  # fmt: skip
        by_audit[name] = Leak(*mean_interval(values), rates)
    return dict(sorted(by_audit.items(), key=lambda pair: -abs(pair[1].auc - 0.5)))


def over_epsilon(metrics: Sequence[Mapping[str, float]]) -> dict[float, tuple[float, Interval]]:
    """Robust accuracy by multiple of epsilon, over the replicates of a point, where all of them were measured."""
    prefix = "robust_accuracy_at/"
    names = [name for name in metrics[0] if name.startswith(prefix) and all(name in m for m in metrics)]
    return {float(name.removeprefix(prefix)): mean_interval([m[name] for m in metrics]) for name in names}


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
