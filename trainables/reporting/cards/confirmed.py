"""The card of the confirmed points."""

from typing import Any

from core.study import Objective
from trainables.reporting.card import Card, Missing, ReportContext
from trainables.reporting.recommendation import recommended
from trainables.study.outcome import Confirmed
from trainables.study.text import estimate_text, label, unbroken

TEMPLATE = """
{{ m.table(caption, heads, rows, mark) }}
{% for name, why in missing %}<p>Trial {{ name }} is not confirmed: {{ why }}.</p>{% endfor %}
"""


def data(context: ReportContext) -> dict[str, Any] | Missing:
    """Values for the template, or that no point is confirmed."""
    outcome = context.outcome
    if outcome.confirmation is None:
        return Missing("No point is confirmed: the confirmation step was skipped with --no-confirm, or the front is empty.")
    trials = {t.number: t for t in outcome.trials}
    heads = ["trial", "baseline", "verdict", "probability of being on the front"]
    for o in outcome.objectives:
        heads += [label(o), *["chance level"] * (o.metric == "mia_auc")]
    rows = [
        [
            c.number, trials[c.number].baseline, f"{c.verdict} ({', '.join(c.flags)})" if c.flags else c.verdict.value,
            f"{c.probability:.3f}", *(cell for o in outcome.objectives for cell in _cells(c, o)),
            f"{c.replicates} ({c.failed} failed)" if c.failed else c.replicates,
        ]
        for c in outcome.confirmed
    ]  # fmt: skip
    return {
        "caption": "Means over replicates on test, with 95 % intervals; the point to ship is in bold",
        "heads": [*heads, "replicates"], "rows": rows, "mark": recommended(outcome),
        "missing": list(outcome.confirmation.not_confirmed.items()),
    }  # fmt: skip


def _cells(confirmed: Confirmed, objective: Objective) -> list[Any]:
    """The cell of an objective; that of membership inference is followed by its chance level."""
    mean = confirmed.means[objective.metric]
    cell = (mean, unbroken(estimate_text(mean, confirmed.intervals[objective.metric])))
    if objective.metric != "mia_auc":
        return [cell]
    if confirmed.chance != confirmed.chance:
        return [cell, None]
    return [cell, (confirmed.chance, f"{confirmed.chance:.3f}" + ("" if confirmed.resolved else " not\N{NO-BREAK SPACE}resolved"))]


CARD = Card("confirmed", "Confirmed points", data, TEMPLATE, link="Confirmed")
