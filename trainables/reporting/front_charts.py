"""Interactive charts of the front by plotly, which is imported where it is needed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import combinations
from typing import Any

from markupsafe import Markup

from core.study import Objective
from trainables.reporting.style import BLUE, INK, ORANGE, PURPLE, axis_range, axis_title, error_bars, plotted
from trainables.study.outcome import Confirmed, Outcome
from trainables.study.text import columns, flagged, knee, label, show
from trainables.study.trial import Trial
from trainables.study.trial_names import described

OUTLINE = "#7D858E"
"""Colour of open circles, dark enough for a thin line."""
CAMERA = {"aspectmode": "cube", "camera": {"eye": {"x": -1.7, "y": -1.7, "z": 1.0}, "center": {"z": -0.12}}}
"""Camera of the 3D chart: far enough away for all titles; accuracy and robust accuracy increase towards the back."""
BUTTONS = {
    False: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
    True: [["toImage", "orbitRotation", "pan3d", "resetCameraDefault3d"]],
}
"""Buttons of charts, by whether they are 3D; plotly's default buttons can send the data to its cloud."""


def charts(outcome: Outcome) -> list[dict[str, Any]]:
    """The interactive charts: each pair of objectives, and the first three together. The first one contains plotly.js."""
    pairs = [
        _chart(outcome, pair, f"pair-{i}", plotly=i == 0) for i, pair in enumerate(combinations(outcome.objectives, 2))
    ]  # fmt: skip
    cube = [_chart(outcome, outcome.objectives[:3], "cube", plotly=False)] if len(outcome.objectives) > 2 else []
    return pairs + cube


def key(outcome: Outcome) -> list[tuple[str, str, str]]:
    """The legend of the charts: colour, character and meaning of each mark that occurs."""
    stays = {c.on_front for c in outcome.confirmed}
    excluded = any(t.excluded for t in plotted(outcome))
    marks = [
        (True, OUTLINE, "\u25cb", "trial"),
        (True, BLUE, "\u25cf", "front"),
        (any(t.baseline for t in outcome.completed), INK, "\u25a1", "baseline, with its name, filled if on the front"),
        (True, INK, "\u25ef", "around a point: the knee"),
        (bool(flagged(outcome)), PURPLE, "\u25ef", "flagged, on the front"),
        (excluded, PURPLE, "\u00d7", "excluded from the front by a flag"),
        (True in stays, ORANGE, "\u25c6", "confirmed, with 95 % intervals"),
        (False in stays, ORANGE, "\u25c7", "confirmed, left the front"),
    ]
    return [(color, mark, text) for occurs, color, mark, text in marks if occurs]


