"""MLflow as `infra/mlflow/serve.sh` runs it, on PostgreSQL: logins, artifacts, secrets, and two studies at the same time."""

import base64
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from environments import environment
from files import front
from listeners import exposed_addresses, free_port, processes_with
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow_runs import Logged, logged
from postgres import running_postgres
from study_runs import CRL, ROOT, start, wait_until

from core.errors import InputError
from core.redaction import redacted
from trainables.tracking.client import check_tracking, front_from_runs

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]
ADMIN, DATABASE, FLASK = "the-admin's-own-password", "the_database's/own:password", "the-key-of-the-sessions"
"""Password of the administrator, password of the database, and key of browser sessions."""
USERS = {"ann": "ann's-own-password", "bob": "bob's-own-password"}
"""Passwords of users by name."""
SMALL = ("--trials", "5", "--no-confirm", "--sampler", "random", "--cpus-per-worker", "0.5", "--concurrency", "1",
         "--set", "epochs=4", "net.width=4", "judge.steps=2")  # fmt: skip
"""Options of a study."""


@pytest.fixture(scope="module")
def postgres() -> Iterator[dict[str, str]]:
    """Variables with which clients connect to an empty PostgreSQL database."""
    with running_postgres(DATABASE) as variables:
        yield variables


@dataclass(frozen=True)
class Server:
    """The tracking server, its main process, and its files."""

    uri: str
    process: subprocess.Popen
    log: Path
    artifacts: Path


@pytest.fixture(scope="module")
def server(postgres, tmp_path_factory) -> Iterator[Server]:
    """The tracking server on PostgreSQL, with an account for each of `USERS`."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    secrets, log = folder / "secrets", folder / "log"
    secrets.mkdir(mode=0o700)
    for name, content in (("db_password", DATABASE), ("admin_password", ADMIN), ("flask_key", FLASK)):
        (secrets / name).write_text(f"{content}\n")
        (secrets / name).chmod(0o600)
    command = [ROOT / "infra/mlflow/serve.sh", secrets, folder / "artifacts", "--port", str(port), "--workers", "2"]
    env = environment("MLFLOW_", "PG", **postgres)
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=out, stderr=out, start_new_session=True)
    uri = f"http://127.0.0.1:{port}"
    wait_until(lambda: status(f"{uri}/health") == 200, process, 180, log)
    for name, password in USERS.items():
        body = f'{{"username": "{name}", "password": "{password}"}}'
        assert status(f"{uri}/api/2.0/mlflow/users/create", body, ("admin", ADMIN)) == 200
    yield Server(uri, process, log, folder / "artifacts")
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(timeout=60)


def credentials(user: str) -> dict[str, str]:
    """Variables with which MLflow's client logs in as a user."""
    return {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": USERS[user]}


def status(url: str, body: str | None = None, login: tuple[str, str] | None = None, method: str | None = None) -> int:
    """The HTTP status of the reply to a request; 0 if there is none."""
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
    """A client of the server that is logged in as ann."""
    for name, value in credentials("ann").items():
        monkeypatch.setenv(name, value)
    return MlflowClient(server.uri)


@pytest.mark.parametrize("login", [
    None, ("ann", "wrong"), ("nobody", "wrong"), ("admin", "password"), ("admin", "password1234"), ("admin", ""),
])  # fmt: skip
def test_requests_without_a_valid_login_can_neither_read_nor_write(server, login):
    api = f"{server.uri}/api/2.0"
    assert status(f"{api}/mlflow/experiments/create", '{"name": "intruder"}', login) == 401
    assert status(f"{api}/mlflow/experiments/search?max_results=5", None, login) == 401
    assert status(f"{api}/mlflow-artifacts/artifacts/x.txt", "text", login, "PUT") == 401
    assert status(f"{api}/mlflow-artifacts/artifacts?path=", None, login) == 401
    assert not list(server.artifacts.rglob("x.txt"))


def test_a_client_logs_in_with_the_credentials_of_its_environment(server, ann, monkeypatch):
    experiment = ann.create_experiment("by ann")
    assert ann.get_experiment(experiment).name == "by ann"
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    with pytest.raises(MlflowException, match="401"):
        MlflowClient(server.uri).get_experiment(experiment)


def test_artifacts_are_stored_by_the_server_and_can_be_downloaded(server, ann, tmp_path):
    run = ann.create_run(ann.create_experiment("with files"))
    assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
    ann.log_text(run.info.run_id, "text of the artifact", "folder/file.txt")
    (stored,) = server.artifacts.rglob("file.txt")
    assert stored.read_text() == "text of the artifact"
    downloaded = ann.download_artifacts(run.info.run_id, "folder/file.txt", str(tmp_path))
    assert Path(downloaded).read_text() == "text of the artifact"


def test_the_server_listens_on_the_loopback_interface_only_and_shows_no_secret(server):
    pids = processes_with("PGUSER=mlflow")
    assert server.process.pid in pids and not exposed_addresses(pids)
    visible = b"".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids) + server.log.read_bytes()
    assert not [secret for secret in (ADMIN, DATABASE, FLASK, *USERS.values()) if secret.encode() in visible]


