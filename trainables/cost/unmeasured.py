"""The cost of a study of which nothing was measured: the sizes of its networks and files are known, but no times."""

import math
from collections.abc import Mapping, Sequence

import torch

from core.bound import bind
from core.config import TrialConfig
from core.data import Images
from core.footprint import footprint
from trainables.cost.evaluation import Evaluation, expected_bytes
from trainables.cost.passes import Sizes
from trainables.cost.pilots import Cost, Pilot, network_bytes
from trainables.cost.training import Training

FEW = 64
"""Number of members that a network is made for, which is enough for its shapes."""


def unmeasured(pilots: Sequence[Pilot], images: Images, sizes: Mapping[str, Sizes], process_bytes: float) -> dict[int, Cost]:
    """The costs of the first configuration with each network, by the position of their pilots. All times are NaN.

    Args:
        pilots: the configurations that were to be measured.
        images: the pool.
        sizes: sizes of evaluations on it, by `judge.part`.
        process_bytes: memory of a process before it trains.
    """
    first = {pilot.sweep.net: number for number, pilot in reversed(list(enumerate(pilots)))}
    return {number: _cost(pilots[number], images, sizes, process_bytes) for number in sorted(first.values())}


def _cost(pilot: Pilot, images: Images, sizes: Mapping[str, Sizes], process_bytes: float) -> Cost:
    def evaluation(config: TrialConfig) -> Evaluation:
        files = expected_bytes(config, images.classes, sizes[config.judge.part])
        return Evaluation(math.nan, math.nan, math.nan, math.nan, files, 0.0, math.nan)

    parts = pilot.sweep.parts(images)
    bound = bind(pilot.sweep, images.at(parts.members[:FEW]), torch.device("cpu"))
    phase = footprint(pilot.sweep, bound, images, parts)
    return Cost(
        Training(math.nan, math.nan, 0.0, 0), evaluation(pilot.sweep), evaluation(pilot.confirm) if pilot.confirm else None,
        network_bytes(bound), phase, process_bytes + phase.total,
    )  # fmt: skip
