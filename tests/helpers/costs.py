"""Costs of configurations with known numbers, as if they had been measured."""

from core.footprint import Phase
from trainables.cost.evaluation import Evaluation
from trainables.cost.pilots import Cost
from trainables.cost.training import Training


def evaluation(
    attack: float, audit: float, *, outputs: float = 0.0, files: float = 0.0, share: float = 1.0, longest: float = 0.0
) -> Evaluation:  # fmt: skip
    """A measured evaluation; by default its attacks took as long as they may."""
    return Evaluation(attack, audit, 0.0, outputs, files, share, longest or attack)


def cost(
    training: float, sweep: Evaluation, confirm: Evaluation | None = None, *, network: float = 0.0, peak: float = 1e9,
    trained: float = 1.0,
) -> Cost:  # fmt: skip
    """A measured configuration."""
    phase = Phase("training", 128, 1000.0, "batch_size")
    return Cost(Training(training, 1.0, trained, 128), sweep, confirm, network, phase, peak)
