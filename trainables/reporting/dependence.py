"""Permutation tests of whether a metric depends on a knob, corrected for the number of knobs."""

from collections.abc import Mapping

import numpy as np

PERMUTATIONS = 999
"""Number of permutations of a test; the smallest p-value is 1 / 1000."""
ENOUGH = 50
"""Number of permutations that reach the observed value after which a test stops (Besag and Clifford 1991)."""
MAX_TRIALS = 256
"""Largest number of trials in a test; bounds the cost."""


def dependence_p_value(x: np.ndarray, y: np.ndarray, seed: int = 0) -> float:
    """P-value of the distance covariance of a knob and a metric (Szekely et al. 2007), from permutations of the metric.

    It detects any dependence. Ranks are used, so that neither a logarithmic scale nor a single far value matters.

    Args:
        x: the knob, [n, columns]: one column of numbers, or one column per option. Trials with a NaN do not have the knob.
        y: the metric, [n].
        seed: seed of the permutations.
    """
    having = np.flatnonzero(np.isfinite(x).all(1))[:MAX_TRIALS]
    if len(having) < 3:
        return 1.0
    a, b = (_centred(np.stack([_ranks(column) for column in table[having].T], 1)) for table in (x, y[:, None]))
    stream = np.random.Generator(np.random.PCG64(seed))
    observed = float((a * b).sum())
    reached = 0
    for count in range(1, 1 + PERMUTATIONS):
        order = stream.permutation(len(having))
        reached += float((a * b[np.ix_(order, order)]).sum()) >= observed - 1e-9
        if reached == ENOUGH:
            return reached / count
    return (1 + reached) / (1 + PERMUTATIONS)


def _ranks(column: np.ndarray) -> np.ndarray:
    """Ranks from 0 to 1, equal for ties."""
    _, inverse = np.unique(column, return_inverse=True)
    return inverse / max(1, int(inverse.max()))


def _centred(points: np.ndarray) -> np.ndarray:
    """Distances between points, [n, columns] -> [n, n], with zero mean in each row and column."""
    distances = np.abs(points[:, None] - points[None]).sum(2)
    return distances - distances.mean(0) - distances.mean(1, keepdims=True) + distances.mean()


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Correct p-values for their number (Holm 1979): at most 5 % of all families have a false finding at 0.05."""
    corrected, largest = {}, 0.0
    for i, (name, p) in enumerate(sorted(p_values.items(), key=lambda pair: pair[1])):
        largest = max(largest, min(1.0, p * (len(p_values) - i)))
        corrected[name] = largest
    return {name: corrected[name] for name in p_values}
