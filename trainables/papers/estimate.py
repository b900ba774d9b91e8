"""The cost of a table or figure: the device time of its trainings and evaluations, from a short measurement on this machine."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from core import data
from core.attacks.suite import EVAL_BATCH
from core.bound import bind
from core.config import SLOTS, TrialConfig
from core.data import Images
from core.modes import eval_mode
from trainables.cost.passes import Sizes
from trainables.cost.pilots import Cost, Pilot, Setting, measured
from trainables.cost.text import duration
from trainables.papers.item import Item, Preset
from trainables.papers.networks import Networks
from trainables.study.text import counted

SECONDS = 8.0
"""Time for measuring each configuration."""
SUSTAINED = 20e12
"""Operations per second that a GPU is assumed to sustain, a fraction of the peak of recent data-centre GPUs in TF32; a run at half
precision or on a newer GPU may be several times as fast, and a small network that is limited by the start of its kernels slower."""
FEW = 64
"""Number of members that a network is made for when its operations are counted."""


class Kind(NamedTuple):
    """The settings that determine the cost of an epoch: networks of one kind take equally long per epoch."""

    components: tuple[str, ...]
    attack: tuple[Any, ...]
    batch_size: int


def kind_of(config: TrialConfig) -> Kind:
    """The kind of a configuration: its components, the width and depth of its network, the steps of its perturbation, and how its
    epoch is chosen."""
    names = tuple(type(getattr(config, slot)).__name__ for slot in SLOTS)
    attack = (repr(config.net), getattr(config.perturbation, "steps", 0), repr(config.selection))
    return Kind(names, attack, config.batch_size)


@dataclass(frozen=True)
class Estimate:
    """The expected cost of an item."""

    networks: int
    shadows: int
    measured: int
    """Number of kinds of networks that were measured."""
    kinds: int
    seconds: float
    """Device seconds on this machine: on one of its GPUs, or on one CPU core; NaN if nothing was measured."""
    operations: float
    """Floating-point operations; NaN if nothing was measured."""
    use_gpu: bool

    def lines(self) -> list[str]:
        """The estimate as lines of text."""
        shadows = f" and {counted(self.shadows, 'shadow model')}" if self.shadows else ""
        lines = [f"{counted(self.networks, 'network')}{shadows}"]
        if not math.isfinite(self.seconds):
            return [*lines, "nothing was measured in time, so the cost is not known; try again when this machine is less busy"]
        device = "one GPU of this machine" if self.use_gpu else "one CPU core of this machine"
        if self.measured < self.kinds:
            lines.append(f"{self.measured} of {self.kinds} kinds of networks measured; an epoch of the others has their mean cost")
        lines.append(f"{duration(self.seconds)} on {device}")
        if not self.use_gpu:
            speed = SUSTAINED / 1e12
            count = f"{self.operations:.1e} floating-point operations"
            lines.append(f"{count}: {duration(self.operations / SUSTAINED)} on a GPU that sustains {speed:.0f} TFLOP/s")
        return lines


def estimate(
    item: Item, preset: Preset, networks: Networks, images: Images, *, use_gpu: bool, processes: int,
    on_cost: Callable[[str, float], None],
) -> Estimate:  # fmt: skip
    """Estimate the cost of an item by measuring one network of each kind for some seconds.

    Args:
        item: the item.
        preset: its effort.
        networks: its networks.
        images: the pool.
        use_gpu: whether to measure on GPUs.
        processes: number of processes that measure at a time.
        on_cost: called with the row and the training seconds of each network that was measured.
    """
    cells = {**networks.rows, **networks.sources}
    kinds: dict[Kind, str] = {}
    for cell, config in cells.items():
        kinds.setdefault(kind_of(config), cell.row)
    first = {kind: next(config for config in cells.values() if kind_of(config) == kind) for kind in kinds}
    pilots = [Pilot(kinds[kind], config, None) for kind, config in first.items()]
    parts = data.split(images, networks.common.split)
    sizes = {part: Sizes.of(images, parts, part) for part in ("val", "test", "both")}
    setting = Setting(sizes=sizes, siblings=0, shadows=0, threads=1, use_gpu=use_gpu)
    seconds = SECONDS * (2 + math.ceil(len(pilots) / processes))
    found = measured(
        pilots, images, setting, seconds=seconds, processes=processes,
        on_cost=lambda pilot, cost: on_cost(pilot.name, cost.training.seconds),
    )  # fmt: skip
    costs = {kind: found.costs[number] for number, kind in enumerate(first) if number in found.costs}
    total, operations = 0.0, 0.0
    mean = _mean([_per_epoch(first[kind], cost) for kind, cost in costs.items()])
    rate = _mean([_rate(first[kind], cost, images) for kind, cost in costs.items()])
    for cell, config in cells.items():
        kind = kind_of(config)
        cost = costs.get(kind)
        own = _epochs(config) * (_per_epoch(first[kind], cost) if cost else mean) + (cost.sweep.seconds if cost else 0.0)
        if cell in networks.rows and cost:
            own += preset.shadows * own / max(1, _seeds(networks))
            own += _measurement_seconds(item, preset, config, cost, sizes)
        total += own
        operations += own * (_rate(config, cost, images) if cost else rate)
    shadows = preset.shadows * len(networks.labels())
    return Estimate(len(cells), shadows, len(costs), len(kinds), total, operations, use_gpu)


def _seeds(networks: Networks) -> int:
    return len({cell.seed for cell in networks.rows})


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _epochs(config: TrialConfig) -> int:
    return config.optimizer.last_epoch(config.epochs)


def _per_epoch(config: TrialConfig, cost: Cost) -> float:
    return cost.training.seconds / _epochs(config)


def _measurement_seconds(item: Item, preset: Preset, config: TrialConfig, cost: Cost, sizes: Mapping[str, Sizes]) -> float:
    if item.measurement is None or item.measurement.passes is None or cost.speed is None:
        return 0.0
    return cost.speed.seconds(item.measurement.passes(sizes[config.judge.part], preset.settings), EVAL_BATCH)


def _rate(config: TrialConfig, cost: Cost, images: Images) -> float:
    """Floating-point operations per second of the network's forward pass."""
    if cost.speed is None:
        return math.nan
    members = images.at(data.split(images, config.split).members[:FEW])
    bound = bind(config, members, torch.device("cpu"))
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), eval_mode(bound.net):
        bound.net(torch.zeros(1, *images.shape))
    return counter.get_total_flops() / cost.speed.at(EVAL_BATCH).forward
