"""Confirm: the front again, with fresh seeds and members, on the part of the data that no sweep has seen.

A front picked from noisy trials is biased upward, like every maximum. Each of its points is trained anew `replicates`
times and judged harder, on `test`; the points' means then make a second front, and each point gets the probability that
it belongs there.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from core import pareto
from core.audits.threshold import FPRS
from core.config import Limit, Objective, TrialConfig
from core.rng import fold
from core.stats import Interval, mean_interval
from trainables.fleet import GRID, Asked, Subject, audit_all, train_shadows, with_audit
from trainables.outcome import Confirmed, Leak, Trial
from trainables.plan import Plan
from trainables.store import Store
from trainables.trial import Arrays, AtATime, Job, Share, perform


def confirm(
    plan: Plan, front: list[Trial], arrays: Arrays, store: Store, share: Share, concurrency: AtATime,
    say: Callable[[str], None] = lambda text: None, crew: "Crew | None" = None,
) -> list[Confirmed]:  # fmt: skip
    """Re-train and re-judge a front, and let its replicates and shadow models audit each replicate.

    Args:
        plan: with `replicates`, `shadows` and what `confirm` changes. front: the points.
        arrays, store, share, concurrency: as in a sweep. say: told of each replicate that ends.
        crew: who trains shadow models; None is no shadow models.

    Returns:
        One record per point of which at least one replicate succeeded; others are reported through `say`.
    """
    jobs = {(point.number, r): replicate_job(plan, point, r) for point in front for r in range(1, plan.replicates + 1)}
    results = fan_out(jobs, arrays, store, share, concurrency, lambda text: say(f"confirm {text}"))
    if TrialConfig.of(next(iter(jobs.values())).params).judge.audits == "scores":
        return verdicts(front, results, plan.objectives, plan.require)  # their answers were not asked for
    subjects = subjects_of({key: job for key, job in jobs.items() if not results[key]["error"]})
    shadows: dict[tuple[int, int], list[Job]] = {}
    if plan.shadows and crew and subjects:
        recipes = {number: subject.params for (number, _), subject in subjects.items()}
        trained = train_shadows(
            list(recipes.values()), plan.shadows, arrays, crew.root, crew.share, crew.concurrency,
            lambda text: say(f"confirm {text}"),
        )  # fmt: skip
        by_point = dict(zip(recipes, trained, strict=True))
        shadows = {key: by_point[key[0]] for key in subjects}
    asked = Asked(plan.replicates - 1, plan.shadows if crew else 0)
    say(f"confirm: {len(subjects)} replicates audited by their sisters" + (" and by shadow models" if shadows else ""))
    audits = audit_all(subjects, shadows, asked, arrays, store, share, concurrency, say)
    audited = {key: with_audit(result, audits.get(key)) for key, result in results.items()}
    return verdicts(front, audited, plan.objectives, plan.require)


@dataclass(frozen=True)
class Crew:
    """Who trains shadow models, and where they are kept."""

    root: Store
    """Above the studies."""
    share: Share
    """Of one shadow model."""
    concurrency: AtATime
    """At a time."""


Point = TypeVar("Point", int, str)


def subjects_of(jobs: Mapping[tuple[Point, int], Job]) -> dict[tuple[Point, int], Subject]:
    """Replicates by point and number, each with its sisters."""
    return {
        (number, r): Subject(job.folder, job.params, tuple(s for (n, q), s in sorted(jobs.items()) if n == number and q != r))
        for (number, r), job in jobs.items()
    }  # fmt: skip


def replicate_job(plan: Plan, point: Trial, replicate: int) -> Job:
    """The configuration of a point with another seed and other members, judged as confirm judges."""
    fresh = {"replicate": replicate, "seed": fold(plan.seed, "confirm", point.number, replicate)}
    config = plan.config.of(point.params).set({**plan.confirm, **fresh})
    return Job(replicate_folder(point.number, replicate), config.params())


def point_folder(number: int) -> str:
    """Where what confirm makes of a trial is."""
    return f"confirm/{number:05d}"


def replicate_folder(number: int, replicate: int) -> str:
    """Where a replicate's files are."""
    return f"{point_folder(number)}/{replicate}"


def fan_out(
    jobs: dict[Any, Job], arrays: Arrays, store: Store, share: Share, concurrency: AtATime,
    say: Callable[[str], None] = lambda text: None,
) -> dict[Any, dict[str, Any]]:  # fmt: skip
    """Perform independent jobs as Ray tasks, at most `concurrency` at a time; a task whose machine dies is repeated.

    Returns:
        The result of each job, as `perform` gives it.
    """
    from trainables.tasks import spread  # Ray is worth loading only where something is run

    count = itertools.count(1)

    def ended(name: Any, result: Mapping[str, Any]) -> None:
        reason = f" failed: {result['error']}" if result["error"] else ""
        say(f"[{next(count)}/{len(jobs)}] {name[0]}, replicate {name[1]}{reason}")

    calls = {name: {"job": job, "store": store, "share": share} for name, job in jobs.items()}
    return spread(perform, calls, arrays, share, concurrency, ended)


