"""Probabilities of being on the front and hypervolumes of noisy means, simulated and in exact cases."""

import functools

import numpy as np
import pytest
from replicated import shares

from core import pareto
from core.estimates import Estimates, Measurement
from core.front_estimates import LEAVES, STAYS, front_probabilities, hypervolume_estimate, most_undecided
from core.shrinkage import shrunken
from core.study import Objective

OBJECTIVES = (Objective("0", "max", 0.0, 1.0), Objective("1", "max", 0.0, 1.0), Objective("2", "min", 1.0, 0.0))
NULL, APART = 20, 30
"""Simulated studies of equal points, and of others."""
EQUAL = (0.7, 0.4, 0.6)


def losses(values: np.ndarray) -> np.ndarray:
    """Losses of metrics, [points, 3]."""
    return np.stack([1 - values[:, 0], 1 - values[:, 1], values[:, 2]], 1)


@functools.cache
def simulated(kind: str, points: int, replicates: int, runs: int) -> dict[str, np.ndarray]:
    """Statistics by run: probabilities and true membership by point; true, estimated and naive hypervolume; the lowest point."""
    stream, found = np.random.default_rng(0), {}
    for _ in range(runs):
        truth = np.tile(EQUAL, (points, 1)) + (0.12 * stream.normal(size=(points, 3)) if kind != "null" else 0.0)
        truth = np.clip(truth[stream.integers(0, 4, points)] if kind == "ties" else truth, 0.03, 0.97)
        estimates = Estimates.of(shares(stream, truth, replicates, 224, 0.05, 0.06), ["0", "1", "2"])
        every, noisy = np.ones(points, bool), estimates.means
        value, (low, high) = hypervolume_estimate(estimates, OBJECTIVES, every)
        volume = pareto.hypervolume(losses(truth))
        found_means = shrunken(estimates, list(range(points)), ["2"])
        best, lucky = min(found_means, key=lambda p: found_means[p]["2"][0]), int(noisy[:, 2].argmin())
        mean, interval = found_means[best]["2"]
        naive = estimates.interval(lucky, "2")
        row = {
            "probability": front_probabilities(estimates, OBJECTIVES, every), "front": pareto.non_dominated(losses(truth)),
            "volume error": value - volume, "volume covered": low <= volume <= high, "volume half": (high - low) / 2,
            "naive volume error": pareto.hypervolume(losses(noisy)) - volume,
            "lowest covered": interval.low <= truth[best, 2] <= interval.high, "lowest error": mean - truth[best, 2],
            "naive lowest covered": naive.low <= truth[lucky, 2] <= naive.high,
            "naive lowest error": noisy[lucky, 2] - truth[lucky, 2],
        }  # fmt: skip
        for name, one in row.items():
            found.setdefault(name, []).append(one)
    return {name: np.array(values) for name, values in found.items()}


@pytest.mark.parametrize("points, replicates", [(7, 2), (7, 3), (13, 2), (13, 3)])
def test_equal_points_are_undecided(points, replicates):
    probability = simulated("null", points, replicates, NULL)["probability"]
    assert np.mean((probability > LEAVES) & (probability < STAYS)) >= 0.95


@pytest.mark.parametrize("kind, points, replicates", [("apart", 13, 2), ("apart", 7, 3), ("ties", 13, 2)])
def test_at_most_a_twentieth_of_the_true_front_leaves_and_points_apart_are_decided(kind, points, replicates):
    """A verdict by the means alone drops many more of them."""
    study = simulated(kind, points, replicates, APART)
    probability, front = study["probability"], study["front"]
    assert np.mean(probability[front] <= LEAVES) <= 0.05
    assert np.mean(~front[probability >= STAYS]) <= 0.06
    assert np.mean((probability <= LEAVES) | (probability >= STAYS)) > (0.4 if kind == "apart" else 0.1)


def test_the_probability_of_points_that_differ_is_calibrated():
    studies = [simulated("apart", 13, 2, APART), simulated("apart", 7, 3, APART)]
    probability, front = (np.concatenate([study[name].ravel() for study in studies]) for name in ("probability", "front"))
    for low, high in ((0, 0.1), (0.1, 0.5), (0.5, 0.9), (0.9, 1.01)):
        among = (probability >= low) & (probability < high)
        assert abs(probability[among].mean() - front[among].mean()) < 0.09


