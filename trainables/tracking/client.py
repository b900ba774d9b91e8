"""Access to MLflow: connecting, checking a tracking URI, and finding the runs of studies and trials."""

import http.client
import json
import logging
import os
import shlex
import sqlite3
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from core import pareto
from core.errors import InputError, first_line
from core.redaction import has_secret
from core.study import Constraint, Objective
from trainables.study.plan import Plan
from trainables.study.tracking_uri import for_mlflow, shown, sqlite_path
from trainables.study.trial_state import TrialState
from trainables.tracking.addresses import answers, parts_of
from trainables.tracking.databases import check_login

NAME, KIND, NUMBER, VERSION = "trilemma.name", "trilemma.kind", "trilemma.trial", "front_version"
"""Tags of runs: name of the study's run, `study` or `trial`, number of the trial, version of the front."""
DUPLICATE_OF = "trilemma.duplicate_of"
"""Tag of a run that was created twice; its value is the run that is kept."""
DATA = "data"
"""Parameter of a study's run: fingerprint of its images."""
STOPPED_AFTER_EPOCH = "stopped_after_epoch"
"""Tag of a trial that was stopped early."""
RUN_STATUS = {
    TrialState.RUNNING: "RUNNING",
    TrialState.INTERRUPTED: "KILLED",
    TrialState.COMPLETED: "FINISHED",
    TrialState.EARLY_STOPPED: "FINISHED",
    TrialState.FAILED: "FAILED",
}
"""MLflow's status of a trial's run."""
ENDED = {RUN_STATUS[state] for state in (TrialState.COMPLETED, TrialState.EARLY_STOPPED, TrialState.FAILED)}
"""MLflow's statuses of trials in a final state."""
TIMEOUT_SECONDS = 3.0
"""Time that a server may take to answer the check."""
DATABASES = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
"""Databases that MLflow supports, with their usual ports."""


def connect(uri: str):
    """A client of a tracking server or database that does not log."""
    from mlflow import MlflowClient

    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    if "'" in os.getcwd() and not uri.startswith("http"):
        # MLflow puts the directory into SQL as it is when it creates its default experiment; a percent-encoded one has no quotes.
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        SqlAlchemyStore(for_mlflow(uri), (Path.cwd() / "mlruns").as_uri())
    return MlflowClient(tracking_uri=for_mlflow(uri))


def check_tracking(uri: str, study: str) -> None:
    """Check that a tracking server or database can be used for a study of this name.

    Raises:
        InputError: it cannot; the message says what can be used.
    """
    scheme, host, port = parts_of(uri)
    database = scheme.split("+")[0]
    if path := sqlite_path(uri):
        _check_sqlite(path, uri)
        if not path.exists() or not path.stat().st_size:
            return
    elif scheme in ("http", "https") and host:
        _check_server(uri)
    elif database in DATABASES and host:
        port = port or DATABASES[database]
        if not answers(host, port, TIMEOUT_SECONDS):
            raise InputError(f"no database answers at --tracking-uri {scheme}://{host}:{port}")
        check_login(uri)
    else:
        raise InputError(f"--tracking-uri {uri!r} is none of: sqlite:///FILE, http(s)://HOST:PORT, postgresql://...")
    try:
        experiment = connect(uri).get_experiment_by_name(study)
    except Exception as error:  # a missing database driver, an old schema, a rejected login ...
        raise InputError(f"--tracking-uri {shown(uri)} cannot be read: {first_line(error)}") from None
    if experiment and experiment.lifecycle_stage != "active":
        restore = f"{shlex.quote(sys.executable)} -m mlflow experiments restore --experiment-id {experiment.experiment_id}"
        command = f"MLFLOW_TRACKING_URI={shlex.quote(shown(uri))} {restore}"
        raise InputError(f"--tracking-uri {shown(uri)}: the experiment {study} was deleted; restore it with `{command}`")


