"""`--seeds-per-trial`: a configuration's numbers are means over seeds, in the sweep and in every later look at its networks."""

import json
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

import pytest

from trainables.trial import Job, averaged, seed_jobs

ROOT = Path(__file__).resolve().parents[2]
SEEDS = 2


def result(accuracy: float, error: str = "", **more: float) -> dict:
    return {"metrics": {} if error else {"accuracy": accuracy, **more}, "curve": [], "error": error, "seconds": 1.0}


def test_metrics_are_means_with_their_deviation_and_flags_the_worst():
    one, two = (
        result(0.8, **{"flag/x": 0.0, "mia_auc/loss": 0.5}),
        result(0.6, **{"flag/x": 1.0, "mia_auc/loss": 0.7, "extra": 1.0}),
    )
    found = averaged([one, two])["metrics"]
    assert found.keys() == {"accuracy", "sd/accuracy", "flag/x", "mia_auc/loss"}
    assert found["accuracy"] == pytest.approx(0.7) and found["sd/accuracy"] == pytest.approx(stdev([0.8, 0.6]))
    assert found["flag/x"] == 1.0 and found["mia_auc/loss"] == pytest.approx(0.6)
    assert averaged([one]) == one


def test_a_configuration_is_taken_over_only_if_every_seed_is():
    there, trained = result(0.8) | {"taken_from": "s-0/trials/00001"}, result(0.6)
    assert averaged([there, there])["taken_from"] == "s-0/trials/00001"
    assert averaged([there, trained])["taken_from"] == "" == averaged([trained, there])["taken_from"]


def test_a_seed_that_failed_fails_the_configuration():
    found = averaged([result(0.8), result(0.0, "it diverged")])
    assert found["error"] == "seed 2: it diverged" and found["metrics"] == {}


def test_the_first_seed_is_the_trials_own_and_the_others_are_different():
    params = {"seed": 5, "epochs": 2}
    assert seed_jobs(7, params, 1) == [Job("trials/00007", params)]
    jobs = seed_jobs(7, params, 3)
    assert [job.folder for job in jobs] == [f"trials/00007/seeds/{i}" for i in (1, 2, 3)]
    seeds = [job.params["seed"] for job in jobs]
    assert seeds[0] == 5 and len(set(seeds)) == 3 and all(job.params["epochs"] == 2 for job in jobs)


@pytest.mark.ray
@pytest.mark.timeout(900)
def test_a_study_over_seeds_then_stronger_attacks_on_all_of_its_networks(tmp_path):
    def run(*argv: str) -> str:
        done = subprocess.run([sys.executable, *argv], cwd=tmp_path, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    quick = ["--set", "epochs=12", "net.width=8", "judge.steps=3", "--trials", "4", "--sampler", "random", "--no-confirm"]
    run(str(ROOT / "studies/crl_tradeoff.py"), *quick, "--seeds-per-trial", str(SEEDS))
    (folder,) = (tmp_path / "runs").glob("*-*")
    for path in sorted(folder.glob("trials/*/result.json")):
        whole = json.loads(path.read_text())["metrics"]
        own = [json.loads((path.parent / f"seeds/{i}/result.json").read_text())["metrics"] for i in range(1, SEEDS + 1)]
        assert own[0]["accuracy"] != own[1]["accuracy"] or own[0]["mia_auc"] != own[1]["mia_auc"]
        for metric in ("accuracy", "robust_accuracy", "mia_auc"):
            assert whole[metric] == pytest.approx(mean(m[metric] for m in own))
    out = run(str(ROOT / "studies/rejudge.py"), folder.name, "--suite", "standard", "--transfer-from", "1")
    assert f"version 2, {4 * SEEDS} stored networks" in out and "trial 3, seed 2" in out
    before = json.loads((folder / "trials/00003/result.json").read_text())
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()], "tags.`trilemma.trial` = '3'")
    looked = [json.loads((folder / f"versions/2/trials/00003/seeds/{i}/result.json").read_text())["metrics"] for i in (1, 2)]
    assert runs[0].data.metrics["robust_accuracy"] == pytest.approx(mean(m["robust_accuracy"] for m in looked))
    assert runs[0].data.metrics["robust_accuracy"] <= before["metrics"]["robust_accuracy"]
    picked = run(str(ROOT / "studies/pick.py"), folder.name, "--maximize", "accuracy", "--unconfirmed", "--no-register")
    assert "the lower of the two in the middle of 2" in picked
