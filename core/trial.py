"""One trial: train, attack, audit. A function of the configuration and the images, with no Ray in sight.

images = data.load("digits")
result = run(TrialConfig(), images)
result.metrics["robust_accuracy"]
"""

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from core import data, rng
from core.attacks import gradient
from core.attacks.losses import margin
from core.audits.threshold import leak_metrics, threshold_audits
from core.config import Judge, Metrics, TrialConfig
from core.data import Images, Parts
from core.density import activation_density, share_near_zero
from core.errors import TrialError
from core.perturbations.gat import SILENT
from core.stats import wilson
from core.train import Bound, OnEpoch, State, as_float, predict, steps_per_epoch, train

NO_GUARANTEE = 1e9
"""`dp_epsilon` of DP-SGD without noise: metrics are finite."""


@dataclass(frozen=True)
class Result:
    """What a trial leaves behind."""

    metrics: Metrics
    curve: list[dict[str, float]]
    """One row per epoch."""
    predictions: dict[str, np.ndarray]
    """Per-image evidence: rows, labels, logits of members and non-members, and who stands under each attack."""
    state: State
    """The trained network and its slots."""


def run(
    config: TrialConfig, images: Images, *, device: torch.device | str = "cpu",
    on_epoch: OnEpoch | None = None, resume: State | None = None,
) -> Result:  # fmt: skip
    """Train, attack and audit one configuration.

    Args:
        config: what to do. images: the pool that `config.dataset` and `config.pool` name.
        device: where. on_epoch, resume: see `core.train.train`.

    Raises:
        TrialError: training diverged or a metric is not finite.
        InputError: the configuration does not fit the images.
    """
    parts = data.split(images, config.split, config.replicate)
    guarantee(config, len(member_rows(config, images, parts)[0]))  # an impossible delta is refused before the training
    clock = _Clock()
    with clock("train"):
        members, val = images.at(parts.members), images.at(parts.val)
        bound = train(config, members, val, device=device, on_epoch=on_epoch, resume=resume)
    return judge(config, bound, images, parts, device=device, clock=clock)


def judge(
    config: TrialConfig, bound: Bound, images: Images, parts: Parts, *, device: torch.device | str = "cpu",
    clock: "_Clock | None" = None,
) -> Result:  # fmt: skip
    """Attack and audit a trained network on the part that `config.judge` names.

    Raises:
        TrialError: a metric is not finite.
    """
    clock = clock or _Clock()
    device = torch.device(device)
    rows = parts.judged(config.judge.part)
    private, reference = member_rows(config, images, parts)
    members, others = images.at(private).to(device), images.at(rows).to(device)
    with clock("audit"):
        member_logits, other_logits = predict(bound.net, members.x), predict(bound.net, others.x)
        if not (member_logits.isfinite().all() and other_logits.isfinite().all()):
            raise TrialError("the trained network's logits are not finite; lower optimizer.lr")
        audits = threshold_audits(member_logits, members.y, other_logits, others.y)
        aside: dict[str, Tensor | np.ndarray] = {}
        if len(reference):  # it came out of the members, so what leaks of it counts
            labels = images.y[reference].to(device)
            logits = predict(bound.net, images.x[reference].to(device))
            found = threshold_audits(logits, labels, other_logits, others.y)
            audits |= {f"reference_{name}": roc for name, roc in found.items()}
            aside = {"reference_rows": reference, "reference_labels": labels, "reference_logits": logits}
        leaks = leak_metrics(audits)
    correct = other_logits.argmax(1) == others.y
    with clock("attack"):
        attacked = slice(config.judge.images or None)
        judged = as_float(others.x[attacked])
        stands, zero = robustness(bound.net, judged, others.y[attacked], config.judge, config.seed)
    worst = torch.stack(list(stands.values())).all(0)
    hits, largest_class = int(correct.sum()), others.y.bincount().max().item() / len(correct)
    values = {
        "accuracy": hits / len(correct),
        "train_accuracy": (member_logits.argmax(1) == members.y).double().mean().item(),
        "robust_accuracy": worst.double().mean().item(),
        **{f"robust_accuracy/{name}": alive.double().mean().item() for name, alive in stands.items()},
        **leaks,
        **guarantee(config, len(private)),
        "density": activation_density(bound.net, judged),
        "weights_below_0.001": share_near_zero(bound.net),
        "flag/at_chance": float(wilson(hits, len(correct)).low <= largest_class),
        "flag/zero_gradients": float(zero),
        "flag/fgsm_beats_pgd": float(_beats(stands["fgsm"], stands["pgd"])),
        "flag/auc_below_half": float(any(roc.auc_interval().high < 0.5 for roc in audits.values())),
        "flag/few_non_members": float(0.01 * len(rows) < 10),
        "flag/generator_silent": float(any(row.get("epoch/generator_norm", 1.0) < SILENT for row in bound.curve)),
        "flag/split_overlap": float(len(np.intersect1d(parts.members, rows)) > 0),
        **clock.metrics(train=len(private) * len(bound.curve), attack=len(worst), audit=len(members.y) + len(rows)),
    }
    evidence = {
        "member_rows": private, "member_labels": members.y, "member_logits": member_logits,
        **aside, "rows": rows, "labels": others.y, "logits": other_logits,
        **{f"stands/{name}": alive for name, alive in stands.items()},
    }  # fmt: skip
    arrays = {name: v.cpu().numpy() if isinstance(v, Tensor) else v for name, v in evidence.items()}
    return Result(Metrics(values), bound.curve, arrays, bound.state())


