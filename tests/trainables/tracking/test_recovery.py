"""Runs that an earlier driver left in MLflow, and runs that were created twice: nothing is logged twice and nothing is missing."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from tracked import (
    METRICS,
    PARAMS,
    children,
    create_child,
    histories,
    log,
    log_interrupted,
    outcome,
    parent_of,
    plan,
    sqlite,
    status,
    trial,
)

from trainables.storage.store import Store
from trainables.tracking.client import front_from_runs
from trainables.tracking.tracker import Tracker

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


def test_a_run_that_was_interrupted_is_completed_and_not_repeated(tmp_path: Path):
    uri = sqlite(tmp_path)
    log_interrupted(uri)
    for _ in range(2):
        log(uri, trial(0), trial(1, accuracy=0.95, mia_auc=0.7))  # the trials that had a result when the study was resumed
    client, runs = children(uri)
    assert set(runs) == {"0", "1"} and {r.info.status for r in runs.values()} == {"FINISHED"}
    for run in runs.values():
        assert [step for step, _ in histories(client, run, "epoch/loss")] == [1, 2, 3]
        assert len(histories(client, run, "accuracy")) == 1
    assert {row["trial"] for row in front_from_runs(uri, "s-1")} == {0, 1}


def test_an_epoch_without_a_training_loss_is_logged_once_by_a_driver_that_resumes(tmp_path: Path):
    """An epoch of DP-SGD in which no image was sampled."""
    uri = sqlite(tmp_path)
    rows = [{"epoch": 1, "epoch/loss": 0.7, "epoch/val_accuracy": 0.4}, {"epoch": 2, "epoch/val_accuracy": 0.5}]
    tracker = Tracker(uri, plan(), outcome())
    tracker.started(0, PARAMS, "")
    tracker.rows(0, rows)
    assert tracker.close("KILLED") == 0
    log(uri, replace(trial(0), curve=rows))
    client, runs = children(uri)
    assert [step for step, _ in histories(client, runs["0"], "epoch/loss")] == [1]
    assert [step for step, _ in histories(client, runs["0"], "epoch/val_accuracy")] == [1, 2]


def test_a_run_that_was_created_without_contents_is_adopted(tmp_path: Path):
    uri = sqlite(tmp_path)
    log(uri, status="KILLED")
    create_child(*parent_of(uri), 0)  # the driver died here, before it logged the parameters
    log(uri, trial(0))
    _, runs = children(uri)
    assert set(runs) == {"0"} and runs["0"].info.status == "FINISHED"
    assert runs["0"].data.params == {name: str(value) for name, value in PARAMS.items()}


def test_of_duplicate_runs_the_one_with_more_data_is_kept_and_the_others_name_it_in_a_tag(tmp_path: Path):
    uri = sqlite(tmp_path)
    log_interrupted(uri)
    client, parent = parent_of(uri)
    (kept,) = (run.info.run_id for run in children(uri)[1].values())
    duplicate = create_child(client, parent, 0).info.run_id
    second = client.create_run(parent.info.experiment_id, tags={"trilemma.name": "s-1", "trilemma.kind": "study"}).info.run_id
    tracker = Tracker(uri, plan(), outcome(trial(0)))
    time.sleep(2)
    newer = create_child(client, parent, 0).info.run_id  # a write of this driver may have been executed twice, too
    assert tracker.close() == 0
    _, runs = children(uri)
    assert runs["0"].info.run_id == kept and [step for step, _ in histories(client, runs["0"], "epoch/loss")] == [1, 2, 3]
    assert parent_of(uri)[1].info.run_id == parent.info.run_id
    for dropped, instead in ((duplicate, kept), (newer, kept), (second, parent.info.run_id)):
        run = client.get_run(dropped)
        assert (run.info.lifecycle_stage, run.data.tags["trilemma.duplicate_of"]) == ("deleted", instead)


@pytest.mark.parametrize("when", ["before", "while", "after"])
def test_a_driver_that_was_suspended_while_creating_a_run_leaves_no_duplicate_and_takes_no_run_of_the_next_driver(
    tmp_path, monkeypatch, when
):
    """The next driver does everything before the run is created, or right afterwards, or after the suspended driver has ended."""
    uri, home = sqlite(tmp_path), Store.at(str(tmp_path / "study"))
    suspended = Tracker(uri, plan(), outcome(), lease=home.with_new_lease().lease)
    while not suspended.refs.parent:
        time.sleep(0.05)
    create = suspended.client.create_run

    def run_next_driver() -> None:
        assert Tracker(uri, plan(), outcome(trial(0)), lease=home.with_new_lease().lease).close() == 0

    def suspended_create(*args, **kwargs):
        if when == "before":
            run_next_driver()
        run = create(*args, **kwargs)
        if when == "while":
            run_next_driver()
        home.with_new_lease()
        return run

    monkeypatch.setattr(suspended.client, "create_run", suspended_create)
    suspended.started(0, PARAMS, "")
    suspended.close()
    if when == "after":
        run_next_driver()
    assert status(uri) == {"0": "FINISHED"}
    client, parent = parent_of(uri)
    assert len(client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")) == 1


def test_only_running_trials_are_shown_as_running(tmp_path: Path):
    """Ctrl-C; then a resume in which trial 0 continues and trial 1 is not reached; then another resume in which both end."""
    uri = sqlite(tmp_path)
    tracker = Tracker(uri, plan(), outcome())
    for number in (0, 1):
        tracker.started(number, PARAMS, "")
        tracker.rows(number, trial(number).curve[:1])
    assert tracker.close("KILLED") == 0
    assert status(uri) == {"0": "KILLED", "1": "KILLED"} and parent_of(uri)[1].info.status == "KILLED"
    client, runs = children(uri)
    client.update_run(runs["1"].info.run_id, status="RUNNING")  # the state after SIGKILL
    tracker = Tracker(uri, plan(), outcome())
    tracker.started(0, PARAMS, "")
    deadline = time.monotonic() + 60
    while status(uri) != {"0": "RUNNING", "1": "KILLED"} and time.monotonic() < deadline:
        time.sleep(0.2)
    assert status(uri) == {"0": "RUNNING", "1": "KILLED"} and parent_of(uri)[1].info.status == "RUNNING"
    assert tracker.close("KILLED") == 0
    log(uri, trial(0), trial(1))
    assert status(uri) == {"0": "FINISHED", "1": "FINISHED"} and parent_of(uri)[1].info.status == "FINISHED"


def test_a_trial_that_was_logged_as_failed_but_has_no_result_is_logged_again(tmp_path: Path):
    uri = sqlite(tmp_path)
    log(uri, replace(trial(0), metrics={}, error="lost"), status="KILLED")
    assert status(uri) == {"0": "FAILED"}
    so_far = outcome()
    tracker = Tracker(uri, plan(), so_far)
    tracker.started(0, PARAMS, "")
    so_far.trials.append(trial(0))
    tracker.ended(so_far.trials[0])
    assert tracker.close() == 0
    run = children(uri)[1]["0"]
    assert run.info.status == "FINISHED" and run.data.metrics.items() >= METRICS.items() and "error" not in run.data.tags


QUERY = "tags.pareto = 'true' and tags.`trilemma.name` = 's-1'"
"""The filter for the runs on the front that the description of a study's run contains."""


