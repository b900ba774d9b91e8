"""Confirmed points with given values, for the choice among them; nothing is trained or read."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from core import pareto
from core.config import TrialConfig
from core.estimates import Estimates, Measurement
from core.shrinkage import shrunken
from core.stats import Interval
from core.study import Constraint, trilemma
from trainables.decisions.choice import Pick, pick
from trainables.storage.networks import StoredNetwork
from trainables.storage.store import Store
from trainables.study.choosing import Preference
from trainables.study.outcome import Confirmation, Confirmed, Outcome
from trainables.study.trial import Trial

OBJECTIVES = trilemma(10)
METRICS = [o.metric for o in OBJECTIVES]
LOWEST_AUC = Preference("mia_auc")
Values = Mapping[int, Mapping[str, Sequence[float]]]
"""Values of replicates by number of the trial and metric."""


def around(mean: float, error: float, replicates: int = 3) -> list[float]:
    """Values of replicates with this mean and standard deviation; their order depends on the mean."""
    offsets = np.random.default_rng(round(1e6 * mean)).standard_normal(replicates)
    offsets = (offsets - offsets.mean()) / (offsets.std(ddof=1) if replicates > 1 else 1)
    return [float(mean + error * offset) for offset in offsets]


def estimates_of(values: Values, metrics: Sequence[str]) -> Estimates[int]:
    """Estimates from the values alone; nothing is known of images."""
    measured = {
        number: {r: {name: Measurement.of_value(own[name][r - 1]) for name in metrics} for r in range(1, len(own[metrics[0]]) + 1)}
        for number, own in values.items()
    }
    return Estimates.of(measured, metrics)


def confirmation(values: Values, chance: float = math.nan, flags: Mapping[int, Sequence[str]] = {}) -> Confirmation:
    """The confirmation of points with these values.

    Args:
        values: values of the objectives, or more metrics.
        chance: chance level of `mia_auc` of all points.
        flags: excluding flags by number of the trial.
    """
    return confirmation_of(estimates_of(values, list(next(iter(values.values())))), chance, flags)


def confirmation_of(
    estimates: Estimates[int], chance: float = math.nan, flags: Mapping[int, Sequence[str]] = {}
) -> Confirmation:  # fmt: skip
    """The confirmation of points with these estimates; see `confirmation`."""
    values = estimates.points
    means = {n: {name: estimates.mean(n, name) for name in estimates.metrics} for n in values}
    rows = [means[n] | {"mia_auc_chance": chance} | {f"flag/{flag}": 1.0 for flag in flags.get(n, ())} for n in values]
    kept = [n for n in values if n not in flags]
    after = {n: {name: (means[n][name], estimates.interval(n, name)) for name in METRICS} for n in values}
    after |= shrunken(estimates, kept, METRICS)
    points = tuple(
        Confirmed(
            number=n, replicates=len(replicates), means=means[n],
            intervals={name: estimates.interval(n, name) for name in estimates.metrics}, probability=0.5, on_front=bool(on),
            chance=chance, audits=("loss",), flags=tuple(flags.get(n, ())),
            shrunk={name: value for name, (value, _) in after[n].items()},
            shrunk_intervals={name: interval for name, (_, interval) in after[n].items()},
        )
        for n, replicates, on in zip(values, estimates.replicates, pareto.front(rows, OBJECTIVES), strict=True)
    )  # fmt: skip
    return Confirmation(points=points, estimates=estimates, hypervolume=(0.5, Interval(0.4, 0.6)))


def point(accuracy: float, robust: float, auc: float, error: float = 0.001, replicates: int = 3) -> dict[str, list[float]]:
    """Values of a point's replicates with these means and one standard deviation."""
    return {name: around(mean, error, replicates) for name, mean in zip(METRICS, (accuracy, robust, auc), strict=True)}


def networks_of(values: Values) -> list[StoredNetwork]:
    """The replicates of points with these values; `mia_auc` itself is larger than the AUC of the chosen audit."""
    return [
        StoredNetwork(
            f"trial {n}, replicate {r}", f"confirm/{n:05d}/{r}", TrialConfig().params(),
            {name: own[name][r - 1] for name in own} | {"mia_auc": own["mia_auc"][r - 1] + 0.05}
            | {"mia_auc/loss": own["mia_auc"][r - 1], "flag/x": 0.0, "seconds/train": 1.0},
        )
        for n, own in values.items() for r in range(1, len(own["accuracy"]) + 1)
    ]  # fmt: skip


def choose(
    values: Values, preference: Preference = LOWEST_AUC, *constraints: str, given: Confirmation | None = None,
    unconfirmed: bool = False, networks: Sequence[StoredNetwork] | None = None,
) -> Pick:  # fmt: skip
    """The choice among points with these values, all of which are on the front of the sweep, too.

    Args:
        values: values of the replicates.
        preference: the criterion.
        constraints: constraints in the form of the command line.
        given: the confirmation, if it is not that of the values.
        unconfirmed: choose from the front of the sweep.
        networks: the stored networks, if they are not those of the values.
    """
    outcome = outcome_of(values, given)
    parsed = [Constraint.of(text) for text in constraints]
    return pick("s-1", outcome, networks or networks_of(values), Store.at("."), [], parsed, preference, unconfirmed)


def outcome_of(values: Values, given: Confirmation | None = None) -> Outcome:
    """The outcome of a study with these confirmed points."""
    trials = [Trial(n, {}, {name: float(np.mean(v)) for name, v in own.items()}) for n, own in values.items()]
    return Outcome("s-1", "s", "?", OBJECTIVES, {}, len(trials), trials=trials, confirmation=given or confirmation(values))
