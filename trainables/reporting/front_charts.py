"""Interactive charts of the front by plotly, which is imported where it is needed.

Names beside points are annotations; `web/report.js` moves them to where they cover nothing at the chart's size, and changes the
colours in dark mode.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import combinations
from typing import Any

from markupsafe import Markup

from core.study import Objective
from trainables.reporting.recommendation import place, recommended
from trainables.reporting.style import (
    BLUE,
    INK,
    ORANGE,
    PURPLE,
    axis_range,
    axis_title,
    chance_line,
    cut_intervals,
    error_bars,
    plotted,
)  # fmt: skip
from trainables.study.outcome import Confirmed, Outcome, Verdict
from trainables.study.text import columns, decimal, flagged, interval_text, label, numbered_trials, show
from trainables.study.trial import Trial
from trainables.study.trial_names import described

OUTLINE = "#7D858E"
"""Colour of open circles, dark enough for a thin line."""
JOIN = "#E9B391"
"""Colour of the lines between a point of the sweep and its confirmation."""
FAINT = "#E4E8EC"
"""Colour of grid lines."""
DARK = {
    INK: "#E4E7EA", OUTLINE: "#8B949E", BLUE: "#5AAEE4", ORANGE: "#F29455", PURPLE: "#D692B8", JOIN: "#A0653D", FAINT: "#2C3137",
}  # fmt: skip
"""The colour in dark mode of each colour of the charts."""
CAMERA = {"aspectmode": "cube", "camera": {"eye": {"x": -1.7, "y": -1.7, "z": 1.0}, "center": {"z": -0.12}}}
"""Camera of the 3D chart: far enough away for all titles; accuracy and robust accuracy increase towards the back."""
BUTTONS = {
    False: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
    True: [["toImage", "orbitRotation", "pan3d", "resetCameraDefault3d"]],
}
"""Buttons of charts, by whether they are 3D; plotly's default buttons can send the data to its cloud."""
RING = {True: "the point to ship", False: "the knee of the sweep, not confirmed"}
"""Meaning of the ring, by whether anything is confirmed."""
SYMBOLS = {Verdict.STAYS: "diamond", Verdict.UNDECIDED: "diamond-open", Verdict.LEAVES: "triangle-down-open"}
"""Symbols of confirmed points."""


def charts(outcome: Outcome) -> list[dict[str, Any]]:
    """The interactive charts: each pair of objectives, and the first three together. The first one contains plotly.js."""
    pairs = [
        _chart(outcome, pair, f"pair-{i}", plotly=i == 0) for i, pair in enumerate(combinations(outcome.objectives, 2))
    ]  # fmt: skip
    cube = [_chart(outcome, outcome.objectives[:3], "cube", plotly=False)] if len(outcome.objectives) > 2 else []
    return pairs + cube


def key(outcome: Outcome) -> list[tuple[str, str, str]]:
    """The legend of the charts: colour (a name in the style sheet), character and meaning of each mark that occurs."""
    verdicts = {c.verdict for c in outcome.confirmed}
    excluded = any(t.excluded for t in plotted(outcome))
    marks = [
        (True, "outline", "\u25cb", "trial"),
        (True, "blue", "\u25cf", "front"),
        (any(t.baseline for t in outcome.completed), "ink", "\u25a1", "baseline, with its name, filled if on the front"),
        (recommended(outcome) is not None, "ink", "\u25ef", f"around a point: {RING[bool(outcome.confirmed)]}"),
        (bool(flagged(outcome)), "purple", "\u25ef", "flagged in the sweep, on its front"),
        (excluded, "purple", "\u00d7", "excluded from the front by a flag"),
        (Verdict.STAYS in verdicts, "orange", "\u25c6", "confirmed, stays on the front"),
        (Verdict.UNDECIDED in verdicts, "orange", "\u25c7", "confirmed, undecided"),
        (Verdict.LEAVES in verdicts, "orange", "\u25bd", "confirmed, leaves the front"),
        (bool(verdicts), "orange", "\u2500", "95 % interval; a small triangle at the edge marks one that is cut"),
        (
            any(chance_line(outcome, o) is not None for o in outcome.objectives),
            "outline",
            "\u2508",
            "chance level; an AUC that does not exceed it is not resolved",
        ),
        (bool(verdicts), "join", "\u2500", "from the sweep to the confirmation of a point"),
    ]
    return [(color, mark, text) for occurs, color, mark, text in marks if occurs]


