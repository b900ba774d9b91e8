"""Fronts. Everything here minimises: rows are trials, columns are `Objective.loss`, 0 at the ideal, 1 at the reference."""

import math
from collections.abc import Mapping, Sequence

import moocore
import numpy as np

from core.config import Limit, Objective
from core.flags import FLAGS

EXCLUDING_FLAGS = tuple(f"flag/{name}" for name, flag in FLAGS.items() if flag.bars)
"""Flags under which a good-looking number means nothing: such a trial is on no front."""


def losses(rows: Sequence[Mapping[str, float]], objectives: Sequence[Objective]) -> np.ndarray:
    """Normalised losses of trials, [n, objectives]; NaN where a trial lacks an objective."""
    return np.array(
        [[o.loss(row[o.metric]) if o.metric in row else np.nan for o in objectives] for row in rows], dtype=float
    ).reshape(len(rows), len(objectives))


def eligible(
    rows: Sequence[Mapping[str, float]], objectives: Sequence[Objective], require: Sequence[Limit] = ()
) -> np.ndarray:  # fmt: skip
    """Which trials may be on a front at all, [n] bool.

    Those that are complete, no worse than any reference, under no excluding flag, and meet what is required.
    """
    values = losses(rows, objectives)
    unflagged = [not any(row.get(flag, 0) for flag in EXCLUDING_FLAGS) for row in rows]
    meets = [not any(lacks(row, require)) for row in rows]
    whole = np.isfinite(values).all(1) & (np.nan_to_num(values, nan=2.0) <= 1).all(1)
    return whole & np.array(unflagged, bool) & np.array(meets, bool)


def lacks(row: Mapping[str, float], require: Sequence[Limit]) -> list[float]:
    """By how much a trial misses each requirement; infinite where the metric was not measured."""
    return [limit.lacks(row.get(limit.metric, math.nan)) for limit in require]


def front(rows: Sequence[Mapping[str, float]], objectives: Sequence[Objective], require: Sequence[Limit] = ()) -> np.ndarray:
    """Which trials are on the front: eligible, and no eligible one is as good everywhere and better somewhere. [n] bool."""
    mask = eligible(rows, objectives, require)
    if mask.any():
        mask[mask] = non_dominated(losses(rows, objectives)[mask])
    return mask


def non_dominated(values: np.ndarray) -> np.ndarray:
    """Rows that no other row dominates; equal rows all stay. values: [n, d] -> [n] bool."""
    return np.asarray(moocore.is_nondominated(values, keep_weakly=True), dtype=bool)


def hypervolume(values: np.ndarray) -> float:
    """Share of the unit box between ideal and references that the rows dominate, exact. values: [n, d]."""
    if not len(values):
        return 0.0
    return float(moocore.hypervolume(values, ref=np.ones(values.shape[1])))


def probability_non_dominated(replicates: Sequence[np.ndarray], *, seed: int = 0, draws: int = 4000) -> np.ndarray:
    """How likely each point is to be on the front, given a few noisy repetitions of it.

    Each draw moves every point by its standard error times Student's t, and asks who is non-dominated.

    Args:
        replicates: one array [r, d] of losses per point; a point with r = 1 does not move.
        seed, draws: of the simulation.

    Returns:
        Probabilities, [n].
    """
    stream = np.random.Generator(np.random.PCG64(seed))
    means = np.stack([r.mean(0) for r in replicates])
    moved = np.repeat(means[None], draws, 0)
    for i, r in enumerate(replicates):
        if len(r) > 1:
            moved[:, i] += stream.standard_t(len(r) - 1, (draws, r.shape[1])) * r.std(0, ddof=1) / np.sqrt(len(r))
    return np.mean([non_dominated(points) for points in moved], axis=0)


def knee(values: np.ndarray) -> int:
    """The balanced compromise: the row whose losses, scaled to the front's own extent, are nearest to the best of each."""
    low, extent = values.min(0), np.ptp(values, axis=0)
    return int((((values - low) / np.where(extent > 0, extent, 1)) ** 2).sum(1).argmin())
