"""Tests of jobs on real Ray workers: what they import, what they run twice, and numbers that do not depend on their count."""

import sys

import pytest
from files import modified, read
from study_runs import QUICK, ROOT, crl_script, folder_of

from core import data
from core.config import TrialConfig
from trainables.execution.resources import Share, SharedImages, Workspace, to_shared
from trainables.execution.tasks import Executor
from trainables.execution.trainable import run_job
from trainables.storage.jobs import Job
from trainables.storage.store import Store
from trainables.study.results import TrainingResult

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600), pytest.mark.usefixtures("local_ray")]
UNWANTED = {
    "mlflow", "matplotlib", "plotly", "jinja2", "torchattacks", "foolbox", "art", "optuna", "sklearn", "torchvision", "moocore",
}  # fmt: skip
"""Libraries of attacks, figures, pages, tracking and search, which no worker needs."""


def workspace(folder, workers: int) -> Workspace:
    store = Store.at(str(folder))
    return Workspace(Share(workers, 1, 0), store, store)


def imported_by(job: Job, images: SharedImages, space: Workspace) -> list[str]:
    """Top-level modules that a process has imported after a job."""
    run_job(job, images, space)
    return sorted({name.partition(".")[0] for name in sys.modules})


def test_a_worker_imports_no_tracking_pictures_or_attack_library(tmp_path):
    import ray

    job = Job("one", TrialConfig().set({"epochs": 1}).params())
    fresh = {"env_vars": {"PYTHONPATH": str(ROOT / "tests/helpers")}}  # a process that has run nothing else
    task = ray.remote(imported_by).options(runtime_env=fresh)
    names = ray.get(task.remote(job, to_shared(data.load("digits")), workspace(tmp_path, 0)))
    assert "torch" in names
    assert sorted(UNWANTED & set(names)) == []


def test_jobs_with_results_are_not_run_again(tmp_path):
    jobs = {("a", r): Job(f"confirm/a/{r}", TrialConfig().set({"epochs": 1, "seed": r}).params()) for r in (1, 2)}
    space = workspace(tmp_path, 0)
    executor = Executor(to_shared(data.load("digits")), space, lambda: 2, space.share, lambda: 2)
    first = executor.train(jobs)
    times = modified(tmp_path, "*.*")
    assert executor.train(jobs) == first
    assert modified(tmp_path, "*.*") == times
    files = {"network.pt", "training.json", "predictions.npz", "result.json"}
    assert [{path.name for path in (tmp_path / f"confirm/a/{r}").iterdir()} for r in (1, 2)] == [files, files]


def test_two_ray_train_workers_give_the_numbers_of_one_process(tmp_path):
    config = TrialConfig().set({"epochs": 2, "batch_size": 63, "net.width": 4, "judge.images": 30, "judge.steps": 2})
    images, job = to_shared(data.load("digits")), Job("0", config.params())
    one, two = (run_job(job, images, workspace(tmp_path / str(workers), workers)) for workers in (0, 2))
    assert (one.error, two.error) == ("", "")
    for here, there in zip(one.curve, two.curve, strict=True):
        assert there["epoch/loss"] == pytest.approx(here["epoch/loss"], rel=1e-3)
    for metric in ("accuracy", "train_accuracy", "robust_accuracy", "mia_auc"):
        assert two.metrics[metric] == pytest.approx(one.metrics[metric], abs=0.02), metric


@pytest.mark.thorough
def test_two_ray_train_workers_of_a_study_give_the_numbers_of_one_process(run_study, tmp_path):
    """The only trial is a suggestion; a batch of 63 images is divided into shares of different sizes."""
    script = crl_script(tmp_path, "baselines={}, contrasts=()")
    options = ("--set", "epochs=6", "batch_size=63", "judge.steps=3", "--trials", "1", "--workers-per-trial", "2", "--no-confirm")
    done = run_study(tmp_path, *options, script=script)
    trial = folder_of(done.stdout, tmp_path) / "trials/00000"
    params, two = read(trial / "params.json")["params"], TrainingResult.of_json(read(trial / "result.json"))
    assert (params["loss"], params["perturbation"], two.error) == ("crl", "pgd", "")
    one = run_job(Job("0", params), to_shared(data.load("hard_digits")), workspace(tmp_path / "one", 0))
    assert not one.error, one.error
    for here, there in zip(one.curve, two.curve, strict=True):
        assert there["epoch/loss"] == pytest.approx(here["epoch/loss"], rel=1e-3)
    for metric in ("accuracy", "robust_accuracy", "mia_auc", "train_accuracy"):
        assert two.metrics[metric] == pytest.approx(one.metrics[metric], abs=0.01), metric


@pytest.mark.thorough
def test_a_trial_of_a_study_with_a_ray_train_worker_has_the_numbers_of_one_process(run_study, tmp_path):
    script = crl_script(tmp_path, "baselines={}, contrasts=()")
    done = run_study(tmp_path, *QUICK, "1", "--workers-per-trial", "1", "--no-confirm", script=script)
    trial = folder_of(done.stdout, tmp_path) / "trials/00000"
    params, there = read(trial / "params.json")["params"], read(trial / "result.json")["metrics"]
    assert (params["loss"], params["perturbation"]) == ("crl", "pgd")
    here = run_job(Job("0", params), to_shared(data.load("hard_digits")), workspace(tmp_path / "one", 0)).metrics
    for metric in ("accuracy", "train_accuracy", "robust_accuracy", "mia_auc"):
        assert there[metric] == pytest.approx(here[metric], abs=1e-9), metric
