"""Fronts of several finished studies beside each other, from MLflow alone.

All are measured in the box between the ideals and the references of their common objectives, which were fixed when the studies
were made: what one study found never changes the number of another.
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from rich.markup import escape
from rich.table import Table

from core import pareto
from core.config import Objective, TrialConfig
from core.errors import InputError, unknown
from core.flags import raised
from core.space import Value
from trainables import cli, report
from trainables.drawing import BLUE, GREY, INK, ORANGE, PURPLE, axis_title, png, styled

SAME = ("dataset", "pool", "judge.norm", "judge.epsilon", "judge.part")
"""Settings without which numbers are about different things: the images, and what an attacker may do."""
COLORS = (BLUE, ORANGE, "#009E73", PURPLE, INK, "#56B4E9", "#E69F00")
SHAPES = "os^DvPX*"
"""A study has one of each; there are 7 and 8, so 56 studies look different, and 8 do in black and white."""


@dataclass(frozen=True)
class Point:
    """One point of a front."""

    trial: int
    baseline: str
    """Its name if it is one of the study's baselines."""
    run: str
    """The trial's run in MLflow."""
    values: dict[str, float]
    """By objective: means over replicates if confirmed, else of the sweep."""
    flags: tuple[str, ...]
    """That are raised on the trial and do not bar it."""


@dataclass(frozen=True)
class Front:
    """What MLflow knows of a finished study."""

    name: str
    objectives: tuple[Objective, ...]
    settings: dict[str, str]
    """The configuration that its trials vary, as text. How confirm judged is not in MLflow."""
    trials: int
    """That have numbers."""
    version: int
    """1 as the study ended, one more with each later look at its networks."""
    confirmed: bool
    """Whether these are the points that stayed after confirm."""
    points: tuple[Point, ...]
    """Best first objective first."""

    @property
    def kind(self) -> str:
        """Of its points."""
        return "confirmed" if self.confirmed else "sweep"

    @property
    def losses(self) -> np.ndarray:
        """As `core.pareto` takes them, [n, objectives]."""
        return pareto.losses([p.values for p in self.points], self.objectives)


@dataclass(frozen=True)
class Standing:
    """A front among the others."""

    hypervolume: float
    stands: np.ndarray
    """Which of its points no point of any study dominates, [n] bool."""
    behind: float
    """Additive epsilon indicator: by how much of the way from reference to ideal all its points would have to improve, in every
    objective, for each point of any study to be matched. 0 if none beats it, NaN if it has no points."""


def read(uri: str, names: Sequence[str]) -> list[Front]:
    """The fronts of studies.

    Args:
        uri: the tracking server or database. names: of executions, as `--resume` takes them.

    Raises:
        InputError: there is no such store or study, or a study has not ended.
    """
    from trainables.preflight import check_tracking
    from trainables.tracking import KIND, NAME, connect, runs_where

    file = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:///") and not (file.exists() and file.stat().st_size):
        raise InputError(f"there is no MLflow store at --tracking-uri {uri}")
    check_tracking(uri, names[0])
    client = connect(uri)
    experiments = [e.experiment_id for e in client.search_experiments()]
    studies = {run.data.tags[NAME]: run for run in runs_where(client, experiments, f"tags.`{KIND}` = 'study'")}
    for name in names:
        if name not in studies:
            raise unknown(f"study in --tracking-uri {uri}:", name, sorted(studies) or ["none"])
        if studies[name].info.status != "FINISHED":
            raise InputError(f"{name} is not finished, MLflow says {studies[name].info.status}; go on with it by --resume {name}")
    return [_front(client, name, studies[name]) for name in names]


def _front(client: Any, name: str, parent: Any) -> Front:
    from trainables.tracking import STOPPED, VERSION, children_of, limits_of

    objectives = [Objective(**o) for o in json.loads(parent.data.params["objectives"])]
    runs = children_of(client, parent.info.experiment_id, parent.info.run_id)
    version = int(parent.data.tags.get(VERSION, 1))
    confirmed = any("confirmed" in run.data.tags for run in runs)
    runs = [run for run in runs if run.info.status == "FINISHED" and STOPPED not in run.data.tags]
    trials, rows, require = len(runs), [run.data.metrics for run in runs], limits_of(parent.data.params)
    if confirmed:  # the tag knows of flags that only replicates have raised; the trial's own count too
        runs = [run for run in runs if run.data.tags.get("confirmed") == "true" and _in_version(client, run, version)]
        own = [{flag: run.data.metrics.get(flag, 0.0) for flag in pareto.EXCLUDING_FLAGS} for run in runs]
        means = [_without_prefix(run.data.metrics, "confirmed/") for run in runs]
        rows, require = [m | flags for m, flags in zip(means, own, strict=True)], ()  # and of what was required
    on = pareto.front(rows, objectives, require)
    points = [_point(run, row, objectives) for run, row, stands in zip(runs, rows, on, strict=True) if stands]
    first = objectives[0]
    return Front(
        name=name, objectives=tuple(objectives),
        settings={k: str(v) for k, v in TrialConfig().params().items()} | _without_prefix(parent.data.params, "config/"),
        trials=trials, version=version, confirmed=confirmed,
        points=tuple(sorted(points, key=lambda p: (first.loss(p.values[first.metric]), p.trial))),
    )  # fmt: skip


