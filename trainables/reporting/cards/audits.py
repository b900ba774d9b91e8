"""The card of the audits of confirmed points."""

from collections.abc import Iterator, Sequence
from typing import Any

from core.audits.roc import unresolved
from core.audits.threshold import FPRS
from trainables.reporting.card import Card, Missing, ReportContext
from trainables.reporting.cards.radii import estimate_cell
from trainables.reporting.recommendation import recommended
from trainables.study.outcome import Confirmed

TEMPLATE = """
<p>Without a suffix, <code>lira</code>, <code>calibrated</code> and <code>rmia</code> are audits by the point's other replicates:
this attacker knows networks that were trained on the images in question, and others that were not. With <code>_offline</code>, and
in <code>nn</code>, the attacker has shadow models that were trained on other images of the same source. All other audits use only
the audited network. Every attacker knows the recipe and its knobs.</p>
{{ m.table(caption, heads, rows) }}
{% for line in rates %}<p>{{ line }}</p>{% endfor %}
{{ m.figures(shown) }}
{% if folded %}
<details><summary>Figures of {{ "the other points" if shown else "all points" }} ({{ folded | length }})</summary>
{{ m.figures(folded) }}</details>
{% endif %}
"""


def data(context: ReportContext) -> dict[str, Any] | Missing:
    """Values for the template, or that no point is audited."""
    points = [c for c in context.outcome.confirmed if c.leaks]
    if not points:
        return Missing("No point is audited by other networks: the confirmation step does this unless judge.audits=scores.")
    names = list(dict.fromkeys(name for c in points for name in c.leaks))
    rows = [
        [c.number, *(estimate_cell((leak.auc, leak.interval)) if (leak := c.leaks.get(name)) else None for name in names)]
        for c in points
    ]
    number = recommended(context.outcome)
    shown = context.figures_of(f"audit-{number:05d}") if number is not None else []
    folded = [figure for figure in context.figures_of("audit-") if figure not in shown]
    return {
        "caption": "AUC of each audit: mean over replicates, and half of its 95 % interval",
        "heads": ["trial", *names], "rows": rows, "rates": list(_rates(points)), "shown": shown, "folded": folded,
    }  # fmt: skip


def _rates(points: Sequence[Confirmed]) -> Iterator[str]:
    """True-positive rates at low false-positive rates, or the reason why they are not given."""
    for rate in FPRS:
        best = {c.number: max(((leak.tprs[rate], name) for name, leak in c.leaks.items() if rate in leak.tprs), default=None)
                for c in points}  # fmt: skip
        if resolved := {number: pair for number, pair in best.items() if pair}:
            values = ", ".join(f"trial {number} {tpr:.4f} ({name})" for number, (tpr, name) in resolved.items())
            yield f"Largest true-positive rate at a false-positive rate of {100 * rate:g} %: {values}."
        elif counts := {sum(c.histogram["non_members"]) // c.replicates for c in points if c.histogram}:
            yield f"No true-positive rate at {100 * rate:g} %: {unresolved(rate, max(counts))}."


CARD = Card("audits", "Audits of the confirmed points", data, TEMPLATE, link="Audits")
