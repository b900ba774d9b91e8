"""The card of trials that failed or were stopped early."""

from typing import Any

from trainables.reporting.card import Card, Missing, ReportContext

TEMPLATE = "{{ m.table(caption, heads, rows) }}"


def data(context: ReportContext) -> dict[str, Any] | Missing:
    """Values for the template, or that no trial failed or was stopped early."""
    outcome = context.outcome
    rows = [[t.number, t.baseline, t.error] for t in outcome.failed]
    rows += [[t.number, t.baseline, f"stopped early after epoch {t.stopped_epoch}: dominated"] for t in outcome.early_stopped]
    if not rows:
        return Missing("No trial failed or was stopped early.")
    return {"caption": "Failed and stopped trials", "heads": ["trial", "baseline", "reason"], "rows": rows}


CARD = Card("failed", "Failed and stopped trials", data, TEMPLATE)