def _in_version(client: Any, run: Any, version: int) -> bool:
    """Whether the means are of this version: a point whose replicates a later look has lost keeps its tag and its old ones."""
    history = client.get_metric_history(run.info.run_id, "confirmed/probability_non_dominated")
    return any(metric.step == version - 1 for metric in history)


def _without_prefix(named: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}


def _point(run: Any, row: Mapping[str, float], objectives: Sequence[Objective]) -> Point:
    from trainables.tracking import NUMBER

    values = {o.metric: row[o.metric] for o in objectives}
    tags = run.data.tags
    return Point(int(tags[NUMBER]), tags.get("baseline", ""), run.info.run_id, values, tuple(sorted(raised(run.data.metrics))))


def alike(fronts: Sequence[Front]) -> list[Front]:
    """The fronts with their objectives in the order of the first, unless their numbers are about different things.

    Raises:
        InputError: with what differs.
    """
    by_name = [sorted(front.objectives, key=lambda o: o.metric) for front in fronts]
    _same("objectives", fronts, [", ".join(f"{o.metric} ({o.direction})" for o in objectives) for objectives in by_name])
    # The reference of accuracy is chance, so this is also about the number of classes.
    _same("references and ideals", fronts, [_box(objectives) for objectives in by_name])
    for setting in SAME:
        _same(setting, fronts, [front.settings[setting] for front in fronts])
    return [replace(front, objectives=fronts[0].objectives) for front in fronts]


def _box(objectives: Sequence[Objective]) -> str:
    return ", ".join(f"{o.metric} {o.reference:g} to {o.ideal:g}" for o in objectives)


def _same(what: str, fronts: Sequence[Front], values: Sequence[str]) -> None:
    if len(set(values)) > 1:
        raise InputError(f"these studies cannot be compared, they differ in {what}: {_each(fronts, values)}")


def _each(fronts: Sequence[Front], values: Sequence[object]) -> str:
    return "; ".join(f"{front.name}: {value}" for front, value in zip(fronts, values, strict=True))


def warnings(fronts: Sequence[Front]) -> list[str]:
    """What makes the comparison less than fair, a line each."""
    lines = []
    for setting in [name for name in fronts[0].settings if name == "split" or (name.startswith("judge.") and name not in SAME)]:
        values = [front.settings[setting] for front in fronts]
        if len(set(values)) > 1:
            lines.append(f"warning: {setting} differs, {_each(fronts, values)}")
    if len({front.version for front in fronts}) > 1:
        versions = _each(fronts, [front.version for front in fronts])
        lines.append(f"warning: front_version differs, {versions}; a front that met more attacks or audits looks worse")
    if len({front.confirmed for front in fronts}) > 1:
        kinds = _each(fronts, [front.kind for front in fronts])
        lines.append(f"warning: a sweep's front is picked from noisy trials and looks better than a confirmed one, {kinds}")
    return lines


def standings(fronts: Sequence[Front]) -> list[Standing]:
    """Each front among the others; all have the same objectives."""
    union = np.concatenate([front.losses for front in fronts])
    stands = pareto.non_dominated(union) if len(union) else np.zeros(0, bool)
    parts = np.split(stands, np.cumsum([len(front.points) for front in fronts])[:-1])
    return [Standing(pareto.hypervolume(f.losses), part, epsilon(f.losses, union)) for f, part in zip(fronts, parts, strict=True)]


def epsilon(values: np.ndarray, others: np.ndarray) -> float:
    """Additive epsilon indicator: the least shift of all `values`, [n, d], that leaves none of `others`, [m, d], unmatched."""
    if not len(values):
        return math.nan
    return float((values[None] - others[:, None]).max(2).min(1).max())


def rows(fronts: Sequence[Front], found: Sequence[Standing]) -> list[dict[str, Value]]:
    """Rows of compare.csv: all points of all fronts."""
    return [
        {"study": front.name, "points": front.kind, "trial": point.trial, "baseline": point.baseline}
        | {o.metric: point.values[o.metric] for o in front.objectives}
        | {"flags": " ".join(point.flags), "non_dominated": bool(stands), "run": point.run}
        for front, standing in zip(fronts, found, strict=True)
        for point, stands in zip(front.points, standing.stands, strict=True)
    ]


