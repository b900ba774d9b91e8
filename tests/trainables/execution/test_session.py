"""Tests of Ray's start on a machine where it cannot start. None of the cases gets as far as starting a process."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from environments import environment

from core.errors import InputError
from trainables.runs.preflight import check_address

LONG = "/tmp/" + "jobs-of-a-cluster/" * 6
CASES = {
    "no token": ({"RAY_AUTH_TOKEN_PATH": "/proc/token"}, ["cannot be opened or is empty: /proc/token", "unset it"]),
    "empty token": ({"RAY_AUTH_TOKEN_PATH": "/dev/null"}, ["cannot be opened or is empty: /dev/null", "unset it"]),
    "home": ({"HOME": "/proc/nobody"}, ["No such file or directory: /proc/nobody", "set HOME to a folder"]),
    "temporary folder": ({"RAY_TMPDIR": "/proc/tmp"}, ["No such file or directory: /proc/tmp", "set RAY_TMPDIR to a folder"]),
    "long path": ({"RAY_TMPDIR": LONG}, ["AF_UNIX path length cannot exceed 107 bytes", "set RAY_TMPDIR", "short path"]),
    "file as a folder": ({"RAY_TMPDIR": "/dev/null"}, ["/dev/null", "set RAY_TMPDIR to a folder"]),
}
"""Variables of the environment, and parts of the message, by name of the case.

Ray remembers a token, so the cases without one are first.
"""
SCRIPT = """
import json, os, sys
from core.errors import InputError
from trainables.execution import session
for name, variables in json.loads(sys.argv[1]).items():
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        session.start("")
    except InputError as error:
        print(json.dumps([name, str(error)]), flush=True)
    os.environ.clear()
    os.environ.update(before)
"""


@pytest.fixture(scope="module")
def started(tmp_path_factory) -> subprocess.CompletedProcess[str]:
    """A process of its own in which Ray cannot start, once for each case."""
    home = tmp_path_factory.mktemp("home")
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps({name: variables for name, (variables, _) in CASES.items()})],
        env=environment("RAY_", HOME=str(home), RAY_AUTH_MODE="token"), capture_output=True, text=True, timeout=200,
    )  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_reason_why_ray_cannot_start_is_one_line_with_its_fix(case, started):
    messages = dict(map(json.loads, started.stdout.splitlines()))
    message = messages[case]
    assert message.startswith("cannot start Ray on this machine: ") and "\n" not in message
    assert [part for part in CASES[case][1] if part not in message] == [], message


def test_ray_itself_prints_nothing(started):
    assert started.returncode == 0 and started.stderr == "" and len(started.stdout.splitlines()) == len(CASES)


def test_the_variable_that_names_a_dead_cluster_is_named(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    check_address("")  # Ray is started here, whatever the variable says
    with pytest.raises(InputError, match=r"no Ray cluster answers at RAY_ADDRESS=127\.0\.0\.1:9"):
        check_address("auto")
    monkeypatch.setenv("RAY_ADDRESS", "nowhere")
    with pytest.raises(InputError, match="RAY_ADDRESS='nowhere' is not HOST:PORT"):
        check_address("auto")


@pytest.mark.faults
def test_the_process_that_watches_ray_s_start_does_not_outlive_a_killed_driver():
    """It holds standard error, so this pipe is closed only when it has ended."""
    script = """
import os, time
from trainables.execution import session
session.WAITING_SECONDS = 0.3
with session._watched(2):
    time.sleep(1)
    os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == -9 and "still waiting: Ray's worker processes do not start" in done.stderr


@pytest.mark.faults
def test_an_interrupted_start_leaves_no_files_of_ray():
    """The signal arrives while Ray connects in native code, which Python interrupts when the connection is there."""
    script = """
import glob, os, signal, threading, time
from trainables.execution import session
from trainables.terminal import signals
def interrupt():
    while not glob.glob(os.environ["RAY_TMPDIR"] + "/ray/session_*/logs/python-core-driver*"):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)
signals.catch()
threading.Thread(target=interrupt, daemon=True).start()
try:
    session.start("")
except KeyboardInterrupt:
    print("interrupted")
"""
    with tempfile.TemporaryDirectory(prefix="r") as folder:
        done = subprocess.run([sys.executable, "-c", script], env=environment("RAY_", RAY_TMPDIR=folder),
                              capture_output=True, text=True, timeout=100)  # fmt: skip
        assert done.stdout == "interrupted\n", done.stderr
        assert not [path for path in Path(folder, "ray").glob("session_*") if path.is_dir()]
