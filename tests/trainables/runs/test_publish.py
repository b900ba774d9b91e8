"""Publishing a version of a front: one rendering after everything was logged, with the same bytes in the store and in MLflow."""

import json
import re
import time

import finished
import pytest
from mlflow import MlflowClient
from revised import SECOND, THIRD, write_reevaluation
from tracked import artifacts_of, children, parent_of, sqlite

from trainables.reporting import report
from trainables.runs.publish import publish, publish_revision, version_files
from trainables.runs.study_run import StudyRun
from trainables.storage.store import Store
from trainables.storage.versions import outcomes
from trainables.study.outcome import Outcome
from trainables.study.plan import Plan
from trainables.study.site import Site
from trainables.tracking import tracker as tracker_module
from trainables.tracking.client import connect
from trainables.tracking.tracker import Tracker

TRIALS = 6
FILES = {"front.csv", "confirmed.csv", "report.html", "plots/front.png", "plots/hypervolume.png"}


class SlowClient:
    """A client of a server that takes 20 ms for every call."""

    def __init__(self, client: MlflowClient):
        self.client = client

    def __getattr__(self, name: str):
        def call(*args, **kwargs):
            time.sleep(0.02)
            return getattr(self.client, name)(*args, **kwargs)

        return call


@pytest.fixture(autouse=True)
def slow_client(monkeypatch) -> None:
    """Every tracker uses a slow client."""
    monkeypatch.setattr(tracker_module, "connect", lambda uri: SlowClient(connect(uri)))


@pytest.fixture
def rendered(monkeypatch) -> list[int]:
    """Versions of the outcomes whose figures were rendered."""
    versions, original = [], report.render_figures

    def render_figures(outcome: Outcome):
        versions.append(outcome.version)
        return original(outcome)

    monkeypatch.setattr(report, "render_figures", render_figures)
    return versions


@pytest.fixture
def study(tmp_path) -> tuple[Plan, Store]:
    """A study whose trials have ended and that has not been published."""
    plan = finished.plan(trials=TRIALS)
    store = finished.study(tmp_path / "runs", plan)
    for name in version_files(store, ""):
        store.discard(name)
    return plan, store


def page_runs(page: bytes) -> dict[str, str]:
    """The MLflow run of each trial in the data of a report."""
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.decode(), re.DOTALL)
    return {number: trial["run"] for number, trial in json.loads(data)["trials"].items()}


def all_runs(uri: str) -> dict[str, str]:
    """The run of each trial in MLflow."""
    _, runs = children(uri)
    assert len(runs) == TRIALS
    return {number: run.info.run_id for number, run in runs.items()}


def logged_files(uri: str, folder: str = "") -> dict[str, bytes]:
    """The published files among MLflow's artifacts."""
    return version_files(Store.at(str(artifacts_of(parent_of(uri)[1]))), folder)


def test_the_report_of_a_study_links_to_all_runs_and_is_the_same_in_store_and_mlflow(study, rendered, tmp_path):
    plan, store = study
    uri = sqlite(tmp_path)
    (first,) = outcomes(plan, store, {}, [])
    so_far = Outcome.of_plan(plan, {}, [])
    tracker = Tracker(uri, plan, so_far, home=store.root)
    for trial in first.trials:
        tracker.started(trial.number, trial.params, trial.baseline)
        tracker.rows(trial.number, trial.curve)
        so_far.trials.append(trial)
        tracker.ended(trial)
    so_far.confirmation = first.confirmation
    tracker.confirmed()
    rendered.clear()
    assert tracker.delivery.queue.qsize() > 3 * TRIALS  # the study ends long before everything is logged
    publish(store, so_far, tracker)
    assert tracker.close() == 0, tracker.last_error
    stored = version_files(store, "")
    assert page_runs(stored["report.html"]) == all_runs(uri)
    assert stored.keys() == FILES and logged_files(uri) == stored
    assert rendered == [1]


def revise(plan: Plan, store: Store) -> None:
    """Write the results of two re-evaluations of all networks."""
    for version, robust in ((SECOND, 4), (THIRD, 3)):
        for number in range(TRIALS):
            write_reevaluation(store, version, f"trials/{number:05d}", robust)
        write_reevaluation(store, version, "confirm/00000/1", robust)


def test_the_report_of_a_revision_links_to_all_runs_and_is_the_same_in_store_and_mlflow(study, rendered, tmp_path):
    plan, store = study
    uri = sqlite(tmp_path)
    run = StudyRun.open(plan, Site(storage=str(tmp_path / "runs"), tracking_uri=uri, output="quiet"), ["studies/rejudge.py"])
    (first,) = run.outcomes([])
    tracker = Tracker(uri, plan, first, home=store.root)
    publish(store, first, tracker)
    assert tracker.close() == 0
    first_files = version_files(store, "")
    revise(plan, store)
    rendered.clear()
    delivered = publish_revision(run, run.outcomes([SECOND]), [SECOND])
    assert delivered.undelivered == 0 and delivered.mlflow_run == parent_of(uri)[1].info.run_id
    stored = version_files(store, "")
    assert stored.keys() == FILES and page_runs(stored["report.html"]) == all_runs(uri)
    assert stored == version_files(store, "versions/2") == logged_files(uri) == logged_files(uri, "versions/2")
    assert version_files(store, "versions/1") == first_files != stored
    assert rendered == [2]


@pytest.mark.thorough
@pytest.mark.parametrize("resumed", [False, True])
def test_older_versions_that_mlflow_does_not_have_are_logged_from_their_stored_files(study, rendered, tmp_path, resumed):
    """Both by the next revision and by resuming the study with another database."""
    plan, store = study
    revise(plan, store)
    uri = sqlite(tmp_path)
    run = StudyRun.open(plan, Site(storage=str(tmp_path / "runs"), tracking_uri=uri, output="quiet"), ["studies/rejudge.py"])
    for version in (SECOND, THIRD):
        files = {"front.csv": f"front {version.number}".encode(), "plots/front.png": b"png", "report.html": b"page"}
        store.below(version.folder).write_all(files)
    older, later = version_files(store, "versions/2"), [SECOND, THIRD]
    rendered.clear()
    if resumed:
        first, *revisions = run.outcomes(later)
        tracker = Tracker(uri, plan, first, home=store.root)
        tracker.revised(revisions)
        publish(store, revisions[-1], tracker, later)
        assert tracker.close() == 0
    else:
        assert publish_revision(run, run.outcomes(later), later).undelivered == 0
    assert older and logged_files(uri, "versions/2") == version_files(store, "versions/2") == older
    assert logged_files(uri, "versions/3") == logged_files(uri) == version_files(store, "")
    assert rendered == [3] and parent_of(uri)[1].data.tags["front_version"] == "3"
