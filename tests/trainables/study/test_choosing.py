"""The choice of a confirmed point: constraints, preferences, runners-up, and numbers without the winner's curse."""

import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from chosen import METRICS, OBJECTIVES, around, confirmation, confirmation_of, estimates_of, point
from replicated import Measured, aucs, audited, shares, student_covers, true_auc

from core import pareto
from core.audits.selection import select_audit
from core.errors import InputError
from core.estimates import Estimates
from core.stats import Interval
from core.study import Constraint
from trainables.study.choosing import Chosen, Estimate, Preference, choose_point
from trainables.study.outcome import Confirmation

LOWEST_AUC, BALANCED = Preference("mia_auc"), Preference()
APART = {3: point(0.96, 0.3, 0.7), 5: point(0.91, 0.5, 0.6), 8: point(0.81, 0.4, 0.55)}
"""Points that are far apart compared with their errors."""


def choose(given: Confirmation, preference: Preference, *constraints: str, other=None) -> Chosen:
    """The choice under constraints in the form of the command line."""
    return choose_point(given, OBJECTIVES, [Constraint.of(text) for text in constraints], preference, other)


@pytest.mark.parametrize("preference, constraints, number, feasible", [
    (LOWEST_AUC, (), 8, 3),
    (LOWEST_AUC, ("accuracy>=0.9",), 5, 2),
    (LOWEST_AUC, ("accuracy>=0.93",), 3, 1),
    (Preference("accuracy", maximize=True), (), 3, 3),
    (Preference("accuracy", maximize=True), ("mia_auc<=0.65",), 5, 2),
    (Preference("accuracy"), ("mia_auc<=0.65", "robust_accuracy>=0.45"), 5, 1),
    (BALANCED, (), 5, 3),
    (BALANCED, ("accuracy>=0.95",), 3, 1),
])  # fmt: skip
def test_the_best_point_that_meets_the_constraints_is_chosen(preference, constraints, number, feasible):
    chosen = choose(confirmation(APART), preference, *constraints)
    assert (chosen.point.number, chosen.feasible, chosen.among) == (number, feasible, 3)
    assert chosen.probability == 1.0 and not chosen.runners_up


def test_the_balanced_compromise_is_the_knee_of_the_shrunken_means():
    given = confirmation(APART)
    knee = pareto.knee(pareto.losses([dict(p.shrunk) for p in given.points], OBJECTIVES))
    assert choose(given, BALANCED).point is given.points[knee]


def test_points_off_the_confirmed_front_are_not_chosen():
    dominated = APART | {1: point(0.80, 0.35, 0.58), 2: point(0.99, 0.9, 0.5)}
    chosen = choose(confirmation(dominated, flags={2: ("zero_gradients",)}), LOWEST_AUC)
    assert (chosen.point.number, chosen.among) == (8, 3)
    with pytest.raises(InputError, match="no confirmed point is on the front"):
        choose(confirmation({2: point(0.9, 0.5, 0.6)}, flags={2: ("zero_gradients",)}), LOWEST_AUC)


def test_the_nearest_point_violates_the_fewest_constraints_and_then_by_the_least():
    message = r"no point on the front has.*the nearest of 3 points is trial 3 with accuracy 0.96\d\d, mia_auc 0.70"
    with pytest.raises(InputError, match=message):
        choose(confirmation(APART), LOWEST_AUC, "accuracy>=0.99", "mia_auc<=0.71")
    with pytest.raises(InputError, match=r"the nearest of 3 points is trial 8 with accuracy 0.81\d\d, mia_auc 0.55"):
        choose(confirmation(APART), LOWEST_AUC, "accuracy>=0.97", "mia_auc<=0.58")  # trial 5 is closer, but violates both


