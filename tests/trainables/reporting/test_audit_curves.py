"""Accuracy over epsilon."""

from dataclasses import replace

import large
from reported import text_of

from trainables.reporting.audit_curves import over_epsilon


def test_accuracy_over_epsilon_is_that_of_the_confirmed_points_or_else_of_the_trials():
    study = large.outcome()
    lines = over_epsilon(study)
    assert {line.number for line in lines} == {c.number for c in study.confirmed}
    assert all(line.values[0.0][0] == c.means["accuracy"] for line in lines for c in study.confirmed if c.number == line.number)
    swept = [replace(t, metrics={**t.metrics, "robust_accuracy_at/1": 0.2}) if t.metrics else t for t in study.trials]
    unconfirmed = over_epsilon(replace(study, trials=swept, confirmation=None))
    assert {line.number for line in unconfirmed} == {t.number for t in study.completed if not t.excluded}
    assert sorted(unconfirmed[0].values) == [0.0, 1.0]
    assert over_epsilon(replace(study, confirmation=None)) == []
    assert "Not measured" in text_of(replace(study, confirmation=None))
