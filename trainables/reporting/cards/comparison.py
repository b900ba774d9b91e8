"""The card that compares the sweep with its confirmation, like with like, and shows what further audits find."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from core.study import Objective
from trainables.reporting.card import Card, Missing, ReportContext
from trainables.study.outcome import Confirmed, Outcome
from trainables.study.text import counted, decimal, directed, estimate_text, interval_text, is_known, label, signed, unbroken

TIER_NAMES = {
    "threshold": "the sweep's threshold audits", "gradient": "and gradient norms", "adversarial": "and adversarial queries",
    "label_only": "and the label-only distance", "siblings": "and another replicate of the point", "shadows": "and shadow models",
}  # fmt: skip
"""The audits that each tier adds to those before it."""

TEMPLATE = """
{{ m.table(changes.caption, changes.heads, changes.rows) }}
<p>The sweep's AUC is the largest of the four audits on one network, which is too high by chance; the confirmed one is that of the
audit that is best on other images. The attacks of the confirmation may be stronger than those of the sweep.</p>
{% if tiers %}
<h3>What further audits find</h3>
{{ m.table(tiers.caption, tiers.heads, tiers.rows) }}
{% endif %}
<p>{{ hypervolume }}</p>
"""


def data(context: ReportContext) -> dict[str, Any] | Missing:
    """Values for the template, or that no point is confirmed."""
    outcome = context.outcome
    if outcome.confirmation is None:
        return Missing("No point is confirmed.")
    trials = {t.number: t for t in outcome.trials}
    points = [c for c in outcome.confirmed if all(o.metric in trials[c.number].metrics for o in outcome.objectives)]
    return {"changes": _changes(points, outcome), "tiers": _tiers(points), "hypervolume": _hypervolume(outcome)}


def _changes(points: Sequence[Confirmed], outcome: Outcome) -> dict[str, Any]:
    """The mean change of each objective from the sweep to its confirmation, with the same audits."""
    trials = {t.number: t for t in outcome.trials}
    rows = []
    for objective in outcome.objectives:
        pairs = [(trials[c.number].metrics[objective.metric], _like_for_like(c, objective)) for c in points]
        both = [(sweep, confirmed) for sweep, confirmed in pairs if confirmed is not None]
        if both:
            sweep, confirmed = (sum(values) / len(both) for values in zip(*both, strict=True))
            name = f"{label(objective)}, the same four threshold audits" if _has_tiers(points, objective) else label(objective)
            rows.append([name, decimal(sweep), decimal(confirmed), directed(confirmed - sweep)])
    several = f"Means over {counted(len(points), 'confirmed point')}"
    caption = f"{several}: one training on val in the sweep, replicates on test in confirmation"
    return {"caption": caption, "heads": ["", "sweep", "confirmed", "confirmed compared with the sweep"], "rows": rows}


def _has_tiers(points: Sequence[Confirmed], objective: Objective) -> bool:
    return objective.metric == "mia_auc" and any("threshold" in c.tiers for c in points)


def _like_for_like(point: Confirmed, objective: Objective) -> float | None:
    """The confirmed value that the sweep's can be compared with: for membership inference that of the sweep's audits."""
    if objective.metric == "mia_auc" and point.tiers:
        return point.tiers["threshold"][0] if "threshold" in point.tiers else None
    return point.means[objective.metric]


def _tiers(points: Sequence[Confirmed]) -> dict[str, Any]:
    """The AUC of each point by tier of audits, and the mean of each tier."""
    names = [name for name in TIER_NAMES if any(name in c.tiers for c in points)]
    if not names:
        return {}
    means = {name: [c.tiers[name][0] for c in points if name in c.tiers] for name in names}
    average = {name: sum(values) / len(values) for name, values in means.items()}
    added = [None, *(average[b] - average[a] for a, b in pairwise(names))]
    rows: list[list[Any]] = [["mean", *(_average(average[n], gain) for n, gain in zip(names, added, strict=True)), None]]
    rows += [
        [c.number, *(unbroken(estimate_text(*c.tiers[name])) if name in c.tiers else None for name in names), _chance(c)]
        for c in points
    ]
    return {
        "caption": "Membership-inference AUC of the best audit, chosen on other images; each column adds audits to those before it",
        "heads": ["trial", *(TIER_NAMES[name] for name in names), "chance level, all audits"], "rows": rows,
    }  # fmt: skip


def _average(value: float, gain: float | None) -> str:
    return f"{value:.3f}" + ("" if gain is None else f" ({signed(gain)})")


def _chance(point: Confirmed) -> str | None:
    if point.chance != point.chance:
        return None
    return f"{point.chance:.3f}" + ("" if point.resolved else ", not resolved")


def _hypervolume(outcome: Outcome) -> str:
    assert outcome.confirmation is not None
    value, interval = outcome.confirmation.hypervolume
    between = f" ({interval_text(interval, decimals=3)})" if is_known(interval) else ""
    return (
        f"Hypervolume, the share of the box between ideals and references that the front dominates: {value:.3f}{between} by the "
        f"confirmed means without noise; {outcome.hypervolume():.3f} by the sweep's numbers, which grow with the number of trials."
    )


CARD = Card("comparison", "Sweep against confirmation", data, TEMPLATE)