def table(fronts: Sequence[Front], found: Sequence[Standing]) -> Table:
    """What the terminal shows."""
    objectives = fronts[0].objectives
    caption = (
        f"hypervolume: share of the box {_box(objectives)}\nnon-dominated: of its points, no point of any study beats them\n"
        "behind: improvement in every objective, as a share of the box, with which it would match every point of any study"
    )
    made = Table(title="Fronts", title_justify="left", caption=caption, caption_justify="left")
    for heading in ("study", "points", "trials", "front", "hypervolume", *(f"best {o.metric} (trial)" for o in objectives)):
        made.add_column(heading, justify="left" if heading in ("study", "points") else "right")
    made.add_column("non-dominated", justify="right")
    made.add_column("behind", justify="right")
    for front, standing in zip(fronts, found, strict=True):
        kept, size = int(standing.stands.sum()), len(front.points)
        sizes = (str(front.trials), str(size), f"{standing.hypervolume:.4f}")
        shares = (f"{kept}/{size} ({kept / size:.0%})", f"{standing.behind:.3f}") if size else ("-", "-")
        made.add_row(escape(front.name), front.kind, *sizes, *(_best(front, o) for o in objectives), *shares)
    union = np.concatenate([front.losses for front in fronts])
    kept = sum(int(standing.stands.sum()) for standing in found)
    made.add_section()
    made.add_row(
        "all together",
        "",
        str(sum(front.trials for front in fronts)),
        str(kept),
        f"{pareto.hypervolume(union):.4f}",
        *[""] * (len(objectives) + 2),
    )
    return made


def _best(front: Front, objective: Objective) -> str:
    if not front.points:
        return "-"
    best = min(front.points, key=lambda p: objective.loss(p.values[objective.metric]))
    return f"{best.values[objective.metric]:.3f} ({best.trial})"


def figure(fronts: Sequence[Front], found: Sequence[Standing]) -> bytes:
    """Every pair of objectives side by side as a PNG file; a colour and a shape per study, filled where nothing dominates."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    looks: list[dict[str, Any]] = [
        {"marker": SHAPES[i % len(SHAPES)], "mec": COLORS[i % len(COLORS)], "ls": "none"} for i in range(len(fronts))
    ]
    pairs = list(combinations(fronts[0].objectives, 2))
    columns = min(3, len(pairs))
    height = 3.6 * math.ceil(len(pairs) / columns) + 0.22 * len(fronts)
    with styled():
        drawn = Figure(figsize=(10 if columns > 1 else 5.6, height), dpi=150, layout="constrained")
        axes = drawn.subplots(math.ceil(len(pairs) / columns), columns, squeeze=False).flat
        for axis, (x, y) in zip(axes, pairs, strict=False):
            for front, standing, look in zip(fronts, found, looks, strict=True):
                for stands in (False, True):
                    points = [p.values for p, on in zip(front.points, standing.stands, strict=True) if on == stands]
                    fill = look["mec"] if stands else "none"
                    axis.plot([v[x.metric] for v in points], [v[y.metric] for v in points], ms=6.5, mew=1.2, mfc=fill,
                              alpha=0.9, zorder=3 + stands, **look)  # fmt: skip
            axis.set_xlabel(axis_title(x))
            axis.set_ylabel(axis_title(y))
            axis.margins(0.07)
            axis.grid(color="#ECEFF2", linewidth=0.7)
            axis.set_axisbelow(True)
            axis.tick_params(length=0)
        for axis in list(axes)[len(pairs) :]:
            axis.set_axis_off()
        handles = [Line2D([], [], ms=6.5, mfc=look["mec"], **look) for look in looks]
        handles += [Line2D([], [], marker="o", ms=6.5, mew=1.2, mfc="none", mec=GREY, ls="none")]
        names = [f"{front.name} ({front.kind})" for front in fronts] + ["hollow: another point of these dominates it"]
        legend = drawn.legend(handles, names, loc="outside lower center", frameon=False, handletextpad=0.2)
        for text in legend.get_texts():
            text.set_parse_math(False)
        return png(drawn)


def parser() -> argparse.ArgumentParser:
    """The switches of studies/compare.py."""
    p = cli.Parser(description="Put the fronts of finished studies beside each other, from MLflow alone.", allow_abbrev=False)
    p.add_argument("studies", nargs="+", metavar="NAME", help="names of executions, as for --resume; two or more")
    p.add_argument("--tracking-uri", default="sqlite:///mlflow.db", metavar="URI", help="of MLflow (default: sqlite:///mlflow.db)")
    p.add_argument("--output", default="compare", metavar="DIR", help="for compare.csv and compare.png (default: compare)")
    return p


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Do what the command line asks, and leave with its exit code."""
    cli.leave(lambda: _main(parser().parse_args(argv)))


def _main(args: argparse.Namespace) -> int:
    from trainables.terminal import Terminal

    if len(args.studies) < 2:
        raise InputError(f"one study is not a comparison, got {args.studies[0]}; its report has its front")
    if twice := [name for name in dict.fromkeys(args.studies) if args.studies.count(name) > 1]:
        raise InputError(f"{twice[0]} is named twice")
    fronts = alike(read(args.tracking_uri, args.studies))
    found = standings(fronts)
    files = {"compare.csv": report.csv(rows(fronts, found)).encode(), "compare.png": figure(fronts, found)}
    folder = Path(args.output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)
    except OSError as error:
        raise InputError(f"cannot write to --output {folder}: {error.strerror}") from None
    console = Terminal().console
    console.print(table(fronts, found))
    for line in [*warnings(fronts), f"written: {', '.join(str(folder / name) for name in files)}"]:
        console.print(line, markup=False)
    return 0
