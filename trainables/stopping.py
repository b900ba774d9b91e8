"""Early stopping for several objectives: successive halving by dominance, as a scheduler of Ray Tune.

The rungs are epochs. A trial that comes to one has its first impression (`core.trial.glance`) compared with those of all trials
that came to the same rung before it, and only with those. It is stopped if it is dominated there and not among the best one in
`ETA`, in the order of non-dominated fronts. So a trial that could still be on the front, as far as its rung tells, goes on; and a
stopped one was beaten in every objective at once by a trial that had trained as long. Asynchronous (nobody waits for a rung to
fill), after Li et al. 2020 (ASHA) and Schmucker et al. 2021 (MO-ASHA). What a trial will be barred for in the end, masked gradients
say, is not known at a rung, so until then such a trial counts like any other.

Ray's own schedulers know one metric, and let the searcher believe that a stopped trial was complete.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from core import pareto
from core.config import Objective
from trainables.outcome import Trial
from trainables.plan import Plan

ETA = 3
"""Of the trials that came to a rung, about one in three is sure to go on."""


class ParetoHalving(FIFOScheduler):
    """Stops trials of a plan; a baseline is compared with, and never stopped."""

    def __init__(self, plan: Plan, ended: Sequence[Trial]):
        """`ended` are trials of an earlier driver; what they showed at the rungs counts."""
        super().__init__()
        self.objectives, self.rungs = plan.objectives, plan.rungs
        self.seen: dict[int, dict[int, np.ndarray]] = {rung: {} for rung in self.rungs}
        """Losses at each rung, by trial."""
        for trial in ended:
            self.note(trial.number, trial.curve)

    def note(self, number: int, rows: Sequence[Mapping[str, float]]) -> None:
        """Keep what a trial showed at its rungs."""
        for row in rows:
            if row["epoch"] in self.seen and "rung/accuracy" in row:
                self.seen[int(row["epoch"])][number] = at_rung(row, self.objectives)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict) -> None:
        """Called by Tune; what was taken over from an earlier training is heard of only now."""
        self.note(trial.config["number"], result.get("curve") or [])

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict) -> str:
        """Called by Tune."""
        rows, number = result.get("rows") or [], trial.config["number"]
        self.note(number, rows)
        last = int(rows[-1]["epoch"]) if rows else 0  # of a resumed trial, rungs that it has passed come along
        if last not in self.seen or number not in self.seen[last] or trial.config["baseline"]:
            return TrialScheduler.CONTINUE
        others = np.array([losses for other, losses in self.seen[last].items() if other != number])
        return TrialScheduler.STOP if hopeless(self.seen[last][number], others, ETA) else TrialScheduler.CONTINUE


def at_rung(row: Mapping[str, float], objectives: Sequence[Objective]) -> np.ndarray:
    """Losses of what a row of a curve says at a rung, [objectives]."""
    return np.array([o.loss(row[f"rung/{o.metric}"]) for o in objectives])


def hopeless(mine: np.ndarray, others: np.ndarray, eta: int) -> bool:
    """Whether a trial is dominated and outside the best one in `eta` of all that were seen, itself included.

    Args:
        mine: its losses, [d]. others: those of the others at the same rung, [n, d].
    """
    if not len(others):
        return False
    values = np.concatenate([mine[None], others])
    places = math.ceil(len(values) / eta)
    layer, left, better = 0, np.ones(len(values), bool), 0
    while True:
        on = np.zeros(len(values), bool)
        on[left] = pareto.non_dominated(values[left])
        if on[0]:
            return layer > 0 and better >= places
        better += int(on.sum())
        left &= ~on
        layer += 1
