"""The runs of a study in MLflow: one parent run for the study, one child run per trial, and the front as artifacts of the parent.

Only the driver writes. What is missing in MLflow when a study ends, because the server was down, is logged from the store by the
next `--resume`.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from core.space import Value
from trainables.storage.store import Lease, Store, Superseded
from trainables.study.outcome import MLflowRefs, Outcome
from trainables.study.plan import Plan
from trainables.study.tables import csv, front_rows
from trainables.study.tracking_uri import shown
from trainables.study.trial import Trial
from trainables.study.trial_state import TrialState
from trainables.tracking.artifacts import create_experiment
from trainables.tracking.client import (
    KIND,
    NAME,
    NUMBER,
    RUN_STATUS,
    STOPPED_AFTER_EPOCH,
    VERSION,
    completeness_key,
    connect,
    study_runs,
    trial_runs,
)  # fmt: skip
from trainables.tracking.confirmed import log_confirmation
from trainables.tracking.contents import NOTE, outcome_metrics, source_tags, study_note, study_params, trial_note
from trainables.tracking.delivery import Delivery
from trainables.tracking.recovery import ChildRun, drop_duplicate, finalize_runs, recover_children
from trainables.tracking.writes import log_file, log_params, milliseconds

MAX_METRICS = 1000
"""Number of metrics that a server accepts in one batch."""
PROGRESS_SECONDS = 10.0
"""Interval at which the front on the parent run is refreshed while the study runs, at least."""


class Tracker:
    """Logs a study to MLflow. Its methods return at once, except `drain` and `close`, and never raise."""

    def __init__(self, uri: str, plan: Plan, outcome: Outcome, home: str = "", lease: Lease | None = None):
        """Open the parent run, or the one that an earlier driver of the same study opened.

        Args:
            uri: MLflow tracking URI.
            plan: plan of the study.
            outcome: the study so far; it receives the location of the runs.
            home: the study's folder; the artifacts of a new experiment are stored next to it, unless a server stores them.
            lease: this driver's lease; nothing is written once another driver has it.
        """
        self.uri, self.plan = uri, plan
        self.root = Store(home).above if home else None
        """The folder above all studies."""
        self.swept = self.outcome = outcome
        """The outcome of the sweep, and the outcome at the newest version of the front."""
        self.ended_before = list(outcome.trials)
        """Trials that had ended when this driver started; others are reported by `ended`."""
        self.refs = MLflowRefs(shown(uri))
        """Location of the runs, shared with the outcome so that its report can link to them."""
        self.outcome.mlflow = self.refs
        self.children: dict[int, ChildRun] = {}
        """Runs of trials, by number."""
        self.suggested: dict[int, tuple[Mapping[str, Value], str]] = {}
        """Parameters and baselines of trials that this driver started or continued."""
        self.unlogged: list[Outcome] = []
        """Revisions of the front that are reported and not logged completely, oldest first."""
        self.logged_steps: set[int] = set()
        """Numbers of ended trials at which the metrics of the parent run were logged."""
        self.last_progress = 0.0
        self.delivery = Delivery(lease, opening=self._open)
        self.delivery.start()
        for trial in self.ended_before:
            self.delivery.enqueue(lambda now, trial=trial: self._end(trial, now))

    @property
    def last_error(self) -> str:
        """Reason of the latest failed write."""
        return self.delivery.last_error

    def started(self, number: int, params: Mapping[str, Value], baseline: str) -> None:
        """Log that a trial starts or continues."""
        self.suggested[number] = params, baseline
        self.delivery.enqueue(lambda now: self._start(number, params, baseline))

    def rows(self, number: int, rows: Sequence[Mapping[str, float]]) -> None:
        """Log epochs of a running trial."""
        self.delivery.enqueue(lambda now: self._log_rows(number, rows, now))

    def ended(self, trial: Trial) -> None:
        """Log that a trial ended; the outcome contains it already."""
        self.delivery.enqueue(lambda now: self._end(trial, now))
        self.delivery.enqueue(self._refresh_progress)

    def confirmed(self) -> None:
        """Log the verdicts of the confirmation step, which the outcome contains."""
        self.delivery.enqueue(lambda now: self._log_confirmed(self.swept, now))

    def revised(self, outcomes: Sequence[Outcome]) -> None:
        """Log the metrics of revisions of the front, oldest first; the last outcome is the current one from here on."""
        for outcome in outcomes:
            self.delivery.enqueue(lambda now, outcome=outcome: self._revise(outcome, now))

    def publish(self, files: Mapping[str, bytes], version: int, newest: bool = True) -> None:
        """Log the files of a version of the front; the newest ones are the study's own files, too."""
        self.delivery.enqueue(lambda now: self._publish(files, version, newest, now))

    def drain(self) -> bool:
        """Wait until everything reported so far is in MLflow; return False if MLflow did not answer for too long."""
        return self.delivery.drain()

    def close(self, status: str = "FINISHED") -> int:
        """Deliver the rest, and end the runs.

        Args:
            status: MLflow's status of the study's run.

        Returns:
            The number of writes that could not be delivered in time.
        """
        self.delivery.enqueue(self._log_progress)
        self.delivery.enqueue(lambda now: self._finalize(status))
        return self.delivery.close()

    # -- writes, all on the thread of the delivery -----------------------------------------------------------------------------

    def _open(self, now: int) -> None:
        self.client = connect(self.uri)
        known = self.client.get_experiment_by_name(self.plan.study)
        experiment = known.experiment_id if known else create_experiment(self.client, self.uri, self.plan.study, self.root)
        self.refs.experiment = experiment
        if not known or NOTE not in known.tags:  # an existing description may have been edited
            self.client.set_experiment_tag(experiment, NOTE, self.plan.question)
        find = lambda: study_runs(self.client, [experiment], self.plan.name)  # noqa: E731
        runs = find()
        note = study_note(self.plan, self.outcome.facts)
        tags = {NAME: self.plan.name, KIND: "study", NOTE: note, **source_tags(self.plan)}
        run = max(runs, key=completeness_key) if runs else self._create(self.plan.name, tags, find)
        self.refs.parent = run.info.run_id
        params = study_params(self.plan, self.outcome.facts)
        # Parameters cannot change in MLflow, so a fact that grows with every resume keeps its first value.
        log_params(self.client, self.refs.parent, {name: value for name, value in params.items() if name not in run.data.params})
        if runs:
            self.client.update_run(self.refs.parent, status="RUNNING")
        ended = {trial.number for trial in self.ended_before}
        self.children = recover_children(self.client, experiment, self.refs.parent, self.plan.name, ended)
        self.refs.runs |= {number: child.run_id for number, child in self.children.items() if child.run_id}
        self.logged_steps = {m.step for m in self.client.get_metric_history(self.refs.parent, "trials_completed")}

    def _finalize(self, status: str) -> None:
        finalize_runs(self.client, self.refs.experiment, self.refs.parent, self.plan.name, self.children, status)

    def _start(self, number: int, params: Mapping[str, Value], baseline: str) -> ChildRun:
        """Create the run of a trial unless it exists, and mark it as running."""
        child = self.children.setdefault(number, ChildRun())
        if not child.run_id:
            existing = max(self._runs_of(number), key=completeness_key, default=None) if child.uncertain else None
            child.uncertain = True
            tags = {
                "mlflow.parentRunId": self.refs.parent, NAME: self.plan.name, KIND: "trial", NUMBER: str(number),
                "pareto": "false", NOTE: trial_note(self.plan, number, params, baseline), **source_tags(self.plan),
            } | ({"baseline": baseline} if baseline else {})  # fmt: skip
            title = f"{number:05d}" + (f" {baseline}" if baseline else "")
            run = existing or self._create(title, tags, lambda: self._runs_of(number))
            log_params(self.client, run.info.run_id, params)  # logging the same values again is allowed
            child.run_id, child.is_new = run.info.run_id, existing is None
            self.refs.runs[number] = child.run_id
        if child.interrupted:
            self.client.update_run(child.run_id, status=RUN_STATUS[TrialState.RUNNING])
            child.interrupted = False
        return child

    def _run_of(self, number: int, now: int) -> ChildRun:
        """The run of a trial; if the write that should have created it failed, it is created and filled now."""
        child = self.children.get(number)
        if child and child.run_id:
            return child
        for trial in self.swept.trials:
            if trial.number == number:
                self._end(trial, now)
                return self.children[number]
        return self._start(number, *self.suggested[number])

    def _runs_of(self, number: int) -> list:
        """The runs of a trial; several if an attempt to create one was cut off."""
        return trial_runs(self.client, self.refs.experiment, self.plan.name, f" and tags.`{NUMBER}` = '{number}'")

    def _create(self, name: str, tags: Mapping[str, str], find: Callable[[], list]):
        """Create a run; `find` returns all runs that stand for the same thing.

        The driver may have been suspended while it created the run, and another driver may have resumed the study since. That
        driver has then adopted this run, or created its own (and this one is dropped), or will find this one.

        Raises:
            Superseded: another driver has resumed the study.
        """
        run = self.client.create_run(self.refs.experiment, run_name=name, tags=dict(tags))
        if self.delivery.superseded():
            kept = max(find(), key=completeness_key, default=run).info.run_id
            if kept != run.info.run_id:
                drop_duplicate(self.client, run.info.run_id, kept)
            raise Superseded("another driver has resumed the study")
        return run

    def _log_rows(self, number: int, rows: Sequence[Mapping[str, float]], now: int, result: Sequence[Any] = ()) -> None:
        """Log epochs that are not in MLflow yet, each in one batch, and the metrics of the result with the last of them."""
        from mlflow.entities import Metric

        child = self._run_of(number, now)
        new = [row for row in rows if int(row["epoch"]) not in child.logged_epochs]
        per_batch = max(1, MAX_METRICS // max(map(len, new), default=1))
        batches = [new[i : i + per_batch] for i in range(0, len(new), per_batch)]
        if result and (not batches or sum(map(len, batches[-1])) + len(result) > MAX_METRICS):
            batches.append([])
        for batch in batches:
            metrics = [Metric(k, v, now, int(row["epoch"])) for row in batch for k, v in row.items() if k != "epoch"]
            metrics += result if batch is batches[-1] else []
            self.client.log_batch(child.run_id, metrics=metrics)
            child.logged_epochs |= {int(row["epoch"]) for row in batch}

    def _end(self, trial: Trial, now: int) -> None:
        """Log the result of a trial unless it is in MLflow already."""
        from mlflow.entities import Metric

        if trial.number in self.children and self.children[trial.number].complete:
            return
        child = self._start(trial.number, trial.params, trial.baseline)
        known = None if child.is_new else self.client.get_run(child.run_id).data
        child.is_new = False
        is_logged = known is not None and set(trial.metrics) <= set(known.metrics)
        result = [] if is_logged else [Metric(k, v, now, int(trial.params["epochs"])) for k, v in trial.metrics.items()]
        self._log_rows(trial.number, trial.curve, now, result)
        self._set_error(child.run_id, trial.error, known.tags if known else {})
        if trial.state is TrialState.EARLY_STOPPED:
            self.client.set_tag(child.run_id, STOPPED_AFTER_EPOCH, str(trial.stopped_epoch))
        self.client.set_terminated(child.run_id, RUN_STATUS[trial.state])
        child.complete = True

    def _set_error(self, run_id: str, error: str, tags: Mapping[str, str]) -> None:
        """Set a run's `error` tag, or remove the one of an earlier attempt."""
        if error:
            self.client.set_tag(run_id, "error", error)
        elif "error" in tags:
            self.client.delete_tag(run_id, "error")

    def _refresh_progress(self, now: int) -> None:
        if time.monotonic() - self.last_progress >= PROGRESS_SECONDS:
            self._log_progress(now)

    def _log_progress(self, now: int) -> None:
        """Log the current front, counts and `pareto` tags."""
        from mlflow.entities import Metric

        outcome = replace(self.outcome, trials=list(self.outcome.trials))  # the sweep appends to the original
        rows = front_rows(outcome)
        log_file(self.client, self.refs.parent, "front.csv", csv(rows).encode())
        log_file(self.client, self.refs.parent, "front.json", json.dumps(rows, indent=1).encode())
        on_front = {trial.number for trial in outcome.front()}
        for trial in outcome.trials:
            child = self.children.get(trial.number)
            if child is None or not child.run_id:
                continue  # it ended a moment ago, and the write that creates its run is still in the queue
            if child.on_front != (trial.number in on_front):
                self.client.set_tag(child.run_id, "pareto", str(trial.number in on_front).lower())
                child.on_front = trial.number in on_front
        step = len(outcome.trials) + len(outcome.revisions)
        if step not in self.logged_steps:
            values = outcome_metrics(outcome)
            self.client.log_batch(self.refs.parent, metrics=[Metric(k, v, now, step) for k, v in values.items()])
            self.logged_steps.add(step)
        self.last_progress = time.monotonic()

    def _publish(self, files: Mapping[str, bytes], version: int, newest: bool, now: int) -> None:
        """Log the files of a version; those of an older one only if MLflow does not have that version."""
        self._log_revisions(now)
        if newest:
            for path, data in files.items():
                log_file(self.client, self.refs.parent, path, data)
        known = int(self.client.get_run(self.refs.parent).data.tags.get(VERSION, 1))
        if version > known or (newest and version > 1):
            for path, data in files.items():
                log_file(self.client, self.refs.parent, f"versions/{version}/{path}", data)
            self.client.set_tag(self.refs.parent, VERSION, str(version))

    def _log_confirmed(self, outcome: Outcome, now: int) -> None:
        """Log the confirmation step on the runs of the study and of the confirmed points."""
        is_current = outcome.version == self.outcome.version
        log_confirmation(self.client, self.refs.parent, lambda number: self._run_of(number, now).run_id, outcome, is_current, now)

    def _revise(self, outcome: Outcome, now: int) -> None:
        """Log a revision after those before it: the tag of a later version would say that MLflow has the earlier ones, too."""
        if not any(waiting is outcome for waiting in self.unlogged):
            self.unlogged.append(outcome)
        self._log_revisions(now)

    def _log_revisions(self, now: int) -> None:
        while self.unlogged:
            self._log_revision(self.unlogged[0], now)
            self.unlogged.pop(0)

    def _log_revision(self, outcome: Outcome, now: int) -> None:
        """Log the metrics that a re-evaluation measured on each trial; what is in MLflow already is not logged again."""
        from mlflow.entities import Metric

        self.outcome, revision = outcome, outcome.revisions[-1]
        outcome.mlflow = self.refs
        for trial in outcome.trials:
            run = self.client.get_run(self._run_of(trial.number, now).run_id)
            outdated = int(run.data.tags.get(VERSION, 1)) < revision.version
            if not outdated and (trial.error or run.info.status == "FINISHED"):
                continue
            # The latest value of a metric in MLflow is the one at the highest step; a trial's own metrics are at its last epoch.
            step, when = int(trial.params["epochs"]) + revision.version - 1, milliseconds(revision.when)
            metrics = [Metric(name, trial.metrics[name], when, step) for name in revision.measured.get(trial.number, ())]
            self.client.log_batch(run.info.run_id, metrics=metrics)
            self._set_error(run.info.run_id, trial.error, run.data.tags)
            self.client.set_terminated(run.info.run_id, RUN_STATUS[trial.state])
            self.client.set_tag(run.info.run_id, VERSION, str(revision.version))
        if outcome.confirmed:
            self._log_confirmed(outcome, now)
