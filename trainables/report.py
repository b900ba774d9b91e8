"""What a study hands to people: figures, an HTML report, and the rows of front.csv and confirmed.csv.

plotly and matplotlib are imported where they are needed, so that a study starts without them.
"""

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from csv import DictWriter
from html import escape
from itertools import combinations, cycle
from typing import Any

import numpy as np

from core.config import Objective
from core.space import Value
from trainables import gallery, page
from trainables.drawing import BLUE, GREY, INK, ORANGE, PURPLE, axis_title, png, styled
from trainables.outcome import Confirmed, Outcome, Trial

CAMERA = {"aspectmode": "cube", "camera": {"eye": {"x": -1.7, "y": -1.7, "z": 1.0}, "center": {"z": -0.12}}}
"""Far enough away for all titles, and so that accuracy and robust accuracy grow towards the back."""

BUTTONS = {
    False: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
    True: [["toImage", "orbitRotation", "pan3d", "resetCameraDefault3d"]],
}
"""Of the interactive pictures, flat or solid. Named, because plotly's own choice can send the data to its cloud."""


def front_rows(outcome: Outcome) -> list[dict[str, Value]]:
    """Rows of front.csv, best first objective first; a parameter that a trial does not have is not in its row."""
    columns = outcome.columns()
    return [
        {"trial": t.number, "baseline": t.baseline}
        | {o.metric: t.metrics[o.metric] for o in outcome.objectives}
        | {"flags": " ".join(t.flags)}
        | {name: t.params[name] for name in columns if name in t.params}
        for t in outcome.front()
    ]


def confirmed_rows(outcome: Outcome) -> list[dict[str, Value]]:
    """Rows of confirmed.csv; the ends of the interval of a single replicate are infinite."""
    trials = {t.number: t for t in outcome.trials}
    rows = []
    for c in outcome.confirmed:
        row: dict[str, Value] = {"trial": c.number, "baseline": trials[c.number].baseline, "replicates": c.replicates}
        for name in (o.metric for o in outcome.objectives):
            low, high = c.intervals[name]
            row |= {name: c.means[name], f"{name}_low": low, f"{name}_high": high}
            row[f"sweep_{name}"] = trials[c.number].metrics[name]
        row |= {"failed": c.failed, "flags": " ".join(c.flags)}
        rows.append(row | {"probability_non_dominated": c.probability, "on_front": c.on_front})
    return rows


