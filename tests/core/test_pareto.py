"""Fronts against the definition, constraints, hypervolumes against counted cells and another library, and chance levels."""

import itertools

import numpy as np
import pytest
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


def with_chance(accuracy, mia, chance):
    """A trial whose AUC has a chance level."""
    return {**trial(accuracy, 0.5, mia), "mia_auc_chance": chance}


def test_values_below_the_largest_chance_level_are_equal_so_that_noise_orders_nothing():
    rows = [with_chance(0.9, 0.52, 0.54), with_chance(0.9, 0.505, 0.55), with_chance(0.9, 0.545, 0.53), with_chance(0.8, 0.5, 0.54)]
    losses = pareto.losses(rows, THREE)
    assert losses[:, 2].tolist() == pytest.approx([0.1] * 4)
    assert pareto.front(rows, THREE).tolist() == [True, True, True, False]
    resolved = with_chance(0.7, 0.56, 0.55)
    assert pareto.losses([*rows, resolved], THREE)[-1, 2] == pytest.approx(0.12)


def test_trials_without_a_leak_do_not_enlarge_the_hypervolume_by_their_number():
    stream = np.random.default_rng(0)
    rows = [with_chance(0.9, float(auc), 0.55) for auc in stream.uniform(0.5, 0.55, 40)]
    one, all_of_them = (pareto.hypervolume(pareto.losses(some, THREE)) for some in (rows[:1], rows))
    assert one == pytest.approx(all_of_them)
    raw = [{k: v for k, v in row.items() if k != "mia_auc_chance"} for row in rows]
    assert pareto.hypervolume(pareto.losses(raw, THREE)) > pareto.hypervolume(pareto.losses(raw[:1], THREE)) + 0.005
