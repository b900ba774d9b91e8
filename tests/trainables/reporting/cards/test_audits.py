"""The card of the audits of confirmed points."""

import large
from reported import section_of

from trainables.reporting.card import Figure
from trainables.reporting.page import render_page
from trainables.reporting.recommendation import recommended


def test_figures_of_audits_are_folded_except_for_that_of_the_point_to_ship():
    study = large.outcome()
    figures = {f"audit-{c.number:05d}.png": Figure(b"", f"figure of trial {c.number}") for c in study.confirmed}
    section = section_of(render_page(study, figures), "audits")
    shown, folded = section.split("<details>")
    number = recommended(study)
    assert f'alt="figure of trial {number}"' in shown and shown.count("<img") == 1
    assert folded.count("<img") == len(study.confirmed) - 1 and f'alt="figure of trial {number}"' not in folded
