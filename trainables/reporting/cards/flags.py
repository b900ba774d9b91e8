"""The card of raised flags, with their meaning, advice and effect."""

from typing import Any

from core.flags import FLAGS
from trainables.reporting.card import Card, Missing, ReportContext
from trainables.study.text import flags_on_all, numbers

TEMPLATE = """
{% for name, means, advice in common %}
<p>Every trial of the sweep raises <code>{{ name }}</code>: {{ means }}; {{ advice }}.</p>
{% endfor %}
{% if rows %}<div class="texts">{{ m.table(caption, heads, rows) }}</div>{% else %}<p>No other flag is raised.</p>{% endif %}
"""


def data(context: ReportContext) -> dict[str, Any] | Missing:
    """Values for the template, or that no flag is raised."""
    outcome, everywhere = context.outcome, flags_on_all(context.outcome)
    raised = {flag: [t.number for t in trials] for flag, trials in outcome.flags().items()}
    confirmed = {flag: [c.number for c in outcome.confirmed if flag in c.flags] for c in outcome.confirmed for flag in c.flags}
    excluded = {t.number: t.flags for t in outcome.excluded()}
    common, rows = [], []
    for name in dict.fromkeys([*raised, *confirmed]):
        flag, on = FLAGS.get(name), raised.get(name, [])
        means, advice = (flag.means, flag.advice) if flag else ("unknown to this version", "")
        off = [number for number, flags in excluded.items() if name in flags and flag and flag.excludes]
        if name in everywhere and name not in confirmed and not off:
            common.append((name, means, advice))
            continue
        rows.append([
            name, means, advice, "every trial" if name in everywhere else numbers(on), numbers(confirmed.get(name, [])),
            f"excluded from the front; would be on it: {numbers(off)}" if flag and flag.excludes else "marked",
        ])  # fmt: skip
    if not rows and not common:
        return Missing("No flag is raised.")
    heads = ["flag", "meaning", "advice", "trials in the sweep", "trials in confirmation", "effect"]
    return {"common": common, "caption": "Reasons to distrust a number", "heads": heads, "rows": rows}


CARD = Card("flags", "Flags", data, TEMPLATE, link="Flags")
