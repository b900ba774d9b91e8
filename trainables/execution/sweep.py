"""The sweep: a plan's trials through Ray Tune, in the only file that uses its Tuner."""

import contextlib
import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from ray import tune
from ray.tune.execution import class_cache

from core.space import Value
from trainables.execution.tasks import Executor
from trainables.execution.trainable import tune_trial
from trainables.execution.waiting import StartWatch
from trainables.search.concurrency import LimitedSearcher
from trainables.search.early_stopping import ParetoHalving
from trainables.search.reports import reported_epochs, reported_fatal_error, reported_result
from trainables.search.searcher import StudySearcher
from trainables.storage.jobs import seed_jobs, trial_folder
from trainables.storage.results import as_trial, intact_result
from trainables.storage.store import Store
from trainables.storage.takeover import TUNE_FOLDER
from trainables.study.outcome import Outcome
from trainables.study.plan import Plan
from trainables.study.results import TrainingResult
from trainables.study.trial import Trial
from trainables.terminal import signals

MAX_MACHINE_FAILURES = 2
"""Number of times that a trial is repeated after its machine failed; errors of the trial itself are results."""


class Listener(Protocol):
    """Receives the events of a sweep on the driver. The outcome is up to date when a listener is called."""

    def started(self, number: int, params: Mapping[str, Value], baseline: str) -> None:
        """Called when a trial starts or continues."""
        ...

    def rows(self, number: int, rows: Sequence[Mapping[str, float]]) -> None:
        """Called with epochs of a running trial."""
        ...

    def ended(self, trial: Trial) -> None:
        """Called when a trial reaches a final state."""
        ...


