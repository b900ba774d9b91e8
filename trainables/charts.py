"""The interactive pictures of the front, by plotly, which is imported where it is needed."""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import combinations
from typing import Any

from core.config import Objective
from trainables.drawing import BLUE, INK, ORANGE, PURPLE, axis_title, bars, frame, plotted
from trainables.outcome import Outcome, Trial
from trainables.words import columns, knee, label, marked, named, show

GREY_LINE = "#7D858E"
"""Dark enough for a thin circle."""
CAMERA = {"aspectmode": "cube", "camera": {"eye": {"x": -1.7, "y": -1.7, "z": 1.0}, "center": {"z": -0.12}}}
"""Far enough away for all titles, and so that accuracy and robust accuracy grow towards the back."""

BUTTONS = {
    False: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
    True: [["toImage", "orbitRotation", "pan3d", "resetCameraDefault3d"]],
}
"""Of the interactive pictures, flat or solid. Named, because plotly's own choice can send the data to its cloud."""


def interactive(outcome: Outcome, still: str) -> str:
    """The pictures, their key, and a still one (HTML) for paper and for readers without JavaScript.

    plotly.js comes with the first picture only.
    """
    pairs = [_chart(outcome, pair, f"pair-{i}", plotly=i == 0) for i, pair in enumerate(combinations(outcome.objectives, 2))]
    cube = [_chart(outcome, outcome.objectives[:3], "cube", plotly=False)] if len(outcome.objectives) > 2 else []
    hint = '<p class="live">Point at a mark for its numbers; click on it for everything about the trial.</p>'
    without = "<noscript><p>These pictures are still because JavaScript is off; the tables hold the same numbers.</p></noscript>"
    return f'{without}{hint}{_key(outcome)}<div class="charts live">{"".join(pairs + cube)}</div><div class="paper">{still}</div>'


def _key(outcome: Outcome) -> str:
    """What the marks mean, of those that there are."""
    stays = {c.on_front for c in outcome.confirmed}
    barred = any(t.barred for t in plotted(outcome))
    marks = [
        (True, GREY_LINE, "\u25cb", "trial"),
        (True, BLUE, "\u25cf", "front"),
        (any(t.baseline for t in outcome.done), INK, "\u25a1", "baseline, with its name, filled if on the front"),
        (True, INK, "\u25ef", "around a point: the knee"),
        (bool(marked(outcome)), PURPLE, "\u25ef", "flagged, on the front"),
        (barred, PURPLE, "\u00d7", "barred from the front by a flag"),
        (True in stays, ORANGE, "\u25c6", "confirmed, with 95% intervals"),
        (False in stays, ORANGE, "\u25c7", "confirmed, left the front"),
    ]
    items = "".join(f'<li><span style="color:{color}">{mark}</span> {text}</li>' for there, color, mark, text in marks if there)
    return f'<ul class="key live">{items}</ul>'


def _chart(outcome: Outcome, objectives: Sequence[Objective], name: str, plotly: bool) -> str:
    """One interactive scatter of two or three objectives."""
    from plotly import graph_objects as go

    solid = len(objectives) == 3
    figure = go.Figure([_trace(group, objectives, outcome) for group in _groups(outcome)])
    axes: dict[str, Any] = {}
    for axis, o in zip(("xaxis", "yaxis", "zaxis"), objectives, strict=False):
        title = {"text": axis_title(o), "font": {"size": 10 if solid else 13}} | ({} if solid else {"standoff": 10})
        axes[axis] = {"title": title, "gridcolor": "#E4E8EC", "zeroline": False, "range": frame(outcome, o)}
    margin = dict.fromkeys("lrtb", 0) if solid else {"l": 64, "r": 12, "t": 34, "b": 48}
    figure.update_layout(**({"scene": axes | CAMERA} if solid else axes), template="none", margin=margin, showlegend=False)
    font = {"family": "system-ui, sans-serif", "color": INK}
    figure.update_layout(hoverlabel={"align": "left"}, font=font, dragmode="turntable" if solid else False)
    config = {"responsive": True, "displaylogo": False, "scrollZoom": False, "modeBarButtons": BUTTONS[solid]}
    div = figure.to_html(config, full_html=False, include_plotlyjs=plotly, div_id=name, default_height="100%")
    caption = escape(" \N{MULTIPLICATION SIGN} ".join(label(o) for o in objectives))
    frames = [(o.metric, *frame(outcome, o)) for o in objectives]
    if outside := [t for t in plotted(outcome) if any(not low <= t.metrics[name] <= high for name, low, high in frames)]:
        caption += f"; outside the picture, and barred: trial {', '.join(str(t.number) for t in outside)}"
    told = f"{'Solid' if solid else 'Flat'} scatter plot of {caption}: a point per trial; the tables hold the same numbers"
    return f'<figure><div class="chart" role="group" aria-label="{told}">{div}</div><figcaption>{caption}</figcaption></figure>'


