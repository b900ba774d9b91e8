"""One trial: train, attack, audit. A function of the configuration and the images, with no Ray in sight.

images = data.load("digits")
result = run(TrialConfig(), images)
result.metrics["robust_accuracy"]
"""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core import data
from core.attacks.bpfc import adaptive_pgd
from core.attacks.deepfool import deepfool
from core.attacks.generator import generator
from core.attacks.masking import masking_flags
from core.attacks.radius import adversarial_radius, shortest
from core.attacks.suite import PROBE, SUITES, Attack, Verdicts, accuracy_over_epsilon, attacked, right
from core.audit import answers_of, further_audits
from core.audits.answers import Answers
from core.audits.threshold import below_half, leak_metrics, threshold_audits, worst_leak
from core.config import Judge, Metrics, TrialConfig
from core.data import Images, Parts
from core.density import activation_density, share_near_zero
from core.errors import InputError, TrialError
from core.perturbations.gat import SILENT, Adversary
from core.regularizers.bpfc import BPFC
from core.stats import wilson
from core.subject import ball, member_rows, stored
from core.train import Bound, OnEpoch, State, as_float, predict, steps_per_epoch, train
from core.visible import look

NO_GUARANTEE = 1e9
"""`dp_epsilon` of DP-SGD without noise, and the radius of a network that nothing misleads: metrics are finite."""


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
    answers: Answers | None = None
    """What the network says of every image, where `judge.audits` wants them kept."""
    pictures: dict[str, np.ndarray] = field(default_factory=dict)
    """Reconstructions and heat maps, where the judge asks for some; see `core.visible`."""


@dataclass(frozen=True)
class Rejudged:
    """What further attacks found on a stored network."""

    metrics: Metrics
    """`robust_accuracy` is the worst case with what was known; new attacks, flags and distances by their names."""
    predictions: dict[str, np.ndarray]
    """`stands/<attack>` of the new attacks."""
    drawn: dict[str, Any] = field(default_factory=dict)
    """For pictures: nothing."""


def run(
    config: TrialConfig, images: Images, *, device: torch.device | str = "cpu",
    on_epoch: OnEpoch | None = None, resume: State | None = None, rungs: Sequence[int] = (),
) -> Result:  # fmt: skip
    """Train, attack and audit one configuration.

    Args:
        config: what to do. images: the pool that `config.dataset` and `config.pool` name.
        device: where. on_epoch, resume: see `core.train.train`.
        rungs: epochs after which the row of the curve has what `glance` sees.

    Raises:
        TrialError: training diverged or a metric is not finite.
        InputError: the configuration does not fit the images.
    """
    parts = data.split(images, config.split, config.replicate, config.shadow)
    guarantee(config, len(member_rows(config, images, parts)[0]))  # an impossible delta is refused before the training
    clock = _Clock()
    with clock("train"):
        members, val = images.at(parts.members), images.at(parts.val)
        ended = partial(_epoch_ended, config, images, parts, rungs, on_epoch)
        bound = train(config, members, val, device=device, on_epoch=ended, resume=resume)
    if config.shadow:
        return _shadow(config, bound, images, parts, device=device, clock=clock)
    return judge(config, bound, images, parts, device=device, clock=clock)


def _epoch_ended(
    config: TrialConfig,
    images: Images,
    parts: Parts,
    rungs: Sequence[int],
    then: OnEpoch | None,
    row: dict[str, float],
    bound: Bound,
) -> None:
    if row["epoch"] in rungs:
        row |= {f"rung/{name}": value for name, value in glance(config, bound, images, parts).items()}
    if then:
        then(row, bound)


GLANCED = ("accuracy", "robust_accuracy", "mia_auc")
"""What `glance` knows of."""


def glance(config: TrialConfig, bound: Bound, images: Images, parts: Parts) -> dict[str, float]:
    """What a network that is still in training promises: `GLANCED`, on the part that `config.judge` names.

    Accuracy and the worst threshold audit of all its images, PGD of at most 10 steps on 128 of them. It changes nothing.

    Raises:
        TrialError: a logit is not finite.
    """
    device = next(bound.net.parameters()).device
    rows = parts.judged(config.judge.part)
    private, _ = member_rows(config, images, parts)
    members, others = images.at(private).to(device), images.at(rows).to(device)
    inside, outside = _finite(predict(bound.net, members.x)), _finite(predict(bound.net, others.x))
    radius, count = config.judge.epsilon, min(PROBE, config.judge.images or PROBE)
    stands = accuracy_over_epsilon(
        bound.net, as_float(others.x[:count]), others.y[:count], [radius],
        norm=config.judge.norm, steps=min(10, config.judge.steps), seed=config.seed,
    )  # fmt: skip
    leak = worst_leak(leak_metrics(threshold_audits(inside, members.y, outside, others.y)))
    right_share = (outside.argmax(1) == others.y).double().mean().item()
    return {"accuracy": right_share, "robust_accuracy": stands[radius], "mia_auc": leak["mia_auc"]}


