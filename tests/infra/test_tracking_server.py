"""MLflow as `infra/mlflow/serve.sh` runs it, on a real PostgreSQL: who may write, where files go, two studies at once."""

import csv
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from trainables.tracking import front_from_runs

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]
ROOT = Path(__file__).resolve().parents[2]
ADMIN, DATABASE, FLASK = "the-admin's-own-password", "the_database's/own:password", "the-key-of-the-sessions"
PEOPLE = {"ann": "ann's-own-password", "bob": "bob's-own-password"}
QUICK = ["--trials", "5", "--no-confirm", "--sampler", "random", "--cpus-per-worker", "0.5", "--concurrency", "1",
         "--set", "epochs=4", "net.width=4", "judge.steps=2"]  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def postgres() -> Iterator[dict[str, str]]:
    """The environment with which clients find an empty database."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    binaries = found[-1].parent if found else Path(shutil.which("initdb") or "/nowhere/initdb").parent
    if not (binaries / "initdb").exists():
        pytest.skip("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    (folder / "password").write_text(DATABASE)
    as_user = []
    if os.geteuid() == 0:  # it refuses to be run by root
        as_user = ["runuser", "-u", "postgres", "--"]
        for path in (folder, folder / "password"):
            shutil.chown(path, "postgres")

    def run(program: str, *words: str) -> None:
        command = [*as_user, str(binaries / program), "-D", str(folder / "data"), *words]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, timeout=100)

    port = free_port()
    run("initdb", "-U", "mlflow", "-E", "UTF8", "--no-locale", "--auth=scram-sha-256", f"--pwfile={folder}/password")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder} -c fsync=off"
    run("pg_ctl", "-o", options, "-l", str(folder / "log"), "-w", "start")
    yield {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "mlflow", "PGDATABASE": "postgres"}
    run("pg_ctl", "-m", "immediate", "stop")
    shutil.rmtree(folder)


@dataclass(frozen=True)
class Server:
    uri: str
    process: subprocess.Popen
    log: Path
    artifacts: Path


@pytest.fixture(scope="module")
def server(postgres, tmp_path_factory) -> Iterator[Server]:
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    secrets, log = folder / "secrets", folder / "log"
    secrets.mkdir(mode=0o700)
    for name, content in (("db_password", DATABASE), ("admin_password", ADMIN), ("flask_key", FLASK)):
        (secrets / name).write_text(f"{content}\n")
        (secrets / name).chmod(0o600)
    words = [ROOT / "infra/mlflow/serve.sh", secrets, folder / "artifacts", "--port", str(port), "--workers", "2"]
    with log.open("w") as out:
        process = subprocess.Popen(words, cwd=folder, env=surroundings() | postgres, stdout=out, stderr=out, start_new_session=True)
    uri, until = f"http://127.0.0.1:{port}", time.monotonic() + 180
    while status(f"{uri}/health") != 200:
        assert process.poll() is None and time.monotonic() < until, log.read_text()
        time.sleep(0.5)
    for name, password in PEOPLE.items():
        body = f'{{"username": "{name}", "password": "{password}"}}'
        assert status(f"{uri}/api/2.0/mlflow/users/create", body, ("admin", ADMIN)) == 200
    yield Server(uri, process, log, folder / "artifacts")
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(timeout=60)


def surroundings(**more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PG"))}
    return inherited | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"} | more


def as_person(name: str) -> dict[str, str]:
    return {"MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": PEOPLE[name]}


def status(url: str, body: str | None = None, login: tuple[str, str] | None = None, method: str | None = None) -> int:
    import base64

    request = urllib.request.Request(url, body.encode() if body else None, {"Content-Type": "application/json"}, method=method)
    if login:
        request.add_header("Authorization", "Basic " + base64.b64encode(":".join(login).encode()).decode())
    try:
        return urllib.request.urlopen(request, timeout=30).status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@pytest.fixture
def ann(server, monkeypatch) -> MlflowClient:
    for name, value in as_person("ann").items():
        monkeypatch.setenv(name, value)
    return MlflowClient(server.uri)


@pytest.mark.parametrize("login", [
    None, ("ann", "wrong"), ("nobody", "wrong"), ("admin", "password"), ("admin", "password1234"), ("admin", ""),
])  # fmt: skip
def test_without_the_right_password_nothing_is_read_or_written(server, login):
    api = f"{server.uri}/api/2.0"
    assert status(f"{api}/mlflow/experiments/create", '{"name": "intruder"}', login) == 401
    assert status(f"{api}/mlflow/experiments/search?max_results=5", None, login) == 401
    assert status(f"{api}/mlflow-artifacts/artifacts/x.txt", "text", login, "PUT") == 401
    assert status(f"{api}/mlflow-artifacts/artifacts?path=", None, login) == 401
    assert not list(server.artifacts.rglob("x.txt"))


def test_a_client_takes_the_login_from_the_environment(server, ann, monkeypatch):
    made = ann.create_experiment("by ann")
    assert ann.get_experiment(made).name == "by ann"
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    with pytest.raises(MlflowException, match="401"):
        MlflowClient(server.uri).get_experiment(made)


def test_artifacts_go_through_the_server_and_come_back(server, ann, tmp_path):
    run = ann.create_run(ann.create_experiment("with files"))
    assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
    ann.log_text(run.info.run_id, "what was sent", "folder/file.txt")
    (stored,) = server.artifacts.rglob("file.txt")
    assert stored.read_text() == "what was sent"
    assert Path(ann.download_artifacts(run.info.run_id, "folder/file.txt", str(tmp_path))).read_text() == "what was sent"


def test_the_server_is_on_loopback_and_shows_no_secret(server):
    from listening import beyond_loopback, processes

    group = processes("PGUSER=mlflow")
    assert server.process.pid in group and not beyond_loopback(group)
    shown = b"".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in group) + server.log.read_bytes()
    assert not [secret for secret in (ADMIN, DATABASE, FLASK, *PEOPLE.values()) if secret.encode() in shown]


def study(cwd: Path, uri: str, *words: str, script: str = "crl_tradeoff", **environment: str) -> subprocess.Popen[str]:
    cwd.mkdir()
    command = [sys.executable, str(ROOT / f"studies/{script}.py"), "--tracking-uri", uri, *QUICK, *words]
    return subprocess.Popen(
        command, cwd=cwd, env=surroundings(**environment), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def shown_by(folder: Path, client: MlflowClient, run_ids: list[str]) -> str:
    """All that a study has written: its files, and its runs' parameters and tags."""
    files = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    data = [client.get_run(run_id).data for run_id in run_ids]
    return files.decode(errors="replace") + str([(d.params, d.tags) for d in data])


