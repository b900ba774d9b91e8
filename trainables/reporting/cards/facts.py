"""The card of the facts: command, versions, hardware, objectives and search space."""

from typing import Any

from core.space import range_text
from trainables.reporting.card import Card, ReportContext

TEMPLATE = "<dl>{% for name, text in facts.items() %}<dt>{{ name }}</dt><dd>{{ text }}</dd>{% endfor %}</dl>"


def data(context: ReportContext) -> dict[str, Any]:
    """Values for the template."""
    outcome = context.outcome
    objectives = (f"{o.metric} {o.direction}, ideal {o.ideal:g}, reference {o.reference:g}" for o in outcome.objectives)
    searched = (f"{name} {range_text(span)}" for name, span in outcome.space.items())
    return {"facts": outcome.facts | {"objectives": "; ".join(objectives), "space": "; ".join(searched)}}


CARD = Card("facts", "Facts", data, TEMPLATE, link="Facts")
