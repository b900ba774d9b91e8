"""Ray listens on all interfaces: every port of it rejects clients without the token."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from environments import environment
from files import existing
from listeners import exposed_addresses, is_head, processes_with, replies
from study_runs import CRL, ROOT, start, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]
WRONG_TOKEN = "f" * 64
JOIN = "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False); print('joined', len(ray.nodes()))"
"""A program that joins the cluster at an address."""


@pytest.fixture
def home() -> Iterator[Path]:
    """A home directory with a short path, because Ray's sockets are below it; processes started with it end with the test."""
    folder = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    yield folder
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in processes_with(f"RAY_TMPDIR={folder}"):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        time.sleep(2)
    shutil.rmtree(folder, ignore_errors=True)


def environment_of(home: Path, **variables: str) -> dict[str, str]:
    """The environment of processes with this home directory."""
    return environment("RAY_", **({"HOME": str(home), "RAY_TMPDIR": str(home)} | variables))


def assert_every_port_requires_the_token(home: Path, token: str) -> str:
    """Call every exposed port of a cluster without its token and with a wrong one; returns the address of the head."""

    def exposed() -> list[str]:
        return exposed_addresses(processes_with(f"RAY_TMPDIR={home}"))

    addresses = exposed()
    assert len(addresses) >= 3, addresses
    for address in addresses:
        for other in ("", WRONG_TOKEN):
            codes = replies(address, other)
            closed = codes <= {"UNAVAILABLE", "URLError"} and address not in exposed()  # Ray has ended an idle worker
            assert closed or codes in ({"UNAUTHENTICATED"}, {"401"}, {"403"}), (address, other, codes)
    (head,) = (address for address in addresses if is_head(address, token))
    return head


def assert_joining_requires_the_token(home: Path, head: str, token: str) -> None:
    """Join a cluster as a user with another home directory, without its token, with a wrong one, and with the token."""
    other_home = home / "other"
    other_home.mkdir()

    def join(**variables: str) -> str:
        env = environment("RAY_", HOME=str(other_home), **variables)
        command = [sys.executable, "-c", JOIN, head]
        return subprocess.run(command, env=env, cwd=home, capture_output=True, text=True, timeout=200).stdout

    assert "joined" not in join(RAY_AUTH_MODE="disabled")
    assert "joined" not in join(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=WRONG_TOKEN)
    assert "joined 1" in join(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token)


def test_a_study_on_one_machine_requires_a_token_that_only_its_user_can_read_and_sigterm_interrupts_it(home):
    cwd = home / "work"
    cwd.mkdir()
    driver = start(cwd, "--trials", "5", "--set", "epochs=100000", "--no-confirm", env=environment_of(home))
    wait_until(lambda: existing(cwd, "runs/*/trials/*/params.json"), driver, 200)
    file = home / ".ray/auth_token"
    assert file.stat().st_mode & 0o777 == 0o600
    token = file.read_text()
    assert len(token) == 64
    head = assert_every_port_requires_the_token(home, token)
    assert_joining_requires_the_token(home, head, token)
    driver.send_signal(signal.SIGTERM)
    out, _ = driver.communicate(timeout=100)
    assert driver.returncode == 130 and token not in out
    (plan,) = existing(cwd, "runs/*/plan.json")
    assert f"{CRL} --resume {plan.parent.name}" in out, out


def test_an_existing_token_is_kept_and_made_readable_by_its_user_alone(home, monkeypatch):
    from trainables.execution.session import _keep_token_private

    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.setenv("HOME", str(home))
    file = home / ".ray/auth_token"
    file.parent.mkdir()
    file.write_text("a" * 64)
    file.chmod(0o644)
    _keep_token_private(create=True)
    assert file.read_text() == "a" * 64 and file.stat().st_mode & 0o777 == 0o600


def of_slurm() -> str:
    """The command that starts the head in the recipe for Slurm."""
    script = (ROOT / "infra/slurm/study.sbatch").read_text()
    (start,) = re.findall(r"^ray start --head(?:.*\\\n)*.*--block", script, re.MULTILINE)
    return start


def of_the_cloud() -> str:
    """The command that starts the head in the recipe for AWS, without its autoscaler, which needs AWS."""
    (start,) = (c for c in yaml.safe_load((ROOT / "infra/cloud/aws.yaml").read_text())["head_start_ray_commands"] if "--head" in c)
    start = re.sub(r"--autoscaling-config=\S+", "--block", start)
    return start.replace("~/env/bin/ray", "ray").replace("--port=6379", "--port=0")


@pytest.mark.parametrize("recipe", [of_slurm, of_the_cloud])
def test_a_cluster_of_a_recipe_requires_its_token(home, recipe: Callable[[], str]):
    token, file = "0123456789abcdef" * 4, home / ".ray/auth_token"
    file.parent.mkdir()
    file.write_text(token)
    file.chmod(0o600)
    variables = {"address": "127.0.0.1:0", "SLURM_CPUS_ON_NODE": "1"}
    variables |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(file)} if recipe is of_slurm else {}
    log = home / "log"
    with log.open("w") as out:
        head = subprocess.Popen(["bash", "-c", recipe()], cwd=home, env=environment_of(home, **variables), stdout=out, stderr=out)
    wait_until(lambda: "Ray runtime started" in log.read_text(), head, 200, log)
    assert_joining_requires_the_token(home, assert_every_port_requires_the_token(home, token), token)
    assert token not in log.read_text()


def test_without_a_token_the_cluster_of_a_recipe_does_not_start(home):
    done = subprocess.run(
        ["bash", "-c", of_the_cloud()], cwd=home, env=environment_of(home), capture_output=True, text=True, timeout=200
    )
    assert done.returncode != 0 and not exposed_addresses(processes_with(f"RAY_TMPDIR={home}"))
