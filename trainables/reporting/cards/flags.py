"""The card of raised flags, with their meaning, advice and effect."""

from typing import Any

from core.flags import FLAGS
from trainables.reporting.card import Card, Missing, ReportContext
from trainables.study.text import numbers

TEMPLATE = "{{ m.table(caption, heads, rows) }}"


def data(context: ReportContext) -> dict[str, Any] | Missing:
    """Values for the template, or that no flag is raised."""
    outcome = context.outcome
    raised = {flag: [t.number for t in trials] for flag, trials in outcome.flags().items()}
    confirmed = {flag: [c.number for c in outcome.confirmed if flag in c.flags] for c in outcome.confirmed for flag in c.flags}
    excluded = {t.number: t.flags for t in outcome.excluded()}
    rows = []
    for name in dict.fromkeys([*raised, *confirmed]):
        flag, on = FLAGS.get(name), raised.get(name, [])
        off = [number for number, flags in excluded.items() if name in flags]
        rows.append([
            name, flag.means if flag else "unknown to this version", flag.advice if flag else "",
            "every trial" if len(on) == len(outcome.completed) > 1 else numbers(on), numbers(confirmed.get(name, [])),
            f"excluded from the front; would be on it: {numbers(off)}" if flag and flag.excludes else "marked",
        ])  # fmt: skip
    if not rows:
        return Missing("No flag is raised.")
    heads = ["flag", "meaning", "advice", "trials", "in confirmation", "effect"]
    return {"caption": "Reasons to distrust a number", "heads": heads, "rows": rows}


CARD = Card("flags", "Flags", data, TEMPLATE)
