"""The `optimizer` slot: the update rule of the network's weights and the schedule of its learning rate.

A schedule is a function of the epoch alone, so a resumed run needs no state for it.
"""

import math
from collections.abc import Iterable
from typing import Annotated

import torch
from torch import nn

from core.errors import InputError
from core.space import Bounds, LogUniform, knobs

SCHEDULE_FORMS = "'constant', 'cosine' or EPOCH:FACTOR pairs such as '50:0.1,80:0.01'"


@knobs
class SGD:
    """Stochastic gradient descent with momentum."""

    lr: Annotated[float, Bounds(0), LogUniform(1e-3, 0.3)] = 0.05
    """Learning rate before the schedule."""
    momentum: Annotated[float, Bounds(0, 1)] = 0.9
    """Share of the last update that is kept."""
    weight_decay: Annotated[float, Bounds(0), LogUniform(1e-5, 1e-2)] = 5e-4
    """L2 decay of all weights."""
    schedule: str = "cosine"
    """`constant`, `cosine` (to zero), or `EPOCH:FACTOR,...`: from that epoch (counted from 0) lr is multiplied by it."""

    def check(self) -> None:
        """Refuse a schedule that cannot be read."""
        factor(self.schedule, 0, 1)

    def bind(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The torch optimizer."""
        return torch.optim.SGD(parameters, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)


@knobs
class Adam:
    """Adam; weight decay is L2 in the gradient, which Adam rescales."""

    lr: Annotated[float, Bounds(0), LogUniform(1e-4, 1e-2)] = 1e-3
    """Learning rate before the schedule."""
    weight_decay: Annotated[float, Bounds(0)] = 0.0
    """L2 decay of all weights."""
    schedule: str = "constant"
    """As for SGD."""

    def check(self) -> None:
        """Refuse a schedule that cannot be read."""
        factor(self.schedule, 0, 1)

    def bind(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The torch optimizer."""
        return torch.optim.Adam(parameters, lr=self.lr, weight_decay=self.weight_decay)


OPTIMIZERS = {"sgd": SGD, "adam": Adam}


def factor(schedule: str, epoch: int, epochs: int) -> float:
    """What the learning rate is multiplied by in `epoch` (from 0) of `epochs`.

    Raises:
        InputError: the schedule cannot be read.
    """
    if schedule == "constant":
        return 1.0
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * epoch / epochs))
    try:
        pairs = [part.split(":") for part in schedule.split(",")]
        steps = {int(start): float(value) for start, value in pairs}
        if not all(0 <= value < math.inf for value in steps.values()):
            raise ValueError
    except ValueError:
        raise InputError(f"cannot read the schedule {schedule!r}, expected {SCHEDULE_FORMS}") from None
    passed = [start for start in steps if start <= epoch]
    return steps[max(passed)] if passed else 1.0
