"""Ranges of the axes of figures."""

from dataclasses import replace

import large
import pytest
from confirming import confirmation, point
from reported import OBJECTIVES, metrics

from core.stats import Interval
from trainables.reporting.style import axis_range, chance_line, cut_intervals, error_bars
from trainables.study.outcome import Outcome
from trainables.study.trial import Trial


def test_excluded_trials_do_not_extend_the_range_of_an_axis():
    study = large.outcome()
    low, high = axis_range(study, study.objectives[1])
    assert high < 0.9 and any(t.excluded and t.metrics["robust_accuracy"] == 0.9 for t in study.completed)
    assert all(low < t.metrics["robust_accuracy"] < high for t in study.completed if not t.excluded)


def study_of(*intervals: tuple[float, float]) -> Outcome:
    """A study with trials of accuracy 0.5 and 0.7, of which each is confirmed with the mean 0.6 and one of these intervals."""
    trials = [Trial(n, {}, metrics(accuracy, 0.1, 0.6)) for n, accuracy in enumerate((0.5, 0.7))]
    points = [
        replace(p, intervals=p.intervals | {"accuracy": Interval(*interval)})
        for n, interval in enumerate(intervals) for p in [point(n, metrics(0.6, 0.1, 0.6))]
    ]  # fmt: skip
    return Outcome("a-1", "a", "Why?", OBJECTIVES, {}, 2, {}, trials, confirmation(points) if points else None)


def test_intervals_extend_an_axis_a_little_and_one_wide_interval_does_not():
    assert axis_range(study_of(), OBJECTIVES[0]) == pytest.approx((0.5 - 0.016, 0.7 + 0.016))
    assert axis_range(study_of((0.45, 0.65)), OBJECTIVES[0]) == pytest.approx((0.45 - 0.02, 0.7 + 0.02))
    assert axis_range(study_of((0.2, 0.99)), OBJECTIVES[0]) == pytest.approx((0.5 - 0.016, 0.7 + 0.016))


def test_intervals_that_pass_the_ends_of_an_axis_are_known():
    study = study_of((0.2, 0.65), (0.1, 0.99))
    below, above = cut_intervals(study.confirmed, study, OBJECTIVES[0])
    assert [c.number for c in below] == [0, 1] and [c.number for c in above] == [1]


def test_the_interval_of_a_single_replicate_has_no_error_bar_and_is_not_cut():
    study = study_of((0.0, 1.0), (0.55, 0.65))
    assert error_bars(study.confirmed, OBJECTIVES[0]) == [pytest.approx([0.0, 0.05]), pytest.approx([0.0, 0.05])]
    assert cut_intervals(study.confirmed, study, OBJECTIVES[0]) == ([], [])


def test_the_chance_level_of_an_axis_is_the_largest_confirmed_one_or_else_that_of_the_trials():
    study = study_of((0.55, 0.65), (0.55, 0.65))
    for trial, level in zip(study.trials, (0.54, 0.56), strict=True):
        trial.metrics["mia_auc_chance"] = level
    assert chance_line(study, OBJECTIVES[2]) == 0.56 and chance_line(study, OBJECTIVES[0]) is None
    study.confirmation = confirmation([replace(c, chance=level) for c, level in zip(study.confirmed, (0.53, 0.52), strict=True)])
    assert chance_line(study, OBJECTIVES[2]) == 0.53
