"""Wilson's interval against its quadratic equation and scipy, Student's against scipy, and the coverage of both."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.stats import Interval, effective_size, mean_interval, normal_quantile, score_interval, wilson


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
def test_normal_quantile_equals_that_of_scipy(level):
    assert normal_quantile(level) == pytest.approx(scipy.stats.norm.ppf((1 + level) / 2), rel=1e-12)


@given(st.integers(1, 3000), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.99]))
@settings(max_examples=60, deadline=None)
def test_wilson_ends_solve_the_score_equation(n, share, level):
    """The ends are the proportions p with (hits/n - p)^2 = z^2 p (1 - p) / n."""
    hits = round(share * n)
    z2 = scipy.stats.norm.ppf((1 + level) / 2) ** 2 / n
    low, high = sorted(np.roots([1 + z2, -(2 * hits / n + z2), (hits / n) ** 2]).real)
    interval = wilson(hits, n, level)
    assert interval.low == pytest.approx(low, abs=1e-6)
    assert interval.high == pytest.approx(high, abs=1e-6)
    assert 0 <= interval.low <= hits / n + 1e-12 and hits / n - 1e-12 <= interval.high <= 1


@pytest.mark.parametrize(("hits", "n"), [(0, 1), (1, 1), (0, 50), (50, 50), (7, 20), (499, 1000)])
def test_wilson_equals_scipy(hits, n):
    ci = scipy.stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert wilson(hits, n) == pytest.approx((ci.low, ci.high), abs=1e-12)


@pytest.mark.parametrize("n", [10, 50, 448])
def test_wilson_covers_the_truth_at_its_level_on_average(n):
    hits = np.arange(n + 1)
    ends = np.array([wilson(int(k), n) for k in hits])
    truths = np.linspace(0.01, 0.99, 199)
    covered = (ends[:, :1] <= truths) & (truths <= ends[:, 1:])
    coverage = (scipy.stats.binom.pmf(hits[:, None], n, truths) * covered).sum(0)
    assert 0.94 < coverage.mean() < 0.965
    assert coverage[(truths > 0.2) & (truths < 0.8)].min() > 0.9


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=9).filter(lambda v: np.ptp(v) > 1e-3), st.floats(0.5, 0.99))
@settings(max_examples=40, deadline=None)
def test_mean_interval_equals_that_of_scipy(values, level):
    mean, interval = mean_interval(values, level)
    expected = scipy.stats.t.interval(level, len(values) - 1, loc=np.mean(values), scale=scipy.stats.sem(values))
    assert mean == pytest.approx(np.mean(values))
    assert tuple(interval) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_mean_interval_covers_the_truth_of_three_repetitions_95_percent_of_the_time():
    draws = np.random.default_rng(0).normal(3.0, 2.0, (1000, 3))
    intervals = [mean_interval(row)[1] for row in draws]
    covered = np.mean([low <= 3.0 <= high for low, high in intervals])
    assert abs(covered - 0.95) < 3 * math.sqrt(0.95 * 0.05 / 1000)


@pytest.mark.parametrize("values", [[0.7], [0.7, 0.7, 0.7]])
def test_a_mean_of_values_that_show_no_variance_has_no_finite_interval(values):
    assert mean_interval(values) == (pytest.approx(0.7), (-math.inf, math.inf))


def test_wilson_of_no_observation_is_the_whole_range():
    assert wilson(0, 0) == (0, 1)


@given(st.floats(0, 1), st.floats(0.5, 1e6), st.sampled_from([0.8, 0.95, 0.999]))
@example(1e-8, 5.0, 0.8)
def test_the_size_behind_a_score_interval_gives_the_interval_at_any_other_level(share, n, level):
    recovered = effective_size(share, score_interval(share, n))
    assert recovered == pytest.approx(n, rel=1e-4)
    assert score_interval(share, recovered, level) == pytest.approx(score_interval(share, n, level), rel=1e-4, abs=1e-9)


def test_the_size_behind_an_interval_without_a_width_is_infinite():
    assert effective_size(1.0, Interval(1.0, 1.0)) == math.inf and score_interval(1.0, math.inf) == (1, 1)
