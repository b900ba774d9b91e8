"""Measuring configurations in processes of their own, which are stopped at a deadline whatever they are doing."""

import contextlib
import io
import multiprocessing
import resource
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, NamedTuple

import numpy as np
import torch

from core import data
from core.attacks.suite import EVAL_BATCH
from core.bound import Bound
from core.config import TrialConfig
from core.data import Images
from core.data.labels import MIN_IMAGES, pool_rows
from core.data.protocols import PARTS
from core.errors import InputError, TrialError
from core.footprint import Phase, footprint
from trainables.cost.evaluation import Evaluation, measure_audit_by_others, measure_evaluation
from trainables.cost.passes import Sizes, selection_of
from trainables.cost.speed import Speed, measure_speed
from trainables.cost.training import Training, clock_on, measure_training, warm_up

MAX_IMAGES, MAX_BYTES = 10_000, 256 << 20
"""Images, and bytes of their pixels, that a process receives at most."""
MIN_TRAINED = 0.1
"""Share of the epochs that a network must be trained for before attacks on it cost what attacks on a trained one cost."""
TRAINING, SWEEP = 0.3, 0.2
"""Shares of a configuration's time for training a network, and of the time left for its evaluation as in the sweep; the evaluation
as in the confirmation step takes most time."""

MIN_SECONDS = 6.0
"""Time of a configuration, at least; in less, a measurement would say little, so the last ones are left out instead."""
RESERVE = 0.85
"""Share of a configuration's time that is planned; the rest is for what takes longer than expected."""


@dataclass(frozen=True)
class Pilot:
    """A configuration to measure."""

    name: str
    """Name of its baseline; empty for a point of the search space."""
    sweep: TrialConfig
    confirm: TrialConfig | None
    """The configuration in the confirmation step; None if there is none."""
    share: float = 1.0
    """Share of the pool that the configurations are for."""

    def reduced(self, share: float) -> "Pilot":
        """The pilot for a share of the pool: its numbers of images are the same shares of that part."""
        return Pilot(self.name, reduced(self.sweep, share), self.confirm and reduced(self.confirm, share), share)


@dataclass(frozen=True)
class Cost:
    """The measured cost of one network of a configuration."""

    training: Training
    sweep: Evaluation
    confirm: Evaluation | None
    network: float
    """Bytes of the stored network."""
    phase: Phase
    """The phase that needs the most memory, with the memory that it needs at least."""
    peak: float
    """Largest memory of the measuring process so far, in bytes."""
    speed: Speed | None = None
    """Speed of passes through the network; None if it was not measured."""


@dataclass(frozen=True)
class Setting:
    """Settings that all pilots share."""

    sizes: dict[str, Sizes]
    """Sizes of evaluations on the whole pool, by `judge.part`."""
    siblings: int
    """Number of other replicates that audit a replicate."""
    shadows: int
    """Number of shadow models that audit a replicate."""
    threads: int
    """Threads of a trial."""
    use_gpu: bool


class Started(NamedTuple):
    """The message of a process that is ready to measure."""

    warm_up: float
    """Seconds of its first training, on a few images: it loads libraries, and starts the GPU if there is one."""


class Audits(NamedTuple):
    """The cost of the audits of one replicate by other networks."""

    seconds: float = 0.0
    files: float = 0.0
    """Bytes of their evidence."""


class Measured(NamedTuple):
    """The message of a process that has measured a configuration."""

    number: int
    """Position of the configuration."""
    cost: Cost | None
    """None if it could not be trained."""


class Task(NamedTuple):
    """A request to a process: to measure a configuration, or the audits of its replicates by other networks."""

    number: int
    pilot: Pilot
    only_audits: bool = False


@dataclass
class Measurements:
    """Everything that was measured in time."""

    costs: dict[int, Cost] = field(default_factory=dict)
    """Costs by the position of their pilots."""
    audits: Audits | None = None
    """None if these audits are not part of the study, or were not measured in time."""
    warm_up: float = 0.0
    """Seconds of the first training of a process, which loads libraries; see `warm_up`."""
    skipped: int = 0
    """Number of configurations that could not be trained on the images at hand."""
    lost: int = 0
    """Number of processes that ended by an error or were killed by the system."""


