"""The card of accuracy over epsilon."""

from typing import Any

from markupsafe import Markup

from core.stats import Interval
from trainables.reporting.audit_curves import over_epsilon
from trainables.reporting.card import Card, Missing, ReportContext
from trainables.study.text import plus_minus

TEMPLATE = "{{ m.figures(figures) }}{{ m.table(caption, heads, rows) }}"


def data(context: ReportContext) -> dict[str, Any] | Missing:
    """Values for the template, or how to measure them."""
    lines = over_epsilon(context.outcome)
    if not lines:
        return Missing(Markup(
            "Not measured. Use <code>--set judge.suite=standard</code>, the confirmation step, or <code>studies/rejudge.py</code>."
        ))  # fmt: skip
    scales = sorted({scale for line in lines for scale in line.values})
    return {
        "figures": context.figures_of("over_epsilon"),
        "caption": "Accuracy under PGD in balls of a multiple of epsilon, on at most 128 images; at 0: on all clean images",
        "heads": ["trial", "baseline", *(f"{scale:g} epsilon" for scale in scales)],
        "rows": [[line.number, line.name, *(estimate_cell(line.values.get(scale)) for scale in scales)] for line in lines],
    }


def estimate_cell(estimate: tuple[float, Interval] | None) -> str | None:
    """A mean with half of its interval, between which a line may break; None if there is none."""
    return plus_minus(*estimate).replace("\N{PLUS-MINUS SIGN} ", "\N{PLUS-MINUS SIGN}\N{NO-BREAK SPACE}") if estimate else None


CARD = Card("radii", "Accuracy over epsilon", data, TEMPLATE, link="Radii")
