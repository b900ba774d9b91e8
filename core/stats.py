"""Confidence intervals of proportions and means."""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


def normal_quantile(level: float) -> float:
    """Half-width of a two-sided interval in standard errors: 1.96 at 0.95."""
    return NormalDist().inv_cdf(0.5 + level / 2)


def wilson(hits: int, n: int, level: float = 0.95) -> Interval:
    """Wilson's interval of a proportion `hits / n` (Wilson 1927); it stays within [0, 1] and is valid for any hits and n."""
    return score_interval(hits / n, n, level) if n else Interval(0.0, 1.0)


def score_interval(share: float, n: float, level: float = 0.95, quantile: float | None = None) -> Interval:
    """Wilson's interval of an estimate in [0, 1] whose variance is share * (1 - share) / n for a positive, real `n`.

    `quantile` replaces the normal distribution's where the variance itself is estimated.
    """
    z = normal_quantile(level) if quantile is None else quantile
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)))


def effective_size(share: float, interval: Interval, level: float = 0.95) -> float:
    """The `n` for which `score_interval` has given this interval; infinite at zero width.

    An end e solves (share - e)^2 = z^2 e (1 - e) / n; the end that is farther from the share is used, which rounding affects least.
    """
    z = normal_quantile(level)
    end = max(interval, key=lambda end: abs(share - end))
    return z * z * end * (1 - end) / (share - end) ** 2 if end not in (share, 0.0, 1.0) else math.inf


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, Interval]:
    """The mean of a few repetitions, and its Student's t interval.

    The interval is infinite for a single repetition, and for several equal ones, which show no variance either.
    """
    mean = float(np.mean(values))
    if len(values) < 2 or np.ptp(values) == 0:
        return mean, Interval(-math.inf, math.inf)
    half = t_quantile(level, len(values) - 1) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return mean, mean_bounds(mean, half)


def placements(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """For each score, the share of the others, in ascending order, that are smaller, ties counted half; fast if both are sorted."""
    return (np.searchsorted(others, scores) + np.searchsorted(others, scores, side="right")) / (2 * len(others))


def t_quantile(level: float, freedom: float) -> float:
    """Half-width of a two-sided Student interval in standard errors; the normal one for infinite degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.5 + level / 2)) if math.isfinite(freedom) else normal_quantile(level)


def mean_bounds(mean: float, half: float) -> Interval:
    """The interval of a mean with a half-width."""
    return Interval(mean - half, mean + half)


def moderated_variances(squares: np.ndarray, freedom: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variances of several groups from a few observations each, moderated by their common prior (Smyth 2004, equations 6 to 9).

    The prior is a scaled inverse chi-squared distribution whose mean and degrees of freedom are estimated from all groups. With
    equal variances every group has the pooled variance; with very different ones it keeps its own.

    Args:
        squares: sums of squared deviations, [n].
        freedom: degrees of freedom of each, [n]; a group with 0 has the prior's variance.

    Returns:
        The variances, [n], NaN if no group has a degree of freedom; and their degrees of freedom, at most those of all groups.
    """
    from scipy.optimize import brentq
    from scipy.special import digamma, polygamma

    total = float(freedom.sum())
    if not total:
        return np.full(len(squares), np.nan), np.zeros(len(squares))
    pooled = float(squares.sum()) / total
    shown = (freedom > 0) & (squares > 0)
    prior, centre = math.inf, pooled
    if shown.sum() > 2:
        own = freedom[shown] / 2
        logs = np.log(squares[shown] / freedom[shown]) - digamma(own) + np.log(own)
        excess = float(logs.var(ddof=1) - polygamma(1, own).mean())
        if excess > 1e-3:
            half: Any = brentq(lambda half: polygamma(1, half) - excess, 1e-4, 1e4)
            prior = 2 * float(half)
            centre = math.exp(logs.mean() + digamma(prior / 2) - math.log(prior / 2))
    elif shown.sum() < len(squares) or len(squares) == 1:
        prior = 0.0 if len(squares) == 1 else math.inf
    if prior == math.inf:
        return np.full(len(squares), pooled), np.full(len(squares), total)
    variances = (prior * centre + squares) / np.maximum(prior + freedom, 1e-12)
    return variances, np.minimum(prior + freedom, total)
