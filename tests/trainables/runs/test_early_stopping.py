"""Tests of `--early-stopping` in a whole study."""

import numpy as np
import pytest
from files import modified, read, rows
from mlflow_runs import logged
from optuna.trial import TrialState

from trainables.search.searcher import StudySearcher
from trainables.storage.results import ended_trials
from trainables.storage.store import Store
from trainables.study.plan import Plan

pytestmark = [pytest.mark.ray, pytest.mark.thorough, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def halved(run_study, tmp_path_factory):
    """A study of twelve trials that stops some of them at epoch 2 or 6 of 18."""
    quick = ("--set", "epochs=18", "net.width=8", "judge.steps=3", "--trials", "12", "--sampler", "random", "--concurrency", "1")
    return run_study.study(tmp_path_factory.mktemp("halved"), *quick, "--early-stopping", "2", "6", "--no-confirm")


def test_trials_are_stopped_at_rungs_and_reported(halved):
    results = {path.parent.name: read(path) for path in halved.folder.glob("trials/*/result.json")}
    assert len(results) == 12
    stopped = {number: result["stopped_epoch"] for number, result in results.items() if result["stopped_epoch"]}
    assert stopped and set(stopped.values()) <= {2, 6} and not {"00000", "00001", "00002", "00003"} & stopped.keys()
    for number, epoch in stopped.items():
        assert f"trial {int(number)} stopped early after epoch {epoch} of 18" in halved.out
        assert [row["epoch"] for row in results[number]["curve"]] == list(range(1, epoch + 1))
        assert not (halved.folder / "trials" / number / "checkpoint.pt").exists()
    interim = {
        number: {row["epoch"]: row for row in result["curve"] if "rung/accuracy" in row} for number, result in results.items()
    }
    for number, epoch in stopped.items():
        reached = [rungs[epoch] for rungs in interim.values() if epoch in rungs]
        level = max(row["rung/mia_auc_chance"] for row in reached)  # a leak below the chance level counts as that level
        mine, *others = (
            np.array([row["rung/accuracy"], row["rung/robust_accuracy"], -max(level, row["rung/mia_auc"])])
            for row in (interim[number][epoch], *(r[epoch] for other, r in interim.items() if other != number and epoch in r))
        )
        assert any((other >= mine).all() and (other > mine).any() for other in others)
    front = {int(row["trial"]) for row in rows(halved.folder / "front.csv")}
    assert front and not front & set(map(int, stopped))


def test_mlflow_and_a_resumed_searcher_have_stopped_trials_as_stopped(halved):
    children = logged(halved.tracking_uri, halved.name).children
    store = Store.at(str(halved.folder))
    stopped = {trial.number: trial.stopped_epoch for trial in ended_trials(store) if trial.stopped_epoch}
    tagged = {number: run for number, run in children.items() if "stopped_after_epoch" in run.data.tags}
    assert {number: int(run.data.tags["stopped_after_epoch"]) for number, run in tagged.items()} == stopped
    assert all(run.data.tags["pareto"] == "false" and "accuracy" not in run.data.metrics for run in tagged.values())
    searcher = StudySearcher(Plan.of_json(store.read_json("plan.json")), store, ended_trials(store))
    states = [trial.state for trial in searcher.study.get_trials()]
    assert states.count(TrialState.PRUNED) == len(stopped) and TrialState.RUNNING not in states


def test_resuming_a_study_with_stopped_trials_runs_nothing_again(halved, run_study):
    before = modified(halved.folder)
    run_study.succeed(halved.cwd, "--resume", halved.name)
    assert modified(halved.folder) == before
