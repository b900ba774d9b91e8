"""The Pareto front of noisy means: how probable it is that each point belongs to it, and its hypervolume.

Both come from the measured means after shrinkage (`core.shrinkage`), and from draws around them with their errors' covariance.
Fronts of the means themselves reward noise, and the more the more points there are.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from core import pareto
from core.estimates import Estimates, normal_draws
from core.shrinkage import shrink
from core.stats import Interval
from core.study import Objective

Point = TypeVar("Point")
STAYS = 0.95
"""Probability from which a point stays on the front."""
LEAVES = 0.05
"""Probability up to which a point leaves the front; between the two it is undecided."""
DRAWS = 1000
"""Number of draws."""


def front_probabilities(
    estimates: Estimates, objectives: Sequence[Objective], eligible: np.ndarray, floors: Mapping[str, float] = {}, *, seed: int = 0
) -> np.ndarray:  # fmt: skip
    """The probability that each point is on the front, [points]; 0 for points that may be on none.

    Args:
        estimates: means of the points, with at least the objectives' metrics.
        objectives: objectives of the study.
        eligible: which points may be on the front, bool [points].
        floors: chance level by metric; a value below it counts as the level.
        seed: seed of the draws.
    """
    probabilities = np.zeros(len(eligible))
    if eligible.any():
        _, drawn = _losses(estimates, objectives, eligible, floors, seed)
        probabilities[eligible] = np.mean([pareto.non_dominated(points) for points in drawn], axis=0)
    return probabilities


def hypervolume_estimate(
    estimates: Estimates, objectives: Sequence[Objective], eligible: np.ndarray, floors: Mapping[str, float] = {}, *, seed: int = 0
) -> tuple[float, Interval]:  # fmt: skip
    """The hypervolume of the shrunken means of the points that may be on the front, with its 95 % interval.

    Draws have a larger hypervolume than their means, as each draw has points that happen to be better. If the true points differ,
    so do they, and the draws are right; if they are equal, even the means are too good by about as much. The interval reaches from
    the draws' lower end, moved down by twice this difference, to their upper end. Without replicates it is [0, 1].
    """
    if not eligible.any():
        return 0.0, Interval(0.0, 0.0)
    means, drawn = _losses(estimates, objectives, eligible, floors, seed)
    value = pareto.hypervolume(means)
    if np.isnan(estimates.seed_variances[eligible]).any():
        return value, Interval(0.0, 1.0)
    low, middle, high = np.quantile([pareto.hypervolume(points) for points in drawn], [0.025, 0.5, 0.975])
    return value, Interval(max(0.0, float(low - 2 * max(0.0, middle - value))), float(max(high, value)))


def most_undecided(probabilities: np.ndarray) -> np.ndarray:
    """Indices of the undecided points, the one whose probability is nearest to one half first."""
    order = np.argsort(np.abs(probabilities - 0.5), kind="stable")
    return order[(probabilities[order] > LEAVES) & (probabilities[order] < STAYS)]


def _losses(
    estimates: Estimates, objectives: Sequence[Objective], eligible: np.ndarray, floors: Mapping[str, float], seed: int
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Losses of eligible points: of their shrunken means, [points, objectives], and of draws, [draws, points, objectives]."""
    columns = [estimates.metrics.index(o.metric) for o in objectives]
    covariance = estimates.smooth_covariance[eligible][:, columns][:, :, eligible][..., columns]
    means, covariance = shrink(estimates.means[eligible][:, columns], covariance)
    drawn = normal_draws(means, covariance, DRAWS, seed)
    return pareto.losses_of(means, objectives, floors), pareto.losses_of(drawn, objectives, floors)
