"""Tracking URIs: which file a SQLite URI names, and that MLflow and SQLAlchemy open the same one."""

import shlex

import pytest
from mlflow.store.db.utils import create_sqlalchemy_engine_with_retry
from sqlalchemy import text

from trainables.study.tracking_uri import for_mlflow, shown, sqlite_path, ui_command

NAMES = ("a?b", "a?b=c&d", "a%2Fb", "a%3Fb", "100%", "a#b", "a b", "é中 %", "a;b&c", "it's \"quoted\"", "$HOME `x`", "+", "a@b:c")
"""Names of folders that continuous integration servers and users create."""


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("relative", [True, False], ids=["relative", "absolute"])
def test_mlflow_opens_the_file_that_the_uri_names_in_any_folder_and_creates_nothing_else(name, relative, tmp_path, monkeypatch):
    """MLflow opens its databases by this function; it creates the folder of the path as it reads it."""
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder if relative else tmp_path)
    uri = "sqlite:///mlflow.db" if relative else f"sqlite:///{folder}/mlflow.db"
    for given in (uri, shown(uri), for_mlflow(uri)):
        engine = create_sqlalchemy_engine_with_retry(for_mlflow(given))
        with engine.begin() as connection:
            connection.execute(text("create table if not exists t (x int)"))
        engine.dispose()
        assert [path.name for path in folder.iterdir()] == ["mlflow.db"] and [path.name for path in tmp_path.iterdir()] == [name]
        assert sqlite_path(given).resolve() == folder / "mlflow.db"


@pytest.mark.parametrize("name", NAMES)
def test_the_uri_of_the_printed_command_names_the_same_file_for_mlflow_after_a_shell_has_read_it(name, tmp_path, monkeypatch):
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    for uri in (f"sqlite:///{name}/mlflow.db", f"sqlite:///{tmp_path}/{name}/mlflow.db"):
        *_, printed = shlex.split(ui_command(uri, "/a b/python"))
        engine = create_sqlalchemy_engine_with_retry(printed)
        with engine.connect():
            pass
        engine.dispose()
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == [name, f"{name}/mlflow.db"]


def test_plain_uris_are_shown_as_they_were_typed():
    for uri in ("sqlite:///mlflow.db", "sqlite:////a b/é.db", "http://host:5000", "postgresql://me@host:5432/db"):
        assert shown(uri) == uri
    assert ui_command("sqlite:///mlflow.db") == "python -m mlflow ui --backend-store-uri sqlite:///mlflow.db"
    assert ui_command("postgresql://me:secret@host/db").endswith("'postgresql://***@host/db'")
    assert sqlite_path("postgresql://me@host/db") is None
