"""MLflow tracking URIs: the file that a SQLite URI names, the form in which MLflow reads it correctly, and how it is shown.

MLflow passes a URI to SQLAlchemy, which cuts the path of `sqlite:///a?b/c%20d.db` at the question mark and decodes the rest. A path
that contains `?` or `%` is therefore percent-encoded for MLflow, with its slashes, because MLflow creates the folder that precedes
the last slash of the text.
"""

import shlex
from pathlib import Path
from urllib.parse import quote, unquote

from core.redaction import redacted

SQLITE = "sqlite:///"


def sqlite_path(uri: str) -> Path | None:
    """The file of a SQLite URI; None for any other URI.

    The path is taken as it is written, and percent-decoded if only that exists, so that a URI that we printed works, too.
    """
    if not uri.startswith(SQLITE):
        return None
    written = Path(uri.removeprefix(SQLITE))
    decoded = Path(unquote(uri.removeprefix(SQLITE)))
    exists = [path for path in (written, decoded) if path.exists()]
    possible = [path for path in (written, decoded) if path.absolute().parent.is_dir()]
    return (exists or possible or [written])[0]


def for_mlflow(uri: str, absolute: bool = True) -> str:
    """The URI as MLflow reads it correctly.

    Args:
        uri: a tracking URI as a user writes it.
        absolute: whether the path of a SQLite file is made absolute. MLflow keeps one open database per URI, so the URI must not
            change its meaning with the directory.
    """
    path = sqlite_path(uri)
    if path is None:
        return uri
    text = str(path.absolute() if absolute else path)
    return SQLITE + (quote(text, safe="") if {"?", "%"} & set(text) else text)


def shown(uri: str) -> str:
    """The URI in a form that can be printed, and passed to MLflow and to `--tracking-uri` once its credentials are filled in."""
    return redacted(for_mlflow(uri, absolute=False))


def ui_command(uri: str, python: str = "python") -> str:
    """The command that shows the runs of a database, without credentials, in the syntax of a shell."""
    return f"{shlex.quote(python)} -m mlflow ui --backend-store-uri {shlex.quote(shown(uri))}"
