"""Whether fronts can be distinguished by their confirmed hypervolumes."""

import math

import numpy as np
import pytest

from core.stats import Interval
from trainables.decisions.differences import difference, difference_lines
from trainables.decisions.fronts import StudyFront


def front(name: str, hypervolume: float = math.nan, low: float = -math.inf, high: float = math.inf) -> StudyFront:
    """A front with this confirmed hypervolume; without one it is that of a sweep."""
    return StudyFront(
        name, (), {}, trials=5, version=1, confirmed=math.isfinite(hypervolume), points=(), sweep_hypervolume=0.9,
        hypervolume=hypervolume, interval=Interval(low, high),
    )  # fmt: skip


A, B, C = front("a", 0.60, 0.56, 0.64), front("b", 0.50, 0.47, 0.53), front("c", 0.58, 0.50, 0.66)


def test_the_variances_of_independent_studies_are_added():
    value, interval = difference(A, B)
    assert value == pytest.approx(0.1) and interval == pytest.approx((0.05, 0.15))  # 0.05 from 0.04 and 0.03
    value, interval = difference(B, A)
    assert value == pytest.approx(-0.1) and interval == pytest.approx((-0.15, -0.05))


def test_the_ends_of_the_intervals_that_face_each_other_count():
    skewed, other = front("s", 0.6, 0.57, 0.9), front("o", 0.5, 0.1, 0.54)
    assert difference(skewed, other)[1] == pytest.approx((0.05, 0.6))


def test_the_interval_of_the_difference_covers():
    stream, errors = np.random.default_rng(0), (0.02, 0.05)
    covered = []
    for _ in range(4000):
        values = [0.5 + error * stream.standard_normal() for error in errors]
        one, other = (front("x", v, v - 1.96 * e, v + 1.96 * e) for v, e in zip(values, errors, strict=True))
        low, high = difference(one, other)[1]
        covered.append(low <= 0 <= high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.012)


def test_intervals_of_several_pairs_hold_at_once():
    narrow, wide = difference(A, B)[1], difference(A, B, pairs=3)[1]
    assert np.ptp(wide) / np.ptp(narrow) == pytest.approx(2.394 / 1.960, abs=1e-3)


def test_a_line_states_for_each_pair_whether_the_fronts_can_be_distinguished():
    first, assumed = difference_lines([A, B])
    assert first == (
        "the hypervolume of a is 0.1000 higher than that of b (95 % interval 0.0500 to 0.1500): the front of a is better"
    )
    assert assumed.startswith("assumed: the errors of the studies are independent.")
    assert difference_lines([B, A])[0] == (
        "the hypervolume of b is 0.1000 lower than that of a (95 % interval 0.0500 to 0.1500): the front of a is better"
    )
    assert difference_lines([A, C])[0].endswith(
        "is 0.0200 higher than that of c (95 % interval 0.0694 lower to 0.1094 higher): the fronts cannot be distinguished"
    )
    *lines, assumed = difference_lines([A, B, C])
    assert len(lines) == 3 and "all 3 intervals hold at once" in assumed


def test_sweeps_and_fronts_without_an_interval_are_not_distinguished():
    assert difference_lines([A, front("sweep")]) == []
    line, _ = difference_lines([A, front("single", 0.4)])
    assert line == (
        "the hypervolume of a is 0.2000 higher than that of single (no interval): the fronts cannot be distinguished, because "
        "there is no interval without two replicates per point"
    )
