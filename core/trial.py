"""One trial: train, attack and audit, as a function of the configuration and the images.

    images = data.load("digits")
    result = run(TrialConfig(), images)
    result.metrics["robust_accuracy"]

`train_network` and `evaluate` are its two halves; the settings `judge.*` affect the second one only.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from core.audits.outputs import ModelOutputs
from core.bound import Bound, State
from core.config import TrialConfig
from core.data import Images, Parts
from core.evaluation.interim import evaluate_interim
from core.evaluation.judge import TrialResult, judge
from core.evaluation.privacy import dp_metrics, outputs_of
from core.evaluation.stored import member_rows, stored_model
from core.evaluation.timing import PhaseTimer
from core.metrics import Metrics
from core.train import OnEpoch, train


def run(
    config: TrialConfig, images: Images, *, device: torch.device | str = "cpu",
    on_epoch: OnEpoch | None = None, resume: State | None = None, rungs: Sequence[int] = (),
) -> TrialResult:  # fmt: skip
    """Train, attack and audit one configuration.

    Args:
        config: configuration of the trial.
        images: the pool that `config.dataset` and `config.pool` name.
        device: device to run on.
        on_epoch, resume: see `core.train.train`.
        rungs: epochs after which the network is evaluated; the epoch's row of the curve then also has `rung/<metric>` (see
            `core.evaluation.interim`).

    Raises:
        TrialError: training diverged, or a metric is not finite.
        InputError: the configuration does not fit the images.
    """
    network = train_network(config, images, device=device, on_epoch=on_epoch, resume=resume, rungs=rungs)
    return evaluate(config, network, images, device=device)


@dataclass(frozen=True)
class Network:
    """A trained network with its bound components."""

    bound: Bound
    seconds: float
    """Wall-clock time of the training."""

    @classmethod
    def of(
        cls, config: TrialConfig, modules: Mapping[str, State], curve: Sequence[Mapping[str, float]], seconds: float,
        images: Images, *, device: torch.device | str = "cpu",
    ) -> "Network":  # fmt: skip
        """Restore a network from `Bound.state()["modules"]` and the curve of its training."""
        bound = stored_model(config, modules, images, torch.device(device))
        bound.curve = [dict(row) for row in curve]
        return cls(bound, seconds)


def train_network(
    config: TrialConfig, images: Images, *, device: torch.device | str = "cpu",
    on_epoch: OnEpoch | None = None, resume: State | None = None, rungs: Sequence[int] = (),
) -> Network:  # fmt: skip
    """Train the network of one configuration; see `run`."""
    parts = config.parts(images)
    dp_metrics(config, len(member_rows(config, images, parts)[0]))  # rejects an impossible delta before training
    start = time.perf_counter()
    own = (images.at(rows) for rows in (parts.members, parts.val, parts.selection))
    ended = partial(_epoch_ended, config, images, parts, rungs, on_epoch)
    bound = train(config, *own, device=device, on_epoch=ended, resume=resume)
    return Network(bound, time.perf_counter() - start)


def evaluate(
    config: TrialConfig, network: Network, images: Images, *, device: torch.device | str = "cpu",
    outputs: ModelOutputs | None = None,
) -> TrialResult:  # fmt: skip
    """Attack and audit a trained network; of a shadow model, only the outputs are computed.

    Args:
        config: configuration of the trial.
        network: the trained network.
        images: the pool.
        device: device to run on.
        outputs: outputs of the network for the pool under the threat model of `config`, if they are known.

    Raises:
        TrialError: a metric is not finite.
    """
    parts = config.parts(images)
    timer = PhaseTimer()
    timer.seconds["train"] = network.seconds
    own = _shadow_result if config.shadow else judge
    return own(config, network.bound, images, parts, device=device, timer=timer, outputs=outputs)


def _epoch_ended(
    config: TrialConfig, images: Images, parts: Parts, rungs: Sequence[int], callback: OnEpoch | None, row: dict[str, float],
    bound: Bound,
) -> None:  # fmt: skip
    """Add an interim evaluation to the row of a rung, then call the caller's callback."""
    if row["epoch"] in rungs:
        row |= {f"rung/{name}": value for name, value in evaluate_interim(config, bound, images, parts).items()}
    if callback:
        callback(row, bound)


def _shadow_result(
    config: TrialConfig, bound: Bound, images: Images, parts: Parts, *, device: torch.device | str, timer: PhaseTimer,
    outputs: ModelOutputs | None,
) -> TrialResult:  # fmt: skip
    """The result of a shadow model: its outputs for every image, without attacks and audits."""
    private, reference = member_rows(config, images, parts)
    with timer("audit"):
        outputs = outputs or outputs_of(config, bound.net, images, device=device)
    correct = outputs.logits[:, 0].argmax(1) == outputs.y
    values = {
        "accuracy": float(correct[parts.val].mean()), "train_accuracy": float(correct[private].mean()),
        **timer.metrics(train=len(private) * len(bound.curve), audit=len(outputs.y)),
    }  # fmt: skip
    evidence = {"member_rows": private, "reference_rows": reference}
    return TrialResult(Metrics(values), bound.curve, evidence, bound.state(), outputs)
