"""The cost of evaluating a network, measured on as many images as the time allows."""

from dataclasses import dataclass

import numpy as np
import torch

from core import data
from core.attacks.suite import EVAL_BATCH, PROBE
from core.audits.outputs import ModelOutputs
from core.bound import Bound
from core.config import TrialConfig
from core.data import Images, Parts
from core.data.labels import MIN_IMAGES, pool_rows
from core.errors import InputError
from core.evaluation.inspection import MAX_GAN_IMAGES, inspect_model
from core.evaluation.judge import TrialResult, judge
from core.evaluation.privacy import audit_by_others
from core.evaluation.robustness import median_radius
from core.evaluation.stored import member_rows
from core.evaluation.timing import PhaseTimer
from core.inversion.acgan import train_generator
from core.modes import as_float
from trainables.cost import passes
from trainables.cost.passes import STEP, Sizes
from trainables.cost.speed import Speed
from trainables.cost.training import clock_on
from trainables.storage.arrays import to_npz

SHARES = (1.0, 0.7, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05, 0.02, 0.01)
"""Shares of the images on which a network may be evaluated."""
GAN_BATCH = 100
"""Images of a training step of the AC-GAN; the default of `core.inversion.acgan.train_generator`."""


@dataclass(frozen=True)
class Evaluation:
    """A measured evaluation of one network. Seconds and bytes are those of an evaluation on all images."""

    attack: float
    audit: float
    inspection: float
    outputs: float
    """The seconds of the audits in which the outputs for the pool are computed, which is all that a shadow model needs."""
    files: float
    """Bytes of its evidence, outputs and pictures."""
    share: float
    """Share of the images on which the network was evaluated; 0 if passes through the network were counted instead."""
    longest: float
    """Seconds of the attacks if each ran to its end on each image; see `trainables.cost.passes`."""

    @property
    def seconds(self) -> float:
        """Seconds of all phases."""
        return self.attack + self.audit + self.inspection


def measure_evaluation(
    config: TrialConfig, bound: Bound, speed: Speed, images: Images, whole: Sizes, device: torch.device, seconds: float, *,
    is_trained: bool,
) -> Evaluation:  # fmt: skip
    """Evaluate a network on as many images as the time allows, and extrapolate by the number of passes through the network.

    If there is no time for that, or if the network is not trained enough, the cost is that of the passes; see
    `trainables.cost.passes`.

    Args:
        config: the configuration, with the judge settings of the sweep or of the confirmation step.
        bound: the network.
        speed: speed of passes through it.
        images: the pool, or a part of it.
        whole: sizes of an evaluation on the whole pool.
        device: device to evaluate on.
        seconds: time that this may take.
        is_trained: whether the network is trained enough for attacks on it to cost what they cost on a trained one.

    """
    attack, audit = predicted(config, whole, speed)
    queried = 0.0
    if config.judge.audits != "scores":
        queried = speed.seconds(passes.outputs_of(config, whole), EVAL_BATCH) / audit
    plain = config.set({"judge.inversion": "none", "judge.attribution": 0, "selection": "none"})
    inspection = measure_inspection(config, bound, images, speed, device, seconds)
    part = _largest_part(plain, images, speed, seconds) if is_trained else None
    if part is None:
        return Evaluation(attack, audit, inspection, queried * audit, expected_bytes(config, images.classes, whole), 0.0, attack)
    pool, parts, sizes = part
    clock = clock_on(device)
    timer, begun = PhaseTimer(clock), clock()
    result = judge(plain, bound, pool, parts, device=device, timer=timer)
    audited = timer.seconds["audit"]
    longest, measured = attack, (clock() - begun - audited, audited)
    share = sizes.pool / whole.pool
    attack, audit = (m * all_ / few for m, all_, few in zip(measured, (attack, audit), predicted(plain, sizes, speed), strict=True))
    return Evaluation(attack, audit, inspection, queried * audit, _stored_bytes(result) / share, share, longest)


def predicted(config: TrialConfig, sizes: Sizes, speed: Speed) -> tuple[float, float]:
    """Seconds of the passes of the attacks and of the audits of one network."""
    attacked = min(sizes.attacked(config.judge), EVAL_BATCH)
    return speed.seconds(passes.attacks_of(config, sizes), attacked), speed.seconds(passes.audits_of(config, sizes), EVAL_BATCH)


def _largest_part(config: TrialConfig, images: Images, speed: Speed, seconds: float) -> tuple[Images, Parts, Sizes] | None:
    """The largest part of the pool on which an evaluation is expected to end in time; None if there is none."""
    for share in SHARES:
        count = round(share * len(images.y))
        if count < MIN_IMAGES * images.classes:
            return None
        try:
            pool = images if share == 1 else images.at(pool_rows(images.y.numpy(), count, ""))
            parts = data.split(pool, config.split)
        except InputError:  # a class has no image in some part
            return None
        sizes = Sizes.of(pool, parts, config.judge.part)
        if sum(predicted(config, sizes, speed)) <= seconds:
            return pool, parts, sizes
    return None