def start_study(cwd: Path, uri: str, *options: str, script: str = CRL, **variables: str) -> subprocess.Popen[str]:
    """Start a small study in a new directory."""
    cwd.mkdir()
    return start(cwd, "--tracking-uri", uri, *SMALL, *options, script=script, env=environment("MLFLOW_", "PG", **variables))


def written(folder: Path, runs: Logged) -> str:
    """Everything that a study has written: the contents of its files, and parameters and tags of its runs."""
    files = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    data = [run.data for run in (runs.parent, *runs.children.values())]
    return files.decode(errors="replace") + str([(d.params, d.tags) for d in data])


def test_two_users_run_the_same_study_at_the_same_time_and_nothing_is_mixed_or_lost(server, ann, tmp_path):
    drivers = {
        user: start_study(tmp_path / user, server.uri, "--seed", str(seed), **credentials(user)) for seed, user in enumerate(USERS)
    }
    outputs = {user: driver.communicate(timeout=400)[0] for user, driver in drivers.items()}
    assert [driver.returncode for driver in drivers.values()] == [0, 0], outputs
    experiment = ann.get_experiment_by_name("crl_tradeoff")
    assert len(ann.search_runs([experiment.experiment_id], max_results=100)) == 12
    for user, out in outputs.items():
        (folder,) = (tmp_path / user / "runs").glob("crl_tradeoff-*")
        runs = logged(server.uri, folder.name)
        parent_id = runs.parent.info.run_id
        assert runs.parent.info.run_name == folder.name and runs.parent.info.experiment_id == experiment.experiment_id
        assert sorted(runs.children) == list(range(5))
        assert [run.info.status for run in (runs.parent, *runs.children.values())] == ["FINISHED"] * 6
        for run in runs.children.values():
            assert run.data.tags["mlflow.parentRunId"] == parent_id
            assert sorted(m.step for m in ann.get_metric_history(run.info.run_id, "epoch/loss")) == [1, 2, 3, 4]
            assert len(ann.get_metric_history(run.info.run_id, "mia_auc")) == 1
        rebuilt = {row.pop("trial"): row for row in front_from_runs(server.uri, folder.name)}
        assert rebuilt and rebuilt == front(folder / "front.csv")
        artifact = Path(ann.download_artifacts(parent_id, "front.csv", str(tmp_path / user)))
        assert artifact.read_text() == (folder / "front.csv").read_text()
        everything = out + written(folder, runs)
        assert not [password for password in USERS.values() if password in everything]


def test_a_study_with_a_wrong_password_is_rejected_before_anything_starts(server, tmp_path):
    driver = start_study(tmp_path / "study", server.uri, MLFLOW_TRACKING_USERNAME="ann", MLFLOW_TRACKING_PASSWORD="wrong-one")
    out, _ = driver.communicate(timeout=100)
    assert driver.returncode == 2 and "401" in out and "wrong-one" not in out and len(out.splitlines()) == 1, out
    assert not list((tmp_path / "study").rglob("plan.json"))


@pytest.mark.timeout(60)  # MLflow would try again for minutes
@pytest.mark.parametrize(("login", "database", "reason"), [
    ("mlflow:wrong-one", "postgres", 'password authentication failed for user "mlflow"'),
    ("nobody:wrong-one", "postgres", 'password authentication failed for user "nobody"'),
    ("mlflow:{password}", "no_such", 'database "no_such" does not exist'),
    ("mlflow:{password}", "postgres?sslmode=require", "server does not support SSL, but SSL was required"),
])  # fmt: skip
def test_a_login_that_the_database_rejects_is_refused_in_one_line_before_mlflow_is_asked(postgres, login, database, reason):
    uri = f"postgresql://{login.format(password=quote(DATABASE, safe=''))}@127.0.0.1:{postgres['PGPORT']}/{database}"
    with pytest.raises(InputError) as error:
        check_tracking(uri, "a study")
    assert reason in str(error.value) and "\n" not in str(error.value) and "wrong-one" not in redacted(str(error.value))


def test_a_study_that_logs_directly_to_the_database_shows_its_password_nowhere(server, postgres, tmp_path):
    """The server has created the tables that `--tracking-uri postgresql://...` uses here."""
    quoted = "the_database%27s%2Fown%3Apassword"
    uri = f"postgresql://mlflow:{quoted}@127.0.0.1:{postgres['PGPORT']}/postgres"
    driver = start_study(tmp_path / "study", uri, script="studies/bpfc_tradeoff.py")
    out, _ = driver.communicate(timeout=400)
    assert driver.returncode in (0, 1), out
    (folder,) = (tmp_path / "study/runs").glob("bpfc_tradeoff-*")
    runs = logged(uri, folder.name)
    everything = out + written(folder, runs)
    assert len(runs.children) == 5 and len(runs.client.search_runs([runs.parent.info.experiment_id])) == 6
    assert quoted not in everything and DATABASE not in everything