def measured(
    pilots: Sequence[Pilot], images: Images, setting: Setting, *, seconds: float, processes: int,
    on_cost: Callable[[Pilot, Cost], None],
) -> Measurements:  # fmt: skip
    """Measure configurations for a limited time.

    Args:
        pilots: the configurations.
        images: the pool.
        setting: what they have in common.
        seconds: time after which the processes are killed.
        processes: number of processes at a time, as many as there would be trials at a time.
        on_cost: called with each configuration that was measured.
    """
    end, found = time.time() + seconds, Measurements()
    pool = images.at(_few(images))
    arrays, share = pool.arrays(), len(pool.y) / len(images.y)
    waiting = [Task(number, pilot.reduced(share)) for number, pilot in enumerate(pilots)]
    if pilots[0].confirm and setting.siblings + setting.shadows:
        waiting.insert(min(processes, len(pilots)), waiting[0]._replace(only_audits=True))  # after the first of each process
    context = multiprocessing.get_context("spawn")
    running: dict[Connection, SpawnProcess] = {}
    try:
        for index in range(min(processes, len(pilots))):
            own, other = context.Pipe()
            running[own] = context.Process(target=_serve, args=(other, arrays, setting, index), daemon=True)
            running[own].start()
            other.close()
        while running and (left := end - time.time()) > 0:
            ready = wait(list(running), left)
            for connection in [one for one in running if one in ready]:
                try:
                    message = connection.recv()
                    if waiting:  # a message means that the process is free
                        share = max((end - time.time()) * len(running) / (len(waiting) + len(running) - 1), MIN_SECONDS)
                        connection.send((waiting.pop(0), RESERVE * share))
                    else:
                        connection.send(None)
                except (EOFError, OSError):
                    ended = running.pop(connection)
                    ended.join()
                    found.lost += ended.exitcode != 0
                    continue
                match message:
                    case Started(warm_up=own):
                        found.warm_up = max(found.warm_up, own)
                    case Audits():
                        found.audits = message
                    case Measured(cost=None):
                        found.skipped += 1
                    case Measured(number=number, cost=Cost() as cost):
                        found.costs[number] = cost
                        on_cost(pilots[number], cost)
    finally:
        for process in running.values():
            process.kill()
            process.join()
    return found


def reduced(config: TrialConfig, share: float) -> TrialConfig:
    """A configuration for a share of its pool, in which the parts that are numbers of images have that share of these."""
    if share == 1:
        return config
    sizes = {f"split.{name}": getattr(config.split, name, 0) for name in PARTS} | {"selection.images": config.selection.images}
    return config.set({name: max(2, round(share * size)) for name, size in sizes.items() if size > 1})


def _few(images: Images) -> np.ndarray:
    """Rows of a part of a pool that is small enough to be sent to other processes."""
    each = images.x[0].numel()
    count = max(MIN_IMAGES * images.classes, min(MAX_IMAGES, MAX_BYTES // each))
    return pool_rows(images.y.numpy(), count if count < len(images.y) else 0, "the pool")


def _serve(connection: Connection, arrays: dict[str, Any], setting: Setting, index: int) -> None:
    """Measure the configurations that the driver sends, one after the other; on several GPUs, each process on its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver stops this process
    torch.set_num_threads(setting.threads)
    images = Images.of_arrays(arrays)
    device = torch.device("cpu")
    clock = clock_on(device)
    begun = clock()
    if setting.use_gpu:
        device = torch.device("cuda", index % torch.cuda.device_count())
        torch.cuda.set_device(device)
    warm_up(images, device)
    with contextlib.suppress(EOFError, OSError):  # the driver has ended
        connection.send(Started(clock() - begun))
        while request := connection.recv():
            task, seconds = request
            connection.send(_done(task, seconds, images, setting, device))


def _done(task: Task, seconds: float, images: Images, setting: Setting, device: torch.device) -> Measured | Audits:
    """Measure what a task asks for."""
    if task.only_audits and task.pilot.confirm:
        sizes = setting.sizes[task.pilot.confirm.judge.part]
        return Audits(*measure_audit_by_others(task.pilot.confirm, images, sizes, setting.siblings, setting.shadows))
    try:
        return Measured(task.number, measure(task.pilot, images, setting, device, seconds))
    except (InputError, TrialError, ValueError):  # it cannot be trained, or not on few images
        return Measured(task.number, None)


def measure(pilot: Pilot, images: Images, setting: Setting, device: torch.device, seconds: float) -> Cost:
    """Measure one configuration in this process.

    Args:
        pilot: the configuration.
        images: the pool, or a part of it.
        setting: what all pilots have in common.
        device: device to measure on.
        seconds: time that this should take.

    Raises:
        InputError, TrialError, ValueError: the configuration cannot be trained on these images.
    """
    config, confirm = pilot.sweep, pilot.confirm
    members, end = setting.sizes[config.judge.part].members, time.monotonic() + seconds
    training, bound = measure_training(config, images, members, device, TRAINING * seconds)
    speed = measure_speed(bound, images, device)
    choosing = speed.seconds(selection_of(config), min(EVAL_BATCH, config.selection.images)) / pilot.share
    training = replace(training, seconds=training.seconds + choosing)

    def evaluation(of: TrialConfig, share: float) -> Evaluation:
        sizes, left = setting.sizes[of.judge.part], (end - time.monotonic()) / training.load
        is_trained = training.trained >= MIN_TRAINED
        return measure_evaluation(of, bound, speed, images, sizes, device, share * left, is_trained=is_trained)

    sweep = evaluation(config, SWEEP if confirm else 1.0)
    confirmed = evaluation(confirm, 1.0) if confirm else None
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    return Cost(
        training, sweep, confirmed, network=network_bytes(bound), peak=float(peak),
        phase=footprint(config, bound, images, data.split(images, config.split)), speed=speed,
    )  # fmt: skip


def network_bytes(bound: Bound) -> float:
    """Bytes of the stored network."""
    buffer = io.BytesIO()
    torch.save(bound.state()["modules"], buffer)
    return float(buffer.tell())
