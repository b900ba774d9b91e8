"""Ray listens on every interface. Whatever it is, a stranger without the token gets nothing from it."""

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
from growing import there
from listening import answers, beyond_loopback, is_head, processes

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]
ROOT = Path(__file__).resolve().parents[2]
JOIN = "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False); print('joined', len(ray.nodes()))"


@pytest.fixture
def place() -> Iterator[Path]:
    """A home of its own with a short name: sockets lie in it. What was started there ends with the test."""
    folder = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    yield folder
    for sign in (signal.SIGTERM, signal.SIGKILL):
        for pid in processes(f"RAY_TMPDIR={folder}"):
            try:
                os.kill(pid, sign)
            except ProcessLookupError:
                continue
        time.sleep(2)
    shutil.rmtree(folder, ignore_errors=True)


def surroundings(place: Path, **more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return inherited | {"HOME": str(place), "RAY_TMPDIR": str(place), "PATH": path} | more


def wait_for(ready: Callable[[], object], seconds: float = 200.0) -> None:
    until = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.3)


def strangers_get_nothing(place: Path, token: str) -> str:
    """The address of the cluster, which the token opens."""
    found = lambda: beyond_loopback(processes(f"RAY_TMPDIR={place}"))  # noqa: E731
    listeners = found()
    assert len(listeners) >= 3, listeners
    for address in listeners:
        for wrong in ("", "f" * 64):
            said = answers(address, wrong)
            gone = said <= {"UNAVAILABLE", "URLError"} and address not in found()  # an idle worker that Ray has ended
            assert gone or said in ({"UNAUTHENTICATED"}, {"401"}, {"403"}), (address, wrong, said)
    (gcs,) = (address for address in listeners if is_head(address, token))
    return gcs


def nobody_joins_without(place: Path, gcs: str, token: str) -> None:
    def join(**environment: str) -> str:
        elsewhere = surroundings(place, **environment) | {"HOME": str(place / "elsewhere")}
        del elsewhere["RAY_TMPDIR"]
        done = subprocess.run(
            [sys.executable, "-c", JOIN, gcs], env=elsewhere, cwd=place, capture_output=True, text=True, timeout=200
        )
        return done.stdout

    (place / "elsewhere").mkdir()
    assert "joined" not in join(RAY_AUTH_MODE="disabled")
    assert "joined" not in join(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="f" * 64)
    assert "joined 1" in join(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token)


def test_a_default_study_is_closed_to_strangers_and_its_token_to_other_users(place):
    (place / "work").mkdir()
    words = [sys.executable, ROOT / "studies/crl_tradeoff.py", "--trials", "5", "--set", "epochs=100000", "--no-confirm"]
    driver = subprocess.Popen(
        words, cwd=place / "work", env=surroundings(place), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    wait_for(lambda: driver.poll() is not None or there(place / "work/runs", "*/trials/*/params.json"))
    assert driver.poll() is None, driver.communicate()[0]
    file = place / ".ray/auth_token"
    assert file.stat().st_mode & 0o777 == 0o600
    token = file.read_text()
    assert len(token) == 64
    gcs = strangers_get_nothing(place, token)
    nobody_joins_without(place, gcs, token)
    driver.send_signal(signal.SIGTERM)
    out, _ = driver.communicate(timeout=100)
    assert driver.returncode == 130 and token not in out


def test_the_token_of_an_earlier_ray_is_made_private_and_kept(place, monkeypatch):
    from trainables.cluster import _keep_token_private

    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.setenv("HOME", str(place))
    file = place / ".ray/auth_token"
    file.parent.mkdir()
    file.write_text("a" * 64)
    file.chmod(0o644)
    _keep_token_private(create=True)
    assert file.read_text() == "a" * 64 and file.stat().st_mode & 0o777 == 0o600


def of_slurm() -> str:
    script = (ROOT / "infra/slurm/study.sbatch").read_text()
    (start,) = re.findall(r"^ray start --head(?:.*\\\n)*.*--block", script, re.MULTILINE)
    return start


def of_the_cloud() -> str:
    (start,) = (c for c in yaml.safe_load((ROOT / "infra/cloud/aws.yaml").read_text())["head_start_ray_commands"] if "--head" in c)
    start = re.sub(r"--autoscaling-config=\S+", "--block", start)  # there is no cloud here
    return start.replace("~/env/bin/ray", "ray").replace("--port=6379", "--port=0")


@pytest.mark.parametrize("recipe", [of_slurm, of_the_cloud])
def test_what_a_recipe_starts_is_closed_to_strangers(place, recipe):
    token, file = "0123456789abcdef" * 4, place / ".ray/auth_token"
    file.parent.mkdir()
    file.write_text(token)
    file.chmod(0o600)
    more = {"address": "127.0.0.1:0", "SLURM_CPUS_ON_NODE": "1"}
    more |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(file)} if recipe is of_slurm else {}
    log = place / "log"
    with log.open("w") as out:
        subprocess.Popen(["bash", "-c", recipe()], cwd=place, env=surroundings(place, **more), stdout=out, stderr=out)
    wait_for(lambda: "Ray runtime started" in log.read_text())
    nobody_joins_without(place, strangers_get_nothing(place, token), token)
    assert token not in log.read_text()


def test_without_a_token_the_cluster_of_a_recipe_does_not_start(place):
    done = subprocess.run(
        ["bash", "-c", of_the_cloud()], cwd=place, env=surroundings(place), capture_output=True, text=True, timeout=200
    )
    assert done.returncode != 0 and not beyond_loopback(processes(f"RAY_TMPDIR={place}"))
