"""Revisions of a front in a real MLflow store."""

from dataclasses import replace
from pathlib import Path

import pytest
from confirming import confirmation
from mlflow import MlflowClient
from tracked import (
    PARAMS,
    RefusingClient,
    artifacts_of,
    children,
    confirmed,
    files_of,
    histories,
    log_revisions,
    outcome,
    parent_of,
    plan,
    revised,
    sqlite,
    trial,
)

from trainables.study.tables import confirmed_rows, csv, front_rows
from trainables.tracking import tracker
from trainables.tracking.client import front_from_runs, front_version
from trainables.tracking.tracker import Tracker

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
EPOCHS = int(PARAMS["epochs"])


def contents(uri: str) -> dict[str, tuple]:
    """Everything that runs show: status, parameters, metrics with their histories, tags, and names of artifacts."""
    client = MlflowClient(uri)
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    artifacts = lambda run, at=None: {  # noqa: E731
        path for f in client.list_artifacts(run.info.run_id, at) for path in ([f.path] if not f.is_dir else artifacts(run, f.path))
    }
    return {
        run.info.run_id: (
            run.info.status, run.data.params, {name: histories(client, run, name) for name in run.data.metrics}, run.data.tags,
            artifacts(run),
        )
        for run in runs
    }  # fmt: skip


def test_runs_show_the_newest_version_which_is_logged_once(tmp_path: Path):
    """Trial 0 is more accurate, and trial 1 more robust until the second re-evaluation."""
    uri = sqlite(tmp_path)
    first = outcome(trial(0, accuracy=0.95), trial(1, robust_accuracy=0.6), trial(2, mia_auc=0.55))
    first.confirmation = confirmation([confirmed(0), confirmed(1)])
    log_revisions(uri, first, [])
    second = revised(first, {0: 0.5, 1: 0.4, 2: 0.1})
    third = revised(second, {0: 0.3, 1: 0.35, 2: 0.1}, {2: "in version 3: it broke"})
    logged = []
    for later in ([second], [second, third], [second, third]):
        log_revisions(uri, first, later)
        on_front = {t.number for t in later[-1].front()}
        client, runs = children(uri)
        assert {int(number) for number, run in runs.items() if run.data.tags["pareto"] == "true"} == on_front
        assert {row["trial"] for row in front_from_runs(uri, "s-1")} == on_front
        assert {run.data.tags["front_version"] for run in runs.values()} == {str(later[-1].version)}
        logged.append(contents(uri))
    assert logged[1] == logged[2]  # logging the same again changes nothing
    assert histories(client, runs["0"], "robust_accuracy") == [(EPOCHS, 0.5), (EPOCHS + 1, 0.5), (EPOCHS + 2, 0.3)]
    assert {number: run.data.metrics["robust_accuracy"] for number, run in runs.items()} == {"0": 0.3, "1": 0.35, "2": 0.1}
    assert histories(client, runs["1"], "confirmed/robust_accuracy") == [(0, 0.5), (1, 0.4), (2, 0.35)]
    assert [len(histories(client, runs["0"], name)) for name in ("accuracy", "flag/zero_gradients")] == [1, 2]
    assert (runs["2"].info.status, runs["2"].data.tags["error"]) == ("FAILED", "in version 3: it broke")
    _, parent = parent_of(uri)
    assert parent.data.tags["front_version"] == "3" and parent.info.status == "FINISHED"
    assert parent.data.metrics["front_size"] == len(third.front()) and front_version(uri, plan()) == 3
    folder = artifacts_of(parent)
    newest = csv(front_rows(third))
    assert (folder / "front.csv").read_text() == (folder / "versions/3/front.csv").read_text() == newest
    assert (folder / "versions/2/front.csv").read_text() == csv(front_rows(second))
    assert (folder / "confirmed.csv").read_text() == csv(confirmed_rows(third))
    for outcome_then, place in ((third, folder), (third, folder / "versions/3"), (second, folder / "versions/2")):
        assert {name: (place / name).read_bytes() for name in files_of(outcome_then)} == files_of(outcome_then)


def test_a_database_without_the_study_receives_all_its_versions(tmp_path: Path):
    uris = [sqlite(tmp_path / name) for name in ("one_by_one", "at_once")]
    for uri in uris:
        Path(uri.removeprefix("sqlite:///")).parent.mkdir()
    first = outcome(trial(0), trial(1, robust_accuracy=0.6))
    second = revised(first, {0: 0.5, 1: 0.4})
    third = revised(second, {0: 0.2, 1: 0.3})
    for later in ([], [second], [second, third]):
        log_revisions(uris[0], first, later)
    log_revisions(uris[1], first, [second, third])
    both = [{n: {m: histories(c, run, m) for m in run.data.metrics} for n, run in runs.items()} for c, runs in map(children, uris)]
    assert both[0] == both[1] and both[0]["1"]["robust_accuracy"][-1][1] == 0.3
    assert front_version(uris[1], plan()) == 3 and front_version(uris[1], replace(plan(), name="s-2")) == 0
    folders = [artifacts_of(parent_of(uri)[1]) for uri in uris]
    assert {str(path.relative_to(folders[0])) for path in folders[0].rglob("*.*")} == {
        str(path.relative_to(folders[1])) for path in folders[1].rglob("*.*")
    }


def test_a_trial_whose_reevaluation_succeeds_in_the_end_is_finished_again(tmp_path: Path):
    uri, first = sqlite(tmp_path), outcome(trial(0), trial(1))
    for second in (revised(first, {0: 0.4, 1: 0.4}, {1: "in version 2: it broke"}), revised(first, {0: 0.4, 1: 0.3})):
        log_revisions(uri, first, [second])
    client, runs = children(uri)
    assert runs["1"].info.status == "FINISHED" and runs["1"].data.metrics["robust_accuracy"] == 0.3
    assert [value for _, value in histories(client, runs["0"], "robust_accuracy")] == [0.5, 0.4]
    assert "error" not in runs["1"].data.tags


def test_a_revision_that_was_refused_at_first_is_logged_before_the_next_one_and_before_its_publication(tmp_path, monkeypatch):
    """The tag of the later version would otherwise say that MLflow has the earlier one, too."""
    uri, first = sqlite(tmp_path), outcome(trial(0), trial(1, robust_accuracy=0.6))
    second = revised(first, {0: 0.45, 1: 0.4})
    third = revised(second, {0: 0.3, 1: 0.35})
    client = RefusingClient(MlflowClient(uri))
    monkeypatch.setattr(tracker, "connect", lambda uri: client)
    log = Tracker(uri, plan(), first)
    assert log.drain()
    client.refused["get_run"] = 2
    log.revised([second, third])
    log.publish(files_of(third), 3)
    assert log.close() == 2 and log.last_error == "get_run is refused"
    _, runs = children(uri)
    for number, values in (("0", [0.5, 0.45, 0.3]), ("1", [0.6, 0.4, 0.35])):
        assert [value for _, value in histories(client.client, runs[number], "robust_accuracy")] == values
    assert front_version(uri, plan()) == 3
