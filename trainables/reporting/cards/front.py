"""The card of the front as a table."""

from typing import Any

from trainables.reporting.card import Card, Missing, ReportContext
from trainables.study.outcome import Outcome
from trainables.study.text import columns, knee, label, named
from trainables.study.trial import Trial

TEMPLATE = "{{ m.table(caption, heads, rows, mark) }}"


def objective_cells(trial: Trial, outcome: Outcome) -> list[str | None]:
    """The cells of a trial's objectives."""
    return [f"{trial.metrics[o.metric]:.4f}" if o.metric in trial.metrics else None for o in outcome.objectives]


def data(context: ReportContext) -> dict[str, Any] | Missing:
    """Values for the template, or that there is no front."""
    outcome = context.outcome
    front, balanced = outcome.front(), knee(outcome)
    if not front or not balanced:
        return Missing("The front is empty.")
    shown = [c for c in columns(outcome) if any(c in t.params for t in front)]
    version = f", version {outcome.version}" if outcome.revisions else ""
    return {
        "caption": f"Front of the sweep{version}; {named(balanced)}, in bold, is the knee",
        "heads": ["trial", "baseline", *map(label, outcome.objectives), "flags", *shown],
        "rows": [
            [t.number, t.baseline, *objective_cells(t, outcome), ", ".join(t.flags), *map(t.params.get, shown)] for t in front
        ],
        "mark": balanced.number,
    }  # fmt: skip


CARD = Card("front", "Front", data, TEMPLATE)
