"""Measurements on trained networks, as one task each; their results lie in measurements/<key>.json below `--storage`."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from core.bound import Trained
from core.config import TrialConfig
from core.evaluation.stored import stored_model
from core.space import Value
from trainables.execution.recorded import recorded
from trainables.execution.resources import SharedImages, Workspace, from_shared
from trainables.storage.contents import Damaged
from trainables.storage.jobs import Job
from trainables.storage.results import REPLACE
from trainables.storage.store import Store
from trainables.study.records import record
from trainables.study.results import MeasurementResult


@dataclass(frozen=True)
class MeasurementJob:
    """A measurement on trained networks."""

    function: Callable[..., Any]
    """See `trainables.papers.item.Measurement`."""
    networks: dict[str, Job]
    """The trained networks, by the names that the function knows."""
    settings: dict[str, Value]
    """Keyword arguments of the function."""


def measure(measurement: MeasurementJob, images: SharedImages, workspace: Workspace) -> MeasurementResult:
    """Measure something on trained networks, unless its result is stored already; failures are measured again."""
    trained = {name: job.params for name, job in measurement.networks.items()}
    key = images.content.measurement_key(measurement.function, trained, measurement.settings)
    earlier = stored_measurement(workspace.root, key)
    if earlier and not earlier.error:
        return earlier

    def work(device: torch.device) -> MeasurementResult:
        pool = from_shared(images)
        networks = {name: _trained(job, workspace.root, pool, device) for name, job in measurement.networks.items()}
        values = measurement.function(networks, pool, device, **measurement.settings)
        return MeasurementResult(values={name: _plain(value) for name, value in values.items()}, key=key)

    def failure(error: str) -> MeasurementResult:
        return MeasurementResult(error=error, key=key)

    return recorded(work, failure, workspace.share, workspace.root, f"measurements/{key}.json")


def stored_measurement(root: Store, key: str) -> MeasurementResult | None:
    """The stored result of a measurement; None if there is none, or if its file is damaged."""
    with contextlib.suppress(Damaged):
        return root.read_record(f"measurements/{key}.json", partial(record, MeasurementResult))


def _trained(job: Job, root: Store, pool: Any, device: torch.device) -> Trained:
    config = TrialConfig.of(job.params)
    modules = root.read_state(f"{job.folder}/network.pt", REPLACE)
    if modules is None:
        raise FileNotFoundError(f"no network.pt in {root.place_of(job.folder)}")
    return Trained(config, stored_model(config, modules, pool, device))


def _plain(value: Any) -> float | list[float]:
    """A number or a series as plain data."""
    return [float(one) for one in value] if isinstance(value, list | tuple) else float(value)
