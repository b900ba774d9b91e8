"""Tests of `--require` in whole studies: one whose front meets the constraints, and one whose trials all violate them."""

import pytest
from files import front
from study_runs import QUICK

from trainables.tracking.client import front_from_runs

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


@pytest.mark.thorough
def test_front_has_only_trials_that_meet_the_constraints(crl_study, run_study):
    constraints = ("--require", "train_accuracy>=0.3", "--require", "mia_auc<=0.6")
    study = run_study.study(crl_study.cwd, *QUICK, "7", *constraints, "--no-confirm")
    points = front(study.folder / "front.csv")
    assert points and points.keys() == {row["trial"] for row in front_from_runs(study.tracking_uri, study.name)}
    assert all(point["mia_auc"] <= 0.6 for point in points.values())


def test_a_study_without_a_trial_that_meets_the_constraint_reports_the_nearest(crl_study, run_study):
    done = run_study(crl_study.cwd, *QUICK, "7", "--require", "accuracy>=0.999", "--no-confirm")
    assert done.returncode == 1
    assert "the front is empty: no trial has accuracy>=0.999; the nearest is trial" in done.stdout


def test_a_constraint_on_an_unknown_metric_is_refused(crl_study, run_study):
    done = run_study(crl_study.cwd, *QUICK, "7", "--require", "acuracy>=0.5")
    assert done.returncode == 2 and "metric of --require" in done.stderr