def _finite(logits: Tensor) -> Tensor:
    if not logits.isfinite().all():
        raise TrialError("the trained network's logits are not finite; lower optimizer.lr")
    return logits


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
        member_logits, other_logits = _finite(predict(bound.net, members.x)), _finite(predict(bound.net, others.x))
        audits = threshold_audits(member_logits, members.y, other_logits, others.y)
        aside: dict[str, Tensor | np.ndarray] = {}
        if len(reference):  # it came out of the members, so what leaks of it counts
            labels = images.y[reference].to(device)
            logits = predict(bound.net, images.x[reference].to(device))
            aside_audits = threshold_audits(logits, labels, other_logits, others.y)
            audits |= {f"reference_{name}": roc for name, roc in aside_audits.items()}
            aside = {"reference_rows": reference, "reference_labels": labels, "reference_logits": logits}
        answers = None
        if config.judge.audits != "scores":
            answers = answers_of(config, bound.net, images, device=device)
            audits |= further_audits(config, bound.net, answers, members, others, private, rows)
        leaks = leak_metrics(audits)
        leaks |= worst_leak(leaks)
    correct = other_logits.argmax(1) == others.y
    with clock("attack"):
        x, y, ids = _attacked_images(config, images, rows, device)
        attacks = suite_of(config, bound)
        found = attacked(bound.net, x, y, attacks, seed=config.seed, ids=ids, **ball(config.judge))
        masking = masking_flags(bound.net, x, y, found, attacks, seed=config.seed, **ball(config.judge))
        distances = {} if config.judge.suite == "quick" else distance_metrics(bound.net, x, y, config.judge, config.seed)
    if config.judge.inversion != "none" or config.judge.attribution:
        with clock("look"):
            seen, pictures = look(config, bound.net, images, parts, private, device)
        if config.judge.inversion != "none" and "adversarial_radius" not in distances:
            seen |= {"adversarial_radius": median_radius(bound.net, x, y)}
    else:
        seen, pictures = {}, {}
    hits, largest_class = int(correct.sum()), others.y.bincount().max().item() / len(correct)
    values = {
        "accuracy": hits / len(correct),
        "train_accuracy": (member_logits.argmax(1) == members.y).double().mean().item(),
        **robust_metrics(found),
        **distances,
        **seen,
        **leaks,
        **guarantee(config, len(private)),
        "density": activation_density(bound.net, x),
        "weights_below_0.001": share_near_zero(bound.net),
        "flag/at_chance": float(wilson(hits, len(correct)).low <= largest_class),
        **{f"flag/{name}": float(raised) for name, raised in masking.items()},
        "flag/auc_below_half": float(below_half(audits)),
        "flag/few_non_members": float(0.01 * len(rows) < 10),
        "flag/generator_silent": float(any(row.get("epoch/generator_norm", 1.0) < SILENT for row in bound.curve)),
        "flag/split_overlap": float(len(np.intersect1d(parts.members, rows)) > 0),
        **clock.metrics(train=len(private) * len(bound.curve), attack=len(y), audit=len(members.y) + len(rows)),
    }
    evidence = {
        "member_rows": private, "member_labels": members.y, "member_logits": member_logits,
        **aside, "rows": rows, "labels": others.y, "logits": other_logits,
        **{f"stands/{name}": alive for name, alive in found.stands.items()},
    }  # fmt: skip
    arrays = {name: v.cpu().numpy() if isinstance(v, Tensor) else v for name, v in evidence.items()}
    return Result(Metrics(values), bound.curve, arrays, bound.state(), answers, pictures)


def _shadow(
    config: TrialConfig, bound: Bound, images: Images, parts: Parts, *, device: torch.device | str, clock: "_Clock"
) -> Result:  # fmt: skip
    """A shadow model is asked and not judged."""
    private, reference = member_rows(config, images, parts)
    with clock("audit"):
        answers = answers_of(config, bound.net, images, device=device)
    right = answers.logits[:, 0].argmax(1) == answers.y
    values = {
        "accuracy": float(right[parts.val].mean()), "train_accuracy": float(right[private].mean()),
        **clock.metrics(train=len(private) * len(bound.curve), audit=len(answers.y)),
    }  # fmt: skip
    return Result(Metrics(values), bound.curve, {"member_rows": private, "reference_rows": reference}, bound.state(), answers)


def guarantee(config: TrialConfig, members: int) -> dict[str, float]:
    """`dp_epsilon` where the optimizer spends one, at its `delta`."""
    if not hasattr(config.optimizer, "spent"):
        return {}
    epochs = config.optimizer.last_epoch(config.epochs)
    spent = config.optimizer.spent(members, steps_per_epoch(config, members), epochs)
    return {"dp_epsilon": min(spent, NO_GUARANTEE)}


