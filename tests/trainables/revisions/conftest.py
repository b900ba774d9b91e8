"""A finished study whose revisions need neither a cluster nor a tracking server."""

import contextlib

import finished
import pytest
from in_process import local_executor
from revising import RecordingTracker, evaluated

from trainables.execution import cluster
from trainables.reporting import report
from trainables.reporting.card import Figure
from trainables.revisions import revise
from trainables.runs import publish
from trainables.storage.store import Store


@pytest.fixture
def study(monkeypatch, tmp_path) -> Store:
    """The folder of a finished study, runs/s-1 in the current directory.

    Jobs run in this process, the tracker only records its calls, and figures and page are placeholders, because rendering them
    takes seconds.
    """

    @contextlib.contextmanager
    def joined(site):
        yield {"CPU": 1.0}

    def executor(site, capacity, images, store, report, warn):
        return local_executor(images, tmp_path / "runs", store.within(store.above), report)

    def newest_in_mlflow(uri, plan) -> int:
        return RecordingTracker.trackers[-1].outcomes[-1] if RecordingTracker.trackers else 1

    def render_figures(outcome) -> dict[str, Figure]:
        return {f"{name}.png": Figure(bytes([outcome.version]), "") for name in ("front", "hypervolume")}

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cluster, "joined", joined)
    monkeypatch.setattr(cluster, "executor", executor)
    monkeypatch.setattr(publish, "Tracker", RecordingTracker)
    monkeypatch.setattr(revise, "front_version", newest_in_mlflow)
    monkeypatch.setattr(RecordingTracker, "undelivered", 0)
    monkeypatch.setattr(RecordingTracker, "trackers", [])
    monkeypatch.setattr(report, "render_figures", render_figures)
    monkeypatch.setattr(report, "render_page", lambda outcome, figures: f"version {outcome.version}")
    evaluated.clear()
    return finished.study(tmp_path / "runs")
