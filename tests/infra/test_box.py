"""`infra/box.sh`: MLflow and a study on one machine that end together."""

import signal
import subprocess
from pathlib import Path

import pytest
from environments import environment
from files import existing
from listeners import exposed_addresses, free_port, processes_with
from mlflow_runs import logged
from study_runs import CRL, ROOT, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]


def start_box(cwd: Path, port: int, *argv: str) -> subprocess.Popen[str]:
    """Start MLflow on a port and a study of five trials; their processes can be found by `BOX` in their environment."""
    command = [ROOT / "infra/box.sh", ROOT / CRL, "--no-confirm", "--trials", "5", *argv]
    env = environment(PORT=str(port), BOX=str(cwd))
    return subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def server_processes(cwd: Path) -> set[int]:
    """IDs of the processes of MLflow that were started in a directory."""
    pids = set()
    for pid in processes_with(f"BOX={cwd}"):
        try:
            if b"mlflow" in Path(f"/proc/{pid}/cmdline").read_bytes():
                pids.add(pid)
        except OSError:
            continue
    return pids


def test_the_study_is_in_mlflow_after_both_have_ended(tmp_path):
    port = free_port()
    box = start_box(tmp_path, port, "--set", "epochs=4", "net.width=4", "judge.steps=2")
    out, _ = box.communicate(timeout=350)
    assert box.returncode == 0, out
    assert f"MLflow: http://127.0.0.1:{port}" in out and not server_processes(tmp_path)
    (plan,) = existing(tmp_path, "runs/*/plan.json")
    runs = logged(f"sqlite:///{tmp_path}/mlflow.db", plan.parent.name)
    in_experiment = runs.client.search_runs([runs.parent.info.experiment_id])
    assert len(runs.children) == 5 and [run.info.status for run in in_experiment] == ["FINISHED"] * 6
    assert list((tmp_path / "mlartifacts").rglob("front.csv"))


def test_sigterm_interrupts_the_study_and_stops_mlflow_which_listens_on_the_loopback_interface_only(tmp_path):
    box = start_box(tmp_path, free_port(), "--set", "epochs=100000")
    wait_until(lambda: existing(tmp_path, "runs/*/trials/*/params.json"), box, 200)
    assert server_processes(tmp_path) and not exposed_addresses(server_processes(tmp_path))
    box.send_signal(signal.SIGTERM)
    out, _ = box.communicate(timeout=150)
    assert box.returncode == 130 and "--resume" in out, out
    assert not server_processes(tmp_path)
