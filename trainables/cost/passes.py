"""The number of passes through the network that an evaluation takes, counted with a linear network that no attack fools.

The counts predict how long an evaluation takes, and extrapolate from few images to all. They are upper bounds: each attack runs to
its end on each image, while a real network is fooled early on some images, on which later attacks do not run.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from core import rng
from core.attacks.ball import Norm
from core.attacks.suite import PROBE, Attack, run_suite
from core.audits.label_only import boundary_distance
from core.audits.outputs import ADVERSARIAL_STEPS
from core.config import TrialConfig
from core.data import Images, Parts
from core.evaluation.masking import masking_flags
from core.evaluation.robustness import distance_metrics, suite_of
from core.judging import Judge
from core.regularizers.bpfc import BPFC
from core.selection import ByAccuracy, ByAttack

COUNTED_IMAGES = 4
"""Number of images on which passes are counted; their number per image is the same for each."""
COUNTED_SHAPE = (1, 8, 8)
"""Shape of these images; it has no influence on the counts."""
DREAM_STEPS = 200
"""Gradient steps of DeepDream: 5 passes over 4 octaves of 10 steps each."""


@dataclass(frozen=True)
class Passes:
    """Numbers of images that are passed through a network."""

    forward: float = 0.0
    backward: float = 0.0

    def __add__(self, other: "Passes") -> "Passes":
        return Passes(self.forward + other.forward, self.backward + other.backward)

    def __mul__(self, count: float) -> "Passes":
        return Passes(self.forward * count, self.backward * count)


ONE = Passes(1, 0)
"""A forward pass of one image."""
STEP = Passes(1, 1)
"""A forward and a backward pass of one image."""


@dataclass(frozen=True)
class Sizes:
    """Numbers of images in an evaluation."""

    pool: int
    members: int
    judged: int
    """Non-members of the part that is evaluated."""
    target: int
    """Images that are audited: members, validation part, and the test part if it is drawn like the members."""

    @classmethod
    def of(cls, images: Images, parts: Parts, part: str) -> "Sizes":
        """The sizes of an evaluation on a part of a pool."""
        tested = parts.test if parts.test_is_exchangeable else parts.test[:0]
        target = sum(len(own) for own in (parts.members, parts.val, parts.selection, tested))
        return cls(len(images.y), len(parts.members), len(parts.judged(part)), target)

    def attacked(self, judge: Judge) -> int:
        """Number of images that are attacked."""
        return min(judge.images or self.judged, self.judged)


def attacks_of(config: TrialConfig, sizes: Sizes) -> Passes:
    """Passes of the attacks of one network, and of the flags and distances that are computed with them; at most."""
    attacked = sizes.attacked(config.judge)
    each, probed = _per_attacked_image(config.judge, isinstance(config.regularizer, BPFC) and config.regularizer)
    return each * attacked + probed * min(PROBE, attacked)


def selection_of(config: TrialConfig) -> Passes:
    """Passes of the choice of the epoch during the training of one network, which may end early; at most."""
    choice = config.selection
    if not choice.images:
        return Passes()
    last_epoch = config.optimizer.last_epoch(config.epochs)
    return _per_choosing_image(choice) * (choice.images * min(choice.last or last_epoch, last_epoch))


def queries_of(config: TrialConfig, sizes: Sizes) -> tuple[int, int]:
    """Numbers of images that are queried for the audits by other networks: as they are or mirrored, and as adversarial images."""
    mirrored = bool(getattr(config.augmentation, "flip", False))
    return sizes.pool * (1 + mirrored), sizes.target


def outputs_of(config: TrialConfig, sizes: Sizes) -> Passes:
    """Passes of the queries of one network for the pool; see `core.evaluation.privacy.outputs_of`."""
    images, adversarial = queries_of(config, sizes)
    return ONE * images + (STEP * ADVERSARIAL_STEPS + ONE) * adversarial


def audits_of(config: TrialConfig, sizes: Sizes) -> Passes:
    """Passes of the audits of one network by itself."""
    audited = sizes.members + sizes.judged
    passes = ONE * audited
    if config.judge.audits != "scores":
        passes += outputs_of(config, sizes) + STEP * audited
    if config.judge.audits == "full":
        count = sum(min(config.judge.images or n, n) for n in (sizes.members, sizes.judged))
        passes += _per_label_only_image() * count
    return passes


def inspection_of(config: TrialConfig, classes: int) -> Passes:
    """Passes of the inversion attacks on one network, without those of the AC-GAN's own networks."""
    steps = {"none": 0, "ascent": config.judge.inversion_iterations, "all": config.judge.inversion_iterations + DREAM_STEPS}
    return STEP * (steps[config.judge.inversion] * classes * config.judge.inversion_restarts)


