"""The Pareto front of noisy means: how probable it is that each point belongs to it, and its hypervolume.

Both come from draws of the true means given the measured ones, after shrinkage (`core.shrinkage`): fronts of the means themselves
reward noise, and the more the more points there are.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from core import pareto
from core.estimates import Estimates
from core.shrinkage import shrink
from core.stats import Interval
from core.study import Objective

Point = TypeVar("Point")
STAYS = 0.95
"""Probability from which a point stays on the front."""
LEAVES = 0.05
"""Probability up to which a point leaves the front; between the two it is undecided."""
DRAWS = 2000
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
        losses = _drawn_losses(estimates, objectives, eligible, floors, seed)
        probabilities[eligible] = np.mean([pareto.non_dominated(points) for points in losses], axis=0)
    return probabilities


def hypervolume_estimate(
    estimates: Estimates, objectives: Sequence[Objective], eligible: np.ndarray, floors: Mapping[str, float] = {}, *, seed: int = 0
) -> tuple[float, Interval]:  # fmt: skip
    """The hypervolume of the true means of the points that may be on the front, with its 95 % interval."""
    if not eligible.any():
        return 0.0, Interval(0.0, 0.0)
    volumes = [pareto.hypervolume(points) for points in _drawn_losses(estimates, objectives, eligible, floors, seed)]
    low, middle, high = np.quantile(volumes, [0.025, 0.5, 0.975])
    return float(middle), Interval(float(low), float(high))


def most_undecided(probabilities: np.ndarray) -> np.ndarray:
    """Indices of the undecided points, the one whose probability is nearest to one half first."""
    order = np.argsort(np.abs(probabilities - 0.5), kind="stable")
    return order[(probabilities[order] > LEAVES) & (probabilities[order] < STAYS)]


def _drawn_losses(
    estimates: Estimates, objectives: Sequence[Objective], eligible: np.ndarray, floors: Mapping[str, float], seed: int
) -> np.ndarray:  # fmt: skip
    """Losses of the eligible points in each draw of their true means, [draws, points, objectives]."""
    columns = [estimates.metrics.index(o.metric) for o in objectives]
    means = estimates.means[eligible][:, columns]
    covariance = estimates.covariance[eligible][:, columns][:, :, eligible][..., columns]
    means, covariance = shrink(means, covariance)
    stream = np.random.Generator(np.random.PCG64(seed))
    values, vectors = np.linalg.eigh(covariance.reshape(means.size, means.size))
    noise = stream.standard_normal((DRAWS, means.size)) @ (vectors * np.sqrt(np.clip(values, 0, None))).T
    drawn = (means.ravel() + noise).reshape(DRAWS, *means.shape)
    for j, o in enumerate(objectives):
        drawn[..., j] = np.maximum(drawn[..., j], floors.get(o.metric, -np.inf))
    references, ideals = (np.array([getattr(o, name) for o in objectives]) for name in ("reference", "ideal"))
    return np.maximum((drawn - ideals) / (references - ideals), 0.0)
