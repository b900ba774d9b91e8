"""Shrinkage of noisy means: the correction of the winner's curse."""

import numpy as np
import pytest

from core.estimates import Estimates, Measurement
from core.shrinkage import shrink, shrunken


def independent(points: int, metrics: int = 1) -> np.ndarray:
    """Covariance of independent errors of variance 1."""
    return np.einsum("ij,kl->ikjl", np.eye(points), np.eye(metrics))


def best_of(points: int, spread: float, runs: int = 500, shared: float = 0.0) -> tuple[float, float, float]:
    """Error of the lowest mean, error of the lowest shrunken mean, and the share of 95 % intervals that contain its true value.

    Args:
        points: number of points, whose errors have variance 1.
        spread: standard deviation of the true values.
        runs: number of simulations.
        shared: correlation of the errors.
    """
    stream = np.random.default_rng(points)
    covariance = (1 - shared) * np.eye(points) + shared
    root, before, after, covered = np.linalg.cholesky(covariance), [], [], []
    for _ in range(runs):
        truth = spread * stream.standard_normal(points)
        means = truth + root @ stream.standard_normal(points)
        shrunken, posterior = (a.reshape(-1) for a in shrink(means[:, None], covariance[:, None, :, None]))
        lowest = means.argmin()
        before.append(means[lowest] - truth[lowest])
        lowest = shrunken.argmin()
        after.append(shrunken[lowest] - truth[lowest])
        covered.append(abs(after[-1]) < 1.96 * np.sqrt(posterior.reshape(points, points)[lowest, lowest]))
    return float(np.mean(before)), float(np.mean(after)), float(np.mean(covered))


@pytest.mark.parametrize("points, spread, shared", [(7, 0.5, 0.0), (13, 0.5, 0.0), (13, 1.0, 0.0), (7, 1.0, 0.4), (25, 3.0, 0.0)])
def test_the_interval_of_the_selected_point_covers(points, spread, shared):
    _, after, covered = best_of(points, spread, shared=shared)
    assert 0.925 < covered < 0.985 and abs(after) < 0.45


@pytest.mark.parametrize("points", [7, 13, 25])
def test_of_equal_points_most_of_the_winners_curse_is_removed_and_the_interval_is_not_too_narrow(points):
    before, after, covered = best_of(points, 0.0)
    assert before < -1.2 and abs(after) < 0.4 * abs(before) and covered > 0.95


def test_points_that_are_far_apart_stay_where_they_are_and_equal_ones_get_their_common_mean():
    means = np.array([[0.0], [100.0], [300.0]])
    shrunken, posterior = shrink(means, independent(3))
    assert np.allclose(shrunken, means, atol=0.1) and np.allclose(posterior[:, 0, :, 0], np.eye(3), atol=0.01)
    shrunken, posterior = shrink(np.full((5, 1), 2.0), independent(5))
    assert np.allclose(shrunken, 2.0) and np.all(np.diag(posterior[:, 0, :, 0]) < 0.6)


def test_the_result_does_not_depend_on_origin_or_unit_and_keeps_the_order_of_equally_noisy_points():
    stream = np.random.default_rng(0)
    means = stream.standard_normal((6, 2))
    covariance = independent(6, 2)
    covariance[:, 0, :, 1] = covariance[:, 1, :, 0] = 0.5 * np.eye(6)
    shrunken, posterior = shrink(means, covariance)
    moved, scaled = shrink(3 * means + 7, 9 * covariance)
    assert np.allclose(moved, 3 * shrunken + 7) and np.allclose(scaled, 9 * posterior)
    assert (shrunken.argsort(0) == means.argsort(0)).all()


def test_the_covariance_is_symmetric_and_positive_and_keeps_the_correlation_between_metrics():
    stream = np.random.default_rng(1)
    root = stream.standard_normal((12, 12))
    errors = (root @ root.T).reshape(4, 3, 4, 3)
    _, posterior = shrink(stream.standard_normal((4, 3)), errors)
    flat = posterior.reshape(12, 12)
    assert np.allclose(flat, flat.T) and np.linalg.eigvalsh(flat).min() > -1e-9
    apart = 1e4 * np.arange(12.0).reshape(4, 3) ** 2
    assert np.allclose(shrink(apart, errors)[1], errors, rtol=0.02, atol=0.02)


def test_a_single_point_and_points_without_noise_are_unchanged():
    for points, noise in ((1, 1.0), (3, 0.0)):
        means, covariance = np.arange(points, dtype=float)[:, None], noise * independent(points)
        shrunken, posterior = shrink(means, covariance)
        assert np.array_equal(shrunken, means) and np.allclose(posterior, covariance)


def study(stream: np.random.Generator, points: int, replicates: int, images: int = 225) -> Estimates[int]:
    """Accuracies of networks with the same true accuracy of 0.8: images, members and seeds all make errors, as in a study."""
    difficulty, members = stream.normal(0, 1, images), stream.normal(0, 0.05, replicates)
    measured: dict[int, dict[int, dict[str, Measurement]]] = {}
    for point in range(points):
        own = difficulty + stream.normal(0, 0.5, images)
        measured[point] = {}
        for r in range(replicates):
            margin = 1.266 + own + members[r] + stream.normal(0, 0.08) + stream.normal(0, 1, images)
            measured[point][r] = {"accuracy": Measurement.of_share(np.arange(images), margin > 0)}
    return Estimates.of(measured, ["accuracy"])


@pytest.mark.parametrize("points, replicates", [(7, 2), (13, 3)])
def test_in_a_null_study_less_than_half_of_the_winners_curse_remains_and_the_interval_covers(points, replicates):
    stream, before, after, covered, covered_before = np.random.default_rng(0), [], [], [], []
    for _ in range(150):
        estimates = study(stream, points, replicates)
        numbers = list(range(points))
        best = max(numbers, key=lambda n: estimates.mean(n, "accuracy"))
        before.append(estimates.mean(best, "accuracy") - 0.8)
        low, high = estimates.interval(best, "accuracy")
        covered_before.append(low <= 0.8 <= high)
        value, (low, high) = max(own["accuracy"] for own in shrunken(estimates, numbers, ["accuracy"]).values())
        after.append(value - 0.8)
        covered.append(low <= 0.8 <= high)
    assert np.mean(before) > 0.025 and np.mean(covered_before) < 0.88
    assert abs(np.mean(after)) < 0.5 * np.mean(before) and 0.93 < np.mean(covered) < 0.98