@functools.cache
def _per_attacked_image(judge: Judge, defence: BPFC | bool) -> tuple[Passes, Passes]:
    """Passes per attacked image, and further ones per image among the first `PROBE`.

    The attack through GAT's generator takes two passes and is not counted.
    """
    config = SimpleNamespace(judge=judge, regularizer=defence)
    suite = suite_of(config, None)  # pyright: ignore[reportArgumentType]
    common = {name: attack for name, attack in suite.items() if not attack.images}
    probes: dict[str, Attack] = {name: attack for name, attack in suite.items() if attack.images}
    threat: dict[str, Any] = {"epsilon": judge.epsilon, "norm": judge.norm}
    each = _counted(judge.epsilon, judge.norm, lambda net, x, y: run_suite(net, x, y, common, **threat))
    probed = _counted(judge.epsilon, judge.norm, lambda net, x, y: run_suite(net, x, y, probes, **threat))
    net, x, y = _network(judge.epsilon, judge.norm)
    result = run_suite(net, x, y, {}, **threat)
    probed += _counted(judge.epsilon, judge.norm, lambda net, x, y: masking_flags(net, x, y, result, {}, **threat))
    if judge.measures_distances:
        smooth = functools.partial(distance_metrics, judge=judge, seed=0)
        probed += _counted(judge.epsilon, judge.norm, smooth, frequency=0.0)
    return each, probed


@functools.cache
def _per_choosing_image(choice: ByAccuracy) -> Passes:
    """Passes of the choice of the epoch per image and epoch."""

    def measure(net: nn.Module, x: Tensor, y: Tensor) -> None:
        choice.correct(net, x, y, seed=0, ids=torch.arange(len(x)))

    return _counted(choice.epsilon, choice.norm, measure) if isinstance(choice, ByAttack) else _counted(0.01, "linf", measure)


@functools.cache
def _per_label_only_image() -> Passes:
    """Passes of the label-only audit per image."""

    def audit(net: nn.Module, x: Tensor, y: Tensor) -> None:
        boundary_distance(net, x, y, draw=rng.per_image(0, "label_only", ids=torch.arange(len(x))))

    return _counted(0.01, "linf", audit, frequency=0.0)


def _counted(epsilon: float, norm: Norm, work: Callable[[nn.Module, Tensor, Tensor], Any], frequency: float = 1e6) -> Passes:
    """Passes per image of some work on a network that withstands every attack within epsilon."""
    net, x, y = _network(epsilon, norm, frequency)
    work(net, x, y)
    return Passes(net.forwards, net.backwards) * (1 / len(x))


def _network(epsilon: float, norm: Norm, frequency: float = 1e6) -> tuple["CountingNet", Tensor, Tensor]:
    x = 0.48 + 0.04 * torch.rand(COUNTED_IMAGES, *COUNTED_SHAPE, generator=torch.Generator().manual_seed(0))
    return CountingNet(epsilon, norm, frequency), x, torch.zeros(COUNTED_IMAGES, dtype=torch.int64)


class CountingNet(nn.Module):
    """An almost linear classifier of ten classes that counts passes. It predicts class 0 wherever an attack within epsilon can get.

    A tiny term of high frequency gives steps of an attack random directions. With a linear network, PGD would return to a point
    where it has been before, and stop.
    """

    def __init__(self, epsilon: float, norm: Norm, frequency: float):
        super().__init__()
        self.forwards = self.backwards = 0
        size, stream = math.prod(COUNTED_SHAPE), torch.Generator().manual_seed(1)
        signs = torch.rand(9, size, generator=stream).round() * 2 - 1
        self.weights = nn.Parameter(signs / (size if norm == "linf" else math.sqrt(size)))
        self.waves = nn.Parameter(frequency * torch.randn(16, size, generator=stream))
        self.margin = 0.005 + 1.5 * epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Logits of class 0, which is the margin, and of the nine others, [B, 10]."""
        self.forwards += len(x)
        flat = _Count.apply(x, self).flatten(1)  # pyright: ignore[reportOptionalMemberAccess]
        rough = 1e-6 * torch.cos(flat @ self.waves.T).sum(1, keepdim=True)
        others = (flat - 0.5) @ self.weights.T + rough
        return torch.cat([torch.full_like(rough, self.margin), others], 1)


class _Count(torch.autograd.Function):
    """The identity, whose backward passes are counted."""

    @staticmethod
    def forward(ctx, x: Tensor, net: CountingNet) -> Tensor:
        ctx.net = net
        return x.view_as(x)

    @staticmethod
    def backward(ctx, *grads: Tensor):
        ctx.net.backwards += len(grads[0])
        return grads[0], None
