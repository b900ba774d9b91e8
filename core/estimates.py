"""Means of metrics over replicates, with errors that include seeds, members and judged images.

A metric of one network is a mean over images, or an AUC. Its *influence* on an image is the image's contribution to the value's
error, so that the sum of squares is the variance due to the draw of images (DeLong 1988 for the AUC). Replicates have seeds and
members of their own but are judged on the same images, so the error of their mean has two parts, which are added:

- seeds and members: the variance between replicates, moderated by that of the other points (Smyth 2004), over their number;
- images: the squares of the influence's mean over replicates, summed over images.

All points share images, and replicate r has the same members for every point. Both induce covariances between points, which make
differences more precise than the points themselves.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from core.stats import Interval, mean_bounds, moderated_variances, score_interval, t_quantile

Point = TypeVar("Point", bound=Hashable)
MAX_SHARED = 0.9
"""Largest correlation that is assumed between the replicates r of two points, which have the same members."""


@dataclass(frozen=True)
class Measurement:
    """A metric of one network, with the influence of each judged image."""

    value: float
    rows: np.ndarray
    """Rows of the pool that were judged, int [n]; empty if the metric has no value per image."""
    influence: np.ndarray
    """Influence of each of these images, [n]; the sum of squares estimates the variance due to the draw of images."""
    images: int = 0
    """Number of images that limits the resolution: judged images, or the smaller of the numbers of members and non-members."""

    @classmethod
    def of_value(cls, value: float) -> "Measurement":
        """A metric without a value per image."""
        return cls(value, np.zeros(0, np.int64), np.zeros(0))

    @classmethod
    def of_share(cls, rows: np.ndarray, hits: np.ndarray) -> "Measurement":
        """The share of the images in `rows`, [n], for which `hits`, bool [n], is true."""
        value, n = float(hits.mean()), len(rows)
        return cls(value, rows, (hits - value) / np.sqrt(n * max(1, n - 1)), n)

    @classmethod
    def of_auc(cls, rows: np.ndarray, member: np.ndarray, scores: np.ndarray) -> "Measurement":
        """The AUC of `scores`, [n], which are larger for members, with the influence of DeLong 1988.

        Args:
            rows: rows of the pool, [n].
            member: whether each image is a member, bool [n].
            scores: one score per image, [n].
        """
        influence, inside, outside = np.zeros(len(rows)), scores[member], scores[~member]
        above = _placements(inside, outside)
        auc = float(above.mean())
        for mask, share in ((member, above), (~member, 1 - _placements(outside, inside))):
            count = int(mask.sum())
            influence[mask] = (share - auc) / np.sqrt(count * max(1, count - 1))
        return cls(auc, rows, influence, min(len(inside), len(outside)))

    @property
    def variance(self) -> float:
        """Variance of the value due to the draw of images."""
        return float((self.influence**2).sum())


def _placements(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """For each score, the share of the others that are smaller, ties counted half."""
    ordered = np.sort(others)
    return (np.searchsorted(ordered, scores) + np.searchsorted(ordered, scores, side="right")) / (2 * len(others))


class Difference(NamedTuple):
    """The difference of a metric between two points."""

    value: float
    interval: Interval


@dataclass(frozen=True)
class Estimates(Generic[Point]):
    """Means over replicates of the same metrics of several points, with the covariance of their errors."""

    points: tuple[Point, ...]
    metrics: tuple[str, ...]
    replicates: tuple[frozenset[int], ...]
    """Numbers of each point's replicates."""
    means: np.ndarray
    """Means over replicates, [points, metrics]."""
    seed_variances: np.ndarray
    """Moderated variance of one replicate due to seeds and members, [points, metrics]; NaN if no replicates show it."""
    seed_freedom: np.ndarray
    """Degrees of freedom of `seed_variances`, [points, metrics]."""
    influence: np.ndarray
    """Mean influence of each image, [points, metrics, images]."""
    counted_twice: np.ndarray
    """Variance of the means due to the interaction of images with single networks, [points, metrics]: it is in the variance between
    replicates and in the squares of `influence`, and counts once. Points do not share it."""
    images: np.ndarray
    """Number of images that limits the resolution, [points, metrics]; 0 for a metric without a value per image."""
    within: np.ndarray
    """Correlation of the replicates' errors between metrics of a point, [metrics, metrics]."""
    between: float
    """Correlation of the errors of replicates r of two points, as a share of `within`."""

    @classmethod
    def of(cls, measured: Mapping[Point, Mapping[int, Mapping[str, Measurement]]], metrics: Sequence[str]) -> "Estimates[Point]":
        """Estimate the means of `metrics` from their measurements by point, replicate and metric.

        Raises:
            ValueError: a point has no replicate, or a metric was not measured on every replicate.
        """
        if lacking := [p for p, own in measured.items() if not own or any(m not in r for r in own.values() for m in metrics)]:
            raise ValueError(f"points without a measurement of every metric on every replicate: {lacking}")
        points = tuple(measured)
        values = {p: np.array([[r[m].value for m in metrics] for r in own.values()]) for p, own in measured.items()}
        residuals = {p: {r: row for r, row in zip(measured[p], v - v.mean(0), strict=True)} for p, v in values.items()}
        counts = np.array([len(v) for v in values.values()])
        squares = np.array([(v - v.mean(0)).__pow__(2).sum(0) for v in values.values()])
        variances, freedom = (np.stack(a, 1) for a in zip(*(moderated_variances(s, counts - 1) for s in squares.T), strict=True))
        columns = np.unique(np.concatenate([m.rows for own in measured.values() for r in own.values() for m in r.values()]))
        influence = np.zeros((len(points), len(metrics), len(columns)))
        for i, own in enumerate(measured.values()):
            for j, name in enumerate(metrics):
                for replicate in own.values():
                    np.add.at(influence[i, j], np.searchsorted(columns, replicate[name].rows), replicate[name].influence / len(own))
        alone = np.array([[np.mean([r[m].variance for r in own.values()]) for m in metrics] for own in measured.values()])
        shared = (influence**2).sum(2)
        counted_twice = np.clip((alone - shared) / np.maximum(1, counts - 1)[:, None], 0, shared) * (counts > 1)[:, None]
        variances = np.maximum(variances, counted_twice * counts[:, None])
        images = np.array([[min(r[m].images for r in own.values()) for m in metrics] for own in measured.values()])
        within, between = _correlations(residuals, variances)
        return cls(
            points, tuple(metrics), tuple(frozenset(own) for own in measured.values()),
            np.array([v.mean(0) for v in values.values()]), variances, freedom, influence, counted_twice, images, within, between,
        )  # fmt: skip

    def mean(self, point: Point, metric: str) -> float:
        """Mean of a metric over a point's replicates."""
        return float(self.means[self._at(point, metric)])

    def interval(self, point: Point, metric: str, level: float = 0.95) -> Interval:
        """Interval of a mean; infinite, or [0, 1] for a mean over images, if a single replicate shows no variance.

        It is Student's with the sum of both variances and Satterthwaite's degrees of freedom. For a mean over images it is
        Wilson's, which stays within [0, 1], for the number of images that corresponds to the variance.
        """
        at = self._at(point, metric)
        mean, images = float(self.means[at]), int(self.images[at])
        if np.isnan(self.seed_variances[at]):
            return Interval(0.0, 1.0) if images else Interval(-np.inf, np.inf)
        seeds = float(self.seed_variances[at]) / len(self.replicates[at[0]]) - float(self.counted_twice[at])
        return self.interval_around(point, metric, mean, seeds + float((self.influence[at] ** 2).sum()), level)

    def interval_around(self, point: Point, metric: str, value: float, variance: float, level: float = 0.95) -> Interval:
        """Interval of a corrected mean with another variance; it has the mean's degrees of freedom and the bounds of `interval`."""
        at = self._at(point, metric)
        seeds = float(self.seed_variances[at]) / len(self.replicates[at[0]])
        drawn, images = float((self.influence[at] ** 2).sum()), int(self.images[at])
        quantile = t_quantile(level, _satterthwaite(seeds, float(self.seed_freedom[at]), drawn, images))
        if not images:
            return mean_bounds(value, quantile * np.sqrt(variance))
        size = (value * (1 - value) + 1 / images) / (variance + 1 / images**2)
        return score_interval(value, size, level, quantile)

    def difference(self, point: Point, other: Point, metric: str, level: float = 0.95) -> Difference:
        """A metric of one point minus that of another, with its paired interval (Student's)."""
        (i, j), (k, _) = self._at(point, metric), self._at(other, metric)
        value = float(self.means[i, j] - self.means[k, j])
        pair = [i, k]
        if np.isnan(self.seed_variances[pair, j]).any():
            return Difference(value, Interval(-np.inf, np.inf))
        cov = self._seed_covariance[np.ix_([i, k], [j], [i, k], [j])].reshape(2, 2)
        seeds = max(0.0, float(cov[0, 0] + cov[1, 1] - 2 * cov[0, 1]))
        drawn = float(((self.influence[i, j] - self.influence[k, j]) ** 2).sum())
        freedom = _satterthwaite(seeds, float(self.seed_freedom[pair, j].min()), drawn, int(self.images[pair, j].min()))
        return Difference(value, mean_bounds(value, t_quantile(level, freedom) * np.sqrt(seeds + drawn)))

    @cached_property
    def _seed_covariance(self) -> np.ndarray:
        """Covariance of the means due to seeds and members, [points, metrics, points, metrics]."""
        shared = np.array([[len(a & b) / (len(a) * len(b)) for b in self.replicates] for a in self.replicates])
        shared *= np.where(np.eye(len(self.points), dtype=bool), 1.0, self.between)
        variances = np.nan_to_num(self.seed_variances)
        deviations = np.sqrt(variances)
        covariance = np.einsum("ij,kl,ik,jl->ijkl", deviations, deviations, shared, self.within)
        for i, own in enumerate(self.replicates):
            alone = np.sqrt((variances[i] / len(own) - self.counted_twice[i]).clip(0))
            covariance[i, :, i, :] = np.outer(alone, alone) * self.within
        return covariance

    @cached_property
    def covariance(self) -> np.ndarray:
        """Covariance of the errors of all means, [points, metrics, points, metrics]."""
        return self._seed_covariance + np.einsum("ijn,kln->ijkl", self.influence, self.influence)

    @cached_property
    def smooth_covariance(self) -> np.ndarray:
        """`covariance` in which the points differ by their numbers of replicates alone, [points, metrics, points, metrics].

        For each metric, variances and covariances between points are averages over the points. It is the covariance for weighting
        means: with covariances that are estimated from the same few images and replicates as the means, noise decides which means
        are trusted (a high accuracy, for example, seems to have a small error).
        """
        smooth, points = self.covariance.copy(), len(self.points)
        counts = np.array([len(own) for own in self.replicates])
        common = ((self.influence**2).sum(2) - self.counted_twice).mean(0)
        for k in range(len(self.metrics)):
            own = np.nan_to_num(self.seed_variances[:, k]).mean() / counts + common[k]
            block = self.covariance[:, k, :, k]
            shared = (block.sum() - np.trace(block)) / max(1, points * (points - 1))
            smooth[:, k, :, k] = np.clip(shared, 0, 0.99 * own.min()) + np.zeros((points, points))
            smooth[range(points), k, range(points), k] = own
        return smooth

    def draws(self, count: int = 4000, seed: int = 0) -> np.ndarray:
        """Draw the means again, each with its error and with the errors' covariance, [count, points, metrics].

        The part due to seeds is Student's, with the median of the degrees of freedom.
        """
        stream = np.random.Generator(np.random.PCG64(seed))
        size = self.means.size
        parts = [self._seed_covariance, self.covariance - self._seed_covariance]
        seeds, drawn = (_normal(part.reshape(size, size), stream.standard_normal((count, size))) for part in parts)
        freedom = float(np.median(self.seed_freedom)) if np.isfinite(self.seed_freedom).any() else np.inf
        if np.isfinite(freedom) and freedom > 0:
            seeds *= np.sqrt(freedom / stream.chisquare(freedom, (count, 1)))
        return self.means + (seeds + drawn).reshape(count, *self.means.shape)

    def _at(self, point: Point, metric: str) -> tuple[int, int]:
        return self.points.index(point), self.metrics.index(metric)


