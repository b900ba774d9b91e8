"""The card of the growth of the front."""

from typing import Any

from trainables.reporting.card import Card, ReportContext
from trainables.study.text import counted

TEMPLATE = "<p>{{ text }}</p>{{ m.figures(figures) }}"


def data(context: ReportContext) -> dict[str, Any]:
    """Values for the template."""
    return {"text": _text(context.outcome.hypervolume_curve()), "figures": context.figures_of("hypervolume")}


def _text(curve: list[float]) -> str:
    if not curve:
        return "No trial is completed yet."
    after, last = f"After {counted(len(curve), 'trial')}", _ordinal(1 + curve.index(curve[-1]))
    if not curve[-1]:
        return f"{after} the front is empty."
    return f"{after} the front dominates {curve[-1]:.3f} of the box; it last grew with the {last} trial."


def _ordinal(count: int) -> str:
    return f"{count}{'th' if count % 100 in (11, 12, 13) else {1: 'st', 2: 'nd', 3: 'rd'}.get(count % 10, 'th')}"


CARD = Card("growth", "Growth of the front", data, TEMPLATE)
