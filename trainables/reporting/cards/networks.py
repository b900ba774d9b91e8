"""The card of inspections of networks: reconstructions and attribution maps."""

from typing import Any

from markupsafe import Markup

from trainables.reporting.card import Card, Missing, ReportContext

TEMPLATE = "{{ m.figures(figures) }}"


def data(context: ReportContext) -> dict[str, Any] | Missing:
    """Values for the template, or how to get figures."""
    figures = context.figures_of("inversion-", "attribution-", "radius_leak")
    if not figures:
        return Missing(Markup("Not run. Add <code>--set judge.inversion=ascent judge.attribution=50</code>."))
    return {"figures": figures}


CARD = Card("inspection", "Inversion and attribution", data, TEMPLATE, link="Inversion")