def _satterthwaite(seeds: float, freedom: float, drawn: float, images: int) -> float:
    """Degrees of freedom of the sum of two variances, of which the second is from a number of images (Satterthwaite 1946)."""
    parts = seeds**2 / freedom if freedom else 0.0
    parts += drawn**2 / max(1, images - 1)
    return (seeds + drawn) ** 2 / parts if parts else np.inf


def _normal(covariance: np.ndarray, standard: np.ndarray) -> np.ndarray:
    """Turn standard normal draws, [count, n], into draws with a covariance, [n, n], which may be singular."""
    values, vectors = np.linalg.eigh(covariance)
    return standard @ (vectors * np.sqrt(np.clip(values, 0, None))).T


def _correlations(residuals: Mapping[Point, Mapping[int, np.ndarray]], variances: np.ndarray) -> tuple[np.ndarray, float]:
    """Pooled correlations of replicates' errors: between metrics, [metrics, metrics], and between points, in [0, MAX_SHARED].

    Args:
        residuals: each replicate's values minus their mean, [metrics], by point and replicate.
        variances: variance of one replicate, [points, metrics].
    """
    metrics = variances.shape[1]
    rows = np.array([row for own in residuals.values() for row in own.values()])
    freedom = len(rows) - len(residuals)
    scale = np.sqrt((rows**2).sum(0))
    if freedom <= metrics:
        within = np.eye(metrics)
    else:
        within = (rows.T @ rows) / np.where(np.outer(scale, scale) > 0, np.outer(scale, scale), 1)
        np.fill_diagonal(within, 1.0)
    if not freedom or not (variances > 0).any():
        return within, 0.0
    products, sizes = 0.0, 0.0
    deviations = np.sqrt(np.where(variances > 0, variances, np.inf))
    each = [
        ({r: row / own for r, row in rows.items()}, len(rows)) for rows, own in zip(residuals.values(), deviations, strict=True)
    ]
    for i, (one, n) in enumerate(each):
        for other, m in each[i + 1 :]:
            both = one.keys() & other.keys()
            products += sum(float((one[r] * other[r]).sum()) for r in both)
            # The expected product of residuals about the points' own means, as a share of the correlation.
            sizes += len(both) * metrics * (1 - 1 / n - 1 / m + len(both) / (n * m))
    return within, float(np.clip(products / sizes, 0, MAX_SHARED)) if sizes > 1e-9 else 0.0