def verdicts(
    points: Sequence[Trial], results: Mapping[tuple[int, int], Mapping[str, Any]], objectives: Sequence[Objective],
    require: Sequence[Limit] = (),
) -> list[Confirmed]:  # fmt: skip
    """What the replicates say of their points.

    Args:
        points: that were trained again. results: of replicate r of point n, at (n, r): `metrics`, and `error` if it failed.
        require: what the points' means must meet.

    Returns:
        One record per point of which at least one replicate succeeded.
    """
    kept: list[tuple[Trial, list[Mapping[str, float]], int]] = []
    drawn: list[list[Mapping[str, Any]]] = []
    for point in points:
        ended = [result for (number, _), result in sorted(results.items()) if number == point.number]
        good = [result for result in ended if not result["error"]]
        if good:
            kept.append((point, [result["metrics"] for result in good], len(ended) - len(good)))
            drawn.append(good)
    if not kept:
        return []
    wanted = dict.fromkeys([o.metric for o in objectives] + [limit.metric for limit in require])
    means = [
        {name: float(np.mean([m[name] for m in metrics])) for name in wanted if all(name in m for m in metrics)}
        for _, metrics, _ in kept
    ]  # fmt: skip
    flags = [{flag: max(m.get(flag, 0.0) for m in metrics) for flag in pareto.EXCLUDING_FLAGS} for _, metrics, _ in kept]
    rows = [m | f for m, f in zip(means, flags, strict=True)]
    may, stays = pareto.eligible(rows, objectives, require), pareto.front(rows, objectives, require)
    chances = np.zeros(len(kept))
    if may.any():  # a point that may be on no front must not push an honest one off it either
        losses = [pareto.losses(metrics, objectives) for (_, metrics, _), on in zip(kept, may, strict=True) if on]
        chances[may] = pareto.probability_non_dominated(losses)
    return [
        Confirmed(
            number=point.number, replicates=len(metrics), failed=failed, means=means[i],
            intervals={name: mean_interval([m[name] for m in metrics])[1] for name in means[i]},
            probability=float(chances[i]), on_front=bool(stays[i]),
            flags=tuple(flag.removeprefix("flag/") for flag, raised in flags[i].items() if raised),
            leaks=leaks(metrics), curves=_mean_curves(drawn[i]), histogram=_summed(drawn[i]),
            over_epsilon=over_epsilon(metrics),
        )
        for i, (point, metrics, failed) in enumerate(kept)
    ]  # fmt: skip


def leaks(metrics: Sequence[Mapping[str, float]]) -> dict[str, Leak]:
    """What each audit found on the replicates of a point, the worst first."""
    names = [name.removeprefix("mia_auc/") for name in metrics[0] if name.startswith("mia_auc/")]
    found = {}
    for name in names:
        values = [m[f"mia_auc/{name}"] for m in metrics if f"mia_auc/{name}" in m]
        rates = {
            rate: float(np.mean([m[f"mia_tpr_at_fpr_{rate:g}/{name}"] for m in metrics]))
            for rate in FPRS if all(f"mia_tpr_at_fpr_{rate:g}/{name}" in m for m in metrics)
        }  # fmt: skip
        found[name] = Leak(*mean_interval(values), rates)
    return dict(sorted(found.items(), key=lambda pair: -abs(pair[1].auc - 0.5)))


def over_epsilon(metrics: Sequence[Mapping[str, float]]) -> dict[float, tuple[float, Interval]]:
    """Robust accuracy by multiple of epsilon, over the replicates of a point that were all measured there."""
    prefix = "robust_accuracy_at/"
    names = [name for name in metrics[0] if name.startswith(prefix) and all(name in m for m in metrics)]
    return {float(name.removeprefix(prefix)): mean_interval([m[name] for m in metrics]) for name in names}


def _mean_curves(results: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Of each audit, (FPR, mean TPR over replicates) where all have one."""
    found: dict[str, list[tuple[float, float]]] = {}
    for name in results[0].get("curves", {}):
        columns = zip(*(result.get("curves", {}).get(name, [None] * len(GRID)) for result in results), strict=True)
        found[name] = [(x, float(np.mean(ys))) for x, ys in zip(GRID, columns, strict=True) if None not in ys]
    return found


def _summed(results: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Histograms of the replicates, added up."""
    own = [result["histogram"] for result in results if result.get("histogram")]
    return {name: np.sum([h[name] for h in own], axis=0).tolist() for name in own[0]} if own else {}
