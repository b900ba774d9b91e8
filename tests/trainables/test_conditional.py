"""A whole study over which fillings: in the store, in MLflow, in front.csv, in the terminal, and after a kill."""

import csv
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from growing import there
from mlflow import MlflowClient

from core.config import TrialConfig
from core.space import contains, names

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]
SCRIPT = Path(__file__).with_name("conditional_study.py")
STUDY = runpy.run_path(str(SCRIPT))["STUDY"]
ARGV = ["--trials", "12", "--concurrency", "1", "--seed", "3"]


def study(cwd: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *argv], cwd=cwd, capture_output=True, text=True, timeout=500)


def suggestions(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("trials/*/params.json"))]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("conditional")
    done = study(cwd, *ARGV)
    (folder,) = (cwd / "runs").glob("*-*")
    return cwd, folder, done.stdout + done.stderr


def test_every_trial_has_the_knobs_of_its_own_fillings_within_their_ranges(finished):
    _, folder, out = finished
    found = suggestions(folder)
    assert len(found) == 12 and len(list(folder.glob("trials/*/result.json"))) == 12, out
    space = STUDY.space(STUDY.presets["dev"].config)
    assert found[0]["baseline"] == "CRL by hand" and found[0]["params"]["loss.tau_rce"] == 0.1
    for params in (suggestion["params"] for suggestion in found[1:]):
        assert TrialConfig.of(params).params() == params
        for slot in ("loss", "perturbation"):
            assert all(contains(span, params[knob]) for knob, span in space[slot].options[params[slot]].items())
    assert {params["params"]["loss"] for params in found} == {"cross_entropy", "relaxloss", "crl"}


def test_mlflow_holds_a_range_for_each_knob_of_each_option_and_each_trials_own_knobs(finished):
    cwd, folder, _ = finished
    client = MlflowClient(f"sqlite:///{cwd}/mlflow.db")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    (parent,) = [run for run in runs if run.data.tags["trilemma.kind"] == "study"]
    assert {name: text for name, text in parent.data.params.items() if name.startswith("space/")} == {
        "space/loss": "cross_entropy,relaxloss,crl", "space/loss.relaxloss/alpha": "0.05:3.0:log",
        "space/loss.crl/alpha_rce": "0.1:1.8:log", "space/loss.crl/lambda": "0.001:10.0:log",
        "space/perturbation": "none,fgsm,pgd", "space/perturbation.fgsm/epsilon": "0.0:0.05",
        "space/perturbation.pgd/epsilon": "0.05:0.1", "space/perturbation.pgd/steps": "1,2",
        "space/optimizer.lr": "0.01:0.1:log",
    }  # fmt: skip
    children = {int(run.data.tags["trilemma.trial"]): run.data.params for run in runs if run is not parent}
    assert children == {s["number"]: {name: str(v) for name, v in s["params"].items()} for s in suggestions(folder)}


def test_front_csv_has_the_switched_slots_and_leaves_empty_what_a_trial_lacks(finished):
    _, folder, _ = finished
    rows = list(csv.DictReader((folder / "front.csv").read_text().splitlines()))
    params = {str(s["number"]): s["params"] for s in suggestions(folder)}
    assert rows and {"loss", "perturbation", "optimizer.lr"} <= rows[0].keys()
    searched = [name for name in names(STUDY.space(STUDY.presets["dev"].config)) if name in rows[0]]
    for row in rows:
        assert {name: row[name] for name in searched} == {name: str(params[row["trial"]].get(name, "")) for name in searched}


def test_the_terminal_shows_the_fillings_and_a_dash_where_a_trial_lacks_a_knob(finished):
    _, folder, out = finished
    table = out[out.index("Front of") :].splitlines()
    heads = [cell.strip() for cell in table[2].strip("┃").split("┃")]
    space = STUDY.space(STUDY.presets["dev"].config)
    assert heads == ["trial", "accuracy", "robust_accuracy", "mia_auc", *names(space)]
    params = {s["number"]: s["params"] for s in suggestions(folder)}
    rows = [dict(zip(heads, map(str.strip, line.strip("│").split("│")), strict=True)) for line in table if line.startswith("│")]
    assert rows
    for row in rows:
        own = params[int(row["trial"].split()[0])]
        assert row["loss"] == own["loss"] and all((row[name] == "-") == (name not in own) for name in names(space))


def test_after_sigkill_the_rest_is_suggested_as_in_the_study_that_was_left_alone(finished, tmp_path):
    _, whole, _ = finished
    log = (tmp_path / "log").open("w")
    driver = subprocess.Popen([sys.executable, str(SCRIPT), *ARGV], cwd=tmp_path, stdout=log, stderr=log)
    results = lambda: there(tmp_path / "runs", "*/trials/*/result.json")  # noqa: E731
    until = time.monotonic() + 300
    while len(results()) < 3 and time.monotonic() < until:
        assert driver.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.02)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    (folder,) = (tmp_path / "runs").glob("*-*")
    assert 3 <= len(results()) < 12
    resumed = study(tmp_path, "--resume", folder.name, "--concurrency", "1")
    assert len(results()) == 12, resumed.stdout + resumed.stderr
    assert suggestions(folder) == suggestions(whole)