def test_the_hypervolume_of_equal_points_does_not_grow_with_their_number_beyond_its_interval():
    errors = {points: simulated("null", points, 2, NULL) for points in (1, 7, 13)}
    errors |= {100: simulated("null", 100, 2, 1)}
    for study in errors.values():
        assert abs(study["volume error"].mean()) < 0.5 * study["volume half"].mean()
    naive = [errors[points]["naive volume error"].mean() for points in (1, 13, 100)]
    assert naive[1] > naive[0] + 0.02 and naive[2] > 0.03  # it does grow, beyond that interval
    assert naive[2] > errors[100]["volume half"].mean()


@pytest.mark.parametrize("kind, points, replicates, runs", [("null", 13, 3, NULL), ("apart", 13, 2, APART), ("apart", 7, 3, APART)])
def test_the_interval_of_the_hypervolume_covers(kind, points, replicates, runs):
    study = simulated(kind, points, replicates, runs)
    assert study["volume covered"].mean() >= 0.9 and study["volume half"].mean() < 0.045


@pytest.mark.parametrize("points, replicates", [(7, 2), (13, 2), (13, 3)])
def test_the_lowest_of_equal_points_keeps_less_than_half_of_the_winners_curse(points, replicates):
    study = simulated("null", points, replicates, NULL)
    assert study["naive lowest error"].mean() < -0.025
    assert abs(study["lowest error"].mean()) < 0.5 * abs(study["naive lowest error"].mean())
    assert study["lowest covered"].mean() >= 0.9
    if points == 13:
        assert study["naive lowest covered"].mean() < 0.9


def exact(values: list[tuple[float, float, float]], error: float = 1e-4) -> Estimates[int]:
    """Estimates of points with three metrics that vary by an error over three replicates."""
    measured = {
        p: {r: {str(m): Measurement.of_value(v + error * (r - 1) * (1 + m)) for m, v in enumerate(point)} for r in range(3)}
        for p, point in enumerate(values)
    }
    return Estimates.of(measured, ["0", "1", "2"])


def test_points_without_noise_have_the_front_and_the_hypervolume_of_their_means():
    points = [(0.9, 0.2, 0.5), (0.5, 0.6, 0.5), (0.4, 0.1, 0.6)]
    estimates, every = exact(points), np.ones(3, bool)
    assert front_probabilities(estimates, OBJECTIVES, every).tolist() == [1, 1, 0]
    value, (low, high) = hypervolume_estimate(estimates, OBJECTIVES, every)
    assert value == pytest.approx(pareto.hypervolume(losses(np.array(points))), abs=1e-3) and low < value < high < value + 0.01


def test_points_that_may_be_on_no_front_have_probability_zero_and_displace_none():
    estimates = exact([(0.9, 0.9, 0.5), (0.5, 0.6, 0.6), (0.4, 0.5, 0.7)])
    eligible = np.array([False, True, True])
    assert front_probabilities(estimates, OBJECTIVES, eligible).tolist() == [0, 1, 0]
    value, _ = hypervolume_estimate(estimates, OBJECTIVES, eligible)
    assert value == pytest.approx(0.5 * 0.6 * 0.4, abs=1e-3)
    assert hypervolume_estimate(estimates, OBJECTIVES, eligible & False) == (0.0, (0.0, 0.0))


def test_a_value_below_the_floor_counts_as_the_floor():
    estimates, every = exact([(0.9, 0.5, 0.52), (0.8, 0.4, 0.5)]), np.ones(2, bool)
    assert front_probabilities(estimates, OBJECTIVES, every).min() > 0.99
    floored = front_probabilities(estimates, OBJECTIVES, every, {"2": 0.55})
    assert floored[0] > 0.99 and floored[1] < 0.01
    assert hypervolume_estimate(estimates, OBJECTIVES, every, {"2": 0.55})[0] == pytest.approx(0.9 * 0.5 * 0.45, abs=1e-3)


def test_without_replicates_the_hypervolume_has_no_interval():
    one = {p: {1: {str(m): Measurement.of_value(v) for m, v in enumerate(EQUAL)}} for p in range(2)}
    assert hypervolume_estimate(Estimates.of(one, ["0", "1", "2"]), OBJECTIVES, np.ones(2, bool))[1] == (0, 1)


def test_the_most_undecided_point_is_nearest_to_one_half_and_decided_points_are_left_out():
    assert most_undecided(np.array([0.04, 0.6, 0.97, 0.35, 0.94, 0.05, 0.95])).tolist() == [1, 3, 4]
