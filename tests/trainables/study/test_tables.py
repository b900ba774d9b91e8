"""Rows of front.csv and confirmed.csv."""

import io
from csv import DictReader

from confirming import confirmation, point
from reported import empty, outcome

from core.estimates import Difference
from core.stats import Interval
from core.study import Constraint, Contrast
from trainables.study.outcome import ContrastAnswer
from trainables.study.tables import confirmed_rows, contrast_rows, csv, front_rows
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
    assert row["probability_non_dominated"] == 0.75 and row["on_front"] is True and row["from_front"] is True
    assert row["verdict"] == "undecided" and "mia_auc_chance" not in row


def test_confirmed_rows_contain_the_chance_level_and_the_audits():
    study = outcome()
    study.confirmation = confirmation([point(1, study.trials[1].metrics, chance=0.56, audits=("lira", "loss"), from_front=False)])
    (row,) = confirmed_rows(study)
    assert (row["mia_auc"], row["mia_auc_chance"], row["mia_auc_resolved"]) == (0.55, 0.56, False)
    assert row["mia_audits"] == "lira loss" and row["from_front"] is False


def test_contrast_rows_contain_the_paired_differences_and_the_reasons_for_missing_answers():
    study = outcome()
    contrast = Contrast("Does it leak less?", {"loss": "crl"}, "plain", "mia_auc", matched="accuracy")
    answer = ContrastAnswer(contrast, 1, 0, "yes", {"mia_auc": Difference(-0.1, Interval(-0.15, -0.05))}, 3)
    points = [point(n, study.trials[n].metrics) for n in (0, 1)]
    study.confirmation = confirmation(points, [answer], unanswered={"Is it fast?": "nobody knows"})
    first, second = contrast_rows(study)
    assert (first["question"], first["answer"], first["treatment"], first["control"]) == ("Does it leak less?", "yes", 1, 0)
    assert [first[f"mia_auc_difference{end}"] for end in ("", "_low", "_high")] == [-0.1, -0.15, -0.05]
    assert (second["question"], second["answer"], second["reason"]) == ("Is it fast?", "none", "nobody knows")
    assert len(csv(contrast_rows(study)).splitlines()) == 3 and contrast_rows(empty()) == []


def test_a_study_without_ended_trials_has_no_rows():
    assert front_rows(empty()) == confirmed_rows(empty()) == []
    assert csv([]) == ""
