"""Means of metrics over replicates, with errors that include seeds, members and judged images.

A metric of one network is a mean over images, or an AUC. Its *influence* on an image is the image's contribution to the value's
error, so that the sum of squares is the variance due to the draw of images (DeLong 1988 for the AUC). Replicates have seeds and
members of their own but are judged on the same images, so the error of their mean has two parts, which are added:

- images: the squares of the influence's mean over replicates, summed over images;
- seeds and members: the variance between replicates beyond what the images explain, over their number, averaged over its
  posterior (`core.replicate_errors`).

All points share images, and replicate r has the same members for every point. Both induce covariances between points, which make
differences more precise than the points themselves. `tests/benchmarks/interval_coverage.py` measures the coverage of the intervals.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from core.replicate_errors import SEEDS, ReplicateErrors, mixture_quantile, seed_weights
from core.stats import Interval, mean_bounds, normal_quantile, placements, score_interval, t_quantile

Point = TypeVar("Point", bound=Hashable)
FEW = 0.25
"""Images that are added with the largest variance of any distribution, since a value near 0 or 1 shows too little or none."""


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
        above = placements(inside, np.sort(outside))
        auc = float(above.mean())
        for mask, share in ((member, above), (~member, 1 - placements(outside, np.sort(inside)))):
            count = int(mask.sum())
            influence[mask] = (share - auc) / np.sqrt(count * max(1, count - 1))
        return cls(auc, rows, influence, min(len(inside), len(outside)))

    @property
    def variance(self) -> float:
        """Variance of the value due to the draw of images."""
        return float((self.influence**2).sum())


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
    influence: np.ndarray
    """Mean influence of each image, [points, metrics, images]."""
    images: np.ndarray
    """Number of images that limits the resolution, [points, metrics]; 0 for a metric without a value per image."""
    scale: np.ndarray
    """Standard error of one network's value due to the draw of images, [points, metrics]; 1 for a metric without images."""
    known: np.ndarray
    """Variance between replicates that the images' interaction with networks explains, in units of `scale` squared,
    [points, metrics]; the squares of `influence` contain it."""
    errors: tuple[ReplicateErrors, ...]
    """Variances of the replicates of each metric, in units of `scale` squared."""
    within: np.ndarray
    """Correlation of the replicates' errors between metrics of a point, [metrics, metrics]."""

    @classmethod
    def of(cls, measured: Mapping[Point, Mapping[int, Mapping[str, Measurement]]], metrics: Sequence[str]) -> "Estimates[Point]":
        """Estimate the means of `metrics` from their measurements by point, replicate and metric.

        Raises:
            ValueError: a point has no replicate, or a metric was not measured on every replicate.
        """
        if lacking := [p for p, own in measured.items() if not own or any(m not in r for r in own.values() for m in metrics)]:
            raise ValueError(f"points without a measurement of every metric on every replicate: {lacking}")
        values = [np.array([[r[m].value for m in metrics] for r in own.values()]) for own in measured.values()]
        replicates = [list(own) for own in measured.values()]
        counts = np.array([[len(own)] for own in replicates])
        images = np.array([[min(r[m].images for r in own.values()) for m in metrics] for own in measured.values()])
        alone = np.array([[np.mean([r[m].variance for r in own.values()]) for m in metrics] for own in measured.values()])
        _, influence = mean_influence(measured, metrics)
        known = np.clip((alone - (influence**2).sum(2)) * counts / np.maximum(1, counts - 1), 0, alone)
        scale = np.where(images > 0, np.sqrt(np.maximum(alone, FEW / np.maximum(1, images) ** 2)), 1.0)
        units = [v / s for v, s in zip(values, scale, strict=True)]
        errors = tuple(ReplicateErrors.of([u[:, j] for u in units], replicates) for j in range(len(metrics)))
        return cls(
            tuple(measured), tuple(metrics), tuple(map(frozenset, replicates)), np.array([v.mean(0) for v in values]), influence,
            images, scale, known / scale**2, errors, _within(units),
        )  # fmt: skip

    def mean(self, point: Point, metric: str) -> float:
        """Mean of a metric over a point's replicates."""
        return float(self.means[self._at(point, metric)])

    def interval(self, point: Point, metric: str, level: float = 0.95) -> Interval:
        """Interval of a mean; infinite, or [0, 1] for a mean over images, if no point has two replicates.

        For a mean over images it is Wilson's, which stays within [0, 1], for the number of images that corresponds to the error.
        """
        at = self._at(point, metric)
        return self._around(at, float(self.means[at]), self._half_width(*at, level))

    def interval_around(self, point: Point, metric: str, value: float, variance: float, level: float = 0.95) -> Interval:
        """Interval of a corrected mean with another variance (see `covariance`), with the bounds of `interval`."""
        return self._around(self._at(point, metric), value, normal_quantile(level) * float(np.sqrt(variance)))

    def difference(self, point: Point, other: Point, metric: str, level: float = 0.95) -> Difference:
        """A metric of one point minus that of another, with its paired interval."""
        (i, j), (k, _) = self._at(point, metric), self._at(other, metric)
        value, errors, pair = float(self.means[i, j] - self.means[k, j]), self.errors[j], [i, k]
        counts = np.array([len(self.replicates[at]) for at in pair])
        units = self.scale[pair, j] ** 2 / counts
        own, known = (float((units * part[pair]).sum() / units.sum()) for part in (errors.own, self.known[:, j]))
        freedom = float(min(errors.own_total, 2 * errors.own_freedom[pair].min()))
        unshared = float((1 / counts).sum()) - 2 * len(self.replicates[i] & self.replicates[k]) / float(counts.prod())
        drawn = float(((self.influence[i, j] - self.influence[k, j]) ** 2).sum())
        drawn += errors.common * unshared * float(self.scale[pair, j].prod())
        smallest = int(self.images[pair, j].min())
        return Difference(value, mean_bounds(value, _half_width(own, freedom, known, float(units.sum()), drawn, smallest, level)))

    @property
    def seed_variances(self) -> np.ndarray:
        """Variance of one replicate due to seeds, members and networks, [points, metrics]; NaN if no point has two replicates."""
        return np.stack([e.variance for e in self.errors], 1) * self.scale**2

    @cached_property
    def covariance(self) -> np.ndarray:
        """Covariance of the errors of all means, [points, metrics, points, metrics].

        The variances are those of normal distributions with the means' 95 % intervals, so that normal draws have their tails.
        """
        return self._covariance(self._seeds)

    @cached_property
    def smooth_covariance(self) -> np.ndarray:
        """`covariance` in which points differ by their numbers of replicates alone, [points, metrics, points, metrics].

        For each metric, variances and covariances between points are averages over the points. If means are weighted by covariances
        that are estimated from the same few images and replicates, noise decides which of them are moved the least: a high
        accuracy, for example, seems to have a small error.
        """
        smooth, points = self.covariance.copy(), len(self.points)
        counts = np.array([[len(own)] for own in self.replicates])
        drawn, known = (self.influence**2).sum(2), self.known * self.scale**2
        variances = (self._seeds + known).mean(0) / counts + (drawn - known / counts).mean(0)
        for k, own in enumerate(variances.T):
            block = self.covariance[:, k, :, k]
            shared = (block.sum() - np.trace(block)) / max(1, points * (points - 1))
            smooth[:, k, :, k] = np.clip(shared, 0, 0.99 * own.min())
            smooth[range(points), k, range(points), k] = own
        return smooth

    def draws(self, count: int = 4000, seed: int = 0) -> np.ndarray:
        """Draw the means again, each with its error and with the errors' `covariance`, [count, points, metrics]."""
        return normal_draws(self.means, self.covariance, count, seed)

    @cached_property
    def _seeds(self) -> np.ndarray:
        """Variance of one replicate due to seeds and members, beyond what the images explain, [points, metrics]."""
        halves = np.array([[self._half_width(i, j, 0.95) for j in range(len(self.metrics))] for i in range(len(self.points))])
        rest = (halves / normal_quantile(0.95)) ** 2 - (self.influence**2).sum(2)
        return np.where(np.isfinite(halves), rest, 0.0).clip(0) * np.array([[len(own)] for own in self.replicates])

    def _covariance(self, seeds: np.ndarray) -> np.ndarray:
        """Covariance of the errors of all means, given the variance of one replicate due to seeds and members."""
        shared = np.array([[len(a & b) / (len(a) * len(b)) for b in self.replicates] for a in self.replicates])
        common = np.minimum(np.array([e.common for e in self.errors]) * self.scale**2, seeds)
        parts = ((shared, np.sqrt(common)), (np.diag(np.diag(shared)), np.sqrt(seeds - common)))
        drawn = np.einsum("ijn,kln->ijkl", self.influence, self.influence, optimize=True)
        return drawn + sum(np.einsum("ik,ij,kl,jl->ijkl", weight, part, part, self.within) for weight, part in parts)

    def _half_width(self, i: int, j: int, level: float) -> float:
        """Half-width of the interval of a mean before it is bounded; infinite if no replicates show the variance."""
        errors, units = self.errors[j], float(self.scale[i, j]) ** 2 / len(self.replicates[i])
        drawn, known = float((self.influence[i, j] ** 2).sum()), float(self.known[i, j])
        return _half_width(float(errors.variance[i]), float(errors.freedom[i]), known, units, drawn, int(self.images[i, j]), level)

    def _around(self, at: tuple[int, int], value: float, half: float) -> Interval:
        """Interval of a value; Wilson's for a metric with images, of whose form only the ratio of size and quantile matters."""
        images = int(self.images[at])
        if not images:
            return mean_bounds(value, half)
        if not np.isfinite(half):
            return Interval(0.0, 1.0)
        return score_interval(value, (value * (1 - value) + FEW / images) / half**2, quantile=1.0)

    def _at(self, point: Point, metric: str) -> tuple[int, int]:
        return self.points.index(point), self.metrics.index(metric)