def front_of(uri: str) -> list[str]:
    """Numbers of the trials whose active runs are tagged as on the front, one for each run."""
    client, parent = parent_of(uri)
    return sorted(run.data.tags["trilemma.trial"] for run in client.search_runs([parent.info.experiment_id], QUERY))


def test_the_runs_of_a_deleted_parent_belong_to_the_new_one_and_no_point_is_on_the_front_twice(tmp_path: Path):
    uri, ended = sqlite(tmp_path), (trial(0), trial(1, accuracy=0.95, mia_auc=0.7))
    log(uri, *ended)
    client, first = parent_of(uri)
    before = {number: run.info.run_id for number, run in children(uri)[1].items()}
    assert front_of(uri) == ["0", "1"]
    client.delete_run(first.info.run_id)
    log(uri, *ended)
    second = parent_of(uri)[1].info.run_id
    runs = children(uri)[1]
    assert second != first.info.run_id and {number: run.info.run_id for number, run in runs.items()} == before
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {second}
    assert front_of(uri) == ["0", "1"] and {row["trial"] for row in front_from_runs(uri, "s-1")} == {0, 1}

    client.restore_run(first.info.run_id)  # two parents, until the study is opened again
    assert {row["trial"] for row in front_from_runs(uri, "s-1")} == {0, 1}
    log(uri, *ended)
    runs, kept = children(uri)[1], parent_of(uri)[1].info.run_id
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {kept} and front_of(uri) == ["0", "1"]
    assert {number: run.info.run_id for number, run in runs.items()} == before


def test_a_deleted_or_renamed_run_of_a_trial_is_on_the_front_once_also_if_it_is_restored(tmp_path: Path):
    uri = sqlite(tmp_path)
    log(uri, trial(0))
    client, deleted = parent_of(uri)[0], children(uri)[1]["0"].info.run_id
    client.delete_run(deleted)
    log(uri, trial(0))
    assert front_of(uri) == ["0"]
    client.update_run(children(uri)[1]["0"].info.run_id, name="the best one")
    client.restore_run(deleted)
    log(uri, trial(0))
    assert front_of(uri) == ["0"] and set(children(uri)[1]) == {"0"}
    assert len(client.search_runs([parent_of(uri)[1].info.experiment_id], "tags.`trilemma.kind` = 'trial'")) == 1


def test_a_duplicate_that_may_not_be_deleted_is_not_on_the_front(tmp_path: Path, monkeypatch):
    uri = sqlite(tmp_path)
    log(uri, trial(0))
    client, parent = parent_of(uri)
    client.set_tag(create_child(client, parent, 0).info.run_id, "pareto", "true")
    refused = MlflowException("no permission", PERMISSION_DENIED)
    monkeypatch.setattr(MlflowClient, "delete_run", lambda *args: (_ for _ in ()).throw(refused))
    log(uri, trial(0))
    assert front_of(uri) == ["0"]
