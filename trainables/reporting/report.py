"""The files of a report: tables, figures and the HTML page, rendered once from an outcome."""

from trainables.reporting import audit_curves, front_pictures, gallery
from trainables.reporting.card import Figure
from trainables.reporting.page import render_page
from trainables.reporting.style import png, styled
from trainables.study.outcome import Outcome
from trainables.study.tables import confirmed_rows, contrast_rows, csv, front_rows

WIDE = ("audit-", "inversion-", "attribution-", "radius_leak")
"""Prefixes of figures that a narrow screen scrolls instead of shrinking."""


def render(outcome: Outcome) -> dict[str, bytes]:
    """All files of a report by their path in the study's folder; report.html comes last, so it marks a complete report."""
    files = {"front.csv": csv(front_rows(outcome)).encode()}
    if outcome.confirmed:
        files["confirmed.csv"] = csv(confirmed_rows(outcome)).encode()
    if contrasts := contrast_rows(outcome):
        files["contrasts.csv"] = csv(contrasts).encode()
    figures = render_figures(outcome)
    files |= {f"plots/{name}": figure.png for name, figure in figures.items()}
    return files | {"report.html": render_page(outcome, figures).encode()}


def render_figures(outcome: Outcome) -> dict[str, Figure]:
    """All figures by file name, with their descriptions."""
    figures = {}
    with styled():
        for module in (front_pictures, audit_curves, gallery):
            for name, figure in module.figures(outcome).items():
                figures[name] = Figure(png(figure), module.description(name), name.startswith(WIDE))
    return figures
