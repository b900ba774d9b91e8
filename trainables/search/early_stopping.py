"""Early stopping for several objectives: successive halving by dominance, as a scheduler of Ray Tune.

Rungs are epochs. When a trial reaches a rung, its interim evaluation (`core.evaluation.interim`) is compared with those of all
trials that reached the same rung before it. It is stopped if it is dominated there and not among the best one in `ETA`, in the
order of non-dominated fronts. So a trial that could still be on the front, as far as its rung shows, continues; and every stopped
trial was beaten in all objectives at once by a trial that had trained as long. The decision is asynchronous, after Li et al. 2020
(ASHA) and Schmucker et al. 2021 (MO-ASHA). Of the flags that may exclude a trial later, only those of concealed membership are
known at a rung, where they count as a complete leak; gradient masking is not.

Ray's own schedulers support one metric, and let the searcher believe that a stopped trial was complete.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from core import pareto
from trainables.search.reports import reported_epochs, reported_result
from trainables.study.plan import Plan
from trainables.study.trial import Trial

ETA = 3
"""Reduction factor: about one in three of the trials that reach a rung is certain to continue."""


class ParetoHalving(FIFOScheduler):
    """Stops dominated trials of a plan early. Baselines are compared with, but never stopped."""

    def __init__(self, plan: Plan, ended: Sequence[Trial]):
        """`ended` are trials of an earlier driver, whose interim evaluations count."""
        super().__init__()
        self.objectives, self.rungs = plan.objectives, plan.rungs
        self.reached: dict[int, dict[int, dict[str, float]]] = {rung: {} for rung in self.rungs}
        """Interim metrics at each rung, by trial number."""
        for trial in ended:
            self.record(trial.number, trial.curve)

    def record(self, number: int, rows: Sequence[Mapping[str, float]]) -> None:
        """Record a trial's interim evaluations at its rungs."""
        for row in rows:
            if row["epoch"] in self.reached and "rung/accuracy" in row:
                self.reached[int(row["epoch"])][number] = interim_metrics(row)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict) -> None:
        """Record a trial's whole curve; a reused training reports its epochs only here."""
        if ended := reported_result(result):
            self.record(trial.config["number"], ended.curve)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict) -> str:
        """Decide whether a trial that has reached a rung continues."""
        rows, number = reported_epochs(result), trial.config["number"]
        self.record(number, rows)
        last = int(rows[-1]["epoch"]) if rows else 0  # the first report of a resumed trial contains earlier rungs
        if last not in self.reached or number not in self.reached[last] or trial.config["baseline"]:
            return TrialScheduler.CONTINUE
        others = [metrics for other, metrics in self.reached[last].items() if other != number]
        own, *rest = pareto.losses([self.reached[last][number], *others], self.objectives)
        stop = dominated_at_rung(own, np.array(rest), ETA)
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE


def interim_metrics(row: Mapping[str, float]) -> dict[str, float]:
    """Metrics of the interim evaluation in a row of a curve, by their own names."""
    return {name.removeprefix("rung/"): value for name, value in row.items() if name.startswith("rung/")}


def dominated_at_rung(losses: np.ndarray, others: np.ndarray, eta: int) -> bool:
    """Whether a trial is dominated and outside the best one in `eta` of all trials at the rung, itself included.

    Args:
        losses: losses of the trial, [d].
        others: losses of the other trials at the same rung, [n, d].
        eta: reduction factor.
    """
    if not len(others):
        return False
    values = np.concatenate([losses[None], others])
    places = math.ceil(len(values) / eta)
    layer, remaining, better = 0, np.ones(len(values), bool), 0
    while True:
        on_front = np.zeros(len(values), bool)
        on_front[remaining] = pareto.non_dominated(values[remaining])
        if on_front[0]:
            return layer > 0 and better >= places
        better += int(on_front.sum())
        remaining &= ~on_front
        layer += 1
