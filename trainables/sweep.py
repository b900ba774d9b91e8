"""The sweep: a plan's trials through Ray Tune. The only file that knows Tuner."""

import contextlib
import logging
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ray import tune

from core.space import Value
from trainables.outcome import Outcome, Trial
from trainables.pace import Pace
from trainables.plan import Plan
from trainables.reconcile import TUNE
from trainables.results import as_trial
from trainables.search import StudySearcher
from trainables.stopping import ParetoHalving
from trainables.store import Store
from trainables.trial import Arrays, Share, seed_jobs, trial_folder, tune_trial


class Listener(Protocol):
    """Whoever wants to hear how a sweep goes; `outcome` is up to date when it is told."""

    def started(self, number: int, params: Mapping[str, Value], baseline: str) -> None:
        """A trial begins."""
        ...

    def rows(self, number: int, rows: list[dict[str, float]]) -> None:
        """Epochs of a running trial."""
        ...

    def ended(self, trial: Trial) -> None:
        """A trial ended, well or not."""
        ...


def sweep(
    plan: Plan, outcome: Outcome, arrays: Arrays, store: Store, share: Share, room: Callable[[], int], listeners: list[Listener]
) -> None:
    """Run the trials that are still to be run; `outcome.trials` grows as they end.

    Args:
        plan: what. outcome: holds the trials that ended before.
        arrays: the packed images. store: the study's folder.
        share: what a trial may use. room: how many trials at a time, asked before each.
        listeners: told of every event, on the driver.

    Raises:
        OSError: the storage could not be used.
    """
    left = plan.trials - len(outcome.trials)
    if left <= 0:
        return
    for noisy in ("ray.tune", "ray.train", "ray.tune.execution.tune_controller"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    # With Ray Train inside, the trial itself only waits: it takes no CPU from its workers and stays on the head node.
    demand = {"CPU": share.cpus, "GPU": share.gpus} if share.workers == 0 else {"node:__internal_head__": 0.001}
    trainable = tune.with_parameters(tune_trial, arrays=arrays, store=store, share=share, seeds=plan.seeds, rungs=plan.rungs)
    pace = Pace(StudySearcher(plan, store, outcome.trials), room)
    records = f"tune-{uuid.uuid4().hex[:8]}"
    try:
        tune.Tuner(
            tune.with_resources(trainable, {name: amount for name, amount in demand.items() if amount}),
            tune_config=tune.TuneConfig(
                search_alg=pace, num_samples=left, scheduler=ParetoHalving(plan, outcome.trials) if plan.rungs else None,
                reuse_actors=True, trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name=records, storage_path=store.below(TUNE).root, verbose=0,
                callbacks=[_Watch(plan, outcome, store, listeners, pace)],
                failure_config=tune.FailureConfig(max_failures=2),  # only of machines: a trial's own errors are results
            ),
        ).fit()  # fmt: skip
    finally:  # if another driver has gone on with the study meanwhile, nobody else removes them
        with contextlib.suppress(OSError):
            store.discard_folder(f"{TUNE}/{records}")
            if not store.names(TUNE):
                store.discard_folder(TUNE)
    if pace.halted:
        raise OSError(pace.halted)


class _Watch(tune.Callback):
    """Turns Tune's events into ours. Nothing may escape from here: Tune would stop the study."""

    def __init__(self, plan: Plan, outcome: Outcome, store: Store, listeners: list[Listener], pace: Pace):
        self.plan, self.outcome, self.store, self.listeners, self.pace = plan, outcome, store, listeners, pace
        self.curves: dict[int, list[dict[str, float]]] = {}
        """Of the trials under way."""

    def on_trial_start(self, iteration: int, trials: list, trial, **info: Any) -> None:
        self._tell("started", trial.config["number"], trial.config["params"], trial.config["baseline"])

    def on_trial_result(self, iteration: int, trials: list, trial, result: dict, **info: Any) -> None:
        if "rows" in result and "metrics" not in result:
            known = {row["epoch"]: row for row in [*self.curves.get(trial.config["number"], []), *result["rows"]]}
            self.curves[trial.config["number"]] = [known[epoch] for epoch in sorted(known)]
            self._tell("rows", trial.config["number"], result["rows"])

    def on_trial_complete(self, iteration: int, trials: list, trial, **info: Any) -> None:
        if "halted" in trial.last_result:
            self.pace.halted = trial.last_result["halted"]
        elif "metrics" in trial.last_result:
            self._ended(as_trial(trial.config, trial.last_result))
        else:  # the scheduler stopped it in the middle of a report, so nobody but the driver can write its result
            curve = self.curves.get(trial.config["number"], [])
            self._record(trial, {"metrics": {}, "curve": curve, "error": "", "stopped": int(curve[-1]["epoch"])})

    def on_trial_error(self, iteration: int, trials: list, trial, **info: Any) -> None:
        number = trial.config["number"]
        if known := self.store.read_json(f"{trial_folder(number)}/result.json"):  # its machine died a moment after that
            return self._ended(as_trial(trial.config, known))
        reason = str(trial.get_error() or "lost").strip().splitlines()[-1]
        self._record(trial, {"metrics": {}, "curve": self.curves.get(number, []), "error": reason})

    def _record(self, trial, result: dict[str, Any]) -> None:
        """Write the result of a trial that could not write it."""
        try:
            number, params = trial.config["number"], trial.config["params"]
            self.store.write_json(f"{trial_folder(number)}/result.json", result)
            for job in seed_jobs(number, params, self.plan.seeds):
                self.store.discard(f"{job.folder}/checkpoint.pt")
        except OSError as error:
            self.pace.halted = str(error)
        else:
            self._ended(as_trial(trial.config, result))

    def _ended(self, trial: Trial) -> None:
        self.curves.pop(trial.number, None)
        self.outcome.trials.append(trial)
        self._tell("ended", trial)

    def _tell(self, event: str, *args: Any) -> None:
        for listener in self.listeners:
            try:
                getattr(listener, event)(*args)
            except Exception:
                logging.getLogger(__name__).exception("while telling %s of %s", type(listener).__name__, event)

    def __reduce__(self):
        return tune.Callback, ()  # Tune pickles its settings for a restore that is not used here
