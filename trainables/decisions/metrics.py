"""Metrics by which a point can be chosen besides those of the confirmation: others that were measured, and those of the sweep."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from core.estimates import Estimates, Measurement
from core.shrinkage import shrunken
from core.stats import Interval
from trainables.storage.jobs import replicate_folder
from trainables.storage.networks import StoredNetwork
from trainables.storage.results import stored_replicate
from trainables.storage.store import Store
from trainables.study.leakage import chance_level_of, common_audits, selected_audits
from trainables.study.outcome import Confirmation, Confirmed, Outcome
from trainables.study.replicates import Replicate
from trainables.study.results import NetworkResult
from trainables.study.verdicts import MIA_AUC

Networks = Mapping[int, Sequence[StoredNetwork]]
"""Networks of each point: its replicates, or those of the sweep; by number of the trial."""


def with_further_metrics(
    confirmation: Confirmation, networks: Sequence[StoredNetwork], store: Store, revisions: Sequence[str], wanted: Sequence[str]
) -> tuple[Confirmation, Estimates[int] | None]:
    """Estimates of the wanted metrics that are not among those of the confirmation; None if there are none.

    They are measured from the per-image evidence of the replicates. If `mia_auc` is one of them, its audits and chance levels are
    added to the points.

    Args:
        confirmation: the confirmation step.
        networks: stored networks at the newest version.
        store: the study's folder.
        revisions: folders of the versions that re-evaluated the networks, oldest first.
        wanted: names of metrics that all replicates of the points on the front have.
    """
    known = confirmation.estimates
    further = [name for name in dict.fromkeys(wanted) if name not in known.metrics]
    if not further:
        return confirmation, None
    points = _replicates(known, networks, store, revisions)
    points = {n: own for n, own in points.items() if all(name in one.result.metrics for one in own.values() for name in further)}
    measured = {
        n: {r: {name: found for name in further if (found := one.measurement(name))} for r, one in own.items()}
        for n, own in points.items()
    }
    if MIA_AUC in further:
        audits = common_audits(points)
        best = selected_audits(points, audits)
        measured = {n: {r: own[r] | {MIA_AUC: best[n].measurements[r]} for r in own} for n, own in measured.items()}
        changed = (
            replace(p, audits=best[p.number].names, chance=chance_level_of(points[p.number], audits)) if p.number in best else p
            for p in confirmation.points
        )
        confirmation = replace(confirmation, points=tuple(changed))
    return confirmation, Estimates.of(measured, further)


def _replicates(
    estimates: Estimates[int], networks: Sequence[StoredNetwork], store: Store, revisions: Sequence[str]
) -> dict[int, dict[int, Replicate]]:
    """The replicates of the estimates, by point and number."""
    by_folder = {network.folder: network for network in networks}
    points: dict[int, dict[int, Replicate]] = {}
    for number, replicates in zip(estimates.points, estimates.replicates, strict=True):
        for r in sorted(replicates):
            result = NetworkResult(metrics=by_folder[replicate_folder(number, r)].metrics)
            points.setdefault(number, {})[r] = stored_replicate(store, number, r, result, revisions)
    return points


def sweep_confirmation(outcome: Outcome, by_point: Networks, wanted: Sequence[str]) -> Confirmation:
    """The front of the sweep in the form of a confirmation, whose replicates are the seeds of each trial.

    Args:
        outcome: the outcome at the newest version.
        by_point: networks of each trial on the front of the sweep.
        wanted: names of metrics, besides the objectives, that all networks have.
    """
    metrics = list(dict.fromkeys([*(o.metric for o in outcome.objectives), *wanted]))
    estimates = Estimates.of(
        {n: {s: {m: Measurement.of_value(own.metrics[m]) for m in metrics} for s, own in enumerate(networks, 1)}
         for n, networks in by_point.items()}, metrics,
    )  # fmt: skip
    values, trials = shrunken(estimates, list(by_point), metrics), {trial.number: trial for trial in outcome.completed}
    points = tuple(
        Confirmed(
            number=n, replicates=len(networks), means={m: estimates.mean(n, m) for m in metrics},
            intervals={m: estimates.interval(n, m) for m in metrics}, probability=math.nan, on_front=True,
            chance=trials[n].metrics.get(f"{MIA_AUC}_chance", math.nan), shrunk={m: values[n][m][0] for m in metrics},
            shrunk_intervals={m: values[n][m][1] for m in metrics},
        )
        for n, networks in by_point.items()
    )  # fmt: skip
    return Confirmation(points=points, estimates=estimates, hypervolume=(math.nan, Interval(-math.inf, math.inf)))