def _groups(outcome: Outcome) -> list[dict[str, Any]]:
    """What the interactive pictures show, bottom layer first: points that share a look."""
    front, told = {t.number for t in outcome.front()}, columns(outcome)
    trials = {t.number: t for t in outcome.trials}
    barred = [t for t in plotted(outcome) if t.barred]
    looks = [("circle-open", GREY_LINE, 7), ("circle", BLUE, 10), ("square-open", INK, 10), ("square", BLUE, 10)]
    groups = [{"look": look, "values": [], "hover": [], "names": [], "trials": []} for look in looks]
    for t in plotted(outcome):
        group = groups[2 * bool(t.baseline) + (t.number in front)]
        group["values"].append(t.metrics)
        group["hover"].append(_hover(t, t.metrics, outcome.objectives, told))
        group["names"].append(escape(t.baseline, quote=False))
        group["trials"].append(t.number)
    balanced = [t for t in [knee(outcome)] if t]
    rings = (("circle-open", PURPLE, 14, 2, marked(outcome)), ("x", PURPLE, 6, 2, barred),
             ("circle-open", INK, 20, 1, balanced))  # fmt: skip
    for symbol, color, size, width, ringed in rings:
        line = {"line": {"width": width}}
        groups.append({"look": (symbol, color, size), "values": [t.metrics for t in ringed], "hover": None, "more": line})
    for stays, symbol in ((True, "diamond"), (False, "diamond-open")):
        points = [c for c in outcome.confirmed if c.on_front is stays]
        hover = [_hover(trials[c.number], c.means, outcome.objectives, told, "confirmed ") for c in points]
        groups.append({"look": (symbol, ORANGE, 9), "values": [c.means for c in points], "hover": hover, "points": points,
                       "trials": [c.number for c in points]})  # fmt: skip
    return [group for group in groups if group["values"]]


def _hover(
    trial: Trial, values: Mapping[str, float], objectives: Sequence[Objective], columns: Sequence[str], kind: str = ""
) -> str:
    """What plotly shows over a point; it reads tags in text, so names are escaped for it too."""
    lines = [f"<b>{kind}{escape(named(trial), quote=False)}</b>"]
    lines += [f"{escape(label(o), quote=False)}: {values[o.metric]:.4f}" for o in objectives]
    lines += [escape(f"{c} = {show(trial.params[c])}", quote=False) for c in columns if c in trial.params]
    lines += [f"<i>flags: {escape(', '.join(trial.flags), quote=False)}</i>"] if trial.flags else []
    return "<br>".join(lines)


def _trace(group: Mapping[str, Any], objectives: Sequence[Objective], outcome: Outcome) -> dict[str, Any]:
    """One group as a plotly trace."""
    symbol, color, size = group["look"]
    solid = len(objectives) == 3
    named = any(group.get("names", ())) and not solid  # seen from an angle, names lie on each other
    trace = {
        "type": "scatter3d" if solid else "scatter",
        "mode": "markers+text" if named else "markers",
        "marker": {"symbol": symbol, "color": color, "size": size * 0.6 if solid else size} | group.get("more", {}),
        "hovertext": group["hover"],
        "customdata": group.get("trials"),
        "hoverinfo": "text" if group["hover"] else "skip",
        "text": group["names"] if named else None,
        "textposition": [_beside(number, objectives, outcome) for number in group["trials"]] if named else None,
    }
    for axis, o in zip("xyz", objectives, strict=False):
        trace[axis] = [values[o.metric] for values in group["values"]]
        if "points" in group:
            below, above = bars(group["points"], o)
            errors = {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "color": color}
            trace[f"error_{axis}"] = errors | {"thickness": 1, "width": 0 if solid else 3}
    return trace


def _beside(number: int, objectives: Sequence[Objective], outcome: Outcome) -> str:
    """Where a baseline's name goes: towards the middle, so that it is not cut off, and away from the other baselines' names."""
    first, last = objectives[0].metric, objectives[-1].metric
    baselines = sorted((t for t in plotted(outcome) if t.baseline), key=lambda t: t.metrics[last])
    rank = [t.number for t in baselines].index(number)
    height = "top" if rank == len(baselines) - 1 else "bottom" if rank == 0 else "middle"
    low, high = frame(outcome, objectives[0])
    return f"{height} {'left' if baselines[rank].metrics[first] > (low + high) / 2 else 'right'}"
