"""Ranges of the axes of figures."""

import large

from trainables.reporting.style import axis_range


def test_excluded_trials_do_not_extend_the_range_of_an_axis():
    study = large.outcome()
    low, high = axis_range(study, study.objectives[1])
    assert high < 0.9 and any(t.excluded and t.metrics["robust_accuracy"] == 0.9 for t in study.completed)
    assert all(low < t.metrics["robust_accuracy"] < high for t in study.completed if not t.excluded)
