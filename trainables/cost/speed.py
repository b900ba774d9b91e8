"""The speed of passes through a network, by the size of a batch."""

from dataclasses import dataclass

import numpy as np
import torch

from core.attacks.gradient import input_gradient
from core.attacks.losses import ATTACK_LOSSES
from core.attacks.suite import EVAL_BATCH
from core.bound import Bound
from core.data import Images
from core.modes import as_float, predict
from trainables.cost.passes import Passes
from trainables.cost.training import clock_on

MAX_SPEED_SECONDS = 1.0
"""Seconds that a batch may take in the measurement of passes."""


@dataclass(frozen=True)
class Speed:
    """Seconds of passes through a network, which depend on the size of a batch: a small one mostly takes the time of its calls."""

    batches: tuple[int, ...]
    """Sizes of batches, ascending."""
    forward: tuple[float, ...]
    """Seconds of a forward pass of each."""
    backward: tuple[float, ...]
    """Seconds of a backward pass of each."""

    def at(self, batch: int) -> Passes:
        """Seconds per image in batches of any size; those that are larger than all measured ones take as long per image."""
        size = max(1, min(batch, self.batches[-1]))
        return Passes(*(float(np.interp(size, self.batches, seconds)) / size for seconds in (self.forward, self.backward)))

    def seconds(self, count: Passes, batch: int) -> float:
        """Seconds of a number of passes in batches of a size."""
        each = self.at(batch)
        return count.forward * each.forward + count.backward * each.backward


def measure_speed(bound: Bound, images: Images, device: torch.device) -> Speed:
    """Measure the passes of a network in batches of growing size, up to those of an evaluation unless these take long."""
    clock, batches = clock_on(device), []
    for batch in (1, 1, 4, 16, 64, EVAL_BATCH):  # the first one warms up
        part = images.at(torch.arange(min(batch, len(images.y)))).to(device)
        x, begun = as_float(part.x), clock()
        predict(bound.net, x)
        middle = clock()
        input_gradient(bound.net, x, part.y, ATTACK_LOSSES["ce"])
        forward, both = middle - begun, clock() - middle
        batches.append((batch, forward, max(both - forward, forward / 2)))
        if 4 * (forward + both) > MAX_SPEED_SECONDS:
            break
    return Speed(*zip(*batches[1:] or batches, strict=True))
