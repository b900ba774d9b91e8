"""The card of the course of the study in sentences."""

from typing import Any

from trainables.reporting.card import Card, ReportContext
from trainables.reporting.summary import summary

TEMPLATE = "<ul>{% for sentence in sentences %}<li>{{ sentence }}</li>{% endfor %}</ul>"


def data(context: ReportContext) -> dict[str, Any]:
    """Values for the template."""
    return {"sentences": list(summary(context.outcome))}


CARD = Card("course", "Course of the study", data, TEMPLATE)
