"""Robustness of a trained network: suites and distances, also for networks that were stored earlier."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from core import workers
from core.attacks.deepfool import deepfool
from core.attacks.named import attacks_of
from core.attacks.radius import adversarial_radius, summarise_perturbations
from core.attacks.suite import PROBE, Attack, SuiteResult, correct, robust_over_epsilon, run_suite, suite_attacks
from core.bound import Bound, State
from core.config import TrialConfig
from core.data import Images
from core.errors import InputError
from core.evaluation.adaptive_bpfc import adaptive_pgd
from core.evaluation.adaptive_gat import generator
from core.evaluation.masking import masking_flags
from core.evaluation.stored import stored_model, threat_model
from core.evaluation.timing import PhaseTimer
from core.judging import Judge
from core.metrics import UNBOUNDED, Metrics
from core.modes import as_float, with_autograd
from core.perturbations.gat import Adversary
from core.regularizers.bpfc import BPFC


@dataclass(frozen=True)
class FurtherAttacks:
    """Results of further attacks on a stored network."""

    metrics: Metrics
    """`robust_accuracy`, the worst case including all earlier attacks; the new attacks, flags and distances by name."""
    predictions: dict[str, np.ndarray]
    """`robust/<attack>` of the new attacks, and the evidence of `Distances`."""


class Distances(NamedTuple):
    """Distances to misclassification."""

    metrics: dict[str, float]
    """See `distance_metrics`."""
    evidence: dict[str, Tensor]
    """`robust_at/<multiple>`: which of the first images resist PGD in a ball of that multiple of epsilon, [n] bool."""


@with_autograd
@workers.alone()
def attack_further(
    config: TrialConfig, modules: Mapping[str, State], images: Images, suite: str, known: Mapping[str, np.ndarray], *,
    others: Mapping[str, Attack] | None = None, device: torch.device | str = "cpu",
) -> FurtherAttacks:  # fmt: skip
    """Attack a stored network with further attacks; nothing is trained.

    Args:
        config: configuration of the trial.
        modules: `TrialResult.state["modules"]` of the trial.
        images: the pool.
        suite: a name in `core.attacks.suite.SUITES`. Attacks that the trial has run with the same settings are skipped.
        known: `TrialResult.predictions` of the trial, or of an earlier call; its `robust/...` are the verdicts so far.
        others: further attacks by name, which run after the suite's.
        device: device to run on.

    Raises:
        InputError: the configuration does not fit the images, or `known` belongs to other images.
    """
    device, timer = torch.device(device), PhaseTimer()
    parts = config.parts(images)
    bound = stored_model(config, modules, images, device)
    rows = parts.judged(config.judge.part)
    verdicts = [torch.from_numpy(robust).to(device) for name, robust in known.items() if name.startswith("robust/")]
    with timer("attack"):
        x, y, ids = attacked_images(config, images, rows, device)
        if not verdicts or any(len(robust) != len(y) for robust in verdicts) or not np.array_equal(known["rows"], rows):
            raise InputError("the stored predictions are not of these images; is it the same data set and version?")
        earlier = suite_of(config, bound)
        attacks = {name: a for name, a in suite_of(config, bound, suite).items() if earlier.get(name) != a} | dict(others or {})
        worst = torch.stack(verdicts).all(0)
        result = run_suite(bound.net, x, y, attacks, seed=config.seed, ids=ids, known=worst, **threat_model(config.judge))
        masking = masking_flags(bound.net, x, y, result, attacks, seed=config.seed, **threat_model(config.judge))
        distances = distance_metrics(bound.net, x, y, config.judge, config.seed)
    metrics = robust_metrics(result) | distances.metrics | {f"flag/{name}": float(raised) for name, raised in masking.items()}
    evidence = {f"robust/{name}": robust for name, robust in result.robust.items()} | distances.evidence
    arrays = {name: resisted.cpu().numpy() for name, resisted in evidence.items()}
    return FurtherAttacks(Metrics(metrics | timer.metrics(attack=len(y))), arrays)


def attacked_images(config: TrialConfig, images: Images, rows: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Images in [0, 1], labels and row numbers of the images that are attacked, the first `judge.images` of `rows`."""
    rows = rows[: config.judge.images or None]
    chosen = images.at(rows).to(device)
    return as_float(chosen.x), chosen.y, torch.from_numpy(rows)


def suite_of(config: TrialConfig, bound: Bound, suite: str = "") -> dict[str, Attack]:
    """The attacks of a suite, by default `judge.suite`, those of `judge.attacks`, and adaptive ones on the network's defence.

    A network that was trained with BPFC or GAT is also attacked through its regularizer or its generator.
    """
    judge = config.judge
    attacks = suite_attacks(suite or judge.suite, judge.steps, judge.restarts) | attacks_of(judge.attacks, judge.restarts)
    adaptive: dict[str, Attack] = {}
    if isinstance(config.regularizer, BPFC):
        adaptive["pgd_bpfc"] = Attack(adaptive_pgd, {"steps": config.judge.steps, "defence": config.regularizer})
    if isinstance(getattr(bound, "perturbation", None), Adversary):
        adaptive["generator"] = Attack(generator, {"adversary": bound.perturbation}, random=False)
    white_box = {name: attack for name, attack in (attacks | adaptive).items() if not attack.black_box}
    return white_box | {name: attack for name, attack in attacks.items() if attack.black_box}


def robust_metrics(result: SuiteResult) -> dict[str, float]:
    """`robust_accuracy`, the worst case, and `robust_accuracy/<attack>`."""
    shares = {f"robust_accuracy/{name}": robust.double().mean().item() for name, robust in result.robust.items()}
    return {"robust_accuracy": result.worst.double().mean().item()} | shares


def distance_metrics(net: nn.Module, x: Tensor, y: Tensor, judge: Judge, seed: int, images: int = PROBE) -> Distances:
    """Distances to misclassification of the first images, and their accuracy in balls of other radii.

    Returns:
        The metrics `adversarial_radius` (L2, median over correctly classified images), `deepfool_l2` (median over fooled images,
        omitted if there are none), `deepfool_fooling_rate`, and `robust_accuracy_at/<multiple>` under PGD alone, in balls of that
        multiple of epsilon; and the evidence of the latter.
    """
    x, y = x[:images], y[:images]
    scales = (0.25, 0.5, 1.0, 2.0, 4.0)
    radii = [scale * judge.epsilon for scale in scales]
    resisted = robust_over_epsilon(net, x, y, radii, norm=judge.norm, steps=judge.steps, seed=seed)
    evidence = {f"robust_at/{scale:g}": resisted[radius] for scale, radius in zip(scales, radii, strict=True)}
    values = {f"robust_accuracy_at/{scale:g}": resisted[r].double().mean().item() for scale, r in zip(scales, radii, strict=True)}
    keep = correct(net, x, y)
    if not keep.any():
        return Distances(values, evidence)
    x, y = x[keep], y[keep]
    summary = summarise_perturbations(net, x, y, deepfool(net, x, y))
    values |= {"adversarial_radius": median_radius(net, x, y), "deepfool_fooling_rate": summary.fooling_rate}
    return Distances(values | ({"deepfool_l2": summary.median} if summary.fooling_rate else {}), evidence)


def median_radius(net: nn.Module, x: Tensor, y: Tensor, images: int = PROBE) -> float:
    """`adversarial_radius` in L2, median over the correctly classified ones of the first images; 0 if there are none."""
    x, y = x[:images], y[:images]
    keep = correct(net, x, y)
    return adversarial_radius(net, x[keep], y[keep], steps=500).clamp(max=UNBOUNDED).median().item() if keep.any() else 0.0
