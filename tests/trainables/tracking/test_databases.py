"""Tests of tracking stores that cannot be used, and of the advice in their messages."""

import contextlib
import importlib.util
import subprocess
import tempfile
from pathlib import Path

import pytest

from core.errors import InputError
from core.redaction import redacted
from trainables.storage.store import Store
from trainables.terminal.closing import undelivered_line
from trainables.tracking.artifacts import check_artifacts
from trainables.tracking.client import check_tracking, connect
from trainables.tracking.databases import check_login
from trainables.tracking.writes import log_file


@pytest.mark.parametrize(("uri", "module", "advice"), [
    ("mysql://me@h/x", "MySQLdb", "pip install 'pymysql' and use --tracking-uri mysql+pymysql://me@h/x"),
    ("mysql+pymysql://me@h/x", "pymysql", "pip install 'pymysql' and use --tracking-uri mysql+pymysql://me@h/x"),
    ("mssql://me@h/x", "pyodbc", "pip install 'pyodbc' and use --tracking-uri mssql+pyodbc://me@h/x"),
    ("postgresql+psycopg2://me@h/x", "psycopg2", "pip install 'psycopg[binary]' and use --tracking-uri postgresql+psycopg://me@h/x"),
])  # fmt: skip
def test_a_database_without_its_driver_says_what_to_install_and_how_to_name_it(uri, module, advice):
    if importlib.util.find_spec(module):
        pytest.skip(f"{module} is installed")
    with pytest.raises(InputError) as error:
        check_login(uri)
    assert f"the driver {module} is not installed" in str(error.value) and advice in str(error.value)


def test_an_unknown_driver_is_refused_with_one_that_works():
    with pytest.raises(InputError, match=r"unknown driver; use mysql\+pymysql://"):
        check_login("mysql+turbo://me@h/x")


@pytest.mark.parametrize("uri", ["mysql+turbo://me@h/x?password=S3 CRET", "postgresql+psycopg://127.0.0.1:1/x?password=S3 CRET"])
def test_a_message_contains_no_part_of_a_password_with_a_space(uri):
    with pytest.raises(InputError) as error:
        check_login(uri)
    assert "CRET" not in redacted(str(error.value))


def test_artifacts_in_object_storage_need_a_package(tmp_path):
    with contextlib.suppress(ImportError):
        import google.cloud.storage  # noqa: F401

        pytest.skip("google-cloud-storage is installed")
    with pytest.raises(InputError, match="pip install google-cloud-storage"):
        check_artifacts(f"sqlite:///{tmp_path}/mlflow.db", "a study", Store("gs://bucket/x"))


@pytest.mark.parametrize("file", ["mlflow.db", "x%2Fy?it's.db"])
def test_the_printed_command_restores_a_deleted_experiment(file, tmp_path):
    uri = f"sqlite:///{tmp_path}/{file}"
    client = connect(uri)
    experiment = client.create_experiment("a study", str(tmp_path))
    client.delete_experiment(experiment)
    with pytest.raises(InputError, match="was deleted; restore it with") as error:
        check_tracking(uri, "a study")
    done = subprocess.run(str(error.value).split("`")[1], shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    check_tracking(uri, "a study")


@pytest.fixture
def full_folder(tmp_path):
    """A full file system of 64 kB; skips the test where none can be mounted."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(tmp_path)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=False)


def test_a_full_temporary_folder_is_named(full_folder: Path, monkeypatch):
    """The file is written before MLflow is asked, so this test needs no client."""
    monkeypatch.setattr(tempfile, "tempdir", str(full_folder))
    with pytest.raises(OSError) as error:
        log_file(None, "run", "front.csv", bytes(10**6))
    reason = str(error.value)
    assert reason == f"cannot write to the temporary folder {full_folder}: No space left on device; set TMPDIR to another"
    assert undelivered_line(2, reason, "--resume x").endswith("when it can be written again: --resume x")
    assert undelivered_line(2, "timed out", "--resume x").endswith("(timed out); when it is up again: --resume x")
