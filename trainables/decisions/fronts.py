"""The fronts of several finished studies, compared from MLflow alone.

All fronts are measured in the box between the ideals and the references of their common objectives. These were fixed when the
studies started, so the results of one study never change the hypervolume of another.

The hypervolume of a sweep grows with the number of trials even if all of them are equal, because noise alone makes a front. Studies
are therefore compared by the hypervolume of their confirmed points after shrinkage, which has an interval.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from core import pareto
from core.config import TrialConfig
from core.errors import InputError, unknown
from core.flags import raised
from core.space import Value
from core.stats import Interval
from core.study import Objective
from trainables.study.text import counted
from trainables.study.tracking_uri import sqlite_path
from trainables.tracking.client import (
    DATA,
    KIND,
    NAME,
    NUMBER,
    STOPPED_AFTER_EPOCH,
    VERSION,
    check_tracking,
    completeness_key,
    connect,
    constraints_of,
    objectives_of,
    runs_where,
    trial_runs,
)  # fmt: skip

MUST_AGREE = ("dataset", "pool", "judge.norm", "judge.epsilon", "judge.part")
"""Settings that comparable studies share: the images, and the threat model."""


@dataclass(frozen=True)
class FrontPoint:
    """One point of a front."""

    trial: int
    baseline: str
    """Name of the baseline; empty if the trial is none."""
    run: str
    """MLflow run ID of the trial."""
    values: dict[str, float]
    """Values by objective: means over replicates if the front is confirmed, otherwise those of the sweep."""
    levels: dict[str, float]
    """Chance level of `mia_auc`, as `mia_auc_chance`; empty if it was not measured."""
    flags: tuple[str, ...]
    """Flags that are raised on the trial; none of them excludes it."""


@dataclass(frozen=True)
class StudyFront:
    """The front of a finished study as MLflow has it."""

    name: str
    """Name of the study's run."""
    objectives: tuple[Objective, ...]
    settings: dict[str, str]
    """Base configuration of the study and fingerprint of its images, as text; MLflow does not have the settings of the confirmation
    step in this form."""
    trials: int
    """Number of completed trials."""
    version: int
    """Version of the front: 1 when the study ended, and one more for each revision."""
    confirmed: bool
    """Whether the points are confirmed ones, whose means are on the front, rather than those of the sweep."""
    points: tuple[FrontPoint, ...]
    """Points sorted by the first objective, best first."""
    sweep_hypervolume: float
    """Hypervolume of the front of the sweep, by its own numbers."""
    hypervolume: float
    """Hypervolume of the confirmed points after shrinkage; NaN if no point is confirmed."""
    interval: Interval
    """95 % interval of `hypervolume`; infinite if there is none."""

    @property
    def kind(self) -> str:
        """`confirmed` or `sweep`."""
        return "confirmed" if self.confirmed else "sweep"

    @property
    def rows(self) -> list[dict[str, float]]:
        """Objectives of the points, with their chance levels."""
        return [point.values | point.levels for point in self.points]


@dataclass(frozen=True)
class Comparison:
    """A front in comparison with the others."""

    non_dominated: np.ndarray
    """Which points of the front no point of any study dominates, [n] bool."""
    epsilon_indicator: float
    """Additive epsilon indicator: the improvement of all points in every objective, as a share of the way from reference to ideal,
    that would match every point of any study. 0 if no other front is better anywhere, NaN if the front has no points."""


def read_fronts(uri: str, names: Sequence[str]) -> list[StudyFront]:
    """Read the fronts of studies.

    Args:
        uri: MLflow tracking URI.
        names: names of the studies' runs, as `--resume` takes them.

    Raises:
        InputError: the store or a study does not exist, or a study has not ended.
    """
    if (path := sqlite_path(uri)) and not (path.exists() and path.stat().st_size):
        raise InputError(f"there is no MLflow store at --tracking-uri {uri}")
    check_tracking(uri, names[0])
    client = connect(uri)
    experiments = [e.experiment_id for e in client.search_experiments()]
    runs = sorted(runs_where(client, experiments, f"tags.`{KIND}` = 'study'"), key=completeness_key)
    studies = {run.data.tags[NAME]: run for run in runs}
    for name in names:
        if name not in studies:
            raise unknown(f"study in --tracking-uri {uri}:", name, sorted(studies) or ["none"])
        if (status := studies[name].info.status) != "FINISHED":
            raise InputError(f"{name} is not finished, its status in MLflow is {status}; resume it with --resume {name}")
    return [_front(client, name, studies[name]) for name in names]


