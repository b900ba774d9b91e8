"""Tests of a whole study on a real local Ray with a real MLflow store: what a user gets from it."""

import json
import re

import numpy as np
import pytest
from files import front, modified, read, rows
from mlflow_runs import logged
from study_runs import QUICK

from core.study import Objective
from trainables.tracking.client import front_from_runs

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


def test_text_has_a_line_per_trial_then_front_report_and_mlflow_command(crl_study):
    out = crl_study.out
    assert "\x1b" not in out
    assert sum(f"/7] trial {n}" in line for line in out.splitlines() for n in range(7)) == 7
    assert "Front of" in out and "confirmation:" in out
    assert f"report: {crl_study.folder}/report.html" in out and "-m mlflow ui --backend-store-uri sqlite:///mlflow.db" in out
    assert (crl_study.folder / "report.html").stat().st_size > 100_000


def test_stderr_is_empty_and_there_is_no_warning(crl_study):
    assert crl_study.err == ""
    assert not re.search(r"\bwarning", crl_study.out, re.IGNORECASE)


def test_only_storage_and_tracking_store_are_written(crl_study):
    assert sorted(path.name for path in crl_study.cwd.iterdir()) == ["mlflow.db", "runs"]


def test_mlflow_has_a_finished_parent_and_a_child_per_trial(crl_study):
    client, parent, children = logged(crl_study.tracking_uri, crl_study.name)
    assert parent.info.status == "FINISHED" and parent.info.run_name == crl_study.name
    assert client.get_experiment(parent.info.experiment_id).name == "crl_tradeoff"
    assert parent.data.params["space/loss.lambda"] == "0.001:10.0:log"
    assert parent.data.params["config/epochs"] == "12"
    objectives = [Objective(**o) for o in json.loads(parent.data.params["objectives"])]
    assert [o.metric for o in objectives] == ["accuracy", "robust_accuracy", "mia_auc"]
    assert parent.data.metrics["trials_completed"] == 7 and parent.data.metrics["trials_failed"] == 0
    steps = [m.step for m in client.get_metric_history(parent.info.run_id, "hypervolume")]
    assert max(steps) == 7
    artifacts = {f.path for f in client.list_artifacts(parent.info.run_id)}
    assert {"front.csv", "front.json", "report.html", "plots", "confirmed.csv", "confirmed.json", "contrasts.csv"} <= artifacts
    assert sorted(children) == list(range(7))
    for number, child in children.items():
        assert child.info.status == "FINISHED"
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        params = read(crl_study.folder / f"trials/{number:05d}/params.json")["params"]
        assert child.data.params == {name: str(value) for name, value in params.items()}
        assert [m.step for m in client.get_metric_history(child.info.run_id, "epoch/loss")] == list(range(1, 13))


def test_front_rebuilt_from_child_runs_equals_front_csv(crl_study):
    found = logged(crl_study.tracking_uri, crl_study.name)
    rebuilt = {row.pop("trial"): row for row in front_from_runs(crl_study.tracking_uri, crl_study.name)}
    stored = front(crl_study.folder / "front.csv")
    assert rebuilt == stored and stored
    assert front(found.artifacts / "front.csv") == stored
    assert {number for number, child in found.children.items() if child.data.tags["pareto"] == "true"} == set(stored)


def test_storage_and_mlflow_have_identical_reports_with_a_link_to_every_run(crl_study):
    found = logged(crl_study.tracking_uri, crl_study.name)
    report = (crl_study.folder / "report.html").read_bytes()
    assert (found.artifacts / "report.html").read_bytes() == report
    runs = [run.info.run_id for run in (found.parent, *found.children.values())]
    assert all(run.encode() in report for run in runs)


def test_confirmation_uses_other_seeds_and_members_and_the_test_part_only(crl_study):
    stored = front(crl_study.folder / "front.csv")
    confirmed = {int(row["trial"]): row for row in rows(crl_study.folder / "confirmed.csv")}
    assert confirmed.keys() == set(stored) | {0, 1, 2, 3}  # the baselines, too
    assert all((row["from_front"] == "True") == (number in stored) for number, row in confirmed.items())
    for number in confirmed:
        sweep = _rows(crl_study.folder / f"trials/{number:05d}", "rows")
        replicates = [crl_study.folder / f"confirm/{number:05d}/{r}" for r in (1, 2)]
        seen = [_rows(replicate, "rows") for replicate in replicates]
        members = [_rows(replicate, "member_rows") for replicate in replicates]
        assert seen[0] == seen[1] and not seen[0] & sweep
        assert all(not m & seen[0] for m in members) and members[0] != members[1]


def _rows(folder, name: str) -> set[int]:
    with np.load(folder / "predictions.npz") as stored:
        return set(stored[name].tolist())


def test_confirmation_audits_are_in_report_mlflow_and_pictures(crl_study):
    page = (crl_study.folder / "report.html").read_text()
    assert "lira" in page and "calibrated" in page and "Largest true-positive rate at a false-positive rate of 1 %" in page
    assert "No true-positive rate at 0.1 %" in page and "10,000 non-members" in page
    pictures = {path.name for path in (crl_study.folder / "plots").iterdir()}
    confirmed = [int(row["trial"]) for row in rows(crl_study.folder / "confirmed.csv")]
    assert {f"audit-{number:05d}.png" for number in confirmed} <= pictures
    children = logged(crl_study.tracking_uri, crl_study.name).children
    assert confirmed and all("confirmed/mia_auc/lira" in children[number].data.metrics for number in confirmed)


def test_resuming_a_finished_study_trains_nothing_and_logs_nothing_twice(crl_study, run_study):
    before = modified(crl_study.folder)
    run_study.succeed(crl_study.cwd, "--resume", crl_study.name)
    assert modified(crl_study.folder) == before
    client, _, children = logged(crl_study.tracking_uri, crl_study.name)
    assert len(children) == 7
    for child in children.values():
        assert len(client.get_metric_history(child.info.run_id, "accuracy")) == 1


@pytest.mark.thorough
def test_an_identical_study_trains_nothing_and_has_the_same_front(crl_study, run_study):
    before = _trained(crl_study.cwd)
    again = run_study.study(crl_study.cwd, *QUICK, "7", "--concurrency", "2")  # rounds of as many replicates
    assert _trained(crl_study.cwd) == before
    assert "7 of 7 trials were not trained again: the same network, with the same images, settings, seed and code" in again.out
    for name in ("front.csv", "confirmed.csv", "contrasts.csv"):
        assert (again.folder / name).read_text() == (crl_study.folder / name).read_text()


def _trained(cwd) -> dict:
    """Every network that was trained, and when."""
    return {path: time for path, time in modified(cwd / "runs").items() if not read(path).get("reused_from")}
