"""Membership leakage of confirmed points: the best audit of each, chosen on other images, and what each tier of audits adds."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from core.audits.evidence import MembershipScores
from core.audits.selection import SelectedAudit, select_audit, selected_chance_level
from core.audits.threshold import FPRS
from core.estimates import Estimates, Measurement
from core.stats import Interval
from trainables.study.outcome import Leak
from trainables.study.replicates import Replicate

TIERS = ("threshold", "gradient", "adversarial", "label_only", "siblings", "shadows")
"""Tiers of audits, weaker attackers first: the sweep's threshold audits; gradient norms; adversarial queries; labels alone; sibling
replicates; shadow models."""
Points = Mapping[int, Mapping[int, Replicate]]
"""Replicates that succeeded, by number of the trial and of the replicate."""


def tier_of(group: str, audit: str) -> str:
    """The tier of an audit, given its group of membership scores."""
    by_group = {"label_only": "label_only", "auditor": "siblings", "attacker": "shadows"}
    by_name = {"gradient_norm": "gradient", "loss_adversarial": "adversarial"}
    return by_group.get(group) or by_name.get(audit, "threshold")


def common_audits(points: Points) -> dict[str, str]:
    """The tier of each audit that all points have had, by name, so that none is audited more strongly than the others.

    Replicates whose siblings or shadow models are missing do not count; `flag/audit_lacks_models` marks their points.
    """
    every = [replicate for own in points.values() for replicate in own.values()]
    complete = [replicate for replicate in every if not replicate.result.metrics.get("flag/audit_lacks_models")] or every
    first, *others = complete
    tiers = {audit: tier_of(group, audit) for group, scores in first.groups.items() for audit in scores.scores}
    return {audit: tier for audit, tier in tiers.items() if all(audit in other.aucs for other in others)}


def selected_audits(points: Points, audits: Mapping[str, str]) -> dict[int, SelectedAudit]:
    """The best of these audits for each point."""
    return {
        number: select_audit({
            r: {name: replicate.aucs[name] for name in audits if name in replicate.aucs} for r, replicate in own.items()
        })
        for number, own in points.items()
    }  # fmt: skip


def chance_level_of(own: Mapping[int, Replicate], audits: Mapping[str, str]) -> float:
    """The level that the best of these audits reaches by chance, as the mean over a point's replicates."""
    return selected_chance_level({r: _restricted(replicate.groups, audits) for r, replicate in own.items()})


def _restricted(groups: Mapping[str, MembershipScores], audits: Mapping[str, str]) -> list[MembershipScores]:
    """Groups of scores with these audits alone."""
    kept = [
        replace(group, scores={name: scores for name, scores in group.scores.items() if name in audits})
        for group in groups.values()
    ]
    return [group for group in kept if group.scores]


def tiers_of(points: Points, audits: Mapping[str, str]) -> dict[int, dict[str, tuple[float, Interval]]]:
    """For each point, the AUC of the best audit of each tier and all tiers before it; tiers without an audit are omitted."""
    found: dict[int, dict[str, tuple[float, Interval]]] = {number: {} for number in points}
    for i, tier in enumerate(TIERS):
        if tier in audits.values():
            allowed = {name: own for name, own in audits.items() if own in TIERS[: i + 1]}
            best = {number: selected.measurements for number, selected in selected_audits(points, allowed).items()}
            for number, value in estimated(best).items():
                found[number][tier] = value
    return found


def leaks_of(points: Points) -> dict[int, dict[str, Leak]]:
    """Leakage by audit for each point, of the audits that all of its replicates have had, the largest first."""
    found: dict[int, dict[str, Leak]] = {number: {} for number in points}
    for audit in dict.fromkeys(name for own in points.values() for replicate in own.values() for name in replicate.aucs):
        having = {n: own for n, own in points.items() if all(audit in replicate.aucs for replicate in own.values())}
        aucs = {number: {r: replicate.aucs[audit] for r, replicate in own.items()} for number, own in having.items()}
        for number, (auc, interval) in estimated(aucs).items():
            found[number][audit] = Leak(auc, interval, _rates(list(having[number].values()), audit))
    return {number: dict(sorted(own.items(), key=lambda pair: -abs(pair[1].auc - 0.5))) for number, own in found.items()}


def _rates(replicates: Sequence[Replicate], audit: str) -> dict[float, float]:
    """Mean true-positive rate by false-positive rate, where all replicates resolve it."""
    rates = {}
    for rate in FPRS:
        values = [replicate.result.metrics.get(f"mia_tpr_at_fpr_{rate:g}/{audit}") for replicate in replicates]
        if None not in values:
            rates[rate] = float(np.mean(np.array(values, float)))
    return rates


def estimated(measured: Mapping[int, Mapping[int, Measurement]]) -> dict[int, tuple[float, Interval]]:
    """Mean over replicates and its 95 % interval for each point, given one measurement by point and replicate."""
    if not measured:
        return {}
    estimates = Estimates.of({n: {r: {"": one} for r, one in own.items()} for n, own in measured.items()}, [""])
    return {number: (estimates.mean(number, ""), estimates.interval(number, "")) for number in measured}
