"""The searcher: a multi-objective Optuna study behind Ray Tune's interface.

Ray's own OptunaSearch leaves a trial RUNNING for ever if a metric is missing or NaN, puts an infinite metric on the front, and
loses its history between two snapshots if the driver dies. This searcher reports COMPLETE, FAIL or PRUNED to Optuna and needs no
snapshot: suggestion n depends on the seed, on n, and on the trials that ended before it, all of which are in the store.

In a conditional space a trial has only the knobs of its own options. TPE models each group of knobs that occur together. NSGA-II
crosses parameters that all trials have, so its trials also carry values for options that they do not have, which their children
inherit.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState as OptunaState
from optuna.trial import create_trial
from ray.tune.search import Searcher

from core import pareto
from core.config import TrialConfig
from core.errors import InputError, unknown
from core.rng import fold
from core.space import Switch, Value, flat
from trainables.search.distributions import distribution, suggest
from trainables.search.reports import reported_result
from trainables.search.samplers import SAMPLERS
from trainables.storage.jobs import trial_folder
from trainables.storage.results import suggestion
from trainables.storage.store import Store
from trainables.study.plan import Plan
from trainables.study.results import TrainingResult
from trainables.study.trial import Trial
from trainables.study.trial_state import TrialState

UNMEASURED_VIOLATION = 1e9
"""Violation of a constraint on a metric that was not measured; samplers turn infinity into NaN."""
MAX_ATTEMPTS = 200
"""Number of consecutive illegal suggestions after which the search stops."""


class StudySearcher(Searcher):
    """Suggests the baselines of a study first, then its interrupted trials, then what the sampler proposes."""

    def __init__(self, plan: Plan, store: Store, ended: Sequence[Trial]):
        """`ended` are the trials that ended under an earlier driver of the study."""
        super().__init__()
        if plan.sampler not in SAMPLERS:
            raise unknown("sampler", plan.sampler, SAMPLERS)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.plan, self.store = plan, store
        self.distributions = {name: distribution(span) for name, span in flat(plan.space).items()}
        self.study = optuna.create_study(directions=[StudyDirection.MINIMIZE for _ in plan.objectives])
        self.running: dict[str, optuna.Trial | int | None] = {}
        """Optuna's trial, or its number, by Ray Tune's trial ID; None for a baseline."""
        self.interrupted: dict[int, int] = {}
        """Optuna's numbers of trials that an earlier driver started, by our numbers."""
        results = {trial.number: trial for trial in ended}
        self.remaining = sorted(set(range(plan.trials)) - results.keys())
        for number in range(len(plan.baselines), plan.trials):
            record = suggestion(store, number)
            if record is None:
                continue  # not suggested yet, or its folder was deleted
            self._restore(number, record, results.get(number))
        self._restore_parents()

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The next configuration, which is stored before Ray Tune receives it.

        Raises:
            InputError: none of `MAX_ATTEMPTS` consecutive suggestions is a legal configuration.
        """
        if not self.remaining:
            return Searcher.FINISHED  # pyright: ignore[reportReturnType]
        number = self.remaining.pop(0)
        record = suggestion(self.store, number)
        if record:
            self.running[trial_id] = self.interrupted.get(number)
        else:
            record = self._new_suggestion(number, trial_id)
            self.store.write_json(f"{trial_folder(number)}/params.json", record)
        return {name: record[name] for name in ("number", "baseline", "params")}

    def _new_suggestion(self, number: int, trial_id: str) -> dict[str, Any]:
        """The record of a new suggestion, with everything that is needed to restore it in Optuna."""
        if number < len(self.plan.baselines):
            baseline, suggested = list(self.plan.baselines.items())[number]
            trial, config, notes = None, self._configured(number, suggested), {}
        else:
            trial, config = self._ask(number)
            baseline, suggested = "", trial.params
            notes = self.study.get_trials(deepcopy=False)[trial.number].system_attrs  # the sampler's, such as a generation
        self.running[trial_id] = trial
        params = {"number": number, "baseline": baseline, "params": config.params()}
        return {**params, "suggested": dict(suggested), "notes": notes}

    def _configured(self, number: int, changes: Mapping[str, Value]) -> TrialConfig:
        """The configuration of a trial, with its own seed, so that the front does not depend on one seed."""
        return self.plan.configured({**changes, "seed": fold(self.plan.seed, "trial", number)})

    def _ask(self, number: int) -> tuple[optuna.Trial, TrialConfig]:
        """The sampler's first legal proposal. Not every combination of components is legal; each attempt has its own seed.

        Illegal proposals are reported as failed, which no sampler uses, so a resumed study need not restore them.
        """
        reason = None
        for attempt in range(MAX_ATTEMPTS):
            retry = (attempt,) if attempt else ()
            self.study.sampler = self._sampler(fold(self.plan.seed, "suggestion", number, *retry))
            trial = _without_warnings(self.study.ask, self.distributions if self.plan.sampler == "nsga2" else None)
            changes = _without_warnings(suggest, trial, self.plan.space)
            try:
                return trial, self._configured(number, changes)
            except InputError as error:
                reason = error
                self.study.tell(trial, state=OptunaState.FAIL)
        raise InputError(f"trial {number}: {MAX_ATTEMPTS} consecutive suggestions are not legal, the last one because {reason}")

    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        has_switch = any(isinstance(span, Switch) for span in self.plan.space.values())
        return _without_warnings(SAMPLERS[self.plan.sampler], seed, has_switch)

    def on_trial_result(self, trial_id: str, result: dict) -> None:
        """Ignore intermediate results."""

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """Report to Optuna how a trial ended; `result` is Ray Tune's last result of the trial."""
        running = self.running.pop(trial_id, None)
        if running is None:
            return
        ended = reported_result(result or {}) or TrainingResult()  # empty for a trial that was stopped early
        values = None if error else self._values(ended.metrics)
        if values is not None:
            for name, violation in self._violations(ended.metrics).items():
                self._trial(running).set_constraint(name, violation)
            self.study.tell(running, values)
            return
        failed = error or ended.state is TrialState.FAILED
        if not failed:  # otherwise a trial that was stopped early would seem to meet all constraints
            for constraint in self.plan.require:
                self._trial(running).set_constraint(str(constraint), UNMEASURED_VIOLATION)
        self.study.tell(running, state=OptunaState.FAIL if failed else OptunaState.PRUNED)

    def _trial(self, running: optuna.Trial | int) -> optuna.Trial:
        """Optuna's trial, also if an earlier driver started it."""
        if isinstance(running, int):
            return optuna.Trial(self.study, self.study.get_trials(deepcopy=False)[running]._trial_id)
        return running

    def _values(self, metrics: Mapping[str, float]) -> list[float] | None:
        """Normalised losses, or None if an objective was not measured."""
        if not all(math.isfinite(metrics.get(o.metric, math.nan)) for o in self.plan.objectives):
            return None
        if not pareto.eligible([metrics], self.plan.objectives)[0]:
            return [1.0] * len(self.plan.objectives)  # the trial may be on no front, whatever its metrics
        return [o.loss_of(metrics) for o in self.plan.objectives]

    def _violations(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Violations of the constraints as Optuna expects them: above 0 is infeasible."""
        amounts = pareto.violations(metrics, self.plan.require)
        return {str(c): min(amount, UNMEASURED_VIOLATION) for c, amount in zip(self.plan.require, amounts, strict=True)}

    def _restore(self, number: int, record: Mapping[str, Any], trial: Trial | None) -> None:
        """Restore in Optuna a suggestion of an earlier driver, and how its trial ended, if it did."""
        values = self._values(trial.metrics) if trial else None
        if trial is None:
            state = OptunaState.RUNNING
            self.interrupted[number] = len(self.study.get_trials(deepcopy=False))
        elif values is not None:
            state = OptunaState.COMPLETE
        else:
            state = OptunaState.FAIL if trial.state is TrialState.FAILED else OptunaState.PRUNED
        feasible = state in (OptunaState.COMPLETE, OptunaState.PRUNED)
        self.study.add_trial(create_trial(
            state=state, values=values, params=record["suggested"], system_attrs=record["notes"],
            distributions={name: self.distributions[name] for name in record["suggested"]},
            constraints=self._violations(trial.metrics) if feasible and trial else None,
        ))  # fmt: skip

    def _restore_parents(self) -> None:
        """Query the parents of each generation once, because Optuna orders them differently on its first query."""
        sampler = self._sampler(0)
        if isinstance(sampler, optuna.samplers.BaseGASampler):
            trials = self.study.get_trials(deepcopy=False)
            for generation in sorted({sampler.get_trial_generation(self.study, trial) for trial in trials}):
                sampler.get_parent_population(self.study, generation)

    def save(self, checkpoint_path: str) -> None:
        """Save nothing; the searcher is restored from the store."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing; nothing was saved."""

    def __reduce__(self):
        return Searcher, ()  # Ray Tune pickles its settings for a restore that is not used here


def _without_warnings(call: Callable, *args):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about experimental features and enqueued points
        return call(*args)
