"""Fronts against the definition, constraints, hypervolumes against counted cells and another library, and front probabilities."""

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna._hypervolume import compute_hypervolume

from core import pareto
from core.study import Constraint, Objective, trilemma

THREE = trilemma(10)
ACCURATE = (Constraint.of("accuracy>=0.8"),)
CELLS = 4


def lattice(max_rows=10, min_rows=1):
    """Points on a coarse grid in the unit cube, including 1, so that ties and duplicates are common."""
    point = st.tuples(*[st.integers(0, CELLS)] * 3)
    return st.lists(point, min_size=min_rows, max_size=max_rows).map(lambda p: np.array(p, float).reshape(-1, 3) / CELLS)


def dominates(a, b):
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


def brute_front(values):
    return [not any(dominates(b, a) for b in values) for a in values]


def counted_volume(values):
    """Share of lattice cells whose lower corner some point weakly dominates."""
    cells = itertools.product(range(CELLS), repeat=values.shape[1])
    covered = sum(any((v * CELLS <= cell).all() for v in values) for cell in map(np.array, cells))
    return covered / CELLS ** values.shape[1]


def trial(accuracy=0.9, robust=0.5, mia=0.6, **more):
    return {"accuracy": accuracy, "robust_accuracy": robust, "mia_auc": mia, **more}


@given(lattice())
@settings(max_examples=60, deadline=None)
def test_non_dominated_equals_the_definition_and_keeps_duplicates(values):
    twice = np.concatenate([values, values])
    assert pareto.non_dominated(twice).tolist() == brute_front(values) * 2


@given(lattice())
@settings(max_examples=60, deadline=None)
def test_front_equals_the_definition_on_raw_metrics(values):
    """The expected front is computed from raw metrics: more accurate, more robust and less leaking is better."""
    accuracy, robust, mia = 0.1 + 0.9 * (1 - values[:, 0]), 1 - values[:, 1], 0.5 + 0.5 * values[:, 2]
    rows = [trial(*row) for row in zip(accuracy, robust, mia, strict=True)]
    raw = list(zip(-accuracy, -robust, mia, strict=True))
    assert pareto.front(rows, THREE).tolist() == brute_front(raw)


@given(lattice())
@settings(max_examples=40, deadline=None)
def test_hypervolume_is_the_share_of_dominated_cells(values):
    assert pareto.hypervolume(values) == pytest.approx(counted_volume(values), abs=1e-12)


