"""Trials that fail in a study that goes on; workers that load little; the same numbers for 0, 1 and 2 workers."""

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from core import data
from core.config import TrialConfig
from trainables.store import Store
from trainables.trial import Job, Share, pack, perform

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]
FAILING = Path(__file__).with_name("failing_study.py")
# Anything that only attacks of other libraries, pictures or tracking need.
UNWANTED = {"mlflow", "matplotlib", "plotly", "torchattacks", "foolbox", "art", "optuna", "sklearn", "torchvision", "moocore"}


def loaded(job: Job, arrays, store: Store, share: Share) -> list[str]:
    perform(job, arrays, store, share)
    return sorted({name.partition(".")[0] for name in sys.modules})


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("failing")
    argv = [sys.executable, str(FAILING), "--trials", "7", "--sampler", "random", "--set", "epochs=12", "net.width=8"]
    return cwd, subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=300)


def test_failed_trials_are_counted_with_their_reasons_and_the_study_goes_on(failed):
    cwd, done = failed
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"^\[\d/7\] trial 0 \(diverges\) failed: .*lower optimizer.lr", done.stdout, re.M)
    assert re.search(r"^\[\d/7\] trial \d failed: RuntimeError: .*memory", done.stdout, re.M)
    assert "Traceback" not in done.stdout + done.stderr
    from mlflow import MlflowClient  # here, because a worker that is sent a function of this file imports the file

    client = MlflowClient(f"sqlite:///{cwd}/mlflow.db")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    (parent,) = [r for r in runs if r.data.tags["trilemma.kind"] == "study"]
    children = [r for r in runs if r is not parent]
    assert len(children) == 7 and {r.info.status for r in children} == {"FINISHED", "FAILED"}
    too_large = {r.data.tags["trilemma.trial"] for r in children if r.data.params["net.hidden"] == str(2**40)}
    by_status = {r.data.tags["trilemma.trial"] for r in children if r.info.status == "FAILED"}
    assert by_status == too_large | {"0"} and too_large
    assert parent.data.metrics["trials_failed"] == len(by_status)
    assert parent.data.metrics["trials_completed"] == 7 - len(by_status)
    assert all("memory" in r.data.tags["error"] for r in children if r.data.tags["trilemma.trial"] in too_large)


def test_a_failed_trial_is_never_on_the_front(failed):
    cwd, _ = failed
    (front,) = (cwd / "runs").glob("*/front.csv")
    on = list(csv.DictReader(io.StringIO(front.read_text())))
    assert on and all(row.get("net.hidden", "16") == "16" and row["baseline"] == "" for row in on)
    (report,) = (cwd / "runs").glob("*/report.html")
    assert "lower optimizer.lr" in report.read_text()


@pytest.fixture(scope="module")
def local_ray():
    from trainables import cluster
    from trainables.plan import Site

    with cluster.joined(Site()):
        yield


def test_a_worker_loads_no_tracking_no_pictures_and_no_attack_library(local_ray, tmp_path):
    import ray

    job = Job("one", TrialConfig().set({"epochs": 1}).params())
    names = ray.get(ray.remote(loaded).remote(job, pack(data.load("digits")), Store.at(str(tmp_path)), Share(0, 1, 0)))
    assert "torch" in names
    assert sorted(UNWANTED & set(names)) == []


def test_nothing_to_train_on_a_second_confirm(local_ray, tmp_path):
    from trainables.confirm import fan_out

    jobs = {("a", r): Job(f"confirm/a/{r}", TrialConfig().set({"epochs": 1, "seed": r}).params()) for r in (1, 2)}
    arrays, store = pack(data.load("digits")), Store.at(str(tmp_path))
    first = fan_out(jobs, arrays, store, Share(0, 1, 0), 2)
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.*")}
    assert fan_out(jobs, arrays, store, Share(0, 1, 0), 2) == first
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.*")} == stamps and len(stamps) == 6


def test_zero_one_and_two_workers_give_the_same_numbers(local_ray, tmp_path):
    config = TrialConfig().set({
        "loss": "crl", "perturbation": "pgd", "perturbation.steps": 2, "perturbation.alpha": 0.5, "epochs": 6,
        "batch_size": 63, "judge.epsilon": 0.1,
    })  # fmt: skip
    arrays = pack(data.load("digits"))
    results = {n: perform(Job(str(n), config.params()), arrays, Store.at(str(tmp_path)), Share(n, 1, 0)) for n in (0, 1, 2)}
    assert not any(r["error"] for r in results.values()), {n: r["error"] for n, r in results.items()}
    for n in (1, 2):
        for here, there in zip(results[0]["curve"], results[n]["curve"], strict=True):
            assert there["epoch/loss"] == pytest.approx(here["epoch/loss"], rel=1e-3)
        for metric in ("accuracy", "robust_accuracy", "mia_auc", "train_accuracy"):
            assert results[n]["metrics"][metric] == pytest.approx(results[0]["metrics"][metric], abs=0.01)
    assert json.loads((tmp_path / "2/result.json").read_text()) == results[2]
