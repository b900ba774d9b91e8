"""Variance of replicates due to seeds and members: what replicate r has in common at all points, and what each point has alone.

Replicate r has the same members at every point. A point's replicates therefore vary by an effect of the members, which points
share, and by an effect of their own (seeds, and how members and images interact with the network). Both variances are estimated
from the additive model value = point + replicate + error (two-way analysis of variance). The variance of each point is moderated
by those of all points (Smyth 2004), as every point has few replicates. Values are in units of the standard error that one network
has from the draw of images, in which points of different accuracy have similar variances.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.stats import moderated_variances

MIN_FREEDOM = 3
"""Degrees of freedom of the errors from which an effect of the members is separated from them."""


@dataclass(frozen=True)
class ReplicateErrors:
    """Variances of one metric's replicates, in each point's unit squared."""

    own: np.ndarray
    """Variance of one replicate that the point has alone, [points]; NaN if no replicates show it."""
    own_freedom: np.ndarray
    """Degrees of freedom of `own`, [points]."""
    own_total: float
    """Degrees of freedom of all points' variances together."""
    common: float = 0.0
    """Variance of one replicate that all points share."""
    members: float = 0.0
    """Mean square of the replicates' effects, of which errors are a part, on the scale of `common`."""
    members_freedom: float = 1.0
    """Degrees of freedom of `members`."""

    @classmethod
    def of(cls, values: Sequence[np.ndarray], replicates: Sequence[Sequence[int]]) -> "ReplicateErrors":
        """Estimate the variances from standardised values by point, each [r], and the numbers of the points' replicates."""
        counts = np.array([len(v) for v in values])
        squares = np.array([float(((v - v.mean()) ** 2).sum()) for v in values])
        numbers = sorted({r for own in replicates for r in own})
        total = int(counts.sum()) - len(values)
        errors = total - (len(numbers) - 1)
        if errors < MIN_FREEDOM or len(numbers) < 2:
            return cls(*moderated_variances(squares, counts - 1.0), float(total))
        residuals, leverage = _two_way(values, replicates, numbers)
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        own_squares = np.add.reduceat(residuals**2, starts)
        own_freedom = np.where(counts > 1, np.add.reduceat(1 - leverage, starts), 0.0)
        units = total / (len(numbers) - 1)  # of `common` in the mean square of the replicates
        members = max(0.0, float(squares.sum() - own_squares.sum())) / total
        common = max(0.0, members - float(own_squares.sum()) / errors / units)
        return cls(*moderated_variances(own_squares, own_freedom), float(errors), common, members, len(numbers) - 1.0)

    @property
    def variance(self) -> np.ndarray:
        """Variance of one replicate, [points]."""
        return self.common + self.own

    @property
    def freedom(self) -> np.ndarray:
        """Degrees of freedom of `variance`, [points] (Satterthwaite 1946)."""
        rest = np.maximum(0.0, self.variance - self.members)
        parts = self.members**2 / self.members_freedom + rest**2 / np.maximum(1e-9, self.own_freedom)
        return np.divide(self.variance**2, parts, out=self.own_freedom.copy(), where=parts > 0)


def _two_way(
    values: Sequence[np.ndarray], replicates: Sequence[Sequence[int]], numbers: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Residuals of the additive model of points and replicates, and the leverage of each value, both [values]."""
    counts, flat = [len(v) for v in values], np.concatenate(values)
    design = np.zeros((len(flat), len(values) + len(numbers) - 1))
    design[np.arange(len(flat)), np.repeat(np.arange(len(values)), counts)] = 1
    column = np.searchsorted(numbers, np.concatenate([np.asarray(own) for own in replicates]))
    later = np.flatnonzero(column)
    design[later, len(values) + column[later] - 1] = 1
    basis, _ = np.linalg.qr(design)
    return flat - basis @ (basis.T @ flat), (basis**2).sum(1)


SEEDS = np.logspace(-2, 3, 101)
"""Standard deviations due to seeds and members that are considered, in units of the one due to the draw of images."""
PRIOR = 0.03
"""Scale of their prior in the same units, over the square root of the number of images; it is a half-Cauchy distribution (Gelman
2006). At an accuracy of 0.5 its median is a standard deviation of 0.015, which is usual for small networks."""


def seed_weights(variance: float, freedom: float, known: float, images: int) -> np.ndarray:
    """The posterior probability of each of `SEEDS`, [len(SEEDS)].

    A few replicates show little about their variance. Where it may be as small as what the images explain, an interval from the
    estimate alone covers too rarely if the estimate is small by chance, and is far too wide otherwise; a weak prior mends both.

    Args:
        variance: estimated variance of one replicate.
        freedom: its degrees of freedom.
        known: the part of it that the images' interaction with the network explains.
        images: number of images that limits the resolution of the metric.
    """
    total = known + SEEDS**2
    logs = -freedom / 2 * (np.log(total) + variance / total) + np.log(SEEDS) - np.log1p(SEEDS**2 / (PRIOR**2 * images))
    weights = np.exp(logs - logs.max())
    return weights / weights.sum()


def mixture_quantile(variances: np.ndarray, weights: np.ndarray, level: float) -> float:
    """Half-width of the two-sided interval at a level of a mixture of normal distributions around 0.

    Newton's method from below; it converges monotonically, as the distribution function is concave there.
    """
    from scipy.special import ndtr

    deviations = np.sqrt(variances)
    half, step = float(deviations.min()), 1.0
    while step > 1e-6 * half:
        standard = half / deviations
        density = float(weights @ (np.exp(-(standard**2) / 2) / deviations)) / np.sqrt(2 * np.pi)
        step = (0.5 + level / 2 - float(weights @ ndtr(standard))) / density
        half += step
    return half
