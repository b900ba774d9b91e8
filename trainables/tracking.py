"""MLflow: one parent run per study, one child per trial, the front as artifacts of the parent.

Only the driver writes, from one thread that takes its orders from a queue: MLflow on SQLite cannot bear several writers on
a fresh file, and a server that is down for a while must not stop a study. Every order is repeated until it succeeds or the
study's end has waited long enough; whatever is missing then is logged by the next `--resume`, from the store.

An answer that is lost does not say whether the order was carried out, so each may be carried out twice: MLflow keeps one
metric of a key, step, time and value, and an order has one time; what was made twice is one again when the study ends.
"""

import contextlib
import datetime
import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from core import pareto, space
from core.config import Limit, Objective
from core.errors import redacted
from core.space import Value
from trainables import report
from trainables.outcome import WHEN, Outcome, Tracked, Trial
from trainables.plan import Plan
from trainables.store import Claim, Superseded
from trainables.terminal import finite
from trainables.words import show

ENDED = ("FINISHED", "FAILED")
BATCH = 1000
"""Metrics that a server takes at once."""
NAME, KIND, NUMBER, VERSION = "trilemma.name", "trilemma.kind", "trilemma.trial", "front_version"
DOUBLE = "trilemma.double_of"
STOPPED = "stopped_after_epoch"
NOTE = "mlflow.note.content"
HOPELESS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "PERMISSION_DENIED", "UNAUTHENTICATED", "RESOURCE_DOES_NOT_EXIST")
PUBLISH_SECONDS = 10.0  # the front on the parent run is refreshed at most this often while the study runs
PATIENCE_SECONDS = 60.0  # how long the end of a study waits for a tracking server that is down