def _front(client: Any, name: str, parent: Any) -> StudyFront:
    objectives = objectives_of(parent.data.params)
    runs = trial_runs(client, parent.info.experiment_id, name)
    version = int(parent.data.tags.get(VERSION, 1))
    confirmed = any("confirmed" in run.data.tags for run in runs)
    runs = [run for run in runs if run.info.status == "FINISHED" and STOPPED_AFTER_EPOCH not in run.data.tags]
    trials, rows, require = len(runs), [run.data.metrics for run in runs], constraints_of(parent.data.params)
    if confirmed:
        # The tag already accounts for constraints and for flags that only replicates raise. The trial's own flags count, too.
        runs = [run for run in runs if run.data.tags.get("confirmed") == "true" and _in_version(client, run, version)]
        own = [{flag: run.data.metrics.get(flag, 0.0) for flag in pareto.EXCLUDING_FLAGS} for run in runs]
        means = [_without_prefix(run.data.metrics, "confirmed/") for run in runs]
        rows, require = [m | flags for m, flags in zip(means, own, strict=True)], ()
    mask = pareto.front(rows, objectives, require)
    volumes = _at_version(client, parent.info.run_id, version)
    points = [_point(run, row, objectives) for run, row, on in zip(runs, rows, mask, strict=True) if on]
    first = objectives[0]
    return StudyFront(
        name=name, objectives=tuple(objectives),
        settings={k: str(v) for k, v in TrialConfig().params().items()} | _without_prefix(parent.data.params, "config/")
        | {DATA: parent.data.params.get(DATA, "")},
        trials=trials, version=version, confirmed=confirmed,
        points=tuple(sorted(points, key=lambda p: (first.loss(p.values[first.metric]), p.trial))),
        sweep_hypervolume=parent.data.metrics.get("hypervolume", math.nan), hypervolume=volumes.get("", math.nan),
        interval=Interval(volumes.get("_low", -math.inf), volumes.get("_high", math.inf)),
    )  # fmt: skip


def _in_version(client: Any, run: Any, version: int) -> bool:
    """Whether a run's confirmed means belong to this version; a point that lost its replicates keeps its tag and older means."""
    history = client.get_metric_history(run.info.run_id, "confirmed/probability_non_dominated")
    return any(metric.step == version - 1 for metric in history)


def _at_version(client: Any, run_id: str, version: int) -> dict[str, float]:
    """The confirmed hypervolume of a version and the ends of its interval, by the suffix of the metric."""
    name = "confirmed/hypervolume"
    history = {suffix: client.get_metric_history(run_id, f"{name}{suffix}") for suffix in ("", "_low", "_high")}
    return {suffix: metric.value for suffix, metrics in history.items() for metric in metrics if metric.step == version - 1}


def _without_prefix(named: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}


def _point(run: Any, row: Mapping[str, float], objectives: Sequence[Objective]) -> FrontPoint:
    values = {o.metric: row[o.metric] for o in objectives}
    levels = {name: row[name] for o in objectives if (name := f"{o.metric}_chance") in row}
    tags, flags = run.data.tags, tuple(sorted(raised(run.data.metrics)))
    return FrontPoint(int(tags[NUMBER]), tags.get("baseline", ""), run.info.run_id, values, levels, flags)


