"""SGD, Adam, and the schedule of the learning rate.

A schedule is a function of the epoch alone, so a resumed run needs no state for it.
"""

import math
from typing import Annotated

import torch

from core.errors import InputError
from core.knobs import Bounds, knobs
from core.nets import Net
from core.space import LogUniform, Uniform

SCHEDULE_FORMS = "'constant', 'cosine', 'one_cycle' or EPOCH:FACTOR pairs such as '50:0.1,80:0.01'"
WARM_UP = 0.25
"""Share of the epochs in which the one-cycle schedule rises."""


@knobs
class Scheduled:
    """Settings that every optimizer has: the schedule of the learning rate, and early stopping."""

    schedule: str = "cosine"
    """`constant`, `cosine` (to zero), `one_cycle` (rising in the first quarter, then to zero), or `EPOCH:FACTOR,...`: from that
    epoch (counted from 0) on, lr is multiplied by FACTOR."""
    stop_at: Annotated[float, Bounds(0.0, 1), Uniform(0.02, 1.0)] = 1.0
    """Early stopping: share of the epochs (at least one) after which training ends; the schedule remains that of all epochs."""

    def check(self) -> None:
        """Reject a schedule that cannot be read."""
        factor(self.schedule, 0, 1)

    def last_epoch(self, epochs: int) -> int:
        """The last epoch of training, counted from 1."""
        return max(1, math.ceil(self.stop_at * epochs - 1e-9))


@knobs
class SGD(Scheduled):
    """Stochastic gradient descent with momentum."""

    lr: Annotated[float, Bounds(0), LogUniform(1e-3, 0.3)] = 0.05
    """Learning rate before the schedule."""
    momentum: Annotated[float, Bounds(0, 1)] = 0.9
    """Share of the previous update that is kept."""
    weight_decay: Annotated[float, Bounds(0), LogUniform(1e-5, 1e-2)] = 5e-4
    """L2 decay of all weights."""

    def bind(self, net: Net, batch_size: float) -> torch.optim.Optimizer:
        """Build the torch optimizer of the network's weights; `batch_size` is the mean number of images per step."""
        del batch_size
        return torch.optim.SGD(net.parameters(), lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)


@knobs
class Adam(Scheduled):
    """Adam, with weight decay as an L2 term of the gradient, which Adam rescales."""

    lr: Annotated[float, Bounds(0), LogUniform(1e-4, 1e-2)] = 1e-3
    """Learning rate before the schedule."""
    weight_decay: Annotated[float, Bounds(0)] = 0.0
    """L2 decay of all weights."""
    schedule: str = "constant"
    """Schedule of the learning rate, as for SGD."""

    def bind(self, net: Net, batch_size: float) -> torch.optim.Optimizer:
        """Build the torch optimizer of the network's weights."""
        del batch_size
        return torch.optim.Adam(net.parameters(), lr=self.lr, weight_decay=self.weight_decay)


def factor(schedule: str, epoch: int, epochs: int) -> float:
    """The factor of the learning rate in `epoch` (counted from 0) of `epochs`.

    Raises:
        InputError: the schedule cannot be read.
    """
    if schedule == "constant":
        return 1.0
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * epoch / epochs))
    if schedule == "one_cycle":
        return _one_cycle((epoch + 0.5) / epochs)
    try:
        pairs = [part.split(":") for part in schedule.split(",")]
        steps = {int(start): float(value) for start, value in pairs}
        if not all(0 <= value < math.inf for value in steps.values()):
            raise ValueError
    except ValueError:
        raise InputError(f"cannot read the schedule {schedule!r}, expected {SCHEDULE_FORMS}") from None
    passed = [start for start in steps if start <= epoch]
    return steps[max(passed)] if passed else 1.0


def _one_cycle(position: float) -> float:
    """The one-cycle factor (Smith and Topin 2019) at a position in (0, 1): by cosines from 1/25 up to 1, and down to almost 0.

    The lengths and ends are those of torch's `OneCycleLR(pct_start=WARM_UP)`; an epoch has the factor of its middle.
    """
    low, high = 1 / 25, 1.0
    if position < WARM_UP:
        return low + (high - low) * 0.5 * (1 - math.cos(math.pi * position / WARM_UP))
    return 0.5 * (1 + math.cos(math.pi * (position - WARM_UP) / (1 - WARM_UP)))