def _chart(outcome: Outcome, objectives: Sequence[Objective], name: str, plotly: bool) -> dict[str, Any]:
    """One interactive scatter plot of two or three objectives, with its caption and description."""
    from plotly import graph_objects as go

    is_3d = len(objectives) == 3
    figure = go.Figure([*_joins(outcome, objectives), *(_trace(group, objectives) for group in _groups(outcome))])
    axes: dict[str, Any] = {}
    for axis, o in zip(("xaxis", "yaxis", "zaxis"), objectives, strict=False):
        title = {"text": axis_title(o), "font": {"size": 10 if is_3d else 13}} | ({} if is_3d else {"standoff": 10})
        axes[axis] = {"title": title, "gridcolor": FAINT, "zeroline": False, "range": axis_range(outcome, o)}
    margin = dict.fromkeys("lrtb", 0) if is_3d else {"l": 64, "r": 12, "t": 34, "b": 48}
    figure.update_layout(**({"scene": axes | CAMERA} if is_3d else axes), template="none", margin=margin, showlegend=False)
    font = {"family": "system-ui, sans-serif", "color": INK}
    if not is_3d:
        figure.add_traces(_cut_marks(outcome, objectives))
        figure.update_layout(annotations=_names(outcome, objectives), shapes=_chance_shapes(outcome, objectives))
    clear, bar = "rgba(0,0,0,0)", {"bgcolor": "rgba(0,0,0,0)", "color": OUTLINE, "activecolor": INK}
    figure.update_layout(paper_bgcolor=clear, plot_bgcolor=clear, modebar=bar)
    figure.update_layout(hoverlabel={"align": "left"}, font=font, dragmode="turntable" if is_3d else False)
    config = {"responsive": True, "displaylogo": False, "scrollZoom": False, "modeBarButtons": BUTTONS[is_3d]}
    div = figure.to_html(config, full_html=False, include_plotlyjs=plotly, div_id=name, default_height="100%")
    names, hidden = " \N{MULTIPLICATION SIGN} ".join(label(o) for o in objectives), ""
    ranges = [(o.metric, *axis_range(outcome, o)) for o in objectives]
    if outside := [t for t in plotted(outcome) if any(not low <= t.metrics[name] <= high for name, low, high in ranges)]:
        hidden = f"; not shown: {numbered_trials([t.number for t in outside])} (excluded by a flag)"
    kind = "3D" if is_3d else "2D"
    description = f"{kind} scatter plot of {names} with a point per trial{hidden}; the tables contain the same numbers"
    return {"div": Markup(div), "caption": names + hidden, "description": description}


@dataclass(frozen=True)
class _Group:
    """Points that are drawn alike."""

    symbol: str
    color: str
    size: float
    values: Sequence[Mapping[str, float]]
    """Metrics or confirmed means of each point."""
    hover: Sequence[str] | None = None
    """Text that is shown over each point; None for rings and crosses around other points."""
    trials: Sequence[int] | None = None
    """Numbers of the trials that a click on the points shows."""
    confirmed: Sequence[Confirmed] = ()
    """Confirmed points, which have error bars."""
    line: Mapping[str, Any] = field(default_factory=dict)
    """Style of the outline."""


def _groups(outcome: Outcome) -> list[_Group]:
    """The points of a chart in groups, bottom layer first."""
    front, shown = {t.number for t in outcome.front()}, columns(outcome)
    groups = []
    for is_baseline, on_front, symbol, color, size in (
        (False, False, "circle-open", OUTLINE, 7), (False, True, "circle", BLUE, 10),
        (True, False, "square-open", INK, 10), (True, True, "square", BLUE, 10),
    ):  # fmt: skip
        points = [t for t in plotted(outcome) if bool(t.baseline) is is_baseline and (t.number in front) is on_front]
        groups.append(_Group(
            symbol, color, size, values=[t.metrics for t in points], trials=[t.number for t in points],
            hover=[_hover(t, t.metrics, outcome, shown) for t in points],
        ))  # fmt: skip
    rings = [(PURPLE, "circle-open", 14, flagged(outcome)), (PURPLE, "x", 6, [t for t in plotted(outcome) if t.excluded])]
    for color, symbol, size, points in rings:
        groups.append(_Group(symbol, color, size, values=[t.metrics for t in points], line={"width": 2}))
    trials = {t.number: t for t in outcome.trials}
    for verdict, symbol in SYMBOLS.items():
        points = [c for c in outcome.confirmed if c.verdict is verdict]
        groups.append(_Group(
            symbol, ORANGE, 9, values=[c.means for c in points], trials=[c.number for c in points], confirmed=points,
            hover=[_hover(trials[c.number], c.means, outcome, shown, f"confirmed, {verdict}: ") for c in points],
        ))  # fmt: skip
    if (number := recommended(outcome)) is not None:
        groups.append(_Group("circle-open", INK, 20, values=[place(outcome, number)], line={"width": 1.5}))
    return [group for group in groups if group.values]


def _hover(trial: Trial, values: Mapping[str, float], outcome: Outcome, columns: Sequence[str], kind: str = "") -> str:
    """The text that plotly shows over a point; plotly interprets tags in it, so names are escaped."""
    lines = [f"<b>{kind}{escape(described(trial, outcome), quote=False)}</b>"]
    lines += [f"{escape(label(o), quote=False)}: {decimal(values[o.metric], 4)}" for o in outcome.objectives]
    lines += [escape(f"{c} = {show(trial.params[c])}", quote=False) for c in columns if c in trial.params]
    lines += [f"<i>flags in the sweep: {escape(', '.join(trial.flags), quote=False)}</i>"] if trial.flags else []
    return "<br>".join(lines)


