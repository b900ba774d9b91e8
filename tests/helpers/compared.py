"""Studies in a real MLflow store, written by trackers as drivers do; nothing is trained."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from confirming import confirmation, point
from mlflow import MlflowClient

from core.config import TrialConfig
from core.space import Uniform
from core.stats import Interval
from core.study import Objective, trilemma
from trainables.study.outcome import Confirmed, Outcome, front_revision
from trainables.study.plan import Plan
from trainables.study.trial import Trial
from trainables.tracking.tracker import Tracker

OBJECTIVES = trilemma(10)
NAMES = [o.metric for o in OBJECTIVES]
Point = tuple[float, float, float]
ACCURATE, ROBUST, PRIVATE = (0.95, 0.2, 0.7), (0.7, 0.6, 0.65), (0.6, 0.1, 0.51)
"""Points of which none dominates another one."""
DOMINATED = (0.69, 0.55, 0.66)
"""Point that `ROBUST` dominates."""
TOO_GOOD = (0.99, 0.99, 0.5)
"""Point that dominates all others."""
BETTER = (0.8, 0.65, 0.6)
"""Point that dominates `ROBUST` and neither of the others."""


def measured(values: Point, **more: float) -> dict[str, float]:
    """Metrics of a trial at a point."""
    return dict(zip(NAMES, values, strict=True)) | more


def confirmed(number: int, values: Point, on_front: bool) -> Confirmed:
    """A confirmed point with these means."""
    return point(number, measured(values), 0.0, on_front=on_front)


Rows = Sequence[Mapping[str, float]]


def write_study(
    uri: str, name: str, rows: Rows, points: Sequence[Confirmed] = (), objectives: Sequence[Objective] = OBJECTIVES,
    status: str = "FINISHED", later: Rows | None = None, lost: Sequence[int] = (), **settings,
) -> None:  # fmt: skip
    """Log a study in MLflow, except its report and figures.

    Args:
        uri: MLflow tracking URI.
        name: name of the study's run.
        rows: metrics of its trials; empty for a trial that failed.
        points: confirmed points.
        objectives: its objectives.
        status: status of its run.
        later: metrics of its trials after a re-evaluation; empty for a trial that could not be re-evaluated.
        lost: numbers of the confirmed points that could not be re-evaluated.
        settings: settings of its configuration that differ from the defaults.
    """
    config = TrialConfig().set({"epochs": 3, **settings})
    plan = Plan(
        name=name, study="s", question="?", config=config, space={"optimizer.lr": Uniform(0.1, 0.2)}, objectives=tuple(objectives),
        baselines={}, trials=len(rows), sampler="random", seed=0, confirm={}, replicates=0,
    )  # fmt: skip
    trials = [
        Trial(i, config.params(), row, error="" if row else "it diverged", baseline="" if i else "plain")
        for i, row in enumerate(rows)
    ]
    outcome = Outcome(name, "s", "?", objectives, plan.space, len(rows), trials=trials)
    outcome.confirmation = confirmation(points) if points else None
    tracker = Tracker(uri, plan, outcome)
    if points:
        tracker.confirmed()
    if later is not None:
        after = replace(
            outcome, trials=[replace(t, metrics=later[t.number], error="" if later[t.number] else "it broke") for t in trials]
        )
        changed = {i: tuple(row) for i, row in enumerate(later)}
        kept = [point for point in points if point.number not in lost]
        after.confirmation = confirmation(kept, hypervolume=(0.3, Interval(0.25, 0.45))) if kept else None
        after.revisions = [front_revision(outcome, after, "again", "2026-01-02 03:04:05 +0000", changed)]
        tracker.revised([after])
        tracker.publish({}, after.version)
    assert tracker.close("KILLED") == 0, tracker.last_error
    MlflowClient(uri).set_terminated(tracker.refs.parent, status)


def write_studies(uri: str) -> None:
    """Log studies by name; those that start with `not-` cannot be compared with `three`."""
    three = [measured(ACCURATE), measured(ROBUST), measured(PRIVATE)]
    write_study(uri, "three", three)
    write_study(uri, "more", [*three, measured(DOMINATED), {}, measured(TOO_GOOD, **{"flag/zero_gradients": 1.0})])
    write_study(uri, "better", [measured(BETTER, **{"flag/more_steps_help": 1.0})], objectives=OBJECTIVES[::-1])
    points = [confirmed(0, (0.9, 0.15, 0.75), True), confirmed(1, TOO_GOOD, False), confirmed(2, (0.5, 0.1, 0.55), True)]
    write_study(uri, "confirmed", three, points)
    masked = [measured(BETTER, **{"flag/zero_gradients": 1.0}), *three[1:]]
    points = [confirmed(0, BETTER, True), confirmed(1, ROBUST, True), confirmed(2, PRIVATE, True)]
    write_study(uri, "excluded", [measured(BETTER), *three[1:]], points, later=masked, lost=(1,))
    for name, auc, chance in (("lucky", 0.51, 0.56), ("unlucky", 0.57, 0.58)):
        write_study(uri, name, [measured((0.8, 0.3, auc), mia_auc_chance=chance)])
    write_study(uri, "lost", [measured(BETTER), *three], later=[{}, *three])
    write_study(uri, "empty", [{}])
    write_study(uri, "strong", three, **{"judge.suite": "strong"})
    write_study(uri, "not-over", three, status="RUNNING")
    write_study(uri, "not-dataset", [], dataset="mnist")
    write_study(uri, "not-pool", [], pool=500)
    write_study(uri, "not-norm", [], **{"judge.norm": "l2"})
    write_study(uri, "not-epsilon", [], **{"judge.epsilon": 0.1})
    write_study(uri, "not-part", [], **{"judge.part": "test"})
    write_study(uri, "not-classes", [], objectives=trilemma(100))
    write_study(uri, "not-metrics", [], objectives=OBJECTIVES[:2])
    away = Objective("mia_auc", "max", reference=0.5, ideal=1.0)
    write_study(uri, "not-direction", [], objectives=(*OBJECTIVES[:2], away))
