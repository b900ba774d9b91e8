"""The card of the sweep's front as a table."""

from collections.abc import Sequence
from typing import Any

from trainables.reporting.card import Card, Missing, ReportContext
from trainables.study.outcome import Outcome
from trainables.study.text import columns, decimal, flags_on_all, knee, label, named
from trainables.study.trial import Trial

TEMPLATE = """
<p>These are the numbers of the sweep: one training per trial, selected as the best of many. They are biased in the front's favour;
decide by the confirmed ones.</p>
{{ m.table(caption, heads, rows, mark, knobs) }}
"""


def objective_heads(outcome: Outcome) -> list[str]:
    """Heads of the columns of `objective_cells`."""
    levels = _levels(outcome)
    return [head for o in outcome.objectives for head in (label(o), *["chance level"] * (o.metric in levels))]


def objective_cells(trial: Trial, outcome: Outcome) -> list[Any]:
    """The cells of a trial's objectives, each followed by its chance level if there is one."""
    cells, levels = [], _levels(outcome)
    for o in outcome.objectives:
        value, level = trial.metrics.get(o.metric), trial.metrics.get(f"{o.metric}_chance")
        text = decimal(value, 4) if value is not None else None
        if value is not None and level is not None and value <= level:
            cells.append((value, f"{text} (not\N{NO-BREAK SPACE}resolved)"))
        else:
            cells.append(text)
        cells += [None if level is None else f"{level:.3f}"] * (o.metric in levels)
    return cells


def _levels(outcome: Outcome) -> set[str]:
    """Objectives of which some trial has a chance level."""
    return {o.metric for o in outcome.objectives if any(f"{o.metric}_chance" in t.metrics for t in outcome.completed)}


def flag_cell(trial: Trial, common: Sequence[str]) -> str:
    """The flags that distinguish a trial from the others."""
    return ", ".join(flag for flag in trial.flags if flag not in common)


def common_note(common: Sequence[str]) -> str:
    """The end of a caption of a table without the flags that every trial raises."""
    return f"; every trial has the flag {', '.join(common)}" if common else ""


def data(context: ReportContext) -> dict[str, Any] | Missing:
    """Values for the template, or that there is no front."""
    outcome = context.outcome
    front, balanced, common = outcome.front(), knee(outcome), flags_on_all(outcome)
    if not front or not balanced:
        return Missing("The front is empty.")
    shown = [c for c in columns(outcome) if any(c in t.params for t in front)]
    version = f", version {outcome.version}" if outcome.revisions else ""
    return {
        "caption": f"Front of the sweep{version}; {named(balanced)}, in bold, is the knee{common_note(common)}",
        "heads": ["trial", "baseline", *objective_heads(outcome), "flags", *shown],
        "rows": [
            [t.number, t.baseline, *objective_cells(t, outcome), flag_cell(t, common), *map(t.params.get, shown)] for t in front
        ],
        "mark": balanced.number, "knobs": len(shown),
    }  # fmt: skip


CARD = Card("front", "Front of the sweep", data, TEMPLATE, link="Sweep")
