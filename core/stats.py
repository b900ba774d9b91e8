"""Confidence intervals of proportions and means."""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

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


def score_interval(share: float, n: float, level: float = 0.95) -> Interval:
    """Wilson's interval of an estimate in [0, 1] whose variance is share * (1 - share) / n for a positive, real `n`."""
    z = normal_quantile(level)
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
    """The mean of a few repetitions, and its Student's t interval, which is infinite for a single repetition."""
    from scipy.stats import t

    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, Interval(-math.inf, math.inf)
    half = float(t.ppf(0.5 + level / 2, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
    return mean, Interval(mean - half, mean + half)
