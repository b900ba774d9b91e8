"""Items of papers in MLflow: one run per item, preset and data, with its files, and one child run per network."""

import re
import time
from collections.abc import Mapping
from typing import Any

from core.space import Value
from trainables.papers.item import Item, Listing, Paper
from trainables.papers.networks import Networks
from trainables.papers.reproduction import Reproduction
from trainables.papers.table import Table
from trainables.storage.store import Store
from trainables.tracking.artifacts import create_experiment
from trainables.tracking.client import connect, runs_where
from trainables.tracking.contents import NOTE
from trainables.tracking.tracker import MAX_METRICS
from trainables.tracking.writes import log_file, log_params

ITEM, NETWORK = "trilemma.paper_item", "trilemma.paper_network"
"""Tags of runs: the folder of the item's files; and of a child run, the row and seed of its network."""


def experiment_name(paper: Paper) -> str:
    """Name of a paper's experiment."""
    return f"papers_{paper.name}"


def log_item(
    uri: str, root: Store, folder: str, paper: Paper, item: Item, networks: Networks, found: Reproduction,
    files: Mapping[str, bytes],
) -> str:  # fmt: skip
    """Log an item, or log it again in the run that it has.

    Args:
        uri: MLflow tracking URI.
        root: the folder above all studies.
        folder: folder of the item's files, which identifies its run.
        paper: the paper.
        item: the item.
        networks: its networks.
        found: what was measured on them.
        files: its files by name.

    Returns:
        ID of the run.
    """
    client, now = connect(uri), int(1000 * time.time())
    experiment, parent, runs = _run_of(client, uri, root, folder, paper, item, now)
    table = Table.of(item, found.results(networks.labels()))
    entries = {f"{row}/{heading}": entry for row, own in table.entries.items() for heading, entry in own.items()}
    metrics = {name: entry.mean for name, entry in entries.items()}
    metrics |= {f"paper/{name}": entry.paper for name, entry in entries.items() if entry.paper is not None}
    _log_metrics(client, parent, metrics, now)
    for name, data in files.items():
        log_file(client, parent, name, data)
    children = {run.data.tags[NETWORK]: run.info.run_id for run in runs if NETWORK in run.data.tags}
    for cell, config in networks.rows.items():
        name = f"{cell.row}, seed {cell.seed}"
        params = config.params()
        run = children.get(name)
        if run is not None and client.get_run(run).data.params != {k: str(v) for k, v in params.items()}:
            client.delete_run(run)  # the network of an earlier command with other settings
            run = None
        if run is None:
            tags = {ITEM: folder, NETWORK: name, "mlflow.parentRunId": parent}
            run = client.create_run(experiment, start_time=now, tags=tags, run_name=name).info.run_id
            log_params(client, run, params)
        values = {key: value for key, value in found.values.get(cell, {}).items() if isinstance(value, float | int)}
        _log_metrics(client, run, values, now)
        client.set_terminated(run, "FAILED" if cell in found.errors else "FINISHED", end_time=now)
    client.set_terminated(parent, "FAILED" if found.errors else "FINISHED", end_time=now)
    return parent


def log_listing(uri: str, root: Store, folder: str, paper: Paper, listing: Listing, files: Mapping[str, bytes]) -> str:
    """Log a listing, or log it again in the run that it has; returns the ID of the run. The arguments are those of `log_item`."""
    client, now = connect(uri), int(1000 * time.time())
    _, run, _ = _run_of(client, uri, root, folder, paper, listing, now)
    for name, data in files.items():
        log_file(client, run, name, data)
    client.set_terminated(run, "FINISHED", end_time=now)
    return run


def _run_of(
    client: Any, uri: str, root: Store, folder: str, paper: Paper, item: Item | Listing, now: int
) -> tuple[str, str, list[Any]]:  # fmt: skip
    """IDs of a paper's experiment and of the item's run in it, which are made if they are missing, and all runs of the item."""
    known = client.get_experiment_by_name(experiment_name(paper))
    experiment = known.experiment_id if known else create_experiment(client, uri, experiment_name(paper), root)
    if not known:
        client.set_experiment_tag(experiment, NOTE, f"Tables and figures of: {paper.title}")
    runs = runs_where(client, [experiment], f"tags.`{ITEM}` = '{folder}'")
    parents = [run for run in runs if NETWORK not in run.data.tags]
    if parents:
        return experiment, parents[0].info.run_id, runs
    tags = {ITEM: folder, NOTE: f"{item.title}. Differs from the paper: {item.differs}"}
    made = client.create_run(experiment, start_time=now, tags=tags, run_name=folder.removeprefix("tables/"))
    return experiment, made.info.run_id, runs


def _log_metrics(client: Any, run: str, metrics: Mapping[str, Value], now: int) -> None:
    """Log metrics under names that MLflow accepts."""
    from mlflow.entities import Metric

    values = [Metric(re.sub(r"[^\w\-. /]", "_", name), float(value), now, 0) for name, value in metrics.items()]
    for start in range(0, len(values), MAX_METRICS):
        client.log_batch(run, metrics=values[start : start + MAX_METRICS])
