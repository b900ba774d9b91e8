"""Pareto fronts and their metrics. All functions minimise `Objective.loss`, which is 0 at the ideal and 1 at the reference."""

import math
from collections.abc import Mapping, Sequence

import moocore
import numpy as np

from core.flags import FLAGS
from core.study import Constraint, Objective

EXCLUDING_FLAGS = tuple(f"flag/{name}" for name, flag in FLAGS.items() if flag.excludes)
"""Metrics of the flags that invalidate a trial's numbers; such a trial is on no front."""


def losses(rows: Sequence[Mapping[str, float]], objectives: Sequence[Objective]) -> np.ndarray:
    """Normalised losses of trials, [n, objectives]; NaN where an objective was not measured.

    A value below the largest chance level of all trials counts as that level, so that noise orders no values below it.
    """
    levels = [chance_level(rows, o) for o in objectives]
    return np.array(
        [[o.loss_of(row, level) for o, level in zip(objectives, levels, strict=True)] for row in rows], dtype=float
    ).reshape(len(rows), len(objectives))


def losses_of(values: np.ndarray, objectives: Sequence[Objective], floors: Mapping[str, float] = {}) -> np.ndarray:
    """Normalised losses (`Objective.loss`) of values, both [..., objectives]; values below a metric's floor count as the floor."""
    least = np.array([floors.get(o.metric, math.nan) for o in objectives])
    references, ideals = (np.array([getattr(o, name) for o in objectives]) for name in ("reference", "ideal"))
    return np.maximum((np.fmax(values, least) - ideals) / (references - ideals), 0.0)


def chance_level(rows: Sequence[Mapping[str, float]], objective: Objective) -> float:
    """The largest chance level of an objective, `<metric>_chance`, among trials; NaN if none has one."""
    levels = [row[name] for row in rows if math.isfinite(row.get(name := f"{objective.metric}_chance", math.nan))]
    return max(levels, default=math.nan)


def eligible(
    rows: Sequence[Mapping[str, float]], objectives: Sequence[Objective], require: Sequence[Constraint] = ()
) -> np.ndarray:  # fmt: skip
    """Which trials may be on a front, [n] bool: complete, no worse than the references, no excluding flag, all constraints met."""
    values = losses(rows, objectives)
    unflagged = [not any(row.get(flag, 0) for flag in EXCLUDING_FLAGS) for row in rows]
    feasible = [not any(violations(row, require)) for row in rows]
    within_references = np.isfinite(values).all(1) & (np.nan_to_num(values, nan=2.0) <= 1).all(1)
    return within_references & np.array(unflagged, bool) & np.array(feasible, bool)


def violations(row: Mapping[str, float], require: Sequence[Constraint]) -> list[float]:
    """The amount by which a trial violates each constraint; infinite if the metric was not measured."""
    return [constraint.violation(row.get(constraint.metric, math.nan)) for constraint in require]


def front(rows: Sequence[Mapping[str, float]], objectives: Sequence[Objective], require: Sequence[Constraint] = ()) -> np.ndarray:
    """Which trials are on the Pareto front, [n] bool: eligible, and not dominated by another eligible trial."""
    mask = eligible(rows, objectives, require)
    if mask.any():
        mask[mask] = non_dominated(losses(rows, objectives)[mask])
    return mask


def non_dominated(values: np.ndarray) -> np.ndarray:
    """Which rows no other row dominates; equal rows are all kept. values: [n, d] -> [n] bool."""
    return np.asarray(moocore.is_nondominated(values, keep_weakly=True), dtype=bool)


def hypervolume(values: np.ndarray) -> float:
    """Exact share of the unit box between ideals and references that the rows dominate. values: [n, d]."""
    if not len(values):
        return 0.0
    return float(moocore.hypervolume(values, ref=np.ones(values.shape[1])))


def knee(values: np.ndarray) -> int:
    """Index of the knee: the row that is nearest to the best value of each loss, with losses scaled to the extent of the front."""
    low, extent = values.min(0), np.ptp(values, axis=0)
    return int((((values - low) / np.where(extent > 0, extent, 1)) ** 2).sum(1).argmin())
