"""`infra/box.sh`: MLflow and a study on one machine, ended together."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from growing import there
from listening import beyond_loopback, processes
from mlflow import MlflowClient

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]
ROOT = Path(__file__).resolve().parents[2]


def box(cwd: Path, port: int, *words: str) -> subprocess.Popen[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = [str(ROOT / "infra/box.sh"), str(ROOT / "studies/crl_tradeoff.py"), "--no-confirm", "--trials", "5", *words]
    environment = os.environ | {"PATH": path, "PORT": str(port), "BOX": str(cwd)}
    return subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def servers(cwd: Path) -> set[int]:
    """The processes of MLflow that belong to the test."""
    found = set()
    for pid in processes(f"BOX={cwd}"):
        try:
            if b"mlflow" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.add(pid)
        except OSError:
            continue
    return found


def test_a_study_on_one_box_is_in_mlflow_when_both_have_ended(tmp_path, free_port):
    running = box(tmp_path, free_port, "--set", "epochs=4", "net.width=4", "judge.steps=2")
    out, _ = running.communicate(timeout=350)
    assert running.returncode == 0, out
    assert f"MLflow: http://127.0.0.1:{free_port}" in out and not servers(tmp_path)
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("crl_tradeoff").experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * 6
    assert list((tmp_path / "mlartifacts").rglob("front.csv"))


def test_a_signal_ends_the_study_as_ctrl_c_would_and_mlflow_is_seen_by_this_machine_only(tmp_path, free_port):
    running = box(tmp_path, free_port, "--set", "epochs=100000")
    until = time.monotonic() + 200
    while not there(tmp_path / "runs", "*/trials/*/params.json"):
        assert running.poll() is None and time.monotonic() < until, running.communicate()[0]
        time.sleep(0.3)
    assert servers(tmp_path) and not beyond_loopback(servers(tmp_path))
    running.send_signal(signal.SIGTERM)
    out, _ = running.communicate(timeout=150)
    assert running.returncode == 130 and "--resume" in out, out
    assert not servers(tmp_path)