def test_two_people_run_the_same_study_at_once_and_nothing_is_mixed_or_lost(server, ann, tmp_path):
    both = {name: study(tmp_path / name, server.uri, "--seed", str(seed), **as_person(name)) for seed, name in enumerate(PEOPLE)}
    outputs = {name: driver.communicate(timeout=400)[0] for name, driver in both.items()}
    assert [driver.returncode for driver in both.values()] == [0, 0], outputs
    experiment = ann.get_experiment_by_name("crl_tradeoff")
    runs = ann.search_runs([experiment.experiment_id], max_results=100)
    assert len(runs) == 12
    for name, out in outputs.items():
        (folder,) = (tmp_path / name / "runs").glob("crl_tradeoff-*")
        (parent,) = (run for run in runs if run.info.run_name == folder.name)
        children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
        assert [run.info.status for run in (parent, *children)] == ["FINISHED"] * 6
        assert sorted(int(run.data.tags["trilemma.trial"]) for run in children) == list(range(5))
        assert {run.data.tags["trilemma.name"] for run in children} == {folder.name}
        for run in children:
            assert sorted(m.step for m in ann.get_metric_history(run.info.run_id, "epoch/loss")) == [1, 2, 3, 4]
            assert len(ann.get_metric_history(run.info.run_id, "mia_auc")) == 1
        rebuilt = {row.pop("trial"): row for row in front_from_runs(server.uri, folder.name)}
        rows = list(csv.DictReader((folder / "front.csv").read_text().splitlines()))
        metrics = ("accuracy", "robust_accuracy", "mia_auc")
        assert rebuilt and rebuilt == {int(row["trial"]): {m: float(row[m]) for m in metrics} for row in rows}
        logged = Path(ann.download_artifacts(parent.info.run_id, "front.csv", str(tmp_path / name))).read_text()
        assert logged == (folder / "front.csv").read_text()
        everything = out + shown_by(folder, ann, [parent.info.run_id, *(run.info.run_id for run in children)])
        assert not [password for password in PEOPLE.values() if password in everything]


def test_a_study_without_the_login_is_refused_before_anything_starts(server, tmp_path):
    driver = study(tmp_path / "study", server.uri, MLFLOW_TRACKING_USERNAME="ann", MLFLOW_TRACKING_PASSWORD="wrong-one")
    out, _ = driver.communicate(timeout=100)
    assert driver.returncode == 2 and "401" in out and "wrong-one" not in out and len(out.splitlines()) == 1, out
    assert not list((tmp_path / "study").rglob("plan.json"))


def test_a_study_on_the_database_itself_prints_its_password_nowhere(server, postgres, tmp_path):
    """The same database, without the server: what `--tracking-uri postgresql://...` is for."""
    quoted = "the_database%27s%2Fown%3Apassword"
    uri = f"postgresql://mlflow:{quoted}@127.0.0.1:{postgres['PGPORT']}/postgres"
    driver = study(tmp_path / "study", uri, script="bpfc_tradeoff")
    out, _ = driver.communicate(timeout=400)
    assert driver.returncode in (0, 1), out
    (folder,) = (tmp_path / "study/runs").glob("bpfc_tradeoff-*")
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("bpfc_tradeoff")
    runs = [run.info.run_id for run in client.search_runs([experiment.experiment_id])]
    everything = out + shown_by(folder, client, runs)
    assert len(runs) == 6 and quoted not in everything and DATABASE not in everything
