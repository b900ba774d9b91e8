"""The searcher: an Optuna study over several objectives, asked and told by Ray Tune.

Ray's own OptunaSearch leaves a trial RUNNING for ever when a metric is missing or NaN, puts an infinite one on the front,
and loses its memory between two snapshots when the driver dies. This one tells Optuna COMPLETE, FAIL or PRUNED, and needs
no snapshot: suggestion n depends on the seed, n and the trials that were told before, all of which the store has.

In a conditional space a trial has the knobs of its own options only, and TPE models each group of knobs that occur
together. NSGA-II crosses what all trials have, so there a trial also carries values for the options that it does not have,
and its children inherit them.
"""

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial
from ray.tune.search import Searcher

from core import pareto
from core.config import TrialConfig
from core.errors import InputError, unknown
from core.rng import fold
from core.space import Switch, Value, flat
from trainables.outcome import Trial
from trainables.plan import Plan
from trainables.space import distribution, suggest
from trainables.store import Store
from trainables.trial import trial_folder

SAMPLERS: dict[str, Callable[[int, bool], optuna.samplers.BaseSampler]] = {
    "tpe": lambda seed, switched: optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=8, multivariate=True, group=switched, constant_liar=True
    ),
    "nsga2": lambda seed, switched: optuna.samplers.NSGAIISampler(seed=seed),
    "gp": lambda seed, switched: optuna.samplers.GPSampler(seed=seed),
    "random": lambda seed, switched: optuna.samplers.RandomSampler(seed=seed),
}
"""By seed, and whether the space has a switch. The GP models only what all trials have: not for spaces with a switch."""
UNMEASURED = 1e9
"""By how much a trial misses a requirement on something that was not measured: not infinity, of which samplers make NaN."""
ATTEMPTS = 200
"""Suggestions that may be no legal configuration before the study gives up."""


