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

from core.replicate_errors import SEEDS, ReplicateErrors, mixture_quantile, seed_weights
from core.stats import Interval, mean_bounds, normal_quantile, score_interval, t_quantile

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
    drawn: np.ndarray
    """Covariance of the means due to the draw of images, [points, metrics, points, metrics]."""
    images: np.ndarray
    """Number of images that limits the resolution, [points, metrics]; 0 for a metric without a value per image."""
    errors: tuple[ReplicateErrors, ...]
    """Variances of the replicates of each metric, in units of `scale` squared."""
    scale: np.ndarray
    """Standard error of one network's value due to the draw of images, [points, metrics]."""
    known: np.ndarray
    """Variance between replicates that is due to the images and therefore in `drawn`, in units of `scale` squared, [points, metrics]."""
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
        drawn = _drawn(measured, metrics)
        shared = np.einsum("ijij->ij", drawn)
        # Replicates differ by the images' interaction with the network, too.
        known = np.clip((alone - shared) * counts / np.maximum(1, counts - 1), 0, alone)
        scale = np.where(images > 0, np.sqrt(np.maximum(alone, 1 / np.maximum(1, images) ** 2)), 1.0)
        units = [v / s for v, s in zip(values, scale, strict=True)]
        errors = tuple(ReplicateErrors.of([u[:, j] for u in units], replicates) for j in range(len(metrics)))
        return cls(
            tuple(measured), tuple(metrics), tuple(map(frozenset, replicates)), np.array([v.mean(0) for v in values]), drawn, images,
            errors, scale, known / scale**2, _within(units),
        )  # fmt: skip

    def mean(self, point: Point, metric: str) -> float:
        """Mean of a metric over a point's replicates."""
        return float(self.means[self._at(point, metric)])

    def interval(self, point: Point, metric: str, level: float = 0.95) -> Interval:
        """Interval of a mean; infinite, or [0, 1] for a mean over images, if no replicates show the variance.

        It is Student's with the sum of both variances and Satterthwaite's degrees of freedom. For a mean over images it is
        Wilson's, which stays within [0, 1], for the number of images that corresponds to the variance.
        """
        i, j = self._at(point, metric)
        mean, images = float(self.means[i, j]), int(self.images[i, j])
        if np.isnan(self.errors[j].own[i]):
            return Interval(0.0, 1.0) if images else Interval(-np.inf, np.inf)
        errors, count = self.errors[j], len(self.replicates[i])
        if not images:
            return mean_bounds(mean, t_quantile(level, float(errors.freedom[i])) * float(np.sqrt(errors.variance[i] / count)))
        weights = seed_weights(float(errors.variance[i]), float(errors.freedom[i]), float(self.known[i, j]), images)
        spread = self.drawn[i, j, i, j] + self.scale[i, j] ** 2 * SEEDS**2 / count
        half = mixture_quantile(spread + FEW / images**2, weights, level) * t_quantile(level, images - 1) / normal_quantile(level)
        return score_interval(mean, (mean * (1 - mean) + FEW / images) / half**2, quantile=1.0)

    def difference(self, point: Point, other: Point, metric: str, level: float = 0.95) -> Difference:
        """A metric of one point minus that of another, with its paired interval (Student's)."""
        (i, j), (k, _) = self._at(point, metric), self._at(other, metric)
        value, errors, pair = float(self.means[i, j] - self.means[k, j]), self.errors[j], [i, k]
        if np.isnan(errors.own[pair]).any():
            return Difference(value, Interval(-np.inf, np.inf))
        counts = np.array([len(self.replicates[at]) for at in pair])
        unshared = 1 / counts.sum() * 0 + float((1 / counts).sum() - 2 * len(self.replicates[i] & self.replicates[k]) / counts.prod())
        freedom = float(min(errors.own_total, 2 * errors.own_freedom[pair].min()))
        scales = self.scale[pair, j] ** 2 / counts
        mean_scale = float(scales.sum())
        variance = float((scales * errors.own[pair]).sum()) / mean_scale
        rest = errors.common * unshared * float(self.scale[pair, j].prod())
        smallest = int(self.images[pair, j].min())
        if not smallest:
            return Difference(value, mean_bounds(value, t_quantile(level, freedom) * float(np.sqrt(variance * mean_scale + rest))))
        known = float((scales * self.known[pair, j]).sum()) / mean_scale
        weights = seed_weights(variance, freedom, known, smallest)
        drawn = self.drawn[np.ix_(pair, [j], pair, [j])].reshape(2, 2)
        images = max(0.0, float(drawn[0, 0] + drawn[1, 1] - 2 * drawn[0, 1])) + rest + FEW / smallest**2
        half = mixture_quantile(images + mean_scale * SEEDS**2, weights, level) * t_quantile(level, smallest - 1) / normal_quantile(level)
        return Difference(value, mean_bounds(value, half))

    @cached_property
    def _seeds(self) -> np.ndarray:
        """Variance of the means due to seeds and members, without what `drawn` contains, [points, metrics]."""
        return np.einsum("ijij->ij", self._seed_covariance)

    @cached_property
    def _seed_covariance(self) -> np.ndarray:
        """Covariance of the means due to seeds and members, without what `drawn` contains, [points, metrics, points, metrics]."""
        shared = np.array([[len(a & b) / (len(a) * len(b)) for b in self.replicates] for a in self.replicates])
        alone = np.diag(np.diag(shared))
        own = np.nan_to_num(np.stack([e.own for e in self.errors], 1)) - self.known
        common = np.array([e.common for e in self.errors]) + np.minimum(0, own)
        common, own = (np.sqrt(np.maximum(0, part)) * self.scale for part in (common, own))
        return sum(
            np.einsum("ik,ij,kl,jl->ijkl", weight, part, part, self.within) for weight, part in ((shared, common), (alone, own))
        )

    @cached_property
    def covariance(self) -> np.ndarray:
        """Covariance of the errors of all means, [points, metrics, points, metrics]."""
        return self._seed_covariance + self.drawn

    def _at(self, point: Point, metric: str) -> tuple[int, int]:
        return self.points.index(point), self.metrics.index(metric)


def _drawn(measured: Mapping[Point, Mapping[int, Mapping[str, Measurement]]], metrics: Sequence[str]) -> np.ndarray:
    """Products of the mean influences of points and metrics, summed over images, [points, metrics, points, metrics]."""
    columns = np.unique(np.concatenate([m.rows for own in measured.values() for r in own.values() for m in r.values()]))
    influence = np.zeros((len(measured), len(metrics), len(columns)))
    for i, own in enumerate(measured.values()):
        for j, name in enumerate(metrics):
            for replicate in own.values():
                influence[i, j, np.searchsorted(columns, replicate[name].rows)] += replicate[name].influence / len(own)
    flat = influence.reshape(-1, len(columns))
    return (flat @ flat.T).reshape(influence.shape[:2] * 2)


def _within(values: Sequence[np.ndarray]) -> np.ndarray:
    """Pooled correlation of the replicates' errors between metrics, [metrics, metrics], moved to 0 where there are few."""
    rows = np.concatenate([v - v.mean(0) for v in values])
    freedom, scale = len(rows) - len(values), np.sqrt((rows**2).sum(0))
    rows = rows / np.where(scale > 0, scale, 1)
    trust = freedom / (freedom + rows.shape[1])
    return trust * (rows.T @ rows) + np.diag(1 - trust * (rows**2).sum(0))