def comparable(fronts: Sequence[StudyFront]) -> list[StudyFront]:
    """The fronts with their objectives in the order of the first front.

    Raises:
        InputError: the studies differ in something that makes their metrics incomparable.
    """
    by_name = [sorted(front.objectives, key=lambda o: o.metric) for front in fronts]
    _check_same("objectives", fronts, [", ".join(f"{o.metric} ({o.direction})" for o in objectives) for objectives in by_name])
    # The reference of the accuracy is chance, so this also checks the number of classes.
    _check_same("references and ideals", fronts, [box_text(objectives) for objectives in by_name])
    for setting in MUST_AGREE:
        _check_same(setting, fronts, [front.settings[setting] for front in fronts])
    _check_same("pixels or labels of their images (fingerprints)", fronts, [front.settings[DATA][:12] for front in fronts])
    return [replace(front, objectives=fronts[0].objectives) for front in fronts]


def box_text(objectives: Sequence[Objective]) -> str:
    """The box between references and ideals as text."""
    return ", ".join(f"{o.metric} {o.reference:g} to {o.ideal:g}" for o in objectives)


def _check_same(what: str, fronts: Sequence[StudyFront], values: Sequence[str]) -> None:
    if len(set(values)) > 1:
        raise InputError(f"these studies cannot be compared, they differ in {what}: {_by_study(fronts, values)}")


def _by_study(fronts: Sequence[StudyFront], values: Sequence[object]) -> str:
    return "; ".join(f"{front.name}: {value}" for front, value in zip(fronts, values, strict=True))


def warnings(fronts: Sequence[StudyFront]) -> list[str]:
    """Differences between the studies that bias the comparison, one line each."""
    lines = []
    for setting in [n for n in fronts[0].settings if n.startswith(("split", "judge.")) and n not in MUST_AGREE]:
        values = [front.settings[setting] for front in fronts]
        if len(set(values)) > 1:
            lines.append(f"warning: {setting} differs, {_by_study(fronts, values)}")
    if len({front.version for front in fronts}) > 1:
        versions = _by_study(fronts, [front.version for front in fronts])
        lines.append(f"warning: front_version differs, {versions}; a front that met more attacks or audits looks worse")
    if len({front.confirmed for front in fronts}) > 1:
        kinds = _by_study(fronts, [front.kind for front in fronts])
        lines.append(f"warning: a sweep's front is selected from noisy trials and looks better than a confirmed one, {kinds}")
    if sweeps := [front for front in fronts if not front.confirmed]:
        trials = _by_study(sweeps, [counted(front.trials, "trial") for front in sweeps])
        lines.append(f"warning: the hypervolume of a sweep rewards noise and the number of trials, {trials}; confirm the front")
    return lines


def compare(fronts: Sequence[StudyFront]) -> list[Comparison]:
    """Compare each front with the others; all must have the same objectives in the same order."""
    union = pareto.losses([row for front in fronts for row in front.rows], fronts[0].objectives)
    mask = pareto.non_dominated(union) if len(union) else np.zeros(0, bool)
    ends = np.cumsum([len(front.points) for front in fronts])[:-1]
    parts = zip(np.split(mask, ends), np.split(union, ends), strict=True)
    return [Comparison(own, epsilon_indicator(losses, union)) for own, losses in parts]


def epsilon_indicator(values: np.ndarray, others: np.ndarray) -> float:
    """Additive epsilon indicator: the smallest shift of all `values`, [n, d], that matches every one of `others`, [m, d]."""
    if not len(values):
        return math.nan
    return float((values[None] - others[:, None]).max(2).min(1).max())


def comparison_rows(fronts: Sequence[StudyFront], comparisons: Sequence[Comparison]) -> list[dict[str, Value]]:
    """Rows of compare.csv: all points of all fronts."""
    return [
        {"study": front.name, "points": front.kind, "trial": point.trial, "baseline": point.baseline}
        | {o.metric: point.values[o.metric] for o in front.objectives}
        | point.levels
        | {"flags": " ".join(point.flags), "non_dominated": bool(on), "run": point.run}
        for front, comparison in zip(fronts, comparisons, strict=True)
        for point, on in zip(front.points, comparison.non_dominated, strict=True)
    ]