def _check_server(uri: str) -> None:
    if "@" in urlsplit(uri).netloc or has_secret(uri):
        raise InputError(
            f"--tracking-uri {shown(uri)}: put the login into MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, "
            "or a token into MLFLOW_TRACKING_TOKEN; every user of this machine can read a command line"
        )
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=TIMEOUT_SECONDS) as reply:
            is_mlflow = reply.read(8).strip() == b"OK"
    except urllib.error.HTTPError as error:
        raise InputError(f"--tracking-uri {uri} answers {error.code} {error.reason}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise InputError(f"no MLflow server answers at --tracking-uri {uri} ({getattr(error, 'reason', error)})") from None
    if not is_mlflow:
        raise InputError(f"the server at --tracking-uri {uri} is not an MLflow server")


def _check_sqlite(path: Path, uri: str) -> None:
    if path.exists():
        try:
            with sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True) as database:
                tables = {row[0] for row in database.execute("select name from sqlite_master")}
        except sqlite3.Error as error:
            raise InputError(f"--tracking-uri {uri}: {path} is not a writable SQLite file ({error})") from None
        if not os.access(path, os.W_OK) or not os.access(path.absolute().parent, os.W_OK):  # SQLite also writes a journal
            raise InputError(f"--tracking-uri {uri}: {path} or its folder cannot be written by this user")
        if tables and "experiments" not in tables:
            raise InputError(f"--tracking-uri {uri}: {path} is a database of another program than MLflow")
    elif not path.absolute().parent.is_dir() or not os.access(path.absolute().parent, os.W_OK):
        raise InputError(f"--tracking-uri {uri}: cannot create a file in {path.absolute().parent}")


def runs_where(client, experiments: Sequence[str], query: str) -> list:
    """The runs from all pages of a search."""
    runs, token = [], None
    while token != "":
        page = client.search_runs(list(experiments), query, page_token=token)
        runs += page
        token = page.token or ""
    return runs


def study_runs(client, experiments: Sequence[str], name: str) -> list:
    """The runs of a study; several if an attempt to create one was cut off."""
    return runs_where(client, experiments, f"tags.`{NAME}` = '{name}' and tags.`{KIND}` = 'study'")


def trial_runs(client, experiment: str, name: str, query: str = "") -> list:
    """The runs of a study's trials, without known duplicates.

    They are found by the study's name and not by their parent, because a user may have deleted the study's run.
    """
    runs = runs_where(client, [experiment], f"tags.`{NAME}` = '{name}' and tags.`{KIND}` = 'trial'{query}")
    return [run for run in runs if DUPLICATE_OF not in run.data.tags and NUMBER in run.data.tags]


def completeness_key(run) -> tuple:
    """Sort key of duplicate runs: the run with the most data is last; of equal runs, the older one."""
    return run.info.status in ENDED, len(run.data.metrics), len(run.data.params), -run.info.start_time


def front_version(uri: str, plan: Plan) -> int:
    """The version of a study's front in MLflow; 0 if MLflow does not know the study."""
    client = connect(uri)
    experiment = client.get_experiment_by_name(plan.study)
    runs = study_runs(client, [experiment.experiment_id], plan.name) if experiment else []
    return int(max(runs, key=completeness_key).data.tags.get(VERSION, 1)) if runs else 0


def constraints_of(params: Mapping[str, str]) -> tuple[Constraint, ...]:
    """The constraints of a study, from the parameters of its run."""
    return tuple(Constraint.of(text) for text in params.get("require", "").split(" and ") if text)


def objectives_of(params: Mapping[str, str]) -> list[Objective]:
    """The objectives of a study, from the parameters of its run."""
    return [Objective(**o) for o in json.loads(params["objectives"])]


def front_from_runs(uri: str, name: str) -> list[dict[str, float | int]]:
    """The front of a study from its child runs alone: trial number and objective metrics, in no particular order.

    Args:
        uri: MLflow tracking URI.
        name: name of the study's run, as `--resume` takes it.
    """
    client = connect(uri)
    experiments = [e.experiment_id for e in client.search_experiments()]
    parent = max(study_runs(client, experiments, name), key=completeness_key)
    objectives = objectives_of(parent.data.params)
    runs = trial_runs(client, parent.info.experiment_id, name)
    runs = [run for run in runs if run.info.status == "FINISHED"]
    mask = pareto.front([run.data.metrics for run in runs], objectives, constraints_of(parent.data.params))
    return [
        {"trial": int(run.data.tags[NUMBER])} | {o.metric: run.data.metrics[o.metric] for o in objectives}
        for run, on in zip(runs, mask, strict=True)
        if on
    ]