class StudySearcher(Searcher):
    """Suggests a study's baselines first, then what was left unfinished, then what the sampler proposes."""

    def __init__(self, plan: Plan, store: Store, ended: list[Trial]):
        """`ended` are the trials that an earlier driver of the same study finished."""
        super().__init__()
        if plan.sampler not in SAMPLERS:
            raise unknown("sampler", plan.sampler, SAMPLERS)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.plan, self.store = plan, store
        self.distributions = {name: distribution(span) for name, span in flat(plan.space).items()}
        self.study = optuna.create_study(directions=[StudyDirection.MINIMIZE for _ in plan.objectives])
        self.asked: dict[str, optuna.Trial | int | None] = {}
        """What is under way, by Tune's trial id; None for a baseline."""
        self.interrupted: dict[int, int] = {}
        """Optuna's numbers of trials that an earlier driver began, by ours."""
        results = {trial.number: trial for trial in ended}
        self.left = sorted(set(range(plan.trials)) - results.keys())
        for number in range(len(plan.baselines), plan.trials):
            record = store.read_json(f"{trial_folder(number)}/params.json")
            if record is None:
                break
            self._recall(number, record, results.get(number))
        self._recall_parents()

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The next configuration, recorded in the store before Tune hears of it.

        Raises:
            InputError: none of 200 suggestions in a row is a legal configuration.
        """
        if not self.left:
            return Searcher.FINISHED  # pyright: ignore[reportReturnType]
        number = self.left.pop(0)
        record = self.store.read_json(f"{trial_folder(number)}/params.json")
        if record:
            self.asked[trial_id] = self.interrupted.get(number)
        else:
            record = self._record(number, trial_id)
            self.store.write_json(f"{trial_folder(number)}/params.json", record)
        return {name: record[name] for name in ("number", "baseline", "params")}

    def _record(self, number: int, trial_id: str) -> dict[str, Any]:
        """What the store keeps of a new suggestion: enough to tell Optuna of it again."""
        if number < len(self.plan.baselines):
            baseline, suggested = list(self.plan.baselines.items())[number]
            asked, config, notes = None, self._configured(number, suggested), {}
        else:
            asked, config = self._ask(number)
            baseline, suggested = "", asked.params
            notes = self.study.get_trials(deepcopy=False)[asked.number].system_attrs  # of the sampler: a generation, say
        self.asked[trial_id] = asked
        params = {"number": number, "baseline": baseline, "params": config.params()}
        return {**params, "suggested": dict(suggested), "notes": notes}

    def _configured(self, number: int, changes: Mapping[str, Value]) -> TrialConfig:
        """Every trial has weights and an order of its own, so that the front does not hang on one seed's luck."""
        return self.plan.configured({**changes, "seed": fold(self.plan.seed, "trial", number)})

    def _ask(self, number: int) -> tuple[optuna.Trial, TrialConfig]:
        """What the sampler proposes. Not every combination of fillings is legal: then it is asked again, with another seed.

        Refused proposals are told to have failed, which no sampler looks at, so a resumed study need not know of them.
        """
        reason = None
        for attempt in range(ATTEMPTS):
            again = (attempt,) if attempt else ()
            self.study.sampler = self._sampler(fold(self.plan.seed, "suggestion", number, *again))
            asked = _quiet(self.study.ask, self.distributions if self.plan.sampler == "nsga2" else None)
            changes = _quiet(suggest, asked, self.plan.space)
            try:
                return asked, self._configured(number, changes)
            except InputError as error:
                reason = error
                self.study.tell(asked, state=TrialState.FAIL)
        raise InputError(f"trial {number}: {ATTEMPTS} suggestions in a row are not legal, the last one because {reason}")

    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        switched = any(isinstance(span, Switch) for span in self.plan.space.values())
        return _quiet(SAMPLERS[self.plan.sampler], seed, switched)

    def on_trial_result(self, trial_id: str, result: dict) -> None:
        """Nothing is learned before the end."""

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """Tell Optuna the truth about how the trial ended."""
        asked = self.asked.pop(trial_id, None)
        if asked is None:
            return
        result = result or {}
        values = self._values(result.get("metrics") or {})
        if values is not None and not error:
            for name, lack in self._lacks(result["metrics"]).items():
                self._asked(asked).set_constraint(name, lack)
            self.study.tell(asked, values)
        else:
            failed = error or result.get("error")
            for limit in () if failed else self.plan.require:  # else what was given up would seem to meet all limits
                self._asked(asked).set_constraint(str(limit), UNMEASURED)
            self.study.tell(asked, state=TrialState.FAIL if failed else TrialState.PRUNED)

    def _asked(self, asked: optuna.Trial | int) -> optuna.Trial:
        """The trial of Optuna, also where an earlier driver began it."""
        if isinstance(asked, int):
            return optuna.Trial(self.study, self.study.get_trials(deepcopy=False)[asked]._trial_id)
        return asked

    def _values(self, metrics: dict[str, float]) -> list[float] | None:
        """Normalised losses, all finite, or None."""
        if not all(math.isfinite(metrics.get(o.metric, math.nan)) for o in self.plan.objectives):
            return None
        if not pareto.eligible([metrics], self.plan.objectives)[0]:
            return [1.0] * len(self.plan.objectives)  # it may be on no front, whatever it seems to reach
        return [o.loss(metrics[o.metric]) for o in self.plan.objectives]

    def _lacks(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """By how much what is required is missed, as Optuna's samplers want it: above 0 is not feasible."""
        missed = pareto.lacks(metrics, self.plan.require)
        return {str(limit): min(lack, UNMEASURED) for limit, lack in zip(self.plan.require, missed, strict=True)}

    def _recall(self, number: int, record: Mapping[str, Any], trial: Trial | None) -> None:
        """Tell Optuna what it suggested to an earlier driver, and how that ended, if it did."""
        values = self._values(trial.metrics) if trial else None
        if trial is None:
            state = TrialState.RUNNING
            self.interrupted[number] = len(self.study.get_trials(deepcopy=False))
        else:
            state = TrialState.COMPLETE if values is not None else TrialState.FAIL if trial.error else TrialState.PRUNED
        self.study.add_trial(create_trial(
            state=state, values=values, params=record["suggested"], system_attrs=record["notes"],
            distributions={name: self.distributions[name] for name in record["suggested"]},
            constraints=self._lacks(trial.metrics) if state in (TrialState.COMPLETE, TrialState.PRUNED) and trial else None,
        ))  # fmt: skip

    def _recall_parents(self) -> None:
        """Optuna lists a generation's parents in another order when it is first asked for them; so that has been, too."""
        sampler = self._sampler(0)
        if isinstance(sampler, optuna.samplers.BaseGASampler):
            trials = self.study.get_trials(deepcopy=False)
            for generation in sorted({sampler.get_trial_generation(self.study, trial) for trial in trials}):
                sampler.get_parent_population(self.study, generation)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to keep: see the module's first lines."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing was kept."""

    def __reduce__(self):
        return Searcher, ()  # Tune pickles its settings for a restore that is not used here


def _quiet(call: Callable, *args):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental features; enqueued points
        return call(*args)
