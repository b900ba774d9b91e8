"""The HTML page of a report: its cards in order, in one file that makes no request."""

from collections.abc import Mapping

from markupsafe import Markup

from trainables.reporting.card import ENVIRONMENT, WEB, Card, Figure, ReportContext
from trainables.reporting.cards import (
    answer,
    audits,
    comparison,
    confirmed,
    course,
    facts,
    failed,
    flags,
    front,
    growth,
    knobs,
    measured,
    method,
    networks,
    pictures,
    radii,
    trials,
)  # fmt: skip
from trainables.reporting.page_data import page_data
from trainables.study.outcome import Outcome

CARDS: tuple[Card, ...] = (
    answer.CARD, measured.CARD, pictures.CARD, confirmed.CARD, comparison.CARD, front.CARD, course.CARD, flags.CARD, knobs.CARD,
    trials.CARD, failed.CARD, growth.CARD, radii.CARD, audits.CARD, networks.CARD, method.CARD,
)  # fmt: skip
"""The sections of the page in order; the facts follow in its footer."""


def render_page(outcome: Outcome, figures: Mapping[str, Figure]) -> str:
    """Render the page from an outcome and its figures by file name."""
    context = ReportContext(outcome, figures)
    style, script = (Markup((WEB / f"report.{kind}").read_text(encoding="utf-8")) for kind in ("css", "js"))
    return ENVIRONMENT.get_template("report.html").render(
        style=style, script=script, data=Markup(page_data(outcome)), outcome=outcome,
        links=[card for card in (*CARDS, facts.CARD) if card.link],
        sections=[(card, card.render(context)) for card in CARDS], facts=(facts.CARD, facts.CARD.render(context)),
    )  # fmt: skip