def member_rows(config: TrialConfig, images: Images, parts: Parts) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the pool that the network is trained on, and those of the reference set that a slot keeps apart (often none)."""
    if not config.reference:
        return parts.members, parts.members[:0]
    kept, aside = data.set_aside(images.y[parts.members], config.reference, config.seed)
    return parts.members[kept], parts.members[aside]


def guarantee(config: TrialConfig, members: int) -> dict[str, float]:
    """`dp_epsilon` where the optimizer spends one, at its `delta`."""
    if not hasattr(config.optimizer, "spent"):
        return {}
    epochs = config.optimizer.last_epoch(config.epochs)
    spent = config.optimizer.spent(members, steps_per_epoch(config, members), epochs)
    return {"dp_epsilon": min(spent, NO_GUARANTEE)}


def robustness(net, x: Tensor, y: Tensor, judge_: Judge, seed: int, batch_size: int = 256) -> tuple[dict[str, Tensor], bool]:
    """Which images are still classified right after each attack, and whether the attacks had a gradient to follow.

    Verdicts are taken on the finished images in a forward pass of their own.

    Args:
        net: the network. x: images in [0, 1], [N, c, h, w]. y: labels, [N].
        judge_: threat model and effort. seed: of the random starts.

    Returns:
        `{"fgsm": [N] bool, "pgd": [N] bool}`, and True if over 1 % of the images give an input gradient that is zero or not
        finite, so that the attacks stood still.
    """
    draw = rng.Draw(rng.generator(seed, "attack", device=x.device), batch_size)
    stands: dict[str, list[Tensor]] = {"fgsm": [], "pgd": []}
    still = 0
    for part, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
        draw.rows = slice(len(part))
        one = gradient.fgsm(net, part, labels, epsilon=judge_.epsilon, norm=judge_.norm)
        many = gradient.pgd(
            net, part, labels, epsilon=judge_.epsilon, steps=judge_.steps, norm=judge_.norm,
            restarts=judge_.restarts, draw=draw, stop_when_fooled=True,
        )  # fmt: skip
        clean = predict(net, part).argmax(1) == labels
        for name, images in (("fgsm", one), ("pgd", many)):
            stands[name].append(clean & (predict(net, images).argmax(1) == labels))
        still += _zero_gradients(net, part[clean], labels[clean])
    return {name: torch.cat(alive) for name, alive in stands.items()}, still > 0.01 * len(x)


def _zero_gradients(net, x: Tensor, y: Tensor) -> int:
    if not len(x):
        return 0
    with gradient.frozen(net), torch.enable_grad():
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(-margin(net(x), y).sum(), x)
    steepest = slope.flatten(1).abs().amax(1)
    return int((~((steepest > 0) & steepest.isfinite())).sum())


def _beats(one: Tensor, many: Tensor) -> bool:
    """Whether the single step fools more images than many steps do, beyond chance (McNemar's exact test at 2.5 %)."""
    only_one, only_many = int((~one & many).sum()), int((one & ~many).sum())
    n = only_one + only_many
    return 40 * sum(math.comb(n, k) for k in range(only_one, n + 1)) <= 2**n  # whole numbers: 2**n outgrows a float


class _Clock:
    """Seconds per phase."""

    def __init__(self):
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[phase] = time.perf_counter() - start

    def metrics(self, **images: int) -> dict[str, float]:
        """`seconds/<phase>` and `images_per_second/<phase>`."""
        values = {f"seconds/{phase}": seconds for phase, seconds in self.seconds.items()}
        rates = {f"images_per_second/{p}": n / self.seconds[p] for p, n in images.items() if p in self.seconds}
        return values | rates