def test_points_that_cannot_be_distinguished_are_runners_up_with_their_paired_difference():
    noisy = {n: point(accuracy, robust, auc, 0.02) for n, (accuracy, robust, auc) in enumerate(
        ((0.9, 0.2, 0.600), (0.8, 0.4, 0.605), (0.7, 0.6, 0.61), (0.95, 0.1, 0.9))
    )}  # fmt: skip
    given = confirmation(noisy)
    chosen = choose(given, LOWEST_AUC)
    assert chosen.point.number == 0 and [o.point.number for o in chosen.runners_up] == [1, 2]
    assert 0.3 < chosen.probability < 0.6 and chosen.probability + sum(o.probability for o in chosen.runners_up) == pytest.approx(1)
    assert chosen.probability > chosen.runners_up[0].probability > chosen.runners_up[1].probability > 0.1
    for other in chosen.runners_up:
        difference, paired = other.differences["mia_auc"], given.estimates.difference(other.point.number, 0, "mia_auc")
        assert difference.value == pytest.approx(other.point.shrunk["mia_auc"] - given.points[0].shrunk["mia_auc"])
        assert 0 < difference.value < paired.value and difference.interval.low < 0 < difference.interval.high
        assert np.ptp(difference.interval) == pytest.approx(np.ptp(paired.interval))
    assert choose(given, LOWEST_AUC, "accuracy>=0.84").runners_up == ()


def test_of_many_equal_points_each_is_a_runner_up():
    equal = {n: point(0.95 - 0.02 * n, 0.1 + 0.02 * n, 0.6, 0.03) for n in range(30)}
    chosen = choose(confirmation(equal), LOWEST_AUC)
    assert len(chosen.runners_up) == 29 and chosen.probability == pytest.approx(1 / 30, abs=0.015)


def test_aucs_below_the_chance_level_are_equal_and_ties_go_to_the_point_nearest_to_the_ideal():
    tied = {1: point(0.6, 0.20, 0.51), 2: point(0.85, 0.19, 0.53), 3: point(0.9, 0.1, 0.7)}
    assert choose(confirmation(tied), LOWEST_AUC).point.number == 1
    chosen = choose(confirmation(tied, chance=0.56), LOWEST_AUC)
    assert chosen.point.number == 2 and [o.point.number for o in chosen.runners_up] == [1]
    assert chosen.probability == pytest.approx(0.5) and chosen.runners_up[0].probability == pytest.approx(0.5)
    own = chosen.values["mia_auc"]
    assert not own.resolved and own.chance == 0.56 and own.shrunk == pytest.approx(0.53, abs=0.001)
    assert chosen.values["accuracy"].resolved


def test_without_two_replicates_nothing_can_be_distinguished():
    chosen = choose(confirmation({n: {k: v[:1] for k, v in own.items()} for n, own in APART.items()}), LOWEST_AUC, "accuracy>=0.8")
    assert chosen.point.number == 8 and math.isnan(chosen.probability) and {o.point.number for o in chosen.runners_up} == {3, 5}
    (met,) = chosen.meets.values()
    assert math.isnan(met) and not chosen.values["accuracy"].is_certain


def test_the_probability_of_a_constraint_agrees_with_the_interval():
    own = Estimate(0.9, Interval(0.86, 0.94), 0.89, Interval(0.85, 0.92))
    assert own.probability_of(Constraint("accuracy", ">=", 0.85)) == pytest.approx(0.975)
    assert own.probability_of(Constraint("accuracy", "<=", 0.92)) == pytest.approx(0.975)
    assert own.probability_of(Constraint("accuracy", ">=", 0.89)) == own.probability_of(Constraint("accuracy", "<=", 0.89)) == 0.5
    expected = NormalDist().cdf(1.959964 * 0.02 / 0.04)
    assert own.probability_of(Constraint("accuracy", ">=", 0.87)) == pytest.approx(expected, abs=1e-6)
    given = {1: point(0.90, 0.2, 0.6, 0.02), 2: point(0.7, 0.4, 0.55, 0.02)}
    (met,) = choose(confirmation(given), LOWEST_AUC, "accuracy>=0.885").meets.values()
    assert 0.6 < met < 0.97


def test_a_constraint_that_is_uncertain_lowers_the_probability_of_being_the_best():
    given = confirmation({1: point(0.90, 0.2, 0.55, 0.02), 2: point(0.99, 0.1, 0.7, 0.02)})
    certain, uncertain = (choose(given, LOWEST_AUC, f"accuracy>={bound}") for bound in (0.8, 0.895))
    assert certain.point.number == uncertain.point.number == 1 and certain.probability > 0.99
    assert 0.5 < uncertain.probability < 0.85 and [o.point.number for o in uncertain.runners_up] == [2]


