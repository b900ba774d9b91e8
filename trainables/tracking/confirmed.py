"""The confirmation step in MLflow: tables and contrasts on the study's run, means and verdicts on the runs of its points."""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from core.stats import Interval
from trainables.study.outcome import Confirmation, Confirmed, Outcome
from trainables.study.tables import confirmed_rows, contrast_rows, csv, json_safe
from trainables.tracking.writes import log_file, value_at


def log_confirmation(
    client: Any, parent: str, run_of: Callable[[int], str], outcome: Outcome, is_current: bool, now: int
) -> None:  # fmt: skip
    """Log the confirmation step of an outcome.

    Args:
        client: client of MLflow.
        parent: run ID of the study.
        run_of: returns the run ID of a trial.
        outcome: the outcome.
        is_current: whether it is the newest version, to which tables and tags belong; metrics have one value for each version.
        now: time of the metrics in milliseconds.
    """
    confirmation, step = outcome.confirmation, len(outcome.revisions)
    if confirmation is None:
        return
    if is_current:
        for name, rows in {"confirmed": confirmed_rows(outcome), "contrasts": contrast_rows(outcome)}.items():
            if rows:
                log_file(client, parent, f"{name}.csv", csv(rows).encode())
                log_file(client, parent, f"{name}.json", json.dumps(json_safe(rows), indent=1).encode())
        for name, text in contrast_tags(confirmation).items():
            client.set_tag(parent, name, text)
    _log_new(client, parent, study_metrics(confirmation), now, step)
    for point in confirmation.points:
        run_id = run_of(point.number)
        _log_new(client, run_id, point_metrics(point), now, step)
        if is_current:
            client.set_tag(run_id, "confirmed", str(point.on_front).lower())
            client.set_tag(run_id, "verdict", point.verdict.value)


def point_metrics(point: Confirmed) -> dict[str, float]:
    """Metrics that the confirmation step adds to the run of a confirmed point."""
    values = {f"confirmed/{name}": mean for name, mean in point.means.items()}
    for name, interval in point.intervals.items():
        values |= _ends(f"confirmed/{name}", interval)
    values |= {f"confirmed/mia_auc/{name}": leak.auc for name, leak in point.leaks.items()}
    values |= {
        f"confirmed/mia_tpr_at_fpr_{rate:g}/{name}": tpr for name, leak in point.leaks.items() for rate, tpr in leak.tprs.items()
    }
    values |= {"confirmed/mia_auc_chance": point.chance} if math.isfinite(point.chance) else {}
    return values | {"confirmed/probability_non_dominated": point.probability}


def study_metrics(confirmation: Confirmation) -> dict[str, float]:
    """Metrics that the confirmation step adds to the run of the study: the hypervolume, and the differences of each contrast."""
    volume, interval = confirmation.hypervolume
    values = {"confirmed/hypervolume": volume, **_ends("confirmed/hypervolume", interval)}
    for i, answer in enumerate(confirmation.contrasts, 1):
        for name, difference in answer.differences.items():
            values |= {f"contrast/{i}/{name}": difference.value, **_ends(f"contrast/{i}/{name}", difference.interval)}
    return values


def contrast_tags(confirmation: Confirmation) -> dict[str, str]:
    """Tags that the confirmation step adds to the run of the study: each contrast's question and answer."""
    return {f"contrast/{i}": f"{a.contrast.question} {a.answer}" for i, a in enumerate(confirmation.contrasts, 1)}


def _ends(name: str, interval: Interval) -> dict[str, float]:
    """The ends of an interval as metrics, if they are finite."""
    ends = {f"{name}_low": interval.low, f"{name}_high": interval.high}
    return ends if all(map(math.isfinite, interval)) else {}


def _log_new(client: Any, run_id: str, values: Mapping[str, float], now: int, step: int) -> None:
    """Log metrics of which the run does not have these values at this step."""
    from mlflow.entities import Metric

    new = {name: value for name, value in values.items() if value_at(client, run_id, name, step) != value}
    client.log_batch(run_id, metrics=[Metric(name, value, now, step) for name, value in new.items()])
