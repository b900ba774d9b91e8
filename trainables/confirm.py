"""Confirm: the front again, with fresh seeds and members, on the part of the data that no sweep has seen.

A front picked from noisy trials is biased upward, like every maximum. Each of its points is trained anew `replicates`
times and judged harder, on `test`; the points' means then make a second front, and each point gets the probability that
it belongs there.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from core import pareto
from core.config import Objective
from core.rng import fold
from core.stats import mean_interval
from trainables.outcome import Confirmed, Trial
from trainables.plan import Plan
from trainables.store import Store
from trainables.trial import Arrays, Job, Share, perform


def confirm(
    plan: Plan, front: list[Trial], arrays: Arrays, store: Store, share: Share, concurrency: int,
    say: Callable[[str], None] = lambda text: None,
) -> list[Confirmed]:  # fmt: skip
    """Re-train and re-judge a front.

    Args:
        plan: with `replicates` and what `confirm` changes. front: the points.
        arrays, store, share, concurrency: as in a sweep. say: told of each replicate that ends.

    Returns:
        One record per point of which at least one replicate succeeded; others are reported through `say`.
    """
    jobs = {(point.number, r): replicate_job(plan, point, r) for point in front for r in range(1, plan.replicates + 1)}
    results = fan_out(jobs, arrays, store, share, concurrency, lambda text: say(f"confirm {text}"))
    return verdicts(front, results, plan.objectives)


def replicate_job(plan: Plan, point: Trial, replicate: int) -> Job:
    """The configuration of a point with another seed and other members, judged as confirm judges."""
    fresh = {"replicate": replicate, "seed": fold(plan.seed, "confirm", point.number, replicate)}
    config = plan.config.of(point.params).set({**plan.confirm, **fresh})
    return Job(f"confirm/{point.number:05d}/{replicate}", config.params())


def fan_out(
    jobs: dict[Any, Job], arrays: Arrays, store: Store, share: Share, concurrency: int,
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
    points: Sequence[Trial], results: Mapping[tuple[int, int], Mapping[str, Any]], objectives: Sequence[Objective]
) -> list[Confirmed]:
    """What the replicates say of their points.

    Args:
        points: that were trained again. results: of replicate r of point n, at (n, r): `metrics`, and `error` if it failed.

    Returns:
        One record per point of which at least one replicate succeeded.
    """
    kept: list[tuple[Trial, list[Mapping[str, float]], int]] = []
    for point in points:
        ended = [result for (number, _), result in sorted(results.items()) if number == point.number]
        metrics = [result["metrics"] for result in ended if not result["error"]]
        if metrics:
            kept.append((point, metrics, len(ended) - len(metrics)))
    return _verdicts(kept, objectives)


def _verdicts(kept: list[tuple[Trial, list[Mapping[str, float]], int]], objectives: Sequence[Objective]) -> list[Confirmed]:
    if not kept:
        return []
    means = [{o.metric: float(np.mean([m[o.metric] for m in metrics])) for o in objectives} for _, metrics, _ in kept]
    flags = [{flag: max(m.get(flag, 0.0) for m in metrics) for flag in pareto.EXCLUDING_FLAGS} for _, metrics, _ in kept]
    rows = [m | f for m, f in zip(means, flags, strict=True)]
    may, stays = pareto.eligible(rows, objectives), pareto.front(rows, objectives)
    chances = np.zeros(len(kept))
    if may.any():  # a point that may be on no front must not push an honest one off it either
        losses = [pareto.losses(metrics, objectives) for (_, metrics, _), on in zip(kept, may, strict=True) if on]
        chances[may] = pareto.probability_non_dominated(losses)
    return [
        Confirmed(
            number=point.number, replicates=len(metrics), failed=failed, means=means[i],
            intervals={o.metric: mean_interval([m[o.metric] for m in metrics])[1] for o in objectives},
            probability=float(chances[i]), on_front=bool(stays[i]),
            flags=tuple(flag.removeprefix("flag/") for flag, raised in flags[i].items() if raised),
        )
        for i, (point, metrics, failed) in enumerate(kept)
    ]  # fmt: skip
