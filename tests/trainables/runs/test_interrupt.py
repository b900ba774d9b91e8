"""Tests of an interrupted study. SIGTERM is tested on a server, in tests/infra/test_tokens.py."""

import json
import os
import pty
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from files import existing
from mlflow_runs import logged
from study_runs import CRL, ROOT, command, start, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


def test_ctrl_c_prints_the_resume_command_and_one_object_and_exits_with_130(tmp_path):
    driver = start(tmp_path, "--set", "epochs=300", "--trials", "9", "--json", stderr=subprocess.PIPE)
    wait_until(lambda: existing(tmp_path / "runs", "*/trials/*/params.json"), driver)
    time.sleep(2)
    driver.send_signal(signal.SIGINT)
    out, err = driver.communicate(timeout=200)
    assert driver.returncode == 130 and out.count("\n") == 1, out + err
    end = json.loads(out)
    (folder,) = (tmp_path / "runs").glob("crl_tradeoff-*")
    assert end["name"] == folder.name and end["exit_code"] == 130 and end["error"] == "interrupted"
    words = " ".join(command(ROOT / CRL, "--resume", folder.name))
    assert end["resume"].startswith(words) and end["resume"] in err
    assert end["mlflow_run"] and isinstance(end["front"], list) and end["trials"]["planned"] == 9 and "Traceback" not in err


def test_a_closed_terminal_ends_the_runs_exits_with_130_and_leaves_no_files_of_ray(tmp_path):
    """Every process of the terminal receives SIGHUP, and nothing can be printed on it any more; errors go to a file here."""
    ray_files = tempfile.mkdtemp(prefix="r", dir="/tmp")  # short, because sockets are below it
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.dup2(os.open("err", os.O_CREAT | os.O_WRONLY), 2)
        words = command(CRL, "--set", "epochs=300", "--trials", "9", "--concurrency", "1", "--json")
        os.execve(words[0], words, os.environ | {"RAY_TMPDIR": ray_files})
    end = time.monotonic() + 300
    while not existing(tmp_path / "runs", "*/trials/*/params.json"):
        assert time.monotonic() < end and os.waitpid(pid, os.WNOHANG) == (0, 0), (tmp_path / "err").read_text()
        time.sleep(0.1)
    time.sleep(2)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    (folder,) = (tmp_path / "runs").glob("crl_tradeoff-*")
    err = (tmp_path / "err").read_text()
    assert "interrupted by SIGHUP; continue with\n" in err and f"--resume {folder.name}" in err and "Traceback" not in err
    runs = logged(f"sqlite:///{tmp_path}/mlflow.db", folder.name)
    assert {run.info.status for run in (runs.parent, *runs.children.values())} == {"KILLED"}
    assert not list(Path(ray_files).glob("ray/session_*"))
    shutil.rmtree(ray_files)
