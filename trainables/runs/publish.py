"""Publishing a version of a study's front: one rendering, written to the storage and to MLflow."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from trainables.reporting.report import render
from trainables.runs.study_run import StudyRun
from trainables.storage.store import Store
from trainables.storage.versions import Version, write_version
from trainables.study.outcome import Outcome
from trainables.terminal import signals
from trainables.tracking.tracker import Tracker

FIRST_VERSION = "versions/1"
"""Folder that keeps the files of the study as it ended, once later versions replace them in the study's folder."""


class Delivered(NamedTuple):
    """Result of delivering the writes to MLflow."""

    undelivered: int
    """Number of writes that did not reach MLflow."""
    last_error: str
    mlflow_run: str
    """Run ID of the study; empty if MLflow could not be reached."""


def publish(store: Store, outcome: Outcome, tracker: Tracker, later: Sequence[Version] = ()) -> None:
    """Render the newest version of a study once, and write the same files to the storage and to MLflow.

    The tracking queue is drained first, so that the report contains the links to all runs. If MLflow does not answer for too long,
    the report is written without them. Older versions that MLflow does not have are logged from their stored files.

    Args:
        store: the study's folder.
        outcome: the outcome at the newest version.
        tracker: tracker of the study.
        later: versions of the front after the first; none if the study has just ended. The last one is the newest.
    """
    tracker.drain()
    outcome.mlflow = tracker.refs
    files = render(outcome)
    newest = later[-1] if later else None
    for older in later[:-1]:
        tracker.publish(version_files(store, older.folder), older.number, newest=False)
    if newest:
        if len(later) == 1:
            _keep_first(store)
        store.below(newest.folder).write_all(files)
    store.write_all(files)
    if newest:
        write_version(store, newest)
    tracker.publish(files, outcome.version)


def publish_revision(run: StudyRun, outcomes: Sequence[Outcome], later: Sequence[Version]) -> Delivered:
    """Publish the newest version of a finished study, and log in MLflow all versions that it does not have yet.

    Args:
        run: the execution.
        outcomes: the outcome as the study ended, then after each of the versions `later`.
        later: versions of the front after the first; the last one is finished now.
    """
    tracker = Tracker(run.site.tracking_uri, run.plan, outcomes[0], home=run.store.root)
    try:
        if outcomes[0].confirmed:
            tracker.confirmed()
        tracker.revised(outcomes[1:])
        publish(run.store, outcomes[-1], tracker, later)
    except BaseException:
        signals.unless_skipped(tracker.close)  # the study itself has ended, whatever happens to its revision
        raise
    return Delivered(tracker.close(), tracker.last_error, tracker.refs.parent)


def version_files(store: Store, folder: str) -> dict[str, bytes]:
    """The published files in the folder of a version, or in the study's own folder (""); report.html is the last."""
    place = store.below(folder) if folder else store
    names = ("front.csv", "confirmed.csv", "contrasts.csv", *(f"plots/{name}" for name in place.names("plots")), "report.html")
    stored: Mapping[str, bytes | None] = {name: place.read(name) for name in names}
    return {name: data for name, data in stored.items() if data is not None}


def _keep_first(store: Store) -> None:
    """Copy the files of the study as it ended, before those of a later version replace them."""
    if "report.html" not in store.names(FIRST_VERSION):
        store.below(FIRST_VERSION).write_all(version_files(store, ""))
