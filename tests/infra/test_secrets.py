"""A study with secrets in its URIs and its environment writes none of them anywhere, neither when it is killed nor when it ends."""

import io
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from environments import environment
from listeners import free_port
from planted import contents, files_below, forms, places
from postgres import running_postgres
from s3_server import Bucket, running_bucket
from study_runs import run_process, start, wait_until

from core.errors import InputError
from trainables.study.tracking_uri import shown
from trainables.tracking.client import check_tracking

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]
PASSWORD = "planted's/own pass:word@1"
"""Password of the database, with characters that must be percent-encoded in a URI."""
VARIABLES = {
    "AWS_ACCESS_KEY_ID": "AKIAPLANTEDKEYID", "AWS_SECRET_ACCESS_KEY": "planted/secret+access=key",
    "MLFLOW_TRACKING_USERNAME": "planted-user", "MLFLOW_TRACKING_PASSWORD": "planted-tracking-password",
    "MLFLOW_TRACKING_TOKEN": "planted-tracking-token",
}  # fmt: skip
SECRETS = (PASSWORD, *VARIABLES.values())
SMALL = ("--trials", "5", "--no-confirm", "--sampler", "random", "--concurrency", "1",
         "--set", "epochs=30", "net.width=4", "judge.steps=2")  # fmt: skip
"""Options of a study whose trials take some seconds."""


@pytest.fixture(scope="module")
def database() -> Iterator[dict[str, str]]:
    """Variables with which clients connect to an empty PostgreSQL database."""
    with running_postgres(PASSWORD) as variables:
        yield variables


@pytest.fixture
def bucket(monkeypatch) -> Iterator[Bucket]:
    """An empty bucket; this process has the credentials, too."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    with running_bucket("planted-bucket") as running:
        yield running


@pytest.fixture
def session() -> Iterator[Path]:
    """A folder for Ray's sessions; the path of a socket may have about a hundred characters."""
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def rows(variables: dict[str, str]) -> dict[str, bytes]:
    """The rows of all tables as text."""
    with psycopg.connect(
        host=variables["PGHOST"], port=variables["PGPORT"], user=variables["PGUSER"], dbname=variables["PGDATABASE"],
        password=PASSWORD,
    ) as connection:  # fmt: skip
        tables = [name for (name,) in connection.execute("select tablename from pg_tables where schemaname = 'public'")]
        return {name: str(connection.execute(f'select * from "{name}"').fetchall()).encode() for name in tables}


def test_every_form_of_a_secret_is_found():
    secret = SECRETS[0]
    for i, form in enumerate(forms(secret)):
        assert places([secret], {"file": b"x: " + form}) == [(secret, "file")], i
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("member", secret)
    assert secret.encode() in list(contents(zipped.getvalue()))[1]


def test_a_killed_and_resumed_study_writes_no_secret_of_its_uris_and_its_environment(database, bucket, session, tmp_path):
    """PostgreSQL with a password in the URI, storage and artifacts on S3 with keys in the environment."""
    uri = f"postgresql+psycopg://mlflow:{quote(PASSWORD, safe='')}@127.0.0.1:{database['PGPORT']}/postgres"
    where = ("--tracking-uri", uri, "--storage", bucket.uri("results"))
    env = environment("MLFLOW_", "PG", "AWS_", **VARIABLES) | {"RAY_TMPDIR": str(session), "HOME": str(tmp_path / "home")}
    (tmp_path / "home").mkdir()
    (tmp_path / "study").mkdir()
    log = tmp_path / "printed"

    def everything() -> dict[str, bytes]:
        return {**files_below(session, tmp_path), **bucket.files(), **rows(database)}

    driver = start(tmp_path / "study", *where, *SMALL, env=env)
    wait_until(lambda: any(name.endswith("00001/params.json") for name in bucket.files()), driver, 300)
    driver.kill()
    log.write_text(driver.communicate()[0])
    left = everything()
    assert any("/ray/" in name for name in left) and any(name.startswith(str(session)) for name in left)
    assert not places(SECRETS, left)

    (name,) = {path.split("/")[1] for path in bucket.files() if path.endswith("/plan.json")}
    resumed = start(tmp_path / "study", "--resume", name, *where, env=env)
    log.write_text(out := resumed.communicate(timeout=400)[0])
    assert resumed.returncode in (0, 1) and "writes did not reach MLflow" not in out, out
    left = everything()
    assert not places(SECRETS, left)
    location = "s3://planted-bucket/results/mlartifacts/crl_tradeoff"
    assert f"'{location}'" in left["experiments"].decode()
    artifacts = [path for path in left if path.startswith("results/mlartifacts/crl_tradeoff/")]
    assert any(path.endswith("/report.html") for path in artifacts) and any(path.endswith("/front.csv") for path in artifacts)


@pytest.mark.parametrize("how", ["PGPASSWORD", ".pgpass"])
def test_the_password_of_a_database_may_come_from_where_postgresql_looks_for_it(how, database, tmp_path, monkeypatch):
    uri = f"postgresql://mlflow@127.0.0.1:{database['PGPORT']}/postgres"
    assert shown(uri) == uri
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / ".pgpass"))
    with pytest.raises(InputError, match=f"--tracking-uri {uri} cannot be used"):
        check_tracking(uri, "s")
    if how == "PGPASSWORD":
        monkeypatch.setenv("PGPASSWORD", PASSWORD)
    else:
        (tmp_path / ".pgpass").write_text("*:*:*:*:" + PASSWORD.replace(":", "\\:") + "\n")
        (tmp_path / ".pgpass").chmod(0o600)
    check_tracking(uri, "s")


@pytest.mark.parametrize("uri, variable", [
    ("http://ann:planted@{}", "MLFLOW_TRACKING_PASSWORD"), ("https://planted@{}", "MLFLOW_TRACKING_PASSWORD"),
    ("http://{}/?token=planted", "MLFLOW_TRACKING_TOKEN"),
])  # fmt: skip
def test_a_login_in_the_address_of_a_server_is_refused(uri, variable, tmp_path):
    done = run_process(tmp_path, "--tracking-uri", uri.format(f"127.0.0.1:{free_port()}"))
    assert done.returncode == 2 and variable in done.stderr and "planted" not in done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 1 and not list(tmp_path.iterdir())
