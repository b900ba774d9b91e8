"""Tests of reports as Ray Tune passes them on: it flattens nested dicts before it calls a scheduler or a searcher."""

from types import SimpleNamespace

import pytest
from optuna.trial import TrialState
from ray.tune.utils import flatten_dict
from searches import measured, plan

from trainables.search.early_stopping import ParetoHalving
from trainables.search.reports import (
    epochs_report,
    fatal_report,
    reported_epochs,
    reported_fatal_error,
    reported_result,
    result_report,
)
from trainables.search.searcher import StudySearcher
from trainables.storage.store import Store
from trainables.study.results import TrainingResult

CURVE = [{"epoch": 1, "rung/accuracy": 0.9, "rung/robust_accuracy": 0.3, "rung/mia_auc": 0.6}]
RESULTS = [
    TrainingResult(metrics={"accuracy": 0.5}, curve=CURVE, seconds=2.0), TrainingResult(error="it diverged", curve=CURVE),
    TrainingResult(curve=CURVE, stopped_epoch=1), TrainingResult(metrics={"accuracy": 0.5}, reused_from="s-1/trials/00001"),
]  # fmt: skip


def last_result(report: dict) -> dict:
    """A report with some of the fields that Ray Tune adds."""
    return {**report, "trial_id": "a", "done": True, "training_iteration": 2, "config": {"number": 1}}


@pytest.mark.parametrize("result", RESULTS)
def test_a_callback_receives_the_whole_result(result):
    assert reported_result(last_result(result_report(result))) == result


@pytest.mark.parametrize("result", RESULTS)
def test_the_whole_result_survives_flattening(result):
    assert reported_result(flatten_dict(last_result(result_report(result)))) == result


def test_each_kind_of_report_is_recognised_after_flattening():
    ended, epochs, fatal = (
        flatten_dict(last_result(r)) for r in (result_report(TrainingResult()), epochs_report(CURVE), fatal_report("disk full"))
    )
    assert [bool(reported_result(report)) for report in (ended, epochs, fatal)] == [True, False, False]
    assert [reported_epochs(report) for report in (ended, epochs, fatal)] == [[], CURVE, []]
    assert [reported_fatal_error(report) for report in (ended, epochs, fatal)] == ["", "", "disk full"]


def test_a_failed_trial_is_failed_for_the_searcher_after_flattening(tmp_path):
    searcher = StudySearcher(plan(baselines={}), Store.at(str(tmp_path)), [])
    searcher.suggest("a")
    searcher.on_trial_complete("a", flatten_dict(last_result(result_report(TrainingResult(error="it diverged")))))
    assert [trial.state for trial in searcher.study.trials] == [TrialState.FAIL]


def test_the_rungs_of_a_reused_training_reach_the_scheduler_after_flattening():
    scheduler = ParetoHalving(plan(rungs=(1,)), [])
    report = flatten_dict(last_result(result_report(TrainingResult(curve=CURVE))))
    scheduler.on_trial_complete(None, SimpleNamespace(config={"number": 3, "baseline": ""}), report)
    assert scheduler.reached[1].keys() == {3}


def test_the_metrics_of_a_completed_trial_reach_the_searcher_after_flattening(tmp_path):
    searcher = StudySearcher(plan(baselines={}), Store.at(str(tmp_path)), [])
    searcher.suggest("a")
    report = measured({"accuracy": 1.0, "robust_accuracy": 0.25, "mia_auc": 0.5})
    searcher.on_trial_complete("a", flatten_dict(last_result(report)))
    assert searcher.study.trials[0].values == [0.0, 0.75, 0.0]