def rejudge(
    config: TrialConfig, modules: Mapping[str, State], images: Images, suite: str, known: Mapping[str, np.ndarray], *,
    others: Mapping[str, Attack] | None = None, device: torch.device | str = "cpu",
) -> Rejudged:  # fmt: skip
    """Attack a stored network further; nothing is trained.

    Args:
        config: of the trial. modules: what `Result.state["modules"]` was. images: the pool.
        suite: a name in `core.attacks.suite.SUITES`; attacks that the trial has met with the same settings are left out.
        known: `Result.predictions` of the trial, or of an earlier `rejudge`: its `stands/...` say who stood so far.
        others: further attacks by name, after the suite's.
        device: where.

    Raises:
        InputError: the configuration does not fit the images, or the evidence is not of these images.
    """
    device, clock = torch.device(device), _Clock()
    parts = data.split(images, config.split, config.replicate)
    bound = stored(config, modules, images, device)
    rows = parts.judged(config.judge.part)
    so_far = [torch.from_numpy(stands).to(device) for name, stands in known.items() if name.startswith("stands/")]
    with clock("attack"):
        x, y, ids = _attacked_images(config, images, rows, device)
        if not so_far or any(len(stands) != len(y) for stands in so_far) or not np.array_equal(known["rows"], rows):
            raise InputError("the stored predictions are not of these images; is it the same data set and version?")
        met = suite_of(config, bound)
        attacks = {name: a for name, a in suite_of(config, bound, suite).items() if met.get(name) != a} | dict(others or {})
        worst = torch.stack(so_far).all(0)
        found = attacked(bound.net, x, y, attacks, seed=config.seed, ids=ids, known=worst, **ball(config.judge))
        masking = masking_flags(bound.net, x, y, found, attacks, seed=config.seed, **ball(config.judge))
        distances = distance_metrics(bound.net, x, y, config.judge, config.seed)
    metrics = robust_metrics(found) | distances | {f"flag/{name}": float(raised) for name, raised in masking.items()}
    evidence = {f"stands/{name}": alive.cpu().numpy() for name, alive in found.stands.items()}
    return Rejudged(Metrics(metrics | clock.metrics(attack=len(y))), evidence)


def _attacked_images(config: TrialConfig, images: Images, rows: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Images, labels and numbers of those that attacks are run on."""
    rows = rows[: config.judge.images or None]
    chosen = images.at(rows).to(device)
    return as_float(chosen.x), chosen.y, torch.from_numpy(rows)


def distance_metrics(net: nn.Module, x: Tensor, y: Tensor, judge_: Judge, seed: int, images: int = PROBE) -> dict[str, float]:
    """How far the first images are from being misread, and the accuracy in balls around the judge's own.

    Returns:
        `adversarial_radius` (L2, median over images that are right), `deepfool_l2` (median) and `deepfool_fooling_rate`,
        `robust_accuracy_at/<multiple>` for balls of that multiple of epsilon, by PGD alone.
    """
    x, y = x[:images], y[:images]
    scales = (0.25, 0.5, 1.0, 2.0, 4.0)
    radii = [scale * judge_.epsilon for scale in scales]
    curve = accuracy_over_epsilon(net, x, y, radii, norm=judge_.norm, steps=judge_.steps, seed=seed)
    values = {f"robust_accuracy_at/{scale:g}": curve[r] for scale, r in zip(scales, radii, strict=True)}
    standing = right(net, x, y)
    if not standing.any():
        return values
    x, y = x[standing], y[standing]
    found = shortest(net, x, y, deepfool(net, x, y))
    values |= {"adversarial_radius": median_radius(net, x, y)}
    return values | {"deepfool_l2": found.median, "deepfool_fooling_rate": found.fooling_rate}


def median_radius(net: nn.Module, x: Tensor, y: Tensor, images: int = PROBE) -> float:
    """`adversarial_radius` in L2, median over those of the first images that are right; 0 if none is."""
    x, y = x[:images], y[:images]
    keep = right(net, x, y)
    return adversarial_radius(net, x[keep], y[keep], steps=500).clamp(max=NO_GUARANTEE).median().item() if keep.any() else 0.0


def suite_of(config: TrialConfig, bound: Bound, suite: str = "") -> dict[str, Attack]:
    """The attacks of a suite, default `judge.suite`, and those that the network's own training calls for.

    A network trained with BPFC or GAT meets its regularizer or its generator again.
    """
    judge_ = config.judge
    attacks = SUITES[suite or judge_.suite](judge_.steps, judge_.restarts)
    own: dict[str, Attack] = {}
    if isinstance(config.regularizer, BPFC):
        own["pgd_bpfc"] = Attack(adaptive_pgd, {"steps": judge_.steps, "defence": config.regularizer})
    if isinstance(getattr(bound, "perturbation", None), Adversary):
        own["generator"] = Attack(generator, {"adversary": bound.perturbation}, random=False)
    return {name: a for name, a in (attacks | own).items() if not a.black_box} | {n: a for n, a in attacks.items() if a.black_box}


def robust_metrics(found: Verdicts) -> dict[str, float]:
    """`robust_accuracy`, the worst case, and `robust_accuracy/<attack>`."""
    shares = {f"robust_accuracy/{name}": alive.double().mean().item() for name, alive in found.stands.items()}
    return {"robust_accuracy": found.worst.double().mean().item()} | shares


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