def measure_inspection(
    config: TrialConfig, bound: Bound, images: Images, speed: Speed, device: torch.device, seconds: float
) -> float:
    """Seconds of inversion and attribution maps; from few steps of the inversion, or from its passes if these take long."""
    kind = config.judge.inversion
    if kind == "none" and not config.judge.attribution:
        return 0.0
    parts, clock = data.split(images, config.split), clock_on(device)
    private, _ = member_rows(config, images, parts)
    steps = speed.seconds(passes.inspection_of(config, images.classes), images.classes * config.judge.inversion_restarts)
    few = max(1, int(config.judge.inversion_iterations * min(1.0, 0.1 * seconds / max(steps, 1e-9))))

    def measured(changes: dict) -> float:
        begun = clock()
        inspect_model(config.set(changes), bound.net, images, parts, private, device)
        return clock() - begun

    if kind == "none":
        return measured({})
    one, more = (measured({"judge.inversion": "ascent", "judge.inversion_iterations": n}) for n in (1, 1 + few))
    iterations = config.judge.inversion_iterations + (passes.DREAM_STEPS if kind == "all" else 0)
    cost = one + max(0.0, more - one) / few * (iterations - 1)
    part = images.at(parts.judged(config.judge.part)).to(device)
    begun = clock()
    if not config.judge.measures_distances and speed.seconds(STEP * (500 * PROBE), PROBE) < seconds:
        median_radius(bound.net, as_float(part.x), part.y)
    cost += clock() - begun
    if kind == "all":
        shadow = images.at(parts.shadow[:GAN_BATCH]).to(device)
        begun = clock()
        train_generator(bound.net, shadow.x, shadow.y, images.classes, width=config.judge.gan_width, epochs=1)
        cost += (clock() - begun) * config.judge.gan_epochs * max(1, min(MAX_GAN_IMAGES, len(parts.shadow)) // GAN_BATCH)
    return cost


def measure_audit_by_others(
    config: TrialConfig, images: Images, whole: Sizes, siblings: int, shadows: int
) -> tuple[float, float]:  # fmt: skip
    """Audit a network by other networks: CPU seconds, and bytes of the evidence, for the whole pool.

    The audits take the same time for any outputs, so those of the networks are random. The few images that choose the epoch count
    as audited ones.

    Args:
        config: configuration of the network in the confirmation step.
        images: the pool, or a part of it.
        whole: sizes of the whole pool.
        siblings, shadows: numbers of networks that audit the network.
    """
    config = config.set({"selection": "none"})
    stream, mirrored = np.random.Generator(np.random.PCG64(0)), bool(getattr(config.augmentation, "flip", False))
    is_attacked = bool(passes.queries_of(config, whole)[1])

    def trained_as(replicate: int, shadow: int = 0) -> ModelOutputs:
        own = config.set({"replicate": replicate, "shadow": shadow})
        private, reference = member_rows(own, images, data.split(images, own.split, replicate, shadow))
        state = np.full(len(images.y), -1, np.int8)
        state[images.copies_of(reference)] = 0
        state[images.copies_of(private)] = 1
        logits = stream.normal(size=(len(images.y), 2 + mirrored, images.classes)).astype(np.float32)
        recognised = np.repeat((state == 1)[:, None], 1 + mirrored, 1)
        return ModelOutputs(logits[:, 1:], images.y.numpy(), state, recognised, logits[:, 0] if is_attacked else None)

    others = [trained_as(2 + i) for i in range(siblings)], [trained_as(0, 1 + i) for i in range(shadows)]
    target, clock = trained_as(1), clock_on(torch.device("cpu"))
    begun = clock()
    audit = audit_by_others(config.set({"replicate": 1}), target, *others, images, {})
    scale = whole.pool / len(images.y)
    return (clock() - begun) * scale, len(to_npz(audit.evidence)) * scale


def _stored_bytes(result: TrialResult) -> float:
    arrays = [result.predictions, result.outputs.arrays() if result.outputs else {}, result.pictures]
    return float(sum(len(to_npz(part)) for part in arrays if part))


def expected_bytes(config: TrialConfig, classes: int, sizes: Sizes) -> float:
    """Bytes of the evidence, without compression, for an evaluation that was not run."""
    logits = sizes.members + sizes.judged
    if config.judge.audits != "scores":
        logits += sum(passes.queries_of(config, sizes))
    return 4.0 * classes * logits
