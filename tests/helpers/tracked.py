"""A study of two trials for tests of the tracker, and what MLflow shows of it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from confirming import confirmation, point
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from core.config import TrialConfig
from core.space import Uniform
from core.stats import Interval
from core.study import trilemma
from trainables.study.outcome import Confirmed, Outcome, front_revision
from trainables.study.plan import Plan
from trainables.study.tables import confirmed_rows, csv, front_rows
from trainables.study.trial import Trial
from trainables.tracking.tracker import Tracker

METRICS = {"accuracy": 0.9, "robust_accuracy": 0.5, "mia_auc": 0.6}
"""Metrics of a trial unless they are changed."""
PARAMS = TrialConfig().params()
"""Parameters of every trial."""
PARENTS, CHILDREN = "tags.`trilemma.kind` = 'study'", "tags.`trilemma.kind` = 'trial'"
"""Filters of MLflow: runs of studies, and runs of trials."""


def plan(**changes) -> Plan:
    """A plan of two trials, with these fields changed."""
    fields = {
        "name": "s-1", "study": "s", "question": "?", "config": TrialConfig(), "space": {"optimizer.lr": Uniform(0.1, 0.2)},
        "objectives": trilemma(10), "baselines": {}, "trials": 2, "sampler": "random", "seed": 0, "confirm": {}, "replicates": 0,
    }  # fmt: skip
    return Plan(**(fields | changes))


def outcome(*trials: Trial) -> Outcome:
    """The outcome of the study after these trials have ended."""
    return Outcome.of_plan(plan(), {}, trials)


def trial(number: int, **changes: float) -> Trial:
    """A completed trial of three epochs, with these metrics changed."""
    curve = [{"epoch": e, "epoch/loss": 1.0 / e} for e in (1, 2, 3)]
    return Trial(number=number, params=PARAMS, metrics=METRICS | changes, curve=curve)


def confirmed(number: int) -> Confirmed:
    """The record of a confirmed point."""
    return point(number, METRICS, intervals={name: Interval(0.0, 1.0) for name in METRICS}, probability=1.0)


def revised(before: Outcome, robust: Mapping[int, float], errors: Mapping[int, str] | None = None) -> Outcome:
    """The outcome after a re-evaluation that measured robust accuracy and a flag; `errors` are of trials for which it failed."""

    def reevaluated(t: Trial) -> Trial:
        if errors and t.number in errors:
            return replace(t, metrics={}, error=errors[t.number])
        return replace(t, metrics={**t.metrics, "robust_accuracy": robust[t.number], "flag/zero_gradients": 0.0})

    trials = [reevaluated(t) for t in before.trials]
    after = replace(before, trials=trials)
    measured = {t.number: ("robust_accuracy", "flag/zero_gradients") for t in trials if not t.error}
    points = [replace(p, means=p.means | {"robust_accuracy": robust[p.number]}) for p in before.confirmed]
    after.confirmation = confirmation(points) if points else None
    revision = front_revision(before, after, "with more attacks", "2026-01-02 03:04:05 +0000", measured)
    after.revisions = [*before.revisions, revision]
    return after


def files_of(outcome: Outcome) -> dict[str, bytes]:
    """The files of a version: its real tables, and placeholders for figures and page, which take seconds to render."""
    files = {"front.csv": csv(front_rows(outcome)).encode()}
    if outcome.confirmed:
        files["confirmed.csv"] = csv(confirmed_rows(outcome)).encode()
    text = f"version {outcome.version}".encode()
    return files | {"plots/front.png": text, "report.html": text}


def log(uri: str, *trials: Trial, status: str = "FINISHED", of: Plan | None = None) -> None:
    """Log a study with these ended trials as a resumed driver does, and assert that everything was delivered."""
    tracker = Tracker(uri, of or plan(), outcome(*trials))
    assert tracker.close(status) == 0, tracker.last_error


def log_revisions(uri: str, first: Outcome, later: Sequence[Outcome]) -> None:
    """Log a finished study and its revisions, as `trainables.runs.publish` does."""
    tracker = Tracker(uri, plan(), first)
    if first.confirmed:
        tracker.confirmed()
    tracker.revised(later)
    for older in later[:-1]:
        tracker.publish(files_of(older), older.version, newest=False)
    newest = later[-1] if later else first
    tracker.publish(files_of(newest), newest.version)
    assert tracker.close() == 0, tracker.last_error


def sqlite(folder: Path) -> str:
    """URI of a tracking database in a folder."""
    return f"sqlite:///{folder}/mlflow.db"


def children(uri: str):
    """A client, and the runs of trials by number."""
    client = MlflowClient(uri)
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()], CHILDREN)
    return client, {run.data.tags["trilemma.trial"]: run for run in runs}


def parent_of(uri: str):
    """A client, and the run of the only study."""
    client = MlflowClient(uri)
    (parent,) = client.search_runs([client.get_experiment_by_name("s").experiment_id], PARENTS)
    return client, parent


def artifacts_of(run) -> Path:
    """Folder of a run's artifacts."""
    return Path(run.info.artifact_uri.removeprefix("file://"))


def status(uri: str) -> dict[str, str]:
    """Statuses of the runs of trials, by number."""
    return {number: run.info.status for number, run in children(uri)[1].items()}


def histories(client: MlflowClient, run, name: str) -> list[tuple[int, float]]:
    """All values of a metric, with their steps."""
    return sorted((m.step, m.value) for m in client.get_metric_history(run.info.run_id, name))


def create_child(client: MlflowClient, parent, number: int):
    """Create a run of a trial as a driver does that dies right afterwards."""
    tags = {"mlflow.parentRunId": parent.info.run_id, "trilemma.name": "s-1", "trilemma.kind": "trial"}
    return client.create_run(parent.info.experiment_id, tags={**tags, "trilemma.trial": str(number), "pareto": "false"})


def log_interrupted(uri: str) -> None:
    """Log two epochs of trial 0 as a driver does that is interrupted then."""
    tracker = Tracker(uri, plan(), outcome())
    tracker.started(0, PARAMS, "")
    tracker.rows(0, trial(0).curve[:2])
    assert tracker.close("KILLED") == 0


class RefusingClient:
    """A client whose first calls of some methods are refused for a reason that seems to be lasting."""

    def __init__(self, client: MlflowClient, **refused: int):
        self.client, self.refused = client, refused

    def __getattr__(self, name: str):
        if self.refused.get(name, 0) > 0:
            self.refused[name] -= 1
            raise MlflowException(f"{name} is refused", RESOURCE_DOES_NOT_EXIST)
        return getattr(self.client, name)