def test_a_metric_that_is_no_objective_is_shrunken_too_and_can_be_preferred_and_required():
    tpr = {3: around(0.30, 0.02), 5: around(0.10, 0.02), 8: around(0.11, 0.02)}
    other = estimates_of({n: {"mia_tpr": values} for n, values in tpr.items()}, ["mia_tpr"])
    chosen = choose(confirmation(APART), Preference("mia_tpr"), "mia_tpr<=0.2", other=other)
    assert chosen.point.number == 5 and [o.point.number for o in chosen.runners_up] == [8] and chosen.feasible == 2
    own = chosen.values["mia_tpr"]
    assert own.mean == pytest.approx(0.10) and 0.10 < own.shrunk < 0.115
    assert list(chosen.values) == ["accuracy", "robust_accuracy", "mia_auc", "mia_tpr"]
    with pytest.raises(InputError, match=r"unknown metric 'mia_tpt'.*did you mean 'mia_tpr'"):
        choose(confirmation(APART), Preference("mia_tpt"), other=other)


def test_the_choice_in_words_of_the_command_line():
    chosen = choose(confirmation(APART), LOWEST_AUC, "accuracy>=0.9", "robust_accuracy>=0.4")
    words = ["--require", "accuracy>=0.9", "--require", "robust_accuracy>=0.4", "--minimize", "mia_auc"]
    assert chosen.words == words and str(chosen.preference) == "the lowest mia_auc"
    assert choose(confirmation(APART), BALANCED).words == ["--balanced"]
    assert Preference("accuracy", maximize=True).words == ["--maximize", "accuracy"]


def null_study(stream: np.random.Generator, points: int, replicates: int, leak: float) -> tuple[Confirmation, Measured]:
    """The confirmation of points whose true accuracies, robust accuracies and leaks are equal, all of them on the front."""
    measured = shares(stream, np.tile([0.8, 0.4], (points, 1)), replicates, 224)
    groups = audited(stream, points, replicates, (449, 224, 224), leak)
    for number, own in measured.items():
        best = select_audit(aucs(groups[number])).measurements
        measured[number] = {r: dict(zip(METRICS, (*one.values(), best[r]), strict=True)) for r, one in own.items()}
    given = confirmation_of(Estimates.of(measured, METRICS))
    return replace(given, points=tuple(replace(p, on_front=True) for p in given.points)), measured


@pytest.mark.parametrize("leak", [0.0, 0.3])
def test_in_a_null_study_the_number_of_the_chosen_point_is_nearly_unbiased_and_its_interval_covers(leak):
    """The best mean as measured is 0.02 too good, and its Student interval contains the true value in too few studies."""
    stream, points = np.random.default_rng(0), 7
    truth = {"accuracy": 0.8, "mia_auc": true_auc(leak)}
    errors, before = ({name: [] for name in truth} for _ in range(2))
    covered, student, others = [], [], []
    for _ in range(60):
        given, measured = null_study(stream, points, 2, leak)
        for name, value in truth.items():
            chosen = choose(given, Preference(name, maximize=name == "accuracy"))
            own, sign = chosen.values[name], 1 if name == "accuracy" else -1
            best = max(measured, key=lambda n: sign * given.estimates.mean(n, name))
            errors[name].append(sign * (own.shrunk - value))
            before[name].append(sign * (given.estimates.mean(best, name) - value))
            covered.append(own.shrunk_interval.low <= value <= own.shrunk_interval.high)
            student.append(student_covers([one[name].value for one in measured[best].values()], value))
            others.append(len(chosen.runners_up))
    for name in truth:
        assert np.mean(before[name]) > 0.016 and abs(np.mean(errors[name])) < 0.45 * np.mean(before[name])
    assert 0.93 < np.mean(covered) < 0.985 and np.mean(student) < 0.88
    assert np.mean(others) > 0.8 * (points - 1)
