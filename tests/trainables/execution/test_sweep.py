"""Tests of the sweep on a real Ray Tune, with trials that compute their metrics from their parameters instead of training."""

import pytest
import searches
from torch import zeros

from core.data import Images
from trainables.execution import cluster, sweep
from trainables.search.searcher import StudySearcher
from trainables.storage.results import suggestion
from trainables.storage.store import Store
from trainables.study.outcome import Outcome
from trainables.study.site import Site

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300), pytest.mark.usefixtures("local_ray")]

TRIALS = searches.FIRST_LEARNED["tpe"] + 3
"""The last three suggestions depend on the metrics of earlier trials."""


def test_the_searcher_of_a_running_study_learns_from_its_trials(tmp_path, monkeypatch):
    plan = searches.plan("tpe", TRIALS)
    direct = Store.at(str(tmp_path / "direct"))
    expected = searches.sweep(StudySearcher(plan, direct, []), direct, TRIALS)
    results = {trial["number"]: searches.result_of(trial) for trial in expected}

    def tune_trial(suggestion, images, workspace, seeds, rungs):
        from trainables.search.reports import result_report

        return result_report(results[suggestion["number"]])

    monkeypatch.setattr(sweep, "tune_trial", tune_trial)
    store, outcome = Store.at(str(tmp_path / "runs")).below("s-1"), Outcome.of_plan(plan, {}, [])
    images = Images(zeros(4, 1, 2, 2).byte(), zeros(4).long(), 2)
    executor = cluster.executor(Site(concurrency=1), {"CPU": 2.0}, images, store)
    sweep.sweep(plan, outcome, executor, [])
    assert len(outcome.trials) == TRIALS
    keys = ("number", "baseline", "params")
    suggestions = [suggestion(store, number) or {} for number in range(TRIALS)]
    assert [{name: given[name] for name in keys} for given in suggestions] == expected