class Tracker:
    """Writes a study to MLflow. Its methods return at once and never raise."""

    def __init__(self, uri: str, plan: Plan, outcome: Outcome, home: str = "runs", claim: Claim | None = None):
        """Opens the parent run, or the one that an earlier driver of the same study opened.

        `home` is where artifacts go if the tracking store is a database that has no place for them. Nothing more is written
        once `claim` has lapsed: the runs are the next driver's.
        """
        self.uri, self.plan, self.home, self.claim = uri, plan, home, claim
        self.first = self.outcome = outcome
        """The study as it was trained, and at its newest version."""
        self.known = list(outcome.trials)
        """What had ended when this driver began; the rest comes as orders."""
        self.orders: queue.Queue[Callable[[], object] | None] = queue.Queue()
        self.tracked = Tracked(uri)
        """Shared with the outcome, so that its report can say where each trial is."""
        self.outcome.tracked = self.tracked
        self.children = self.tracked.runs
        self.logged: dict[int, set[int]] = {}
        """Epochs of a trial's curve that are in MLflow already."""
        self.marked: dict[int, bool] = {}
        """The `pareto` tag of each child, where it is not false."""
        self.counted: set[int] = set()
        """Numbers of ended trials at which the parent's metrics were logged."""
        self.over: set[int] = set()
        """Trials whose child is complete."""
        self.doubtful: set[int] = set()
        """Trials of which there may be a child that we do not know: an attempt to make it was cut off."""
        self.fresh: set[int] = set()
        """Trials whose child we have made and have not begun to complete, so that we know what is in it."""
        self.stopped: set[int] = set()
        """Trials that an earlier driver began, whose child says that they do not run."""
        self.parent = ""
        self.published = 0.0
        self.closing = threading.Event()
        self.deadline = float("inf")
        self.last_error = ""
        self.undelivered = 0
        self._order(self._open)
        self.thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self.thread.start()

    def started(self, number: int, params: Mapping[str, Value], baseline: str) -> None:
        """A trial begins (or goes on)."""
        self._order(lambda now: self._start(number, params, baseline))

    def rows(self, number: int, rows: list[dict[str, float]]) -> None:
        """Epochs of a running trial."""
        self._order(lambda now: self._rows(number, rows, now))

    def ended(self, trial: Trial) -> None:
        """A trial ended; `outcome` holds it already."""
        self._order(lambda now: self._end(trial, now))
        self._order(self._publish_sometimes)

    def confirmed(self) -> None:
        """`outcome.confirmed` is complete."""
        self._order(lambda now: self._confirmed(self.first, now))

    def versions(self, later: Sequence[Outcome]) -> None:
        """The study after later looks at its networks, oldest first; the last one is what is shown from here on."""
        for outcome in later:
            self._order(lambda now, outcome=outcome: self._version(outcome, now, newest=outcome is later[-1]))

    def close(self, status: str = "FINISHED") -> int:
        """Publish everything, or after an interruption only what is waiting; end the runs, and wait for it.

        Returns:
            How many orders could not be delivered in time; 0 is all good.
        """
        self._order(self._publish if status == "FINISHED" else self._progress)
        self._order(lambda now: self._settle(status))
        self.orders.put(None)
        self.deadline = time.monotonic() + PATIENCE_SECONDS
        self.closing.set()
        self.thread.join()
        return self.undelivered

    def _order(self, order: Callable[[int], object]) -> None:
        """Have something done; it is told the time of the order, which is the same however often it is tried."""
        now = int(time.time() * 1000)
        self.orders.put(lambda: order(now))

    def _work(self) -> None:
        while (order := self.orders.get()) is not None and not self._superseded():
            pause = 0.5
            while not self._tried(order):
                if self._superseded():
                    return
                if time.monotonic() > self.deadline:  # nothing has gone through for so long that nothing more will
                    self.undelivered += 1 + sum(left is not None for left in self._rest())
                    return
                time.sleep(0.5 if self.closing.is_set() else pause)
                pause = min(2 * pause, 10.0)
            if self.closing.is_set():
                self.deadline = time.monotonic() + PATIENCE_SECONDS

    def _superseded(self) -> bool:
        try:
            if self.claim:
                self.claim.check()
        except Superseded:
            return True
        except (OSError, ValueError):  # that the storage is away or broken does not say that another driver has come
            pass
        return False

    def _rest(self) -> list[Callable[[], object] | None]:
        rest = []
        while not self.orders.empty():
            rest.append(self.orders.get())
        return rest

    def _tried(self, order: Callable[[], object]) -> bool:
        """Carry out an order; False if it is worth trying again."""
        from mlflow.exceptions import MlflowException

        try:
            order()
        except (MlflowException, OSError) as error:
            self.last_error = redacted(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)
            if getattr(error, "error_code", "") not in HOPELESS:
                return False
            self._lost(error)
        except Exception as error:  # a fault of ours: repeating would not help, and the study matters more
            self._lost(error)
        return True

    def _lost(self, error: Exception) -> None:
        from mlflow.exceptions import MlflowException

        self.undelivered += 1
        self.last_error = redacted(str(error))
        ours = error if not isinstance(error, (MlflowException, OSError)) else None  # theirs may name the server with its password
        logging.getLogger(__name__).error("could not be logged to MLflow: %s", self.last_error, exc_info=ours)

    def _open(self, now: int) -> None:
        self.client = connect(self.uri)
        found = self.client.get_experiment_by_name(self.plan.study)
        home = _artifact_home(self.uri, self.plan.study, self.home)
        experiment = found.experiment_id if found else self.client.create_experiment(self.plan.study, home)
        self.experiment = experiment
        if not found or NOTE not in found.tags:  # a description that somebody has written stays
            self.client.set_experiment_tag(experiment, NOTE, self.plan.question)
        same = lambda: _studies(self.client, [experiment], self.plan.name)  # noqa: E731
        runs = same()
        tags = {NAME: self.plan.name, KIND: "study", NOTE: self._about(), **self._source()}
        run = max(runs, key=_filled) if runs else self._create(self.plan.name, tags, same)
        self.parent = run.info.run_id
        self.tracked.experiment, self.tracked.parent = experiment, self.parent
        params = {
            **{f"space/{name}": space.text(span) for name, span in space.flat(self.plan.space).items()},
            **{f"config/{name}": value for name, value in self.plan.config.params().items()},
            **{f"fact/{name}": text for name, text in self.outcome.facts.items()},
            "objectives": json.dumps([vars(objective) for objective in self.plan.objectives]),
            "trials": self.plan.trials, "sampler": self.plan.sampler, "seed": self.plan.seed,
            "replicates": self.plan.replicates, "shadows": self.plan.shadows,
            "require": " and ".join(map(str, self.plan.require)),
            "seeds": self.plan.seeds, "early_stopping": " ".join(map(str, self.plan.rungs)),
            **{f"confirm/{name}": value for name, value in self.plan.confirm.items()},
        }  # fmt: skip
        # A fact that grows with every resume keeps its first value: MLflow refuses another.
        self._params(self.parent, {name: value for name, value in params.items() if name not in run.data.params})
        if runs:
            self.client.update_run(self.parent, status="RUNNING")
        self._reconcile(now)

    def _reconcile(self, now: int) -> None:
        """Learn what an earlier driver logged, so that nothing is logged twice, and log what it did not come to.

        A trial that neither ended nor goes on at once is said to be killed until it does.
        """
        ended = {trial.number for trial in self.known}
        found: dict[int, list] = {}
        for run in children_of(self.client, self.experiment, self.parent):
            found.setdefault(int(run.data.tags[NUMBER]), []).append(run)
        for number, runs in found.items():
            run = max(runs, key=_filled)
            if run.data.params:
                self.children[number] = run.info.run_id
            else:  # the driver died between making and filling it
                self.doubtful.add(number)
            self.marked[number] = run.data.tags["pareto"] == "true"
            if run.info.status in ENDED and number in ended:
                self.over.add(number)
                continue
            history = self.client.get_metric_history(run.info.run_id, "epoch/loss")
            self.logged[number] = {metric.step for metric in history}
            if number not in ended:
                if run.info.status == "RUNNING":
                    self.client.set_terminated(run.info.run_id, "KILLED")
                self.stopped.add(number)
        self.counted = {metric.step for metric in self.client.get_metric_history(self.parent, "trials_completed")}
        for trial in self.known:
            self._end(trial, now)

    def _settle(self, status: str) -> None:
        """End the study's run. What does not run any more does not say that it does, and of what was made twice one is left."""
        doubles = []
        for run in children_of(self.client, self.experiment, self.parent):
            kept = self.children.get(int(run.data.tags[NUMBER]), run.info.run_id)
            if kept != run.info.run_id:
                doubles.append((run, kept))
            elif run.info.status == "RUNNING":
                self.client.set_terminated(run.info.run_id, "KILLED")
        self.client.set_terminated(self.parent, status)
        studies = _studies(self.client, [self.experiment], self.plan.name)
        doubles += [(run, self.parent) for run in studies if run.info.run_id != self.parent]
        for run, kept in doubles:
            self._drop(run, kept)

    def _drop(self, run, kept: str) -> None:
        """Delete a run that was made twice, because the answer to the first order was lost; MLflow keeps it for a while.

        Who may not delete leaves its tag, by which it is known.
        """
        from mlflow.exceptions import MlflowException

        self.client.set_tag(run.info.run_id, DOUBLE, kept)
        try:
            self.client.delete_run(run.info.run_id)
        except MlflowException as error:
            if error.error_code != "PERMISSION_DENIED":
                raise

    def _start(self, number: int, params: Mapping[str, Value], baseline: str) -> str:
        if number not in self.children:
            found = max(self._children(number), key=_filled, default=None) if number in self.doubtful else None
            self.doubtful.add(number)
            tags = {
                "mlflow.parentRunId": self.parent, NAME: self.plan.name, KIND: "trial", NUMBER: str(number),
                "pareto": "false", NOTE: self._about_trial(number, params, baseline), **self._source(),
            } | ({"baseline": baseline} if baseline else {})  # fmt: skip
            label = f"{number:05d}" + (f" {baseline}" if baseline else "")
            run = found or self._create(label, tags, lambda: self._children(number))
            self._params(run.info.run_id, params)  # the same values again do no harm, so this may have happened before
            self.children[number] = run.info.run_id
            if not found:
                self.fresh.add(number)
        if number in self.stopped:
            self.client.update_run(self.children[number], status="RUNNING")
            self.stopped.discard(number)
        return self.children[number]

    def _source(self) -> dict[str, str]:
        """What MLflow shows as the source of a run: the study's script."""
        return {"mlflow.source.name": f"{self.plan.study}.py", "mlflow.source.type": "LOCAL"}

    def _about(self) -> str:
        """The description of the study's run; Markdown."""
        command = self.outcome.facts.get("command", "")
        lines = [self.plan.question, f"    {command}" if command else "", "`report.html`, under Artifacts, has the answer."]
        lines.append(f"The runs on its front: `tags.pareto = 'true' and tags.{NAME} = '{self.plan.name}'`")
        return "\n\n".join(line for line in lines if line)

    def _about_trial(self, number: int, params: Mapping[str, Value], baseline: str) -> str:
        """The description of a trial's run: what sets it apart from others; Markdown."""
        if baseline:
            return f"Trial {number} of {self.plan.name}, the baseline *{baseline}*."
        knobs = [f"- `{name}` {show(params[name])}" for name in space.names(self.plan.space) if name in params]
        return "\n".join([f"Trial {number} of {self.plan.name}, with these of the knobs that were searched:", "", *knobs])

    def _create(self, name: str, tags: Mapping[str, str], same: Callable[[], list]):
        """A new run; `same` finds all that stand for the same thing.

        A driver may have slept while it asked, and another one may have followed since. Then either that one has taken up this
        run, or it has made its own, and this one is dropped, or it has yet to come to it, and will find this one.

        Raises:
            Superseded: another one has.
        """
        run = self.client.create_run(self.experiment, run_name=name, tags=dict(tags))
        if self._superseded():
            kept = max(same(), key=_filled, default=run).info.run_id
            if kept != run.info.run_id:
                self._drop(run, kept)
            raise Superseded("another driver has gone on with the study")
        return run

    def _children(self, number: int) -> list:
        """The runs of a trial; more than one where an attempt to make it was cut off."""
        return children_of(self.client, self.experiment, self.parent, f" and tags.`{NUMBER}` = '{number}'")

    def _rows(self, number: int, rows: list[dict[str, float]], now: int, result: Sequence[Any] = ()) -> None:
        """Epochs that are not in MLflow yet, each whole, and with the last of them the metrics of the result."""
        from mlflow.entities import Metric

        seen = self.logged.setdefault(number, set())
        new = [row for row in rows if int(row["epoch"]) not in seen]
        each = max(1, BATCH // max(map(len, new), default=1))
        batches = [new[i : i + each] for i in range(0, len(new), each)]
        if result and (not batches or sum(map(len, batches[-1])) + len(result) > BATCH):
            batches.append([])
        for some in batches:
            metrics = [Metric(k, v, now, int(row["epoch"])) for row in some for k, v in row.items() if k != "epoch"]
            metrics += result if some is batches[-1] else []
            self.client.log_batch(self.children[number], metrics=metrics)
            seen |= {int(row["epoch"]) for row in some}

    def _end(self, trial: Trial, now: int) -> None:
        from mlflow.entities import Metric

        if trial.number in self.over:
            return
        run_id = self._start(trial.number, trial.params, trial.baseline)
        known = self.client.get_run(run_id).data if trial.number not in self.fresh else None
        self.fresh.discard(trial.number)
        new = not known or not set(trial.metrics) <= set(known.metrics)
        result = [Metric(k, v, now, int(trial.params["epochs"])) for k, v in trial.metrics.items()] if new else []
        self._rows(trial.number, trial.curve, now, result)
        if trial.error:
            self.client.set_tag(run_id, "error", trial.error)
        elif known and "error" in known.tags:  # of a trial whose failure was not recorded, so that it was tried again
            self.client.delete_tag(run_id, "error")
        if trial.stopped:
            self.client.set_tag(run_id, STOPPED, str(trial.stopped))
        self.client.set_terminated(run_id, "FAILED" if trial.error else "FINISHED")
        self.over.add(trial.number)

    def _params(self, run_id: str, params: Mapping[str, Value]) -> None:
        from mlflow.entities import Param

        self.client.log_batch(run_id, params=[Param(name, str(value)) for name, value in params.items()])

    def _publish_sometimes(self, now: int) -> None:
        if time.monotonic() - self.published >= PUBLISH_SECONDS:
            self._progress(now)

    def _progress(self, now: int) -> None:
        """Front, counts and tags as of now; cheap enough to repeat while the study runs."""
        from mlflow.entities import Metric

        outcome = replace(self.outcome, trials=list(self.outcome.trials))  # the sweep goes on adding to it
        front = outcome.front()
        rows = report.front_rows(outcome)
        self.client.log_text(self.parent, report.csv(rows), "front.csv")
        self.client.log_text(self.parent, json.dumps(rows, indent=1), "front.json")
        on = {trial.number for trial in front}
        for trial in outcome.trials:
            if trial.number not in self.children:
                continue  # ended a moment ago; its child is the next order
            if self.marked.get(trial.number, False) != (trial.number in on):
                self.client.set_tag(self.children[trial.number], "pareto", str(trial.number in on).lower())
                self.marked[trial.number] = trial.number in on
        step = len(outcome.trials) + len(outcome.changes)
        counts = {
            "hypervolume": outcome.hypervolume(), "front_size": len(front),
            "trials_completed": len(outcome.done), "trials_failed": len(outcome.failed),
            "trials_stopped": len(outcome.stopped),
        }  # fmt: skip
        if step not in self.counted:
            self.client.log_batch(self.parent, metrics=[Metric(k, float(v), now, step) for k, v in counts.items()])
            self.counted.add(step)
        self.published = time.monotonic()

    def _publish(self, now: int) -> None:
        self._progress(now)
        for name, picture in report.figures(self.outcome).items():
            self._artifact(f"plots/{name}", picture)
        self.client.log_text(self.parent, report.html(self.outcome), "report.html")

    def _artifact(self, name: str, data: bytes) -> None:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(name).name
            path.write_bytes(data)
            self.client.log_artifact(self.parent, str(path), str(Path(name).parent))

    def _confirmed(self, outcome: Outcome, now: int) -> None:
        from mlflow.entities import Metric

        rows = report.confirmed_rows(outcome)
        if outcome.version == self.outcome.version:
            self.client.log_text(self.parent, report.csv(rows), "confirmed.csv")
            self.client.log_text(self.parent, json.dumps(finite(rows), indent=1), "confirmed.json")
        for point in outcome.confirmed:
            values = {f"confirmed/{name}": mean for name, mean in point.means.items()}
            values |= {f"confirmed/mia_auc/{name}": leak.auc for name, leak in point.leaks.items()}
            values |= {
                f"confirmed/mia_tpr_at_fpr_{rate:g}/{name}": tpr
                for name, leak in point.leaks.items() for rate, tpr in leak.tprs.items()
            }  # fmt: skip
            values["confirmed/probability_non_dominated"] = point.probability
            run_id, step = self.children[point.number], len(outcome.changes)
            new = [Metric(name, mean, now, step) for name, mean in values.items() if self._at(run_id, name, step) != mean]
            self.client.log_batch(run_id, metrics=new)
            if outcome.version == self.outcome.version:
                self.client.set_tag(run_id, "confirmed", str(point.on_front).lower())

    def _at(self, run_id: str, name: str, step: int) -> float | None:
        """The newest value of a metric at a step."""
        values = [m for m in self.client.get_metric_history(run_id, name) if m.step == step]
        return max(values, key=lambda m: m.timestamp).value if values else None

    def _version(self, outcome: Outcome, now: int, newest: bool) -> None:
        """What a later look found on each trial, and the version's files; what is there already is not logged again."""
        from mlflow.entities import Metric

        self.outcome, made = outcome, outcome.changes[-1]
        outcome.tracked = self.tracked
        for trial in outcome.trials:
            run = self.client.get_run(self.children[trial.number])
            behind = int(run.data.tags.get(VERSION, 1)) < made.version
            if not behind and (trial.error or run.info.status == "FINISHED"):
                continue
            # MLflow calls the value of the highest step the latest one, and the trial's own are at its last epoch.
            step, when = int(trial.params["epochs"]) + made.version - 1, _milliseconds(made.when)
            metrics = [Metric(name, trial.metrics[name], when, step) for name in made.measured.get(trial.number, ())]
            self.client.log_batch(run.info.run_id, metrics=metrics)
            if trial.error:
                self.client.set_tag(run.info.run_id, "error", trial.error)
            elif "error" in run.data.tags:
                self.client.delete_tag(run.info.run_id, "error")
            self.client.set_terminated(run.info.run_id, "FAILED" if trial.error else "FINISHED")
            self.client.set_tag(run.info.run_id, VERSION, str(made.version))
        if outcome.confirmed:
            self._confirmed(outcome, now)
        parent = self.client.get_run(self.parent)
        if newest or int(parent.data.tags.get(VERSION, 1)) < made.version:  # of the newest, a network may have been tried again
            for name, data in report.files(outcome).items():
                self._artifact(f"versions/{made.version}/{name}", data)
            self.client.set_tag(self.parent, VERSION, str(made.version))


def front_version(uri: str, plan: Plan) -> int:
    """The version of a study's front that a tracking server or database shows; 0 if it does not know the study."""
    client = connect(uri)
    experiment = client.get_experiment_by_name(plan.study)
    runs = _studies(client, [experiment.experiment_id], plan.name) if experiment else []
    return int(runs[0].data.tags.get(VERSION, 1)) if runs else 0


def tracked(uri: str, plan: Plan) -> Tracked:
    """Where MLflow keeps a study; as much as it tells, which is nothing while it cannot be reached."""
    from mlflow.exceptions import MlflowException

    found = Tracked(uri)
    with contextlib.suppress(MlflowException, OSError):
        client = connect(uri)
        experiment = client.get_experiment_by_name(plan.study)
        for run in _studies(client, [experiment.experiment_id], plan.name) if experiment else []:
            found.experiment, found.parent = run.info.experiment_id, run.info.run_id
            children = children_of(client, found.experiment, found.parent)
            found.runs = {int(child.data.tags[NUMBER]): child.info.run_id for child in children}
    return found


def _studies(client, experiments: Sequence[str], name: str) -> list:
    return runs_where(client, experiments, f"tags.`{NAME}` = '{name}' and tags.`{KIND}` = 'study'")


def _filled(run) -> tuple:
    """Orders runs that stand for one thing: the one that was written to most comes last, the older one of equals."""
    return run.info.status in ENDED, len(run.data.metrics), len(run.data.params), -run.info.start_time


def _milliseconds(when: str) -> int:
    return int(datetime.datetime.strptime(when, WHEN).timestamp() * 1000)


def front_from_runs(uri: str, name: str) -> list[dict[str, float | int]]:
    """The front of a study from its child runs alone: trial number and objective metrics, in no order.

    Args:
        uri: the tracking server or database. name: of the execution, as `--resume` takes it.
    """
    client = connect(uri)
    experiments = [e.experiment_id for e in client.search_experiments()]
    (parent,) = _studies(client, experiments, name)
    objectives = [Objective(**o) for o in json.loads(parent.data.params["objectives"])]
    runs = children_of(client, parent.info.experiment_id, parent.info.run_id)
    runs = [run for run in runs if run.info.status == "FINISHED"]
    mask = pareto.front([run.data.metrics for run in runs], objectives, limits_of(parent.data.params))
    return [
        {"trial": int(run.data.tags[NUMBER])} | {o.metric: run.data.metrics[o.metric] for o in objectives}
        for run, on in zip(runs, mask, strict=True)
        if on
    ]


def limits_of(params: Mapping[str, str]) -> tuple[Limit, ...]:
    """What a study required of its front, from the parameters of its parent run."""
    return tuple(Limit.of(text) for text in params.get("require", "").split(" and ") if text)


def children_of(client, experiment: str, parent: str, what: str = "") -> list:
    """The runs of a study's trials, without those that are known to have been made twice."""
    found = runs_where(client, [experiment], f"tags.`mlflow.parentRunId` = '{parent}'{what}")
    return [run for run in found if DOUBLE not in run.data.tags]


def runs_where(client, experiments: Sequence[str], what: str) -> list:
    """Runs from all pages of a search."""
    found, token = [], None
    while token != "":
        page = client.search_runs(list(experiments), what, page_token=token)
        found += page
        token = page.token or ""
    return found


def connect(uri: str):
    """A quiet client of a tracking server or database.

    MLflow keeps an open database for each URI, so a path must not mean another file after the next `chdir`.
    """
    from mlflow import MlflowClient

    if uri.startswith("sqlite:///"):
        uri = f"sqlite:///{Path(uri.removeprefix('sqlite:///')).absolute()}"
    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    return MlflowClient(tracking_uri=uri)


def _artifact_home(uri: str, study: str, storage: str) -> str | None:
    """Beside a SQLite file, in --storage for another database: MLflow's own choice is the current directory.

    A server has its own place.
    """
    if uri.startswith("http"):
        return None
    if not uri.startswith("sqlite:///"):
        return f"{storage}/mlartifacts/{study}"
    return (Path(uri.removeprefix("sqlite:///")).absolute().parent / "mlartifacts" / study).as_uri()
