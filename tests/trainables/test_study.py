"""Whole studies on a real local Ray with a real MLflow store: what a user gets, and what survives a kill."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from growing import there
from mlflow import MlflowClient

from core.config import Objective
from trainables.tracking import front_from_runs

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]
ROOT = Path(__file__).resolve().parents[2]
QUICK = ["--set", "epochs=12", "net.width=8", "judge.steps=3", "--trials", "7"]


def study(cwd: Path, *argv: str, script: str = "studies/crl_tradeoff.py") -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(ROOT / script), *argv], cwd=cwd, capture_output=True, text=True, timeout=500)


def parents_and_children(uri: str):
    client = MlflowClient(uri)
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()], max_results=1000)
    parents = [run for run in runs if run.data.tags["trilemma.kind"] == "study"]
    return client, parents, [run for run in runs if run.data.tags["trilemma.kind"] == "trial"]


def front_csv(text: str) -> dict[int, dict[str, float]]:
    metrics = ("accuracy", "robust_accuracy", "mia_auc")
    return {int(row["trial"]): {m: float(row[m]) for m in metrics} for row in csv.DictReader(text.splitlines())}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("finished")
    done = study(cwd, *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = (cwd / "runs").glob("*-*")
    return cwd, folder, done.stdout


def test_a_line_per_trial_then_the_front_confirm_the_report_and_the_mlflow_command(finished):
    _, folder, out = finished
    assert "\x1b" not in out
    assert sum(f"/7] trial {n}" in line for line in out.splitlines() for n in range(7)) == 7
    assert "Front of" in out and "confirm:" in out
    assert f"report: {folder}/report.html" in out and "-m mlflow ui --backend-store-uri sqlite:///mlflow.db" in out
    assert (folder / "report.html").stat().st_size > 100_000


def test_only_storage_and_the_tracking_store_are_written(finished):
    cwd, _, _ = finished
    assert sorted(path.name for path in cwd.iterdir()) == ["mlartifacts", "mlflow.db", "runs"]


def test_mlflow_holds_one_finished_parent_and_a_child_per_trial(finished):
    cwd, folder, _ = finished
    client, parents, children = parents_and_children(f"sqlite:///{cwd}/mlflow.db")
    (parent,) = parents
    assert parent.info.status == "FINISHED" and parent.info.run_name == folder.name
    assert client.get_experiment(parent.info.experiment_id).name == "crl_tradeoff"
    assert parent.data.params["space/loss.lambda"] == "0.001:10.0:log"
    assert parent.data.params["config/epochs"] == "12"
    objectives = [Objective(**o) for o in json.loads(parent.data.params["objectives"])]
    assert [o.metric for o in objectives] == ["accuracy", "robust_accuracy", "mia_auc"]
    assert parent.data.metrics["trials_completed"] == 7 and parent.data.metrics["trials_failed"] == 0
    steps = [m.step for m in client.get_metric_history(parent.info.run_id, "hypervolume")]
    assert max(steps) == 7
    found = {f.path for f in client.list_artifacts(parent.info.run_id)}
    assert {"front.csv", "front.json", "report.html", "plots", "confirmed.csv", "confirmed.json"} <= found
    assert sorted(int(c.data.tags["trilemma.trial"]) for c in children) == list(range(7))
    for child in children:
        assert child.info.status == "FINISHED"
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        params = json.loads((folder / f"trials/{int(child.data.tags['trilemma.trial']):05d}/params.json").read_text())["params"]
        assert child.data.params == {name: str(value) for name, value in params.items()}
        assert [m.step for m in client.get_metric_history(child.info.run_id, "epoch/loss")] == list(range(1, 13))


def test_the_front_rebuilt_from_the_child_runs_alone_equals_front_csv(finished):
    cwd, folder, _ = finished
    uri = f"sqlite:///{cwd}/mlflow.db"
    _, (parent,), children = parents_and_children(uri)
    rebuilt = {row.pop("trial"): row for row in front_from_runs(uri, folder.name)}
    stored = front_csv((folder / "front.csv").read_text())
    assert rebuilt == stored and stored
    logged = Path(parent.info.artifact_uri.removeprefix("file://")) / "front.csv"
    assert front_csv(logged.read_text()) == stored
    tagged = {int(c.data.tags["trilemma.trial"]) for c in children if c.data.tags["pareto"] == "true"}
    assert tagged == set(stored)


def test_confirm_judges_other_seeds_and_members_on_the_test_part_only(finished):
    _, folder, _ = finished
    stored = front_csv((folder / "front.csv").read_text())
    rows = list(csv.DictReader((folder / "confirmed.csv").read_text().splitlines()))
    assert {int(row["trial"]) for row in rows} == set(stored)
    for number in stored:
        sweep = set(_rows(folder / f"trials/{number:05d}", "rows"))
        seen = [set(_rows(folder / f"confirm/{number:05d}/{r}", "rows")) for r in (1, 2, 3)]
        members = [set(_rows(folder / f"confirm/{number:05d}/{r}", "member_rows")) for r in (1, 2, 3)]
        assert seen[0] == seen[1] == seen[2] and not seen[0] & sweep
        assert all(not m & seen[0] for m in members) and members[0] != members[1]


def _rows(folder: Path, name: str) -> list[int]:
    import numpy as np

    with np.load(folder / "predictions.npz") as stored:
        return stored[name].tolist()


def test_resuming_a_finished_study_trains_nothing_and_logs_nothing_twice(finished):
    cwd, folder, _ = finished
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")}
    again = study(cwd, "--resume", folder.name)
    assert again.returncode == 0, again.stdout + again.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")} == before
    client, parents, children = parents_and_children(f"sqlite:///{cwd}/mlflow.db")
    assert len(parents) == 1 and len(children) == 7
    for child in children:
        assert len(client.get_metric_history(child.info.run_id, "accuracy")) == 1


def test_after_sigkill_resume_loses_repeats_and_logs_twice_no_finished_trial(tmp_path):
    argv = ["--set", "epochs=40", "--trials", "9", "--no-confirm"]
    log = (tmp_path / "log").open("w")
    driver = subprocess.Popen([sys.executable, str(ROOT / "studies/crl_tradeoff.py"), *argv], cwd=tmp_path, stdout=log, stderr=log)
    results = lambda: there(tmp_path / "runs", "*/trials/*/result.json")  # noqa: E731
    until = time.monotonic() + 300
    while len(results()) < 4 and time.monotonic() < until:
        assert driver.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.2)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    (folder,) = (tmp_path / "runs").glob("*-*")
    before = {path: path.read_bytes() for path in results()}
    assert 4 <= len(before) < 9
    resumed = study(tmp_path, "--resume", folder.name)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    after = {path: path.read_bytes() for path in results()}
    assert len(after) == 9 and {path: after[path] for path in before} == before
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client, parents, children = parents_and_children(uri)
    assert [p.info.status for p in parents] == ["FINISHED"]
    assert sorted(int(c.data.tags["trilemma.trial"]) for c in children) == list(range(9))
    for child in children:
        assert child.info.status == "FINISHED"
        # Once each; where the first driver died before it logged what a checkpoint had, the end of the curve came first.
        assert sorted(m.step for m in client.get_metric_history(child.info.run_id, "epoch/loss")) == list(range(1, 41))
        assert len(client.get_metric_history(child.info.run_id, "mia_auc")) == 1
    rebuilt = {row.pop("trial"): row for row in front_from_runs(uri, folder.name)}
    assert rebuilt == front_csv((folder / "front.csv").read_text())


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_says_how_to_go_on_and_leaves_with_130(tmp_path, sign):
    argv = ["--set", "epochs=200", "--trials", "9"]
    driver = subprocess.Popen(
        [sys.executable, str(ROOT / "studies/crl_tradeoff.py"), *argv], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    until = time.monotonic() + 120
    while not there(tmp_path / "runs", "*/trials/*/params.json") and time.monotonic() < until:
        time.sleep(0.2)
    time.sleep(3)
    driver.send_signal(sign)
    out, _ = driver.communicate(timeout=200)
    assert driver.returncode == 130, out
    (folder,) = (tmp_path / "runs").glob("*-*")
    assert f"{sys.executable} {ROOT}/studies/crl_tradeoff.py --resume {folder.name}" in out


def test_a_ray_train_worker_in_every_trial_changes_no_number(finished, tmp_path):
    _, in_process, _ = finished
    done = study(tmp_path, *QUICK[:-1], "4", "--workers-per-trial", "1", "--no-confirm")
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = (tmp_path / "runs").glob("*-*")
    for number in range(4):
        name = f"trials/{number:05d}/result.json"
        here, there = (json.loads((place / name).read_text())["metrics"] for place in (in_process, folder))
        for metric in ("accuracy", "train_accuracy", "robust_accuracy", "mia_auc"):
            assert there[metric] == pytest.approx(here[metric], abs=1e-9), (number, metric)
