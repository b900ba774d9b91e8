"""A study in a directory whose name has special characters: MLflow opens its store there, and a move is noticed."""

import json
import os
import re
import shutil
import signal
import subprocess
import urllib.request
from pathlib import Path
from urllib.error import URLError

import pytest
from environments import environment
from listeners import free_port
from mlflow import MlflowClient
from study_runs import Finished, run_process, wait_until

from trainables.study.tracking_uri import for_mlflow

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
NAME = "job#7?a=b&c %2F é'\";x"
"""Name of a directory with everything that means something in a URI or a shell."""
QUICK = ("--trials", "5", "--sampler", "random", "--no-confirm", "--concurrency", "1",
         "--set", "epochs=12", "net.width=8", "judge.steps=3")  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Finished:
    """A finished study in a directory of this name, with all options at their defaults."""
    cwd = tmp_path_factory.mktemp("special") / NAME
    cwd.mkdir()
    done = run_process(cwd, *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    (plan,) = cwd.glob("runs/*/plan.json")
    return Finished(cwd, plan.parent, done.stdout, done.stderr)


def test_everything_is_written_in_the_directory_and_nowhere_else(study):
    assert study.err == "" and "Traceback" not in study.out
    assert [path.name for path in study.cwd.parent.iterdir()] == [NAME]
    assert sorted(path.name for path in study.cwd.iterdir()) == ["mlflow.db", "runs"]
    assert list((study.cwd / "runs/mlartifacts/crl_tradeoff").rglob("report.html"))


def test_the_printed_command_opens_the_same_store(study):
    (command,) = re.findall(r"MLflow: (.*)", study.out)
    port = free_port()
    server = subprocess.Popen(
        f"exec {command} --port {port}", shell=True, cwd=study.cwd, env=environment("MLFLOW_"), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/get-by-name?experiment_name=crl_tradeoff"
    answer: dict = {}

    def answered() -> bool:
        try:
            answer.update(json.load(urllib.request.urlopen(url, timeout=5)))
        except (URLError, OSError):
            return False
        return True

    try:
        wait_until(answered, server, 200)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=60)
    assert answer["experiment"]["artifact_location"] == (study.cwd / "runs/mlartifacts/crl_tradeoff").as_uri()
    assert sorted(path.name for path in study.cwd.iterdir()) == ["mlflow.db", "runs"]


def test_a_copy_registers_no_model_at_the_old_place_and_does_as_the_message_says(study, tmp_path):
    copy = tmp_path / f"copy {NAME}".replace("%2F", "%")  # MLflow loads no model below a path with a percent-encoded character
    shutil.copytree(study.cwd, copy)
    before = sorted(study.cwd.rglob("*"))
    words = (study.name, "--minimize", "mia_auc", "--unconfirmed")
    refused = run_process(copy, *words, script="studies/pick.py")
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1 and str(study.cwd) in refused.stderr, refused.stderr
    new = ("--tracking-uri", "sqlite:///new.db")
    resumed = run_process(copy, "--resume", study.name, *new)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    picked = run_process(copy, *words, *new, script="studies/pick.py")
    assert picked.returncode == 0, picked.stdout + picked.stderr
    client = MlflowClient(for_mlflow(f"sqlite:///{copy}/new.db"))
    (version,) = client.search_model_versions("name = 'crl_tradeoff'")
    assert list((copy / "runs/mlartifacts/crl_tradeoff/models").rglob("model_card.md")) and version.run_id
    assert sorted(study.cwd.rglob("*")) == before
    assert sorted(Path(path).name for path in tmp_path.iterdir()) == [copy.name]
