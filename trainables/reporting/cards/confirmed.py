"""The card of the confirmed points."""

from typing import Any

from core.study import Objective
from trainables.reporting.card import Card, Missing, ReportContext
from trainables.study.outcome import Confirmed
from trainables.study.text import interval_text, label
from trainables.study.trial import Trial

TEMPLATE = "{{ m.table(caption, heads, rows) }}"


def data(context: ReportContext) -> dict[str, Any] | Missing:
    """Values for the template, or that no point is confirmed."""
    outcome = context.outcome
    if not outcome.confirmed:
        return Missing("No point is confirmed: the confirmation step was skipped with --no-confirm, or the front is empty.")
    trials = {t.number: t for t in outcome.trials}
    heads = ["trial", "baseline", "replicates"]
    heads += [h for o in outcome.objectives for h in (f"{label(o)} (95 % interval)", "in the sweep")]
    rows = [
        [
            c.number, trials[c.number].baseline, f"{c.replicates} ({c.failed} failed)" if c.failed else c.replicates,
            *(cell for o in outcome.objectives for cell in _cells(c, trials[c.number], o)), f"{c.probability:.3f}",
            "stays" if c.on_front else f"left: {', '.join(c.flags)}" if c.flags else "left",
        ]
        for c in outcome.confirmed
    ]  # fmt: skip
    return {
        "caption": "Means over replicates, on test", "heads": [*heads, "probability non-dominated", "front"], "rows": rows,
    }  # fmt: skip


def _cells(confirmed: Confirmed, trial: Trial, objective: Objective) -> list[Any]:
    mean = confirmed.means[objective.metric]
    interval = interval_text(confirmed.intervals[objective.metric], "no interval", decimals=3)
    text = f"{mean:.4f} ({interval})".replace(" ", "\N{NO-BREAK SPACE}")
    return [(mean, text), f"{trial.metrics[objective.metric]:.4f}"]


CARD = Card("confirmed", "Confirmed points", data, TEMPLATE, link="Confirmed")
