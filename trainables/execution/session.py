"""Starting Ray on this machine or joining a cluster, with every failure in one line, and the folder of Ray's files."""

import contextlib
import logging
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import ray
import ray._private.worker as ray_worker
from ray.exceptions import AuthenticationError

from core.errors import InputError
from trainables.study.site import REPOSITORY
from trainables.terminal import signals

WAITING_SECONDS = 60.0
"""Time after which a study that waits for Ray prints why; each following interval is twice as long."""
_WATCHER = "import select, sys\nwhile not select.select([0], [], [], float(sys.argv[1]))[0]: print(sys.argv[2], flush=True)"
"""Prints a line at an interval until standard input is closed."""
_own: list[str] = []
"""Session directory of the Ray that this process started, unless it is kept."""


def start(address: str) -> None:
    """Join the cluster at an address, or start Ray on this machine if it is empty.

    Raises:
        InputError: that is not possible; the message says what to change.
    """
    try:
        _keep_token_private(create=not address)
        with signals.shielded(), _silence() as stderr, _watched(stderr):
            if address:  # the workers of a cluster receive our code; those of this machine have it installed
                code = {"working_dir": str(REPOSITORY), "excludes": ["/runs", "/data", ".git", ".venv"]}
                ray.init(address=address, runtime_env=code, logging_level=logging.ERROR, log_to_driver=False)
            else:
                ray.init(address="local", include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
                _own[:] = [session_directory()]
    except KeyboardInterrupt:
        _own[:] = [folder for folder in [session_directory()] if folder and not address]
        with _silence():
            stop()
        raise
    except (Exception, SystemExit) as error:
        with contextlib.suppress(Exception), _silence():
            ray.shutdown()
        what = f"join the Ray cluster at --address {address}" if address else "start Ray on this machine"
        raise InputError(f"cannot {what}: {_reason(error)}{_fix(error, address)}") from None


def stop() -> None:
    """Leave the cluster; the files of a Ray that was started here are removed unless `keep_logs` was called."""
    ray.shutdown()
    for folder in _own:
        shutil.rmtree(folder, ignore_errors=True)
        latest = Path(folder).with_name("session_latest")
        with contextlib.suppress(OSError):
            if latest.is_symlink() and not latest.exists():
                latest.unlink()
    _own.clear()


def session_directory() -> str:
    """The folder of Ray's files on this machine; empty if Ray is not running."""
    node = ray_worker._global_node
    return node.get_session_dir_path() if node else ""


def log_files() -> str:
    """The files in which Ray's processes write why they do not start."""
    return f"{session_directory()}/logs (raylet.out, worker-*.err)"


def keep_logs() -> str:
    """Keep Ray's files on this machine for an error to be found; returns the folder of the logs, or "" without Ray."""
    _own.clear()
    folder = session_directory()
    return folder and f"{folder}/logs"


def _reason(error: BaseException) -> str:
    """The first sentence of an error, or its type."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.strerror}: {error.filename}"
    text = " ".join(str(error).split())
    return text.split(". ")[0].rstrip(".") if text and not text.isdecimal() else type(error).__name__


def _fix(error: BaseException, address: str) -> str:
    """Say what to change, as the end of a message; empty if the error says it."""
    text, name = str(error), str(getattr(error, "filename", None) or "")
    if isinstance(error, AuthenticationError):
        if os.environ.get("RAY_AUTH_TOKEN_PATH"):
            return "; make RAY_AUTH_TOKEN_PATH the file with the cluster's token, or unset it to use ~/.ray/auth_token"
        return "; copy the cluster's token to ~/.ray/auth_token, or set RAY_AUTH_TOKEN_PATH to its file"
    if "AF_UNIX" in text:
        return "; set RAY_TMPDIR to a folder with a short path, such as /tmp/ray-$USER"
    at_home = name and Path(name).is_relative_to(os.path.expanduser("~")) and not name.startswith(_temporary_folder())
    if at_home or "home directory" in text:
        return "; Ray keeps its token below HOME: set HOME to a folder that can be written"
    if isinstance(error, OSError) and name:
        return "; Ray keeps its files in RAY_TMPDIR, TMPDIR or /tmp: set RAY_TMPDIR to a folder that can be written"
    if address:
        return ""
    return f"; see the newest session in {_temporary_folder()} for Ray's logs, and check variables named RAY_*"


def _temporary_folder() -> str:
    return str(Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir(), "ray"))


@contextlib.contextmanager
def _silence() -> Iterator[int]:
    """Discard what Ray and its processes write to standard output and error while they start; yield standard error itself."""
    saved = [(number, os.dup(number)) for number in (1, 2)]
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for number in (1, 2):
            os.dup2(null, number)
        yield saved[1][1]
    finally:
        for number, copy in saved:
            os.dup2(copy, number)
            os.close(copy)
        os.close(null)


@contextlib.contextmanager
def _watched(stderr: int) -> Iterator[None]:
    """Print why Ray's start takes long, from a process of its own: Ray waits for its first worker in native code with the GIL.

    That process ends with this one, also if this one is killed.
    """
    text = f"still waiting: Ray's worker processes do not start, for a reason in {_temporary_folder()}/session_latest/logs"
    words = [sys.executable, "-ISc", _WATCHER, str(WAITING_SECONDS), f"{text} (raylet.out, worker-*.err)"]
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(words, stdin=pipe, stdout=stderr, stderr=null, start_new_session=True):  # closes the pipe and waits
        yield


def _keep_token_private(create: bool) -> None:
    """Make Ray's token readable by its user alone before anything listens; Ray would create it readable by all users."""
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    token = Path(named or Path.home() / ".ray" / "auth_token")
    wanted = os.environ.get("RAY_AUTH_MODE", "token") == "token" and not os.environ.get("RAY_AUTH_TOKEN")
    with contextlib.suppress(OSError):  # another user's file, or another study created it first
        if token.is_file():
            token.chmod(0o600)
        elif create and wanted and not named:
            token.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=token.parent) as file:  # has mode 0600
                file.write(secrets.token_hex(32))
                file.flush()
                os.link(file.name, token)  # atomic
