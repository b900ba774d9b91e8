"""Rows of front.csv, confirmed.csv and contrasts.csv, and the point to ship."""

import io
import json
from csv import DictReader
from dataclasses import replace

import answered
import pytest
from confirming import confirmation, point
from reported import empty, metrics, outcome

from core.estimates import Difference
from core.stats import Interval
from core.study import Constraint, Contrast
from trainables.study.conclusions import choice
from trainables.study.outcome import ContrastAnswer
from trainables.study.tables import confirmed_rows, contrast_rows, csv, front_rows, json_safe, point_to_ship
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


def test_contrast_rows_contain_the_values_of_both_points_in_the_matched_metric():
    study = answered.matched()
    (row,) = contrast_rows(study)
    means = [study.confirmation.estimates.mean(n, "robust_accuracy") for n in (row["treatment"], row["control"])]
    assert row["matched"] == "robust_accuracy" and [row["matched_treatment"], row["matched_control"]] == means
    assert not any("matched_treatment" in row for row in contrast_rows(answered.outcome()))


def test_files_for_programs_have_ascii_numbers():
    study = answered.outcome()
    text = csv(contrast_rows(study)) + json.dumps(json_safe(contrast_rows(study)))
    assert text.isascii() and ",-0." in text and " -0." in text


def test_the_point_to_ship_has_its_probabilities_its_runners_up_and_the_command():
    study = answered.outcome()
    found, chosen = point_to_ship(study), choice(study)
    assert (found["trial"], found["verdict"]) == (answered.BOTH, "stays")
    assert (
        found["reason"]
        == "the balanced compromise (--balanced) of the 4 points on the confirmed front, as no requirement was given"
    )
    assert found["probability_non_dominated"] == chosen.point.probability and found["probability_best"] == chosen.probability
    assert found["runners_up"] == [] and found["command"] == "python studies/pick.py crl-1 --balanced"
    equal = metrics(0.8, 0.4, 0.6)
    twins = replace(study, trials=[Trial(n, {"loss": "crl"}, equal) for n in (0, 1)])
    found = point_to_ship(replace(twins, confirmation=confirmation([point(n, equal) for n in (0, 1)])))
    ((other,), first) = found["runners_up"], found["probability_best"]
    assert found["trial"] == 0 and other["trial"] == 1 and first + other["probability_best"] == pytest.approx(1)


def test_without_a_point_to_ship_there_is_the_reason():
    assert point_to_ship(answered.outcome(replicates=0)) is None
    study = outcome()
    study.confirmation = confirmation([replace(c, on_front=False) for c in study.confirmed])
    assert point_to_ship(study) == {"trial": None, "reason": "no confirmed point is on the front"}


def test_a_study_without_ended_trials_has_no_rows():
    assert front_rows(empty()) == confirmed_rows(empty()) == []
    assert csv([]) == ""
