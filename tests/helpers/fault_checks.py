"""Checks of a study that hold whatever faults occurred while it ran."""

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from fault_targets import ClusterStudy
from files import METRICS, results, rows
from mlflow_runs import logged

TIMING = ("seconds", "images_per_second", "epoch/seconds", "peak_")
"""Prefixes of the names of metrics that differ between runs of the same study."""


def stored_results(study: ClusterStudy) -> dict[str, bytes]:
    """Contents of the result files so far, by the name of the trial's folder."""
    return {path.parent.name: path.read_bytes() for path in results(study.cwd)}


def reproducible_metrics(study: ClusterStudy) -> dict[str, dict[str, float]]:
    """Metrics of each trial without those that measure time."""
    metrics = {name: json.loads(data)["metrics"] for name, data in stored_results(study).items()}
    return {
        name: {metric: value for metric, value in own.items() if not metric.startswith(TIMING)} for name, own in metrics.items()
    }


def published_front(study: ClusterStudy) -> dict[int, dict[str, str]]:
    """Objectives of the points of the published front, as text, by number of the trial."""
    return {int(row["trial"]): {metric: row[metric] for metric in METRICS} for row in rows(study.folder / "front.csv")}


def check(study: ClusterStudy, trials: int, before: Mapping[str, bytes]) -> None:
    """Assert that every trial succeeded, that no result was written twice, and that MLflow has everything exactly once.

    Args:
        study: the study, which has ended.
        trials: planned number of trials.
        before: contents of result files before a fault; see `stored_results`.
    """
    after = stored_results(study)
    assert sorted(after) == [f"{number:05d}" for number in range(trials)]
    assert {name: after[name] for name in before} == dict(before), "a finished trial was run again"
    ended = {int(name): json.loads(data) for name, data in after.items()}
    errors = {number: result["error"] for number, result in ended.items() if result["error"]}
    assert not errors
    folder = study.folder
    assert not list(folder.rglob("*.part")) and not list(folder.rglob("checkpoint.pt")) and not (folder / "ray").exists()
    runs = logged(f"sqlite:///{study.server.database}", folder.name)
    assert (runs.parent.info.run_name, runs.parent.info.status) == (folder.name, "FINISHED")
    statuses = {number: run.info.status for number, run in runs.children.items()}
    assert statuses == dict.fromkeys(range(trials), "FINISHED")
    ids = [run.info.run_id for run in (runs.parent, *runs.children.values())]
    assert repeated_values(study.server.database, ids) == []
    for number, result in ended.items():
        run = runs.children[number]
        assert run.data.metrics.items() >= result["metrics"].items()
        epochs = sorted(value.step for value in runs.client.get_metric_history(run.info.run_id, "epoch/loss"))
        assert epochs == [row["epoch"] for row in result["curve"]]


def repeated_values(database: Path, run_ids: list[str]) -> list[tuple]:
    """Metrics that were logged more than once at a step of these runs; MLflow's client would need a request for each metric."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    places = ", ".join("?" * len(run_ids))
    query = f"select run_uuid, key, step, count(*) from metrics where run_uuid in ({places}) group by run_uuid, key, step"
    try:
        return connection.execute(f"{query} having count(*) > 1", run_ids).fetchall()
    finally:
        connection.close()