def _chart(outcome: Outcome, objectives: Sequence[Objective], name: str, plotly: bool) -> dict[str, Any]:
    """One interactive scatter plot of two or three objectives, with its caption and description."""
    from plotly import graph_objects as go

    is_3d = len(objectives) == 3
    figure = go.Figure([_trace(group, objectives, outcome) for group in _groups(outcome)])
    axes: dict[str, Any] = {}
    for axis, o in zip(("xaxis", "yaxis", "zaxis"), objectives, strict=False):
        title = {"text": axis_title(o), "font": {"size": 10 if is_3d else 13}} | ({} if is_3d else {"standoff": 10})
        axes[axis] = {"title": title, "gridcolor": "#E4E8EC", "zeroline": False, "range": axis_range(outcome, o)}
    margin = dict.fromkeys("lrtb", 0) if is_3d else {"l": 64, "r": 12, "t": 34, "b": 48}
    figure.update_layout(**({"scene": axes | CAMERA} if is_3d else axes), template="none", margin=margin, showlegend=False)
    font = {"family": "system-ui, sans-serif", "color": INK}
    figure.update_layout(hoverlabel={"align": "left"}, font=font, dragmode="turntable" if is_3d else False)
    config = {"responsive": True, "displaylogo": False, "scrollZoom": False, "modeBarButtons": BUTTONS[is_3d]}
    div = figure.to_html(config, full_html=False, include_plotlyjs=plotly, div_id=name, default_height="100%")
    names, hidden = " \N{MULTIPLICATION SIGN} ".join(label(o) for o in objectives), ""
    ranges = [(o.metric, *axis_range(outcome, o)) for o in objectives]
    if outside := [t for t in plotted(outcome) if any(not low <= t.metrics[name] <= high for name, low, high in ranges)]:
        word = "trial" if len(outside) == 1 else "trials"
        hidden = f"; not shown: {word} {', '.join(str(t.number) for t in outside)} (excluded by a flag)"
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
    names: Sequence[str] = ()
    """Names that are drawn beside the points."""
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
            names=[escape(t.baseline, quote=False) for t in points],
        ))  # fmt: skip
    for symbol, color, size, width, points in (
        ("circle-open", PURPLE, 14, 2, flagged(outcome)), ("x", PURPLE, 6, 2, [t for t in plotted(outcome) if t.excluded]),
        ("circle-open", INK, 20, 1, [t for t in [knee(outcome)] if t]),
    ):  # fmt: skip
        groups.append(_Group(symbol, color, size, values=[t.metrics for t in points], line={"width": width}))
    trials = {t.number: t for t in outcome.trials}
    for stays, symbol in ((True, "diamond"), (False, "diamond-open")):
        points = [c for c in outcome.confirmed if c.on_front is stays]
        groups.append(_Group(
            symbol, ORANGE, 9, values=[c.means for c in points], trials=[c.number for c in points], confirmed=points,
            hover=[_hover(trials[c.number], c.means, outcome, shown, "confirmed ") for c in points],
        ))  # fmt: skip
    return [group for group in groups if group.values]


def _hover(trial: Trial, values: Mapping[str, float], outcome: Outcome, columns: Sequence[str], kind: str = "") -> str:
    """The text that plotly shows over a point; plotly interprets tags in it, so names are escaped."""
    lines = [f"<b>{kind}{escape(described(trial, outcome), quote=False)}</b>"]
    lines += [f"{escape(label(o), quote=False)}: {values[o.metric]:.4f}" for o in outcome.objectives]
    lines += [escape(f"{c} = {show(trial.params[c])}", quote=False) for c in columns if c in trial.params]
    lines += [f"<i>flags: {escape(', '.join(trial.flags), quote=False)}</i>"] if trial.flags else []
    return "<br>".join(lines)


def _trace(group: _Group, objectives: Sequence[Objective], outcome: Outcome) -> dict[str, Any]:
    """One group as a plotly trace."""
    is_3d = len(objectives) == 3
    with_names = any(group.names) and not is_3d  # in a 3D chart, names would overlap
    size = group.size * 0.6 if is_3d else group.size
    trace = {
        "type": "scatter3d" if is_3d else "scatter",
        "mode": "markers+text" if with_names else "markers",
        "marker": {"symbol": group.symbol, "color": group.color, "size": size} | ({"line": group.line} if group.line else {}),
        "hovertext": group.hover,
        "customdata": group.trials,
        "hoverinfo": "text" if group.hover else "skip",
        "text": group.names if with_names else None,
        "textposition": [_name_position(n, objectives, outcome) for n in group.trials or ()] if with_names else None,
    }
    for axis, o in zip("xyz", objectives, strict=False):
        trace[axis] = [values[o.metric] for values in group.values]
        if group.confirmed:
            below, above = error_bars(group.confirmed, o)
            errors = {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "color": group.color}
            trace[f"error_{axis}"] = errors | {"thickness": 1, "width": 0 if is_3d else 3}
    return trace


def _name_position(number: int, objectives: Sequence[Objective], outcome: Outcome) -> str:
    """Position of a baseline's name: towards the middle, so that it is not cut off, and away from the other baselines' names."""
    first, last = objectives[0].metric, objectives[-1].metric
    baselines = sorted((t for t in plotted(outcome) if t.baseline), key=lambda t: t.metrics[last])
    rank = [t.number for t in baselines].index(number)
    height = "top" if rank == len(baselines) - 1 else "bottom" if rank == 0 else "middle"
    low, high = axis_range(outcome, objectives[0])
    return f"{height} {'left' if baselines[rank].metrics[first] > (low + high) / 2 else 'right'}"
