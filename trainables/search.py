"""The searcher: an Optuna study over several objectives, asked and told by Ray Tune.

Ray's own OptunaSearch leaves a trial RUNNING for ever when a metric is missing or NaN, puts an infinite one on the front,
and loses its memory between two snapshots when the driver dies. This one tells Optuna COMPLETE, FAIL or PRUNED, and needs
no snapshot: suggestion n depends on the seed, n and the trials that were told before, all of which the store has.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial
from ray.tune.search import Searcher

from core import pareto
from core.errors import unknown
from core.rng import fold
from trainables.outcome import Trial
from trainables.plan import Plan
from trainables.space import distribution
from trainables.store import Store

SAMPLERS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed, n_startup_trials=8, multivariate=True, constant_liar=True),
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
    "gp": lambda seed: optuna.samplers.GPSampler(seed=seed),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}


class StudySearcher(Searcher):
    """Suggests a study's baselines first, then what was left unfinished, then what the sampler proposes."""

    def __init__(self, plan: Plan, store: Store, ended: list[Trial]):
        """`ended` are the trials that an earlier driver of the same study finished."""
        super().__init__()
        if plan.sampler not in SAMPLERS:
            raise unknown("sampler", plan.sampler, SAMPLERS)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.plan, self.store = plan, store
        self.distributions = {name: distribution(span) for name, span in plan.space.items()}
        self.study = optuna.create_study(directions=[StudyDirection.MINIMIZE for _ in plan.objectives])
        self.asked: dict[str, optuna.Trial | None] = {}
        """What is under way, by Tune's trial id; None for a baseline."""
        self.left = sorted(set(range(plan.trials)) - {t.number for t in ended})
        for trial in sorted(ended, key=lambda t: t.number):
            self._replay(trial)
        self._recall_parents()

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The next configuration, recorded in the store before Tune hears of it."""
        if not self.left:
            return Searcher.FINISHED  # pyright: ignore[reportReturnType]
        number = self.left.pop(0)
        folder = f"trials/{number:05d}"
        record = self.store.read_json(f"{folder}/params.json")
        if number < len(self.plan.baselines):
            baseline, changes = list(self.plan.baselines.items())[number]
            self.asked[trial_id], notes = None, {}
        else:
            baseline = ""
            if record:
                self.study.enqueue_trial(record["suggested"])
            self.study.sampler = _quiet(SAMPLERS[self.plan.sampler], fold(self.plan.seed, "suggestion", number))
            asked = _quiet(self.study.ask, self.distributions)
            self.asked[trial_id], changes = asked, asked.params
            notes = self.study.get_trials(deepcopy=False)[asked.number].system_attrs  # of the sampler: a generation, say
        # Every trial has weights and an order of its own, so that the front does not hang on one seed's luck.
        params = self.plan.configured({**changes, "seed": fold(self.plan.seed, "trial", number)}).params()
        suggestion = {"number": number, "baseline": baseline, "params": params}
        if not record:
            self.store.write_json(f"{folder}/params.json", {**suggestion, "suggested": dict(changes), "notes": notes})
        return suggestion

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
            self.study.tell(asked, values)
        else:
            failed = error or result.get("error")
            self.study.tell(asked, state=TrialState.FAIL if failed else TrialState.PRUNED)

    def _values(self, metrics: dict[str, float]) -> list[float] | None:
        """Normalised losses, all finite, or None."""
        if not all(math.isfinite(metrics.get(o.metric, math.nan)) for o in self.plan.objectives):
            return None
        if not pareto.eligible([metrics], self.plan.objectives)[0]:
            return [1.0] * len(self.plan.objectives)  # it may be on no front, whatever it seems to reach
        return [o.loss(metrics[o.metric]) for o in self.plan.objectives]

    def _replay(self, trial: Trial) -> None:
        if trial.number < len(self.plan.baselines):
            return
        record = self.store.read_json(f"trials/{trial.number:05d}/params.json")
        values = self._values(trial.metrics)
        ended = TrialState.COMPLETE if values is not None else TrialState.FAIL if trial.error else TrialState.PRUNED
        self.study.add_trial(create_trial(
            state=ended, values=values, params=record["suggested"], distributions=self.distributions,
            system_attrs=record["notes"],
        ))  # fmt: skip

    def _recall_parents(self) -> None:
        """Optuna lists a generation's parents in another order when it is first asked for them; so that has been, too."""
        sampler = _quiet(SAMPLERS[self.plan.sampler], 0)
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
