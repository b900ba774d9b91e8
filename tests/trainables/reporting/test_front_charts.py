"""The interactive charts and the still figure of the front."""

import json
import re
from dataclasses import replace

import answered
import pytest
from confirming import confirmation
from reported import OBJECTIVES, outcome, page_of

from core.stats import Interval
from trainables.reporting import front_pictures
from trainables.reporting.front_charts import DARK, key
from trainables.reporting.style import PURPLE, axis_range
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
        [
            g
            for g in json.loads(chart)
            if g["mode"] == "markers" and (g["marker"]["symbol"], g["marker"]["color"]) == (symbol, PURPLE)
        ]
        for chart in charts
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

    flags = {"flagged in the sweep, on its front", "excluded by a flag"}
    assert flags <= names(outcome()) and not flags & names(unflagged())


def chart(study: Outcome, name: str) -> tuple[list[dict], dict]:
    """Traces and layout of a chart."""
    found = re.search(rf'Plotly\.newPlot\(\s*"{name}",\s*(\[.*?\]),\s*(\{{"template.*?\}}),\s*\{{"responsive', page_of(study), re.S)
    assert found
    return json.loads(found[1]), json.loads(found[2])


def test_the_points_of_the_sweep_and_their_confirmations_are_joined_by_lines():
    study = outcome()
    for name, columns in (("pair-0", "xy"), ("cube", "xyz")):
        (line,) = [trace for trace in chart(study, name)[0] if trace["mode"] == "lines"]
        for axis, o in zip(columns, OBJECTIVES, strict=False):
            ends = [(study.trials[c.number].metrics[o.metric], c.means[o.metric], None) for c in study.confirmed]
            assert line[axis] == [value for pair in ends for value in pair]


def test_a_cut_interval_has_a_triangle_at_the_edge_of_the_chart():
    study = outcome()
    one, other = study.confirmed
    intervals = one.intervals | {"accuracy": Interval(0.1, 0.7)}
    study.confirmation = confirmation([replace(one, intervals=intervals), other])
    marks = [t for t in chart(study, "pair-0")[0] if t["mode"] == "markers" and t["marker"]["symbol"] == "triangle-left"]
    low, _ = axis_range(study, OBJECTIVES[0])
    assert [(t["x"], t["y"], t["customdata"]) for t in marks] == [([low], [one.means["robust_accuracy"]], [1])]
    assert marks[0]["hovertext"] == ["trial 1: accuracy 0.100 to 0.700"]


def test_names_of_baselines_and_of_the_point_to_ship_are_at_their_confirmed_means():
    study = answered.outcome()
    _, layout = chart(study, "pair-0")
    means = {c.number: (c.means["accuracy"], c.means["robust_accuracy"]) for c in study.confirmed}
    assert {note["text"]: (note["x"], note["y"]) for note in layout["annotations"]} == {
        "undefended": means[0], "CRL alone": means[1], "adversarial training alone": means[2], "trial 3": means[3],
    }  # fmt: skip


def test_the_chance_level_is_a_line_in_the_charts_of_the_leak_only():
    study = answered.outcome()
    level = max(c.chance for c in study.confirmed)
    assert "shapes" not in chart(study, "pair-0")[1] or chart(study, "pair-0")[1]["shapes"] == []
    (line,) = chart(study, "pair-1")[1]["shapes"]
    assert (line["y0"], line["y1"], line["xref"]) == (level, level, "paper")


def test_the_legend_has_the_verdicts_that_occur():
    texts = {text for _, _, text in key(answered.outcome())}
    assert {"confirmed, stays on the front", "confirmed, undecided"} <= texts and "confirmed, leaves the front" not in texts
    assert "around a point: the point to ship" in texts
    assert "around a point: the knee of the sweep, not confirmed" in {text for _, _, text in key(unflagged())}


def test_every_colour_of_the_charts_has_one_for_dark_mode():
    for name in ("pair-1", "cube"):
        traces, layout = chart(outcome(), name)
        used = {trace[part]["color"] for trace in traces for part in ("marker", "line", "error_x", "error_y") if part in trace}
        used |= {note["font"]["color"] for note in layout.get("annotations", [])} | {layout["font"]["color"]}
        assert used <= set(DARK), used - set(DARK)


def test_the_still_figure_marks_verdicts_and_cut_intervals():
    study = outcome()
    one, other = study.confirmed
    cut = replace(one, intervals=one.intervals | {"accuracy": Interval(0.1, 0.7)}, probability=0.99)
    study.confirmation = confirmation([cut, replace(other, probability=0.01)])
    figure = front_pictures.figures(study)["front.png"]
    names = {text.get_text() for text in figure.legends[0].get_texts()}
    assert {"confirmed, stays", "confirmed, leaves"} <= names and "confirmed, undecided" not in names
    low, _ = axis_range(study, OBJECTIVES[0])
    marks = [line for line in figure.axes[0].lines if line.get_marker() == "<"]
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in marks] == [([low], [one.means["robust_accuracy"]])]
