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

from core.config import Objective
from core.space import Value
from trainables import charts, curves, gallery, page
from trainables.drawing import BLUE, GREY, INK, ORANGE, PURPLE, axis_title, bars, frame, plotted, png, styled
from trainables.outcome import Outcome, Trial
from trainables.words import knee, marked

WIDE = ("audit-", "inversion-", "attribution-", "radius_leak")
"""Pictures that a phone lets scroll, because their writing would be too small on its width."""


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

    def section(described: Callable[[str], str], *begins: str) -> str:
        return _embedded({name: png for name, png in drawn.items() if name.startswith(begins)}, described)

    still = section(lambda name: "Every pair of objectives; the tables below hold the same numbers", "front")
    return page.render(outcome, charts.interactive(outcome, still), {
        "growth": section(lambda name: "Hypervolume of the front over finished trials: a staircase that only rises", "hypervolume"),
        "radii": section(curves.described, "over_epsilon"),
        "audits": section(curves.described, "audit-"),
        "seen": section(gallery.described, "inversion-", "attribution-", "radius_leak"),
    })  # fmt: skip


def _embedded(pictures: Mapping[str, bytes], described: Callable[[str], str]) -> str:
    """Pictures that need no other file; HTML."""
    shown = ""
    for name, picture in pictures.items():
        kind, data = " class=wide" * name.startswith(WIDE), base64.b64encode(picture).decode()
        shown += f'<figure{kind}><img alt="{escape(described(name))}" src="data:image/png;base64,{data}"></figure>'
    return f'<div class="charts">{shown}</div>' if shown else ""


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
        made = {"front.png": _front_figure(outcome), "hypervolume.png": _hypervolume_figure(outcome)}
        return made | {name: png(figure) for name, figure in (curves.figures(outcome) | gallery.figures(outcome)).items()}


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
    front = {t.number for t in outcome.front()}
    plain = [t for t in plotted(outcome) if not t.baseline]

    def at(trials: Sequence[Trial]) -> tuple[list[float], list[float]]:
        return [t.metrics[x.metric] for t in trials], [t.metrics[y.metric] for t in trials]

    rest = [t for t in plain if t.number not in front]
    axis.plot(*at(rest), "o", ms=4.5, mfc="white", mec=GREY, mew=1, label="trial", zorder=2)
    axis.plot(*at([t for t in plain if t.number in front]), "o", ms=6.5, color=BLUE, mec="white", mew=0.7, label="front", zorder=4)
    for shape, trial in zip(cycle("s^vPXp*"), (t for t in plotted(outcome) if t.baseline), strict=False):
        fill = BLUE if trial.number in front else "white"
        axis.plot(*at([trial]), shape, ms=7.5, color=fill, mec=INK, mew=1, label=trial.baseline, ls="none", zorder=5)
    if flagged := marked(outcome):
        axis.plot(*at(flagged), "o", ms=9.5, mfc="none", mec=PURPLE, mew=1.6, label="flagged, on the front", zorder=5.5)
    if barred := [t for t in plotted(outcome) if t.barred]:
        axis.plot(*at(barred), "x", ms=5, color=PURPLE, mew=1.2, label="barred by a flag", zorder=5.5)
    if balanced := knee(outcome):
        axis.plot(*at([balanced]), "o", ms=14, mfc="none", mec=INK, mew=0.9, label="knee", zorder=6)
    _project_confirmed(axis, outcome, x, y)
    axis.set_xlabel(axis_title(x))
    axis.set_ylabel(axis_title(y))
    axis.set(xlim=frame(outcome, x), ylim=frame(outcome, y))
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
            axis.errorbar(*at, xerr=bars(points, x), yerr=bars(points, y), fmt="D", ms=5.5, color=ORANGE, mew=1.1,
                          mfc=ORANGE if stays else "white", elinewidth=0.9, label=name, zorder=3)  # fmt: skip


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
