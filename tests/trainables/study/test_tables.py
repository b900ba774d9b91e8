"""Rows of front.csv and confirmed.csv."""

import io
from csv import DictReader

from reported import empty, outcome

from core.study import Constraint
from trainables.study.tables import confirmed_rows, csv, front_rows
from trainables.study.trial import Trial


def test_csv_is_read_back_as_the_same_floats():
    for rows in (front_rows(outcome()), confirmed_rows(outcome())):
        stored = list(DictReader(io.StringIO(csv(rows))))
        assert len(stored) == len(rows)
        for texts, row in zip(stored, rows, strict=True):
            values = {name: value for name, value in row.items() if not isinstance(value, bool)}
            assert {name: type(value)(texts[name]) for name, value in values.items()} == values


def test_front_rows_contain_only_parameters_that_differ_and_that_the_trial_has():
    rows = front_rows(outcome())
    assert list(rows[0]) == ["trial", "baseline", "accuracy", "robust_accuracy", "mia_auc", "flags", "loss"]
    assert list(rows[1])[-2:] == ["loss", "loss.lambda"]


def test_front_rows_contain_the_flags():
    assert [row["flags"] for row in front_rows(outcome())] == ["", "", "more_steps_help"]


def test_front_rows_contain_only_trials_that_meet_the_constraints():
    study = outcome()
    study.require = (Constraint.of("accuracy>=0.7"),)
    study.trials.append(Trial(6, {"loss": "crl", "loss.lambda": 0.5, "lr": 0.1}, stopped_epoch=5))
    assert {row["trial"] for row in front_rows(study)} == {0, 4}


def test_confirmed_rows_contain_the_means_of_the_sweep_and_of_the_confirmation():
    row = confirmed_rows(outcome())[0]
    assert row["sweep_accuracy"] == 2 / 3 and row["accuracy"] == 2 / 3 - 0.01
    assert row["accuracy_low"] < row["accuracy"] < row["accuracy_high"]
    assert row["probability_non_dominated"] == 0.75 and row["on_front"] is True


def test_a_study_without_ended_trials_has_no_rows():
    assert front_rows(empty()) == confirmed_rows(empty()) == []
    assert csv([]) == ""