def csv(rows: Sequence[Mapping[str, Value]]) -> str:
    """The rows as CSV; floats read back as the same floats, and what a row lacks is empty."""
    text = io.StringIO()
    writer = DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    if rows:
        writer.writeheader()
        writer.writerows({k: repr(float(v)) if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    return text.getvalue()


def html(outcome: Outcome, pictures: Mapping[str, bytes] | None = None) -> str:
    """The report: one file from which no request leaves. `pictures` are its `figures`, where there are some already."""
    drawn = figures(outcome) if pictures is None else pictures
    audits = {name: png for name, png in drawn.items() if name.startswith("audit-")}
    seen = {name: png for name, png in drawn.items() if name.startswith(("inversion-", "attribution-", "radius_leak"))}
    return page.render(outcome, _charts(outcome), _embedded(audits, _audit_described), _embedded(seen, gallery.described))


def _embedded(pictures: Mapping[str, bytes], described: Callable[[str], str]) -> str:
    """Pictures that need no other file; HTML."""
    shown = "".join(
        f'<figure><img alt="{escape(described(name))}" src="data:image/png;base64,{base64.b64encode(png).decode()}"></figure>'
        for name, png in pictures.items()
    )
    return f'<div class="charts">{shown}</div>' if shown else ""


def _audit_described(name: str) -> str:
    number = int(name.removeprefix("audit-").removesuffix(".png"))
    return (
        f"Trial {number}: ROC curves of its audits on logarithmic axes, and histograms of the confidence of members and non-members"
    )


def files(outcome: Outcome) -> dict[str, bytes]:
    """Everything that people read, by its place in a study's folder."""
    made = {"front.csv": csv(front_rows(outcome)).encode()}
    if outcome.confirmed:
        made["confirmed.csv"] = csv(confirmed_rows(outcome)).encode()
    pictures = figures(outcome)
    made |= {f"plots/{name}": picture for name, picture in pictures.items()}
    return made | {"report.html": html(outcome, pictures).encode()}


def figures(outcome: Outcome) -> dict[str, bytes]:
    """PNG files by name."""
    with styled():
        audits = {f"audit-{c.number:05d}.png": _audit_figure(c) for c in outcome.confirmed if c.curves or c.histogram}
        seen = {name: png(figure) for name, figure in gallery.figures(outcome).items()}
        return {"front.png": _front_figure(outcome), "hypervolume.png": _hypervolume_figure(outcome)} | audits | seen


def _plotted(outcome: Outcome) -> list[Trial]:
    return [t for t in outcome.done if all(o.metric in t.metrics for o in outcome.objectives)]


def _front_figure(outcome: Outcome) -> bytes:
    """Every pair of objectives side by side."""
    from matplotlib.figure import Figure

    pairs = list(combinations(outcome.objectives, 2))
    columns = min(3, len(pairs))
    rows = math.ceil(len(pairs) / columns)
    figure = Figure(figsize=(10 if columns > 1 else 5.6, 3.6 * rows), dpi=150, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis, (x, y) in zip(axes, pairs, strict=False):
        _project(axis, outcome, x, y)
    for axis in list(axes)[len(pairs) :]:
        axis.set_axis_off()
    handles, names = figure.axes[0].get_legend_handles_labels()
    if handles:
        wide = 140 if columns > 1 else 70  # characters of legend that fit in a row
        lines = math.ceil(sum(len(name) + 6 for name in names) / wide)
        figure.legend(handles, names, loc="outside lower center", ncols=math.ceil(len(names) / lines), frameon=False,
                      handletextpad=0.2, columnspacing=1.5)  # fmt: skip
    return png(figure)


def _project(axis: Any, outcome: Outcome, x: Objective, y: Objective) -> None:
    """One pair of objectives: shape says what a point is, a filled marker is on the front, a thick rim is flagged."""
    front = outcome.front()
    plain = [t for t in _plotted(outcome) if not t.baseline]

    def at(trials: Sequence[Trial]) -> tuple[list[float], list[float]]:
        return [t.metrics[x.metric] for t in trials], [t.metrics[y.metric] for t in trials]

    rest = [t for t in plain if t not in front]
    axis.plot(*at(rest), "o", ms=4.5, mfc="white", mec=GREY, mew=1, label="trial", zorder=2)
    axis.plot(*at([t for t in plain if t in front]), "o", ms=6.5, color=BLUE, mec="white", mew=0.7, label="front", zorder=4)
    for shape, trial in zip(cycle("s^vPXp*"), (t for t in _plotted(outcome) if t.baseline), strict=False):
        fill = BLUE if trial in front else "white"
        axis.plot(*at([trial]), shape, ms=7.5, color=fill, mec=INK, mew=1, label=trial.baseline, ls="none", zorder=5)
    if flagged := [t for t in front if t.flags]:
        axis.plot(*at(flagged), "o", ms=9.5, mfc="none", mec=PURPLE, mew=1.6, label="flagged, on the front", zorder=5.5)
    if barred := [t for t in _plotted(outcome) if t.barred]:
        axis.plot(*at(barred), "x", ms=5, color=PURPLE, mew=1.2, label="barred by a flag", zorder=5.5)
    if balanced := page.knee(outcome):
        axis.plot(*at([balanced]), "o", ms=14, mfc="none", mec=INK, mew=0.9, label="knee", zorder=6)
    _project_confirmed(axis, outcome, x, y)
    axis.set_xlabel(axis_title(x))
    axis.set_ylabel(axis_title(y))
    axis.margins(0.07)
    axis.grid(color="#ECEFF2", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.tick_params(length=0)


def _project_confirmed(axis: Any, outcome: Outcome, x: Objective, y: Objective) -> None:
    """Confirmed points with their intervals, each on a thin line from where the sweep saw it."""
    trials = {t.number: t for t in outcome.trials}
    for stays, name in ((True, "confirmed"), (False, "confirmed, left the front")):
        points = [c for c in outcome.confirmed if c.on_front is stays]
        for c in points:
            ends = [(values[x.metric], values[y.metric]) for values in (trials[c.number].metrics, c.means)]
            axis.plot(*zip(*ends, strict=True), color=ORANGE, linewidth=0.8, linestyle=":", zorder=2.5)
        if points:
            at = ([c.means[o.metric] for c in points] for o in (x, y))
            axis.errorbar(*at, xerr=_bars(points, x), yerr=_bars(points, y), fmt="D", ms=5.5, color=ORANGE, mew=1.1,
                          mfc=ORANGE if stays else "white", elinewidth=0.9, label=name, zorder=3)  # fmt: skip


def _bars(points: Sequence[Confirmed], objective: Objective) -> list[list[float]]:
    """Lengths of the error bars below and above the means; none where the interval is infinite."""
    name = objective.metric
    lengths = [[c.means[name] - c.intervals[name].low, c.intervals[name].high - c.means[name]] for c in points]
    return [[max(0.0, pair[end]) if math.isfinite(pair[end]) else 0.0 for pair in lengths] for end in (0, 1)]


def _hypervolume_figure(outcome: Outcome) -> bytes:
    """How the front grew."""
    from matplotlib.figure import Figure

    curve = outcome.hypervolume_curve()
    figure = Figure(figsize=(6, 3.4), dpi=150, layout="constrained")
    axis = figure.subplots()
    axis.step(range(len(curve) + 1), [0.0, *curve], where="post", color=BLUE, linewidth=1.8)
    if curve:
        axis.annotate(f"{curve[-1]:.3f}", (len(curve), curve[-1]), (4, 0), textcoords="offset points", va="center",
                      annotation_clip=False)  # fmt: skip
    axis.set_xlim(0, max(1, len(curve)))
    axis.set_ylim(0, max(curve, default=0) * 1.08 or 1)
    axis.locator_params(axis="x", integer=True)
    axis.set_xlabel("finished trials")
    axis.set_ylabel("hypervolume,  better \N{RIGHTWARDS ARROW}")
    axis.grid(axis="y", color="#ECEFF2", linewidth=0.7)
    axis.tick_params(length=0)
    return png(figure)


def _audit_figure(point: Confirmed) -> bytes:
    """ROC curves on logarithmic axes, and how sure the replicates are of members and of others."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 3.5), dpi=110, layout="constrained")
    roc, sure = figure.subplots(1, 2)
    curves = {name: curve for name, curve in point.curves.items() if curve}
    low = min((curve[0][0] for curve in curves.values()), default=1e-2)
    roc.plot([low, 1], [low, 1], color=GREY, linewidth=1, linestyle=":", label="guessing")
    order = sorted(curves, key=lambda name: -abs(point.leaks[name].auc - 0.5) if name in point.leaks else 0.0)
    named = zip(order, (BLUE, ORANGE, PURPLE, INK), strict=False)
    for name, color in [*((name, GREY) for name in order[4:]), *named]:
        x, y = zip(*curves[name], strict=True)
        first = color == GREY and name == order[4]
        label = "weaker audits" if first else "_" if color == GREY else name  # an underscore is no entry
        roc.plot(x, [max(v, low) for v in y], color=color, linewidth=0.8 if color == GREY else 1.5, label=label)
    roc.set(xscale="log", yscale="log", xlim=(low, 1), ylim=(low, 1), xlabel="false-positive rate", ylabel="true-positive rate")
    roc.legend(fontsize=7, frameon=False, loc="lower right")
    edges = np.linspace(0, 1, len(next(iter(point.histogram.values()), [0])) + 1)
    for name, color in (("members", BLUE), ("non_members", ORANGE)):
        counts = np.asarray(point.histogram.get(name, [0]), float)
        sure.stairs(counts / max(counts.sum(), 1), edges, color=color, fill=True, alpha=0.45, label=name.replace("_", "-"))
    sure.set(xlabel="confidence in the true class", ylabel="share of images", xlim=(0, 1), yscale="log")
    sure.legend(fontsize=8, frameon=False)
    figure.suptitle(f"trial {point.number}, {point.replicates} replicates", fontsize=9)
    return png(figure)


def _charts(outcome: Outcome) -> str:
    """The interactive pictures and their key; plotly.js comes with the first picture only."""
    pairs = [_chart(outcome, pair, f"pair-{i}", plotly=i == 0) for i, pair in enumerate(combinations(outcome.objectives, 2))]
    cube = [_chart(outcome, outcome.objectives, "cube", plotly=False)] if len(outcome.objectives) == 3 else []
    key = (
        f'<ul class="key"><li><span style="color:{GREY}">\u25cb</span> trial</li>'
        f'<li><span style="color:{BLUE}">\u25cf</span> front</li>'
        "<li>\u25a1 baseline, with its name, filled if on the front</li>"
        f'<li><span style="color:{PURPLE}">\u25ef</span> flagged, on the front</li>'
        f'<li><span style="color:{PURPLE}">\u00d7</span> barred from the front by a flag</li>'
        f'<li><span style="color:{ORANGE}">\u25c6</span> confirmed, with 95% intervals</li>'
        f'<li><span style="color:{ORANGE}">\u25c7</span> confirmed, left the front</li></ul>'
    )
    without = "<noscript><p>The pictures need JavaScript; the tables hold the same numbers.</p></noscript>"
    return f'{without}{key}<div class="charts">{"".join(pairs + cube)}</div>'


def _chart(outcome: Outcome, objectives: Sequence[Objective], name: str, plotly: bool) -> str:
    """One interactive scatter of two or three objectives."""
    from plotly import graph_objects as go

    solid = len(objectives) == 3
    figure = go.Figure([_trace(group, objectives, _middle(outcome, objectives[0])) for group in _groups(outcome)])
    axes: dict[str, Any] = {}
    for axis, o in zip(("xaxis", "yaxis", "zaxis"), objectives, strict=False):
        title = {"text": axis_title(o), "font": {"size": 10 if solid else 13}} | ({} if solid else {"standoff": 10})
        axes[axis] = {"title": title, "gridcolor": "#E4E8EC", "zeroline": False}
    margin = dict.fromkeys("lrtb", 0) if solid else {"l": 64, "r": 12, "t": 34, "b": 48}
    figure.update_layout(**({"scene": axes | CAMERA} if solid else axes), template="none", margin=margin, showlegend=False)
    font = {"family": "system-ui, sans-serif", "color": INK}
    figure.update_layout(hoverlabel={"align": "left"}, font=font, dragmode="turntable" if solid else False)
    config = {"responsive": True, "displaylogo": False, "scrollZoom": False, "modeBarButtons": BUTTONS[solid]}
    div = figure.to_html(config, full_html=False, include_plotlyjs=plotly, div_id=name, default_height="100%")
    caption = escape(" \N{MULTIPLICATION SIGN} ".join(page.label(o) for o in objectives))
    return f'<figure><div class="chart">{div}</div><figcaption>{caption}</figcaption></figure>'


def _groups(outcome: Outcome) -> list[dict[str, Any]]:
    """What the interactive pictures show, bottom layer first: points that share a look."""
    front, columns = outcome.front(), outcome.columns()
    trials = {t.number: t for t in outcome.trials}
    barred = [t for t in _plotted(outcome) if t.barred]
    looks = [("circle-open", GREY, 7), ("circle", BLUE, 10), ("square-open", INK, 10), ("square", BLUE, 10)]
    groups = [{"look": look, "values": [], "hover": [], "names": []} for look in looks]
    for t in _plotted(outcome):
        group = groups[2 * bool(t.baseline) + (t in front)]
        group["values"].append(t.metrics)
        group["hover"].append(_hover(t, t.metrics, outcome.objectives, columns))
        group["names"].append(escape(t.baseline, quote=False))
    for symbol, size, marked in (("circle-open", 14, [t for t in front if t.flags]), ("x", 6, barred)):
        groups.append(
            {"look": (symbol, PURPLE, size), "values": [t.metrics for t in marked], "hover": None, "more": {"line": {"width": 2}}}
        )
    for stays, symbol in ((True, "diamond"), (False, "diamond-open")):
        points = [c for c in outcome.confirmed if c.on_front is stays]
        hover = [_hover(trials[c.number], c.means, outcome.objectives, columns, "confirmed ") for c in points]
        groups.append({"look": (symbol, ORANGE, 9), "values": [c.means for c in points], "hover": hover, "points": points})
    return [group for group in groups if group["values"]]


def _hover(
    trial: Trial, values: Mapping[str, float], objectives: Sequence[Objective], columns: Sequence[str], kind: str = ""
) -> str:
    """What plotly shows over a point; it reads tags in text, so names are escaped for it too."""
    lines = [f"<b>{kind}{escape(page.named(trial), quote=False)}</b>"]
    lines += [f"{escape(page.label(o), quote=False)}: {values[o.metric]:.4f}" for o in objectives]
    lines += [escape(f"{c} = {page.show(trial.params[c])}", quote=False) for c in columns if c in trial.params]
    lines += [f"<i>flags: {escape(', '.join(trial.flags), quote=False)}</i>"] if trial.flags else []
    return "<br>".join(lines)


def _trace(group: Mapping[str, Any], objectives: Sequence[Objective], middle: float) -> dict[str, Any]:
    """One group as a plotly trace; names go towards the middle of a flat picture, so that none is cut off."""
    symbol, color, size = group["look"]
    solid = len(objectives) == 3
    named = any(group.get("names", ()))
    first = [values[objectives[0].metric] for values in group["values"]]
    trace = {
        "type": "scatter3d" if solid else "scatter",
        "mode": "markers+text" if named else "markers",
        "marker": {"symbol": symbol, "color": color, "size": size * 0.6 if solid else size} | group.get("more", {}),
        "hovertext": group["hover"],
        "hoverinfo": "text" if group["hover"] else "skip",
        "text": group["names"] if named else None,
        "textposition": ["top center" if solid else f"top {'left' if value > middle else 'right'}" for value in first],
    }
    for axis, o in zip("xyz", objectives, strict=False):
        trace[axis] = [values[o.metric] for values in group["values"]]
        if "points" in group:
            below, above = _bars(group["points"], o)
            bars = {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "color": color}
            trace[f"error_{axis}"] = bars | {"thickness": 1, "width": 0 if solid else 3}
    return trace


def _middle(outcome: Outcome, objective: Objective) -> float:
    values = [t.metrics[objective.metric] for t in _plotted(outcome)]
    return (min(values) + max(values)) / 2 if values else 0.0