def sweep(plan: Plan, outcome: Outcome, executor: Executor, listeners: Sequence[Listener]) -> None:
    """Run the remaining trials of a plan; `outcome.trials` grows as they end.

    Args:
        plan: the plan.
        outcome: the outcome so far, with the trials that have ended.
        executor: images, resources and folders of the trials.
        listeners: receivers of all events.

    Raises:
        OSError: the storage could not be used.
    """
    remaining = plan.trials - len(outcome.trials)
    if remaining <= 0:
        return
    for noisy in ("ray.tune", "ray.train", "ray.tune.execution.tune_controller"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    # Ray Tune would pass AWS keys to trials in their runtime environment, which Ray writes to its logs. Trials on this machine
    # inherit them, and other machines have their own.
    class_cache.ENV_VARS_TO_PROPAGATE.difference_update({n for n in class_cache.ENV_VARS_TO_PROPAGATE if n.startswith("AWS_")})
    store, share = executor.workspace.store, executor.workspace.share
    # With Ray Train workers, the trial itself only waits: it takes no CPU from its workers and stays on the head node.
    demand = {"CPU": share.cpus, "GPU": share.gpus} if share.workers == 0 else {"node:__internal_head__": 0.001}
    watch = StartWatch(share, executor.warn)
    workspace = replace(executor.workspace, ticket=watch.prefix)
    trainable = tune.with_parameters(
        tune_trial, images=executor.images, workspace=workspace, seeds=plan.seeds_per_trial, rungs=plan.rungs
    )  # fmt: skip
    searcher = LimitedSearcher(StudySearcher(plan, store, outcome.trials), executor.limit)
    records = f"tune-{uuid.uuid4().hex[:8]}"
    try:
        tune.Tuner(
            tune.with_resources(trainable, {name: amount for name, amount in demand.items() if amount}),
            tune_config=tune.TuneConfig(
                search_alg=searcher, num_samples=remaining,
                scheduler=ParetoHalving(plan, outcome.trials) if plan.rungs else None,
                reuse_actors=True, trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name=records, storage_path=store.below(TUNE_FOLDER).root, verbose=0,
                callbacks=[_SweepCallback(plan, outcome, store, listeners, searcher, watch)],
                failure_config=tune.FailureConfig(max_failures=MAX_MACHINE_FAILURES),
            ),
        ).fit()  # fmt: skip
        watch.close()
    finally:  # if another driver has resumed the study meanwhile, it does not know these records
        with contextlib.suppress(OSError):
            store.discard_folder(f"{TUNE_FOLDER}/{records}")
            if not store.names(TUNE_FOLDER):
                store.discard_folder(TUNE_FOLDER)
    if searcher.fatal_error:
        raise OSError(searcher.fatal_error)


class _SweepCallback(tune.Callback):
    """Translates Ray Tune's events for listeners. It raises no error, because Ray Tune would stop the study."""

    def __init__(
        self, plan: Plan, outcome: Outcome, store: Store, listeners: Sequence[Listener], searcher: LimitedSearcher,
        watch: StartWatch,
    ):  # fmt: skip
        self.plan, self.outcome, self.store, self.listeners, self.searcher = plan, outcome, store, listeners, searcher
        self.watch = watch
        self.curves: dict[int, list[Mapping[str, float]]] = {}
        """Curves of running trials, by number."""

    def setup(self, *args: Any, **info: Any) -> None:
        signals.renew()  # Ray Tune has installed its own handlers

    def on_step_begin(self, iteration: int, trials: list, **info: Any) -> None:
        self.watch.check(lambda: [trial.config["number"] for trial in trials if not trial.is_finished()])

    def on_trial_start(self, iteration: int, trials: list, trial, **info: Any) -> None:
        self._notify("started", trial.config["number"], trial.config["params"], trial.config["baseline"])

    def on_trial_result(self, iteration: int, trials: list, trial, result: dict, **info: Any) -> None:
        if rows := reported_epochs(result):
            by_epoch = {row["epoch"]: row for row in [*self.curves.get(trial.config["number"], []), *rows]}
            self.curves[trial.config["number"]] = [by_epoch[epoch] for epoch in sorted(by_epoch)]
            self._notify("rows", trial.config["number"], rows)

    def on_trial_complete(self, iteration: int, trials: list, trial, **info: Any) -> None:
        if fatal := reported_fatal_error(trial.last_result):
            self.searcher.fatal_error = fatal
        elif result := reported_result(trial.last_result):
            self._ended(as_trial(trial.config, result))
        else:  # the scheduler stopped the trial during a report, so only the driver can write its result
            curve = self.curves.get(trial.config["number"], [])
            self._write(trial, TrainingResult(curve=curve, stopped_epoch=int(curve[-1]["epoch"])))

    def on_trial_error(self, iteration: int, trials: list, trial, **info: Any) -> None:
        number = trial.config["number"]
        if result := intact_result(self.store, trial_folder(number)):  # its machine died just after writing the result
            return self._ended(as_trial(trial.config, result))
        reason = str(trial.get_error() or "lost").strip().splitlines()[-1]
        self._write(trial, TrainingResult(curve=self.curves.get(number, []), error=reason))

    def _write(self, trial, result: TrainingResult) -> None:
        """Write the result of a trial that could not write it itself."""
        try:
            number, params = trial.config["number"], trial.config["params"]
            self.store.write_json(f"{trial_folder(number)}/result.json", result.to_json())
            for job in seed_jobs(number, params, self.plan.seeds_per_trial):
                self.store.discard(f"{job.folder}/checkpoint.pt")
        except OSError as error:
            self.searcher.fatal_error = str(error)
        else:
            self._ended(as_trial(trial.config, result))

    def _ended(self, trial: Trial) -> None:
        self.curves.pop(trial.number, None)
        self.outcome.trials.append(trial)
        self._notify("ended", trial)

    def _notify(self, event: str, *args: Any) -> None:
        for listener in self.listeners:
            try:
                getattr(listener, event)(*args)
            except Exception:
                logging.getLogger(__name__).exception("%s failed on the event %s", type(listener).__name__, event)

    def __reduce__(self):
        return tune.Callback, ()  # Ray Tune pickles its settings for a restore that is not used here
