"""The cost of training a network, measured by training one for a limited time."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from core import data
from core.bound import Bound
from core.config import TrialConfig
from core.data import Images
from core.errors import InputError, TrialError
from core.footprint import kept_bytes
from core.memory import available
from core.train import train

Clock = Callable[[], float]
FIRST_IMAGES = 4
"""Number of images of the first measurement; the following ones have four times as many each."""
QUICK_SECONDS = 1.0
"""Time that a larger measurement may always take: of small networks, few images say nothing about the speed of a whole batch."""
MEMORY_SHARE = 0.25
"""Share of the free memory that a batch may take in a measurement."""


def clock_on(device: torch.device) -> Clock:
    """A clock in seconds: the CPU time of this process if it computes on one core, which other processes do not affect."""
    if device.type == "cuda":

        def synchronised() -> float:
            torch.cuda.synchronize()
            return time.perf_counter()

        return synchronised
    return time.process_time if torch.get_num_threads() == 1 else time.perf_counter


@dataclass(frozen=True)
class Training:
    """A measured training."""

    seconds: float
    """Seconds of the whole training of one network."""
    load: float
    """Wall time of the measurement per CPU second, above 1 if other processes use the cores."""
    trained: float
    """Share of the epochs that were run on all members; 0 if only steps on some of the members were."""
    batch: int
    """Number of images per step in the measurement, at most."""


def measure_training(
    config: TrialConfig, images: Images, members: int, device: torch.device, seconds: float
) -> tuple[Training, Bound]:
    """Train a network for a limited time: one epoch on few of the members, then on more, then as many epochs as the time allows.

    The choice of the epoch is not measured; see `trainables.cost.passes.selection_of`.

    Args:
        config: the configuration.
        images: the pool, or a part of it.
        members: number of members in the whole pool.
        device: device to train on.
        seconds: time that this may take, unless a step on `FIRST_IMAGES` images takes longer.

    Returns:
        The cost of a whole training, and the network as far as it was trained.

    Raises:
        InputError, TrialError, ValueError: the configuration cannot be trained on these images.
    """
    start, clock, parts = time.monotonic(), clock_on(device), data.split(images, config.split)
    config = config.set({"selection": "none"})
    end, first = start + seconds, clock()
    own, val = images.at(parts.members), images.at(parts.val[:1000])
    count, bound, batch, wall = min(FIRST_IMAGES, len(own.y)), None, config.batch_size, 0.0
    epochs: list[tuple[int, float]] = []  # numbers of images, and seconds
    while True:
        few = config.set({"epochs": 1, "batch_size": min(batch, max(2, count))})
        validated = val.at(torch.arange(-(-len(val.y) * count // len(own.y))))
        begun, started = clock(), time.monotonic()
        try:
            bound = train(few, own.at(torch.arange(count)), validated, device=device)
            epochs.append((count, clock() - begun))
        except (InputError, TrialError, ValueError):  # too few images, for example for a reference set
            if count == len(own.y):
                raise
        wall = time.monotonic() - started
        if bound is not None:
            batch = min(batch, max(2, int(MEMORY_SHARE * available() / max(1.0, kept_bytes(bound.net, images.shape)))))
        if count == len(own.y) or (bound is not None and 4 * wall > max(QUICK_SECONDS, end - time.monotonic())):
            break
        count = min(4 * count, len(own.y))
    assert bound is not None
    all_epochs, trained, per_image = config.optimizer.last_epoch(config.epochs), 0.0, _per_image(epochs, config.batch_size)
    fitting = int(min(config.epochs, (end - time.monotonic()) / max(wall, 1e-9))) if count == len(own.y) else 0
    if fitting > 0 and batch == config.batch_size:
        begun = clock()
        bound = train(config.set({"epochs": fitting}), own, val, device=device)
        per_image = (clock() - begun) / (len(bound.curve) * count)
        trained = fitting / config.epochs
    load = (time.monotonic() - start) / max(clock() - first, 1e-9)
    return Training(all_epochs * members * per_image, max(1.0, load), trained, min(batch, count)), bound


def _per_image(epochs: Sequence[tuple[int, float]], batch: int) -> float:
    """Seconds per image in batches of a size. A step takes a + b * images; both are known from the last two epochs of one step."""
    count, seconds = epochs[-1]
    if count >= batch or len(epochs) == 1:
        return seconds / count
    slope = (seconds - epochs[-2][1]) / (count - epochs[-2][0])
    constant = seconds - slope * count
    return slope + constant / batch if slope > 0 and constant > 0 else seconds / count


def warm_up(images: Images, device: torch.device) -> None:
    """Train a small network on a few images: the first training of a process loads libraries."""
    part = images.at(torch.arange(FIRST_IMAGES))
    train(TrialConfig.of({"epochs": 1, "net": "convnet", "net.width": 4}), part, part, device=device)
