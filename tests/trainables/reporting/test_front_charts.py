"""The interactive charts and the still figure of the front."""

import json
import re

import pytest
from reported import OBJECTIVES, outcome, page_of

from trainables.reporting import front_pictures
from trainables.reporting.style import PURPLE
from trainables.study.outcome import Outcome


@pytest.fixture(scope="module")
def html() -> str:
    """The page of a report."""
    return page_of(outcome())


def test_no_button_of_a_chart_sends_data_to_another_machine(html):
    buttons = re.findall(r'"modeBarButtons":\s*(\[\[.*?\]\])', html)
    assert len(buttons) == 4 and "Cloud" not in "".join(buttons)


def test_the_code_of_plotly_is_in_the_page_once(html):
    assert html.count("* plotly.js v") == 1


def test_two_objectives_have_one_chart():
    page = page_of(outcome(OBJECTIVES[:2]))
    assert page.count("Plotly.newPlot(") >= 1 and 'id="pair-0"' in page
    assert 'id="pair-1"' not in page and 'id="cube"' not in page


def groups(study: Outcome, symbol: str) -> list[list[dict]]:
    """The groups with a symbol in the colour of flags, for each chart."""
    charts = re.findall(r'Plotly\.newPlot\(\s*"[^"]+",\s*(\[.*?\]),\s*\{"template', page_of(study), re.S)
    return [
        [g for g in json.loads(chart) if g["marker"]["symbol"] == symbol and g["marker"]["color"] == PURPLE] for chart in charts
    ]


def unflagged() -> Outcome:
    """An outcome without flagged trials."""
    study = outcome()
    study.trials = [t for t in study.trials if not t.flags]
    study.confirmation = None
    return study


def test_flagged_front_points_have_a_ring_and_excluded_trials_a_cross_in_every_chart():
    for symbol, trial in (("circle-open", 1), ("x", 5)):
        charts = groups(outcome(), symbol)
        assert len(charts) == 4
        for (group,), pair in zip(charts[:3], [(0, 1), (0, 2), (1, 2)], strict=True):
            x, y = (OBJECTIVES[i].metric for i in pair)
            assert (group["x"], group["y"]) == ([outcome().trials[trial].metrics[x]], [outcome().trials[trial].metrics[y]])
    assert groups(unflagged(), "circle-open") == groups(unflagged(), "x") == [[], [], [], []]


def test_the_legend_of_the_still_figure_has_flags_only_if_there_are_any():
    def names(study: Outcome) -> set[str]:
        figure = front_pictures.figures(study)["front.png"]
        return {text.get_text() for text in figure.legends[0].get_texts()}

    flags = {"flagged, on the front", "excluded by a flag"}
    assert flags <= names(outcome()) and not flags & names(unflagged())