def _trace(group: _Group, objectives: Sequence[Objective]) -> dict[str, Any]:
    """One group as a plotly trace."""
    is_3d = len(objectives) == 3
    size = group.size * 0.6 if is_3d else group.size
    trace = {
        "type": "scatter3d" if is_3d else "scatter",
        "mode": "markers",
        "marker": {"symbol": _symbol_3d(group.symbol) if is_3d else group.symbol, "color": group.color, "size": size}
        | ({"line": group.line} if group.line else {}),
        "hovertext": group.hover,
        "customdata": group.trials,
        "hoverinfo": "text" if group.hover else "skip",
    }
    for axis, o in zip("xyz", objectives, strict=False):
        trace[axis] = [values[o.metric] for values in group.values]
        if group.confirmed:
            below, above = error_bars(group.confirmed, o)
            errors = {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "color": group.color}
            trace[f"error_{axis}"] = errors | {"thickness": 1, "width": 0 if is_3d else 3}
    return trace


def _symbol_3d(symbol: str) -> str:
    """The symbol in a 3D chart, which has no triangles."""
    return "cross" if symbol == "triangle-down-open" else symbol


def _joins(outcome: Outcome, objectives: Sequence[Objective]) -> list[dict[str, Any]]:
    """Lines from the points of the sweep to their confirmed means."""
    trials = {t.number: t for t in plotted(outcome)}
    pairs = [(trials[c.number].metrics, c.means) for c in outcome.confirmed if c.number in trials]
    if not pairs:
        return []
    trace: dict[str, Any] = {
        "type": "scatter3d" if len(objectives) == 3 else "scatter", "mode": "lines", "hoverinfo": "skip",
        "line": {"color": JOIN, "width": 1.5},
    }  # fmt: skip
    for axis, o in zip("xyz", objectives, strict=False):
        trace[axis] = [end for sweep, confirmed in pairs for end in (sweep[o.metric], confirmed[o.metric], None)]
    return [trace]


def _cut_marks(outcome: Outcome, objectives: Sequence[Objective]) -> list[dict[str, Any]]:
    """Triangles at the edges of a chart where an interval goes on outside."""
    traces = []
    for axis, o, other, symbols in zip(
        "xy", objectives, reversed(objectives), (("triangle-left", "triangle-right"), ("triangle-down", "triangle-up")), strict=True
    ):
        for edge, points, symbol in zip(
            axis_range(outcome, o), cut_intervals(outcome.confirmed, outcome, o), symbols, strict=True
        ):  # fmt: skip
            if points:
                traces.append({
                    "type": "scatter", "mode": "markers", "cliponaxis": False,
                    "marker": {"symbol": symbol, "color": ORANGE, "size": 8}, "hoverinfo": "text",
                    "hovertext": [_cut_text(c, o) for c in points], "customdata": [c.number for c in points],
                    axis: [edge] * len(points), "y" if axis == "x" else "x": [c.means[other.metric] for c in points],
                })  # fmt: skip
    return traces


def _cut_text(point: Confirmed, objective: Objective) -> str:
    interval = interval_text(point.intervals[objective.metric], decimals=3)
    return f"trial {point.number}: {escape(label(objective), quote=False)} {interval}"


def _names(outcome: Outcome, objectives: Sequence[Objective]) -> list[dict[str, Any]]:
    """Names of the baselines and of the point to ship, with lines to their points; the page's script moves them."""
    number = recommended(outcome)
    marked = [(t.number, t.baseline or f"trial {t.number}") for t in plotted(outcome) if t.baseline or t.number == number]
    x, y = (o.metric for o in objectives)
    style = {"showarrow": True, "arrowhead": 0, "arrowwidth": 0.8, "arrowcolor": OUTLINE, "standoff": 6, "borderpad": 1,
             "font": {"size": 12, "color": INK}, "xanchor": "center", "yanchor": "middle"}  # fmt: skip
    return [
        style | {"x": place(outcome, n)[x], "y": place(outcome, n)[y], "ax": 0, "ay": -22, "text": escape(name, quote=False)}
        for n, name in marked
    ]  # fmt: skip


def _chance_shapes(outcome: Outcome, objectives: Sequence[Objective]) -> list[dict[str, Any]]:
    """Dotted lines at the chance level of each objective that has one."""
    shapes = []
    for axis, o in zip("xy", objectives, strict=True):
        if (level := chance_line(outcome, o)) is not None:
            other = "y" if axis == "x" else "x"
            shapes.append({
                "type": "line", f"{axis}0": level, f"{axis}1": level, f"{other}ref": "paper", f"{other}0": 0, f"{other}1": 1,
                "line": {"color": OUTLINE, "width": 1, "dash": "dot"}, "layer": "below",
            })  # fmt: skip
    return shapes