def normal_draws(means: np.ndarray, covariance: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Normal draws around means, [count, *means.shape], with a covariance, [*means.shape, *means.shape], which may be singular."""
    values, vectors = np.linalg.eigh(covariance.reshape(means.size, means.size))
    standard = np.random.Generator(np.random.PCG64(seed)).standard_normal((count, means.size))
    return means + (standard @ (vectors * np.sqrt(np.clip(values, 0, None))).T).reshape(count, *means.shape)


def _half_width(variance: float, freedom: float, known: float, units: float, drawn: float, images: int, level: float) -> float:
    """Half-width of the interval of a mean or a difference; infinite if the variance is not known.

    Args:
        variance: variance of one replicate.
        freedom: its degrees of freedom.
        known: the part of it that the images explain, which is in `drawn`.
        units: unit of both, over the number of replicates.
        drawn: variance due to the draw of images.
        images: number of images that limits the resolution; 0 if there are none.
        level: level of the interval.
    """
    if np.isnan(variance) or not freedom:
        return np.inf
    if not images:
        return t_quantile(level, freedom) * float(np.sqrt(variance * units + drawn))
    variances = drawn + FEW / images**2 + units * SEEDS**2
    half = mixture_quantile(variances, seed_weights(variance, freedom, known, images), level)
    return half * t_quantile(level, max(1, images - 1)) / normal_quantile(level)


def mean_influence(
    measured: Mapping[Point, Mapping[int, Mapping[str, Measurement]]], metrics: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the pool that occur in measurements, [images], and each image's mean influence, [points, metrics, images].

    Args:
        measured: measurements by point, replicate and metric; the mean is over a point's replicates.
        metrics: names of the metrics.
    """
    every = [replicate[name] for own in measured.values() for replicate in own.values() for name in metrics]
    present = np.zeros(max((int(one.rows.max(initial=-1)) for one in every), default=-1) + 1, bool)
    for one in every:
        present[one.rows] = True
    rows, columns = np.flatnonzero(present), present.cumsum() - 1
    influence = np.zeros((len(measured), len(metrics), len(rows)))
    for i, own in enumerate(measured.values()):
        for j, name in enumerate(metrics):
            for replicate in own.values():
                influence[i, j, columns[replicate[name].rows]] += replicate[name].influence / len(own)
    return rows, influence


def _within(values: Sequence[np.ndarray]) -> np.ndarray:
    """Pooled correlation of the replicates' errors between metrics, [metrics, metrics], moved to 0 where there are few."""
    rows = np.concatenate([v - v.mean(0) for v in values])
    freedom, scale = len(rows) - len(values), np.sqrt((rows**2).sum(0))
    rows = rows / np.where(scale > 0, scale, 1)
    trust = freedom / (freedom + rows.shape[1])
    correlation = trust * (rows.T @ rows)
    np.fill_diagonal(correlation, 1.0)
    return correlation
