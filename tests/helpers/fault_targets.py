"""Processes that tests of faults kill: nodes of a Ray cluster and their workers, a tracking server, and drivers of studies."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from environments import environment
from listeners import free_port
from study_runs import CRL, command, wait_until


def descendants(pid: int) -> dict[int, str]:
    """Titles of all processes below a process, by ID."""
    parents, titles = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError, IndexError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                titles[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    below, generation = {}, {pid}
    while generation := {child for child, parent in parents.items() if parent in generation}:
        below |= {child: titles[child] for child in generation if child in titles}
    return below


def kill(pid: int) -> None:
    """Send SIGKILL, unless the process has ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


class Cluster:
    """A Ray cluster with token authentication: a head and several nodes, one CPU core each."""

    def __init__(self, nodes: int):
        self.folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # short, because sockets are below it
        token = self.folder / "token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        self.environment = environment(
            "RAY_", "PYTEST_", RAY_TMPDIR=str(self.folder), RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(token),
            RAY_health_check_period_ms="1000", RAY_health_check_failure_threshold="3", RAY_USAGE_STATS_ENABLED="0",
        )  # fmt: skip
        """Environment of its processes and of drivers that join it."""
        self.log = (self.folder / "nodes.log").open("w")
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("nodes.py"))],
            env=self.environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
        )  # fmt: skip
        self.address = self._reply()
        self.nodes: list[int] = []
        """Process IDs of the nodes' raylets, without the head's."""
        for _ in range(nodes):
            self.add_node()

    def _reply(self) -> str:
        assert self.process.stdout
        for line in self.process.stdout:  # Ray may print other lines
            words = line.split()
            if len(words) == 1 and (words[0].isdecimal() or ":" in words[0] or words[0] == "killed"):
                return words[0]
        raise AssertionError((self.folder / "nodes.log").read_text())

    def _request(self, line: str) -> str:
        assert self.process.stdin
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self._reply()

    def add_node(self) -> int:
        """Start another node; returns the process ID of its raylet."""
        self.nodes.append(int(self._request("add")))
        return self.nodes[-1]

    def kill_node(self, raylet: int) -> None:
        """Kill a node as if its machine had lost power."""
        self._request(f"kill {raylet}")
        self.nodes.remove(raylet)

    def workers(self, raylet: int | None = None) -> list[int]:
        """Process IDs of the workers that run a trial at the moment, on one node or on all."""
        return [pid for pid, title in descendants(raylet or self.process.pid).items() if runs_trial(title)]

    def busy_node(self, excluded: Collection[int] = ()) -> int | None:
        """A node on which a trial runs; never the head."""
        return next((node for node in self.nodes if node not in excluded and self.workers(node)), None)

    def close(self) -> None:
        """Stop all processes of the cluster."""
        pids = descendants(self.process.pid)
        assert self.process.stdin
        self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(30)
        self.process.kill()
        for pid in pids:
            kill(pid)
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def runs_trial(title: str) -> bool:
    """Whether a process with this title runs a trial."""
    return title.startswith("ray::") and "train" in title


class TrackingServer:
    """An MLflow tracking server on SQLite that can be killed and started again."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.database = folder / "mlflow.db"
        self.log = folder / "server.log"
        self.process: subprocess.Popen | None = None
        self.start()

    def start(self) -> None:
        """Start the server and wait until it replies."""
        wait_until(self.is_up, self.launch(), 300, self.log)

    def launch(self) -> subprocess.Popen:
        """Start the server without waiting for it."""
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{self.database}",
                    "--artifacts-destination", str(self.folder / "artifacts"), "--workers", "1", "--port", str(self.port),
                ],
                env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
                cwd=self.folder, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        return self.process

    def is_up(self) -> bool:
        """Whether the server replies."""
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as reply:
                return reply.status == 200
        except OSError:
            return False

    def kill(self) -> None:
        """Kill all processes of the server."""
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Driver:
    """The driver of a study in a process of its own, which is killed at the end of a `with` block."""

    def __init__(self, cwd: Path, *argv: str, env: Mapping[str, str], log: str):
        self.log = cwd / log
        """File of its output, which is appended to that of earlier drivers."""
        with self.log.open("a") as out:
            self.process = subprocess.Popen(
                command(CRL, *argv), cwd=cwd, env=dict(env), stdout=out, stderr=out, start_new_session=True
            )  # fmt: skip

    def __enter__(self) -> "Driver":
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()

    @property
    def output(self) -> str:
        """Output of the driver so far."""
        return self.log.read_text()

    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self.process.poll() is not None

    def wait_until(self, condition: Callable[[], object], seconds: float = 300) -> None:
        """Wait for a condition; fails with the output if the driver ends earlier."""
        wait_until(condition, self.process, seconds, self.log)

    def wait_for_exit(self, seconds: float = 300) -> int:
        """Wait for the end of the process; returns its exit code."""
        return self.process.wait(seconds)

    def succeed(self) -> None:
        """Wait for the end of the study; fails with the output if its exit code is not 0."""
        assert self.wait_for_exit(600) == 0, self.output

    def kill(self) -> None:
        """Kill the process."""
        kill(self.process.pid)
        self.process.wait()


@dataclass(frozen=True)
class ClusterStudy:
    """A study in a directory that runs on a cluster and is logged to a tracking server."""

    cwd: Path
    cluster: Cluster
    server: TrackingServer

    def start(self, trials: int, epochs: int, *options: str) -> Driver:
        """Start the study; its suggestion n depends on nothing but the seed and n."""
        return self._driver(
            "--sampler", "random", "--no-confirm", "--trials", str(trials), *options,
            "--set", "net.width=4", "batch_size=128", "judge.steps=2", "judge.images=64", f"epochs={epochs}",
        )  # fmt: skip

    def resume(self, log: str = "log") -> Driver:
        """Resume the study by a new driver."""
        return self._driver("--resume", self.folder.name, log=log)

    def _driver(self, *argv: str, log: str = "log") -> Driver:
        site = ["--address", self.cluster.address, "--storage", str(self.storage), "--tracking-uri", self.server.uri]
        return Driver(self.cwd, *argv, *site, env=self.cluster.environment, log=log)

    @property
    def storage(self) -> Path:
        """Folder above the study's."""
        return self.cwd / "runs"

    @property
    def folder(self) -> Path:
        """Folder of the study."""
        (plan,) = self.storage.glob("*/plan.json")
        return plan.parent