@given(st.integers(1, 12), st.integers(2, 4), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_hypervolume_equals_that_of_optuna(rows, columns, seed):
    values = np.random.default_rng(seed).random((rows, columns))
    assert pareto.hypervolume(values) == pytest.approx(compute_hypervolume(values, np.ones(columns)), rel=1e-9)


@given(lattice(), st.data())
@settings(max_examples=40, deadline=None)
def test_a_dominated_point_does_not_change_the_hypervolume_and_no_point_decreases_it(values, data):
    volume = pareto.hypervolume(values)
    worse = np.minimum(values[data.draw(st.integers(0, len(values) - 1))] + [0, 0.1, 0.3], 1)
    assert pareto.hypervolume(np.vstack([values, worse])) == pytest.approx(volume, abs=1e-12)
    new = data.draw(lattice(1))
    assert pareto.hypervolume(np.vstack([values, new])) >= volume - 1e-12


@given(lattice())
@settings(max_examples=30, deadline=None)
def test_hypervolume_lies_between_zero_and_one(values):
    assert 0 <= pareto.hypervolume(values) <= 1


def test_hypervolume_is_one_at_the_ideal_and_zero_without_points_or_from_a_reference_on():
    assert pareto.hypervolume(np.array([[0.0, 0, 0], [0.2, 0.2, 0.2]])) == 1
    assert pareto.hypervolume(np.zeros((0, 3))) == 0
    assert pareto.hypervolume(np.array([[1.0, 0, 0]])) == 0
    assert pareto.hypervolume(np.array([[0.0, 1.5, 0]])) == 0
    assert pareto.hypervolume(np.array([[0.0, 1.5, 0], [0.5, 0.5, 0.5]])) == pytest.approx(0.125)


def test_a_metric_beyond_its_ideal_does_not_raise_the_hypervolume_above_one():
    values = pareto.losses([trial(1.0, 1.0, 0.4)], THREE)
    assert pareto.hypervolume(values) == 1


@pytest.mark.parametrize(
    "bad",
    [
        trial(accuracy=0.09),
        trial(mia=1.01),
        trial(robust=-0.01),
        trial(accuracy=float("nan")),
        {"accuracy": 1.0, "mia_auc": 0.5},
        *[trial(1.0, 1.0, 0.5, **{f"flag/{name}": 1.0}) for name in ("at_chance", "zero_gradients", "split_overlap")],
    ],
    ids=["below-chance", "auc-over-1", "negative", "nan", "lacks-objective", "at-chance", "zero-gradients", "overlap"],
)
def test_an_ineligible_trial_is_on_no_front_and_dominates_no_other_trial(bad):
    good = trial()
    assert pareto.front([bad, good], THREE).tolist() == [False, True]
    assert pareto.front([bad], THREE).tolist() == [False]


def test_flags_that_are_not_raised_or_do_not_exclude_keep_a_trial_on_the_front():
    rows = [trial(**{"flag/at_chance": 0.0, "flag/few_non_members": 1.0})]
    assert pareto.front(rows, THREE).tolist() == [True]


def test_a_trial_exactly_at_a_reference_is_eligible():
    assert pareto.front([trial(accuracy=0.1, robust=0.0, mia=1.0)], THREE).tolist() == [True]


def test_a_trial_that_violates_a_constraint_is_on_no_front_and_displaces_no_other_trial():
    rows = [trial(0.79, 0.9), trial(0.8, 0.3), trial(0.9, 0.2)]
    assert pareto.front(rows, THREE).tolist() == [True, True, True]
    assert pareto.front(rows, THREE, ACCURATE).tolist() == [False, True, True]
    better = [trial(0.79, 0.9, 0.5), trial(0.85, 0.8, 0.55)]
    assert pareto.front(better, THREE, (Constraint.of("mia_auc>=0.55"),)).tolist() == [False, True]


def test_a_metric_that_was_not_measured_violates_every_constraint():
    rows = [trial(0.9, 0.3), trial(0.8, 0.3, dp_epsilon=7.0), trial(0.8, 0.3, dp_epsilon=9.0)]
    assert pareto.eligible(rows, THREE, (Constraint.of("dp_epsilon<=8"),)).tolist() == [False, True, False]


def test_the_front_of_no_trials_is_empty():
    assert pareto.front([], THREE).shape == (0,)
    assert pareto.losses([], THREE).shape == (0, 3)


def test_losses_are_zero_at_the_ideal_one_at_the_reference_and_linear_in_between():
    objectives = [Objective("up", "max", reference=0.2, ideal=1.0), Objective("down", "min", reference=9.0, ideal=5.0)]
    rows = [{"up": 1.0, "down": 5.0}, {"up": 0.2, "down": 9.0}, {"up": 0.6, "down": 6.0}, {"up": 0.0, "down": 1.0}]
    np.testing.assert_allclose(pareto.losses(rows, objectives), [[0, 0], [1, 1], [0.5, 0.25], [1.25, 0]])


def test_knee_is_the_balanced_point_in_all_units():
    values = np.array([[0.0, 1.0, 0.5], [0.2, 0.2, 0.2], [1.0, 0.0, 0.6], [0.5, 0.6, 0.0]])
    assert pareto.knee(values) == 1
    assert pareto.knee(values * [1, 0.01, 100] + [3, 0, 0.5]) == 1
    assert pareto.knee(np.roll(values, 2, axis=0)) == 3


@given(lattice(8))
@settings(max_examples=30, deadline=None)
def test_knee_is_nearest_to_the_scaled_ideal(values):
    distances = []
    for row in values:
        squares = 0.0
        for column in range(3):
            low, high = min(values[:, column]), max(values[:, column])
            squares += ((row[column] - low) / (high - low)) ** 2 if high > low else 0.0
        distances.append(squares)
    assert distances[pareto.knee(values)] == pytest.approx(min(distances), abs=1e-12)


def test_a_dominated_point_has_probability_zero_and_the_dominating_point_one():
    noise = np.array([[-0.01, 0.01, 0], [0.01, -0.01, 0], [0, 0, 0]])
    probabilities = pareto.probability_non_dominated([0.2 + noise, 0.8 + noise], draws=1000)
    assert probabilities[0] > 0.995 and probabilities[1] < 0.005
    assert pareto.probability_non_dominated([np.zeros((3, 3)), np.ones((3, 3))], draws=50).tolist() == [1, 0]


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_each_of_two_noisy_points_with_equal_means_is_dominated_with_probability_two_to_the_minus_d(columns):
    same = np.repeat(np.array([[0.4], [0.5], [0.6]]), columns, 1)
    probabilities = pareto.probability_non_dominated([same, same], draws=4000)
    expected = 1 - 0.5**columns
    np.testing.assert_allclose(probabilities, expected, atol=4 * np.sqrt(expected * (1 - expected) / 4000))


def test_two_points_with_a_clear_trade_off_are_both_on_the_front():
    noise = np.array([[-0.001, 0.002], [0.001, -0.002]])
    a, b = np.array([0.1, 0.9]), np.array([0.9, 0.1])
    assert pareto.probability_non_dominated([a + noise, b + noise], draws=500).min() > 0.98


def test_the_noise_is_student_t_with_the_standard_error_of_the_replicates():
    """A fixed point at 0 is compared with one whose mean is a known number of standard errors away."""
    replicates = np.array([[0.0], [1.0], [2.0]])
    standard_error = 1 / np.sqrt(3)
    p = scipy.stats.t.cdf(-1.0 / standard_error, df=2)
    probabilities = pareto.probability_non_dominated([np.zeros((1, 1)), replicates], draws=4000)
    np.testing.assert_allclose(probabilities, [1 - p, p], atol=4 * np.sqrt(p * (1 - p) / 4000))


def test_points_with_a_single_replicate_are_not_shifted():
    points = np.array([[0.5, 0.5], [0.5, 0.500001], [0.4, 0.6], [0.5, 0.5]])
    probabilities = pareto.probability_non_dominated([p[None] for p in points], draws=20)
    assert probabilities.tolist() == [1, 0, 1, 1]


def test_the_simulation_depends_on_its_seed_only():
    noisy = [np.random.default_rng(i).random((3, 2)) for i in range(4)]
    first, repeated, other = (pareto.probability_non_dominated(noisy, seed=s, draws=300) for s in (1, 1, 2))
    assert (first == repeated).all() and (first != other).any()
