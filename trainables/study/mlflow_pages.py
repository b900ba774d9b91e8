"""Addresses of MLflow's pages. Without `workflowType`, MLflow 3 opens the pages of an experiment that are for GenAI."""

import hashlib

from core.redaction import HIDDEN, redacted
from trainables.study.outcome import MLflowRefs

LOCAL = "http://127.0.0.1:5000"
"""Default address of `mlflow ui`."""
TRAINING = "workflowType=machine_learning"
"""Parameter of addresses that opens the pages for the training of models."""


def run_page(refs: MLflowRefs, run: str) -> str:
    """The address of a run, without credentials."""
    return f"{_home(refs.uri)}/{_runs(refs.experiment)}/{run}?{TRAINING}"


def trials_page(refs: MLflowRefs, name: str, charts: bool = False) -> str:
    """The address of the table or the charts of a study's trials, without credentials.

    Args:
        refs: location of the study in MLflow.
        name: name of the study's run.
        charts: open the charts instead of the table.
    """
    return f"{_home(refs.uri)}/{trials_path(refs.experiment, name)}" + ("&compareRunsMode=CHART" if charts else "")


def trials_path(experiment: str, name: str) -> str:
    """The address of the table of a study's trials relative to MLflow's own, which is valid on any server that has the study."""
    return f"{_runs(experiment)}?viewStateShareKey={view_key(name)}&{TRAINING}"


def view_key(name: str) -> str:
    """The identifier of a study's saved view, which has no character that an address or a tag cannot contain."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def _runs(experiment: str) -> str:
    return f"#/experiments/{experiment}/runs"


def _home(uri: str) -> str:
    return redacted(uri).replace(f"://{HIDDEN}@", "://").rstrip("/") if uri.startswith("http") else LOCAL
