"""What tests of faults break: a cluster of real nodes, a real tracking server, and drivers in processes of their own."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def wait_for(true: Callable[[], object], seconds: float, what: str) -> None:
    """Until it is true.

    Raises:
        TimeoutError: it never was.
    """
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            raise TimeoutError(what)
        time.sleep(0.05)


def descendants(pid: int) -> dict[int, str]:
    """The processes that a process has started, and theirs, with their titles."""
    parents, titles = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError, IndexError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                titles[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    found, new = {}, {pid}
    while new := {child for child, parent in parents.items() if parent in new}:
        found |= {child: titles[child] for child in new if child in titles}
    return found


def kill(pid: int) -> None:
    """SIGKILL, unless it is gone already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


class Machines:
    """A Ray cluster with token authentication: a head and some nodes, one CPU each."""

    def __init__(self, nodes: int):
        self.folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # short: sockets lie below it
        token = self.folder / "token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PYTEST_"))} | {
            "RAY_TMPDIR": str(self.folder), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "3", "RAY_USAGE_STATS_ENABLED": "0",
        }  # fmt: skip
        self.log = (self.folder / "nodes.log").open("w")
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("nodes.py"))],
            env=self.env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
        )  # fmt: skip
        self.address = self._answer()
        self.nodes = [self.add() for _ in range(nodes)]

    def _answer(self) -> str:
        assert self.process.stdout
        for line in self.process.stdout:  # Ray may print lines of its own
            words = line.split()
            if len(words) == 1 and (words[0].isdecimal() or ":" in words[0] or words[0] == "killed"):
                return words[0]
        raise AssertionError((self.folder / "nodes.log").read_text())

    def _ask(self, line: str) -> str:
        assert self.process.stdin
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self._answer()

    def add(self) -> int:
        """A node more; the id of its raylet."""
        return int(self._ask("add"))

    def kill_node(self, raylet: int) -> None:
        """As if it had lost power."""
        self._ask(f"kill {raylet}")
        self.nodes = [node for node in self.nodes if node != raylet]

    def workers(self, below: int | None = None) -> list[int]:
        """Processes that run a trial at the moment, on one node or on all."""
        return [pid for pid, title in descendants(below or self.process.pid).items() if is_trial(title)]

    def busy_node(self) -> int | None:
        """A node on which a trial runs; never the head."""
        return next((node for node in self.nodes if self.workers(node)), None)

    def close(self) -> None:
        """Stop all of it."""
        ours = descendants(self.process.pid)
        assert self.process.stdin
        self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(30)
        self.process.kill()
        for pid in ours:
            kill(pid)
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def is_trial(title: str) -> bool:
    """Whether a process with this title runs a trial of ours."""
    return title.startswith("ray::") and "train" in title


class Server:
    """An MLflow tracking server on SQLite that can be killed and started again."""

    def __init__(self, folder: Path):
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process = None
        self.start()

    def start(self) -> None:
        """Until it answers."""
        self.launch()
        wait_for(self.answers, 300, "the tracking server does not answer")

    def launch(self) -> None:
        """Start it, and do not wait."""
        log = (self.folder / "server.log").open("a")
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db",
                "--artifacts-destination", str(self.folder / "artifacts"), "--workers", "1", "--port", str(self.port),
            ],
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
            cwd=self.folder, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as reply:
                return reply.status == 200
        except OSError:
            return False

    def kill(self) -> None:
        """All its processes, at once."""
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@contextlib.contextmanager
def driver(*argv: str, log: Path, env: Mapping[str, str]) -> Iterator[subprocess.Popen]:
    """The real command line in a process of its own; killed if it is still there at the end."""
    with log.open("a") as out:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "studies/crl_tradeoff.py"), *argv],
            cwd=log.parent, env=dict(env), stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        kill(process.pid)
        process.wait()
