"""MLflow: one parent run per study, one child per trial, the front as artifacts of the parent.

Only the driver writes, from one thread that takes its orders from a queue: MLflow on SQLite cannot bear several writers on
a fresh file, and a server that is down for a while must not stop a study. Every order is repeated until it succeeds or the
study's end has waited long enough; whatever is missing then is logged by the next `--resume`, from the store.
"""

import contextlib
import datetime
import json
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from core import pareto, space
from core.config import Objective
from core.errors import redacted
from core.space import Value
from trainables import report
from trainables.outcome import WHEN, Outcome, Tracked, Trial
from trainables.plan import Plan

ENDED = ("FINISHED", "FAILED")
NAME, KIND, NUMBER, VERSION = "trilemma.name", "trilemma.kind", "trilemma.trial", "front_version"
HOPELESS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "PERMISSION_DENIED", "UNAUTHENTICATED", "RESOURCE_DOES_NOT_EXIST")
PUBLISH_SECONDS = 10.0  # the front on the parent run is refreshed at most this often while the study runs
PATIENCE_SECONDS = 60.0  # how long the end of a study waits for a tracking server that is down


class Tracker:
    """Writes a study to MLflow. Its methods return at once and never raise."""

    def __init__(self, uri: str, plan: Plan, outcome: Outcome, home: str = "runs"):
        """Opens the parent run, or the one that an earlier driver of the same study opened.

        `home` is where artifacts go if the tracking store is a database that has no place for them.
        """
        self.uri, self.plan, self.home = uri, plan, home
        self.first = self.outcome = outcome
        """The study as it was trained, and at its newest version."""
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
        self.parent = ""
        self.published = 0.0
        self.closing = threading.Event()
        self.deadline = float("inf")
        self.last_error = ""
        self.undelivered = 0
        self.orders.put(self._open)
        self.thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self.thread.start()

    def started(self, number: int, params: Mapping[str, Value], baseline: str) -> None:
        """A trial begins (or goes on)."""
        self.orders.put(lambda: self._start(number, params, baseline))

    def rows(self, number: int, rows: list[dict[str, float]]) -> None:
        """Epochs of a running trial."""
        self.orders.put(lambda: self._rows(number, rows))

    def ended(self, trial: Trial) -> None:
        """A trial ended; `outcome` holds it already."""
        self.orders.put(lambda: self._end(trial))
        self.orders.put(self._publish_sometimes)

    def confirmed(self) -> None:
        """`outcome.confirmed` is complete."""
        self.orders.put(lambda: self._confirmed(self.first))

    def versions(self, later: Sequence[Outcome]) -> None:
        """The study after later looks at its networks, oldest first; the last one is what is shown from here on."""
        for outcome in later:
            self.orders.put(lambda outcome=outcome: self._version(outcome, newest=outcome is later[-1]))

    def close(self, status: str = "FINISHED") -> int:
        """Publish everything, or after an interruption only what is waiting; end the parent run, and wait for it.

        Returns:
            How many orders could not be delivered in time; 0 is all good.
        """
        self.orders.put(self._publish if status == "FINISHED" else self._progress)
        self.orders.put(lambda: self.client.set_terminated(self.parent, status))
        self.orders.put(None)
        self.deadline = time.monotonic() + PATIENCE_SECONDS
        self.closing.set()
        self.thread.join()
        return self.undelivered

    def _work(self) -> None:
        while (order := self.orders.get()) is not None:
            pause = 0.5
            while not self._tried(order):
                if time.monotonic() > self.deadline:  # nothing has gone through for so long that nothing more will
                    self.undelivered += 1 + sum(left is not None for left in self._rest())
                    return
                time.sleep(0.5 if self.closing.is_set() else pause)
                pause = min(2 * pause, 10.0)
            if self.closing.is_set():
                self.deadline = time.monotonic() + PATIENCE_SECONDS

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
        self.undelivered += 1
        self.last_error = redacted(str(error))
        logging.getLogger(__name__).error("could not be logged to MLflow: %s", error, exc_info=error)

    def _open(self) -> None:
        self.client = connect(self.uri)
        found = self.client.get_experiment_by_name(self.plan.study)
        home = _artifact_home(self.uri, self.plan.study, self.home)
        experiment = found.experiment_id if found else self.client.create_experiment(self.plan.study, home)
        self.experiment = experiment
        runs = _studies(self.client, [experiment], self.plan.name)
        tags = {NAME: self.plan.name, KIND: "study", "mlflow.note.content": self.plan.question}
        run = runs[0] if runs else self.client.create_run(experiment, run_name=self.plan.name, tags=tags)
        self.parent = run.info.run_id
        self.tracked.experiment, self.tracked.parent = experiment, self.parent
        params = {
            **{f"space/{name}": space.text(span) for name, span in space.flat(self.plan.space).items()},
            **{f"config/{name}": value for name, value in self.plan.config.params().items()},
            **{f"fact/{name}": text for name, text in self.outcome.facts.items()},
            "objectives": json.dumps([vars(objective) for objective in self.plan.objectives]),
            "trials": self.plan.trials, "sampler": self.plan.sampler, "seed": self.plan.seed,
            "replicates": self.plan.replicates, "shadows": self.plan.shadows,
            **{f"confirm/{name}": value for name, value in self.plan.confirm.items()},
        }  # fmt: skip
        # A fact that grows with every resume keeps its first value: MLflow refuses another.
        self._params(self.parent, {name: value for name, value in params.items() if name not in run.data.params})
        if runs:
            self.client.update_run(self.parent, status="RUNNING")
        self._reconcile()

    def _reconcile(self) -> None:
        """Learn what an earlier driver logged, so that nothing is logged twice."""
        for run in _children(self.client, self.experiment, self.parent):
            number = int(run.data.tags[NUMBER])
            if run.data.params:  # else the driver died between making and filling it; `_start` will find it
                self.children[number] = run.info.run_id
            self.marked[number] = run.data.tags["pareto"] == "true"
            if run.info.status in ENDED:
                self.over.add(number)
                continue
            history = self.client.get_metric_history(run.info.run_id, "epoch/loss")
            self.logged[number] = {metric.step for metric in history}
        self.counted = {metric.step for metric in self.client.get_metric_history(self.parent, "trials_completed")}
        for trial in self.outcome.trials:
            self._end(trial)

    def _start(self, number: int, params: Mapping[str, Value], baseline: str) -> str:
        if number not in self.children:
            found = self._find_child(number)
            tags = {
                "mlflow.parentRunId": self.parent, NAME: self.plan.name, KIND: "trial", NUMBER: str(number),
                "pareto": "false", "baseline": baseline,
            }  # fmt: skip
            label = f"{number:05d}" + (f" {baseline}" if baseline else "")
            run = found or self.client.create_run(self.experiment, run_name=label, tags=tags)
            self._params(run.info.run_id, params)  # the same values again do no harm, so this may have happened before
            self.children[number] = run.info.run_id
        return self.children[number]

    def _find_child(self, number: int):
        """The child that an attempt cut off half-way has left, if there is one."""
        what = f"tags.`mlflow.parentRunId` = '{self.parent}' and tags.`{NUMBER}` = '{number}'"
        return next(iter(self.client.search_runs([self.experiment], what)), None)

    def _rows(self, number: int, rows: list[dict[str, float]]) -> None:
        from mlflow.entities import Metric

        seen = self.logged.setdefault(number, set())
        new = [row for row in rows if int(row["epoch"]) not in seen]
        now = int(time.time() * 1000)
        metrics = [Metric(k, v, now, int(row["epoch"])) for row in new for k, v in row.items() if k != "epoch"]
        for chunk in (metrics[i : i + 1000] for i in range(0, len(metrics), 1000)):
            self.client.log_batch(self.children[number], metrics=chunk)
        seen |= {int(row["epoch"]) for row in new}

    def _end(self, trial: Trial) -> None:
        from mlflow.entities import Metric

        if trial.number in self.over:
            return
        run_id = self._start(trial.number, trial.params, trial.baseline)
        run = self.client.get_run(run_id)
        self._rows(trial.number, trial.curve)
        if not set(trial.metrics) <= set(run.data.metrics):
            step, now = int(trial.params["epochs"]), int(time.time() * 1000)
            self.client.log_batch(run_id, metrics=[Metric(k, v, now, step) for k, v in trial.metrics.items()])
        if trial.error:
            self.client.set_tag(run_id, "error", trial.error)
        self.client.set_terminated(run_id, "FAILED" if trial.error else "FINISHED")
        self.over.add(trial.number)

    def _params(self, run_id: str, params: Mapping[str, Value]) -> None:
        from mlflow.entities import Param

        self.client.log_batch(run_id, params=[Param(name, str(value)) for name, value in params.items()])

    def _publish_sometimes(self) -> None:
        if time.monotonic() - self.published >= PUBLISH_SECONDS:
            self._progress()

    def _progress(self) -> None:
        """Front, counts and tags as of now; cheap enough to repeat while the study runs."""
        from mlflow.entities import Metric

        front = self.outcome.front()
        rows = report.front_rows(self.outcome)
        self.client.log_text(self.parent, report.csv(rows), "front.csv")
        self.client.log_text(self.parent, json.dumps(rows, indent=1), "front.json")
        on = {trial.number for trial in front}
        for trial in self.outcome.trials:
            if trial.number not in self.children:
                continue  # ended a moment ago; its child is the next order
            if self.marked.get(trial.number, False) != (trial.number in on):
                self.client.set_tag(self.children[trial.number], "pareto", str(trial.number in on).lower())
                self.marked[trial.number] = trial.number in on
        step, now = len(self.outcome.trials) + len(self.outcome.changes), int(time.time() * 1000)
        counts = {
            "hypervolume": self.outcome.hypervolume(), "front_size": len(front),
            "trials_completed": len(self.outcome.done), "trials_failed": len(self.outcome.failed),
        }  # fmt: skip
        if step not in self.counted:
            self.client.log_batch(self.parent, metrics=[Metric(k, float(v), now, step) for k, v in counts.items()])
            self.counted.add(step)
        self.published = time.monotonic()

    def _publish(self) -> None:
        self._progress()
        for name, picture in report.figures(self.outcome).items():
            self._artifact(f"plots/{name}", picture)
        self.client.log_text(self.parent, report.html(self.outcome), "report.html")

    def _artifact(self, name: str, data: bytes) -> None:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(name).name
            path.write_bytes(data)
            self.client.log_artifact(self.parent, str(path), str(Path(name).parent))

    def _confirmed(self, outcome: Outcome) -> None:
        from mlflow.entities import Metric

        rows = report.confirmed_rows(outcome)
        if outcome.version == self.outcome.version:
            self.client.log_text(self.parent, report.csv(rows), "confirmed.csv")
            finite = [{k: v if not isinstance(v, float) or math.isfinite(v) else None for k, v in row.items()} for row in rows]
            self.client.log_text(self.parent, json.dumps(finite, indent=1), "confirmed.json")
        now = int(time.time() * 1000)
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

    def _version(self, outcome: Outcome, newest: bool) -> None:
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
            self._confirmed(outcome)
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
            children = _children(client, found.experiment, found.parent)
            found.runs = {int(child.data.tags[NUMBER]): child.info.run_id for child in children}
    return found


def _studies(client, experiments: Sequence[str], name: str) -> list:
    return client.search_runs(list(experiments), f"tags.`{NAME}` = '{name}' and tags.`{KIND}` = 'study'")


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
    runs = _children(client, parent.info.experiment_id, parent.info.run_id)
    runs = [run for run in runs if run.info.status == "FINISHED"]
    mask = pareto.front([run.data.metrics for run in runs], objectives)
    return [
        {"trial": int(run.data.tags[NUMBER])} | {o.metric: run.data.metrics[o.metric] for o in objectives}
        for run, on in zip(runs, mask, strict=True)
        if on
    ]


def _children(client, experiment: str, parent: str) -> list:
    found, token = [], None
    while token != "":
        page = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'", page_token=token)
        found += page
        token = page.token or ""
    return found


def connect(uri: str):
    """A quiet client of a tracking server or database."""
    from mlflow import MlflowClient

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
