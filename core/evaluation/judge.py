"""The evaluation at the end of a trial: accuracy, attacks, audits, inspections and flags."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from core import workers
from core.attacks.suite import run_suite
from core.audits.outputs import ModelOutputs
from core.bound import Bound, State
from core.config import TrialConfig
from core.data import Images, Parts, overlap
from core.evaluation.inspection import inspect_model
from core.evaluation.masking import masking_flags
from core.evaluation.own_audits import own_audits
from core.evaluation.privacy import dp_metrics
from core.evaluation.robustness import Distances, attacked_images, distance_metrics, median_radius, robust_metrics, suite_of
from core.evaluation.sparsity import activation_density, share_near_zero
from core.evaluation.stored import finite_logits, member_rows, threat_model
from core.evaluation.timing import PhaseTimer
from core.metrics import Metrics
from core.modes import with_autograd
from core.perturbations.gat import MIN_GENERATOR_NORM
from core.selection import selected_epoch
from core.stats import wilson


@dataclass(frozen=True)
class TrialResult:
    """Everything that a trial produces."""

    metrics: Metrics
    curve: list[dict[str, float]]
    """One row per epoch."""
    predictions: dict[str, np.ndarray]
    """Per-image evidence: rows, labels and logits of members and non-members, `robust/<attack>`, and the groups of membership
    scores `own`, `reference` and `label_only`; see `core.audits.evidence.MembershipScores.arrays`."""
    state: State
    """The trained network and its bound components."""
    outputs: ModelOutputs | None = None
    """Outputs for every image of the pool, if `judge.audits` stores them."""
    pictures: dict[str, np.ndarray] = field(default_factory=dict)
    """Reconstructions and attribution maps, if the judge settings request them; see `core.evaluation.inspection`."""


@with_autograd
@workers.alone()
def judge(
    config: TrialConfig, bound: Bound, images: Images, parts: Parts, *, device: torch.device | str = "cpu",
    timer: PhaseTimer | None = None, outputs: ModelOutputs | None = None,
) -> TrialResult:  # fmt: skip
    """Attack and audit a trained network on the part that `config.judge` names.

    Args:
        config: configuration of the trial.
        bound: the network with its bound components.
        images: the pool.
        parts: the parts of the pool.
        device: device to run on.
        timer: measures the phases.
        outputs: outputs of the network for the pool, if they are known; see `core.evaluation.privacy.outputs_of`.

    Raises:
        TrialError: a metric is not finite.
    """
    timer = timer or PhaseTimer()
    device = torch.device(device)
    rows = parts.judged(config.judge.part)
    private, _ = member_rows(config, images, parts)
    members, others = images.at(private).to(device), images.at(rows).to(device)
    with timer("audit"):
        member_logits, other_logits = finite_logits(bound.net, members.x), finite_logits(bound.net, others.x)
        audits = own_audits(config, bound, images, parts, member_logits, outputs, device)
    with timer("attack"):
        x, y, ids = attacked_images(config, images, rows, device)
        attacks = suite_of(config, bound)
        result = run_suite(bound.net, x, y, attacks, seed=config.seed, ids=ids, **threat_model(config.judge))
        masking = masking_flags(bound.net, x, y, result, attacks, seed=config.seed, **threat_model(config.judge))
        measured = config.judge.measures_distances
        distances = distance_metrics(bound.net, x, y, config.judge, config.seed) if measured else Distances({}, {})
    inspected, pictures = {}, {}
    if config.judge.inversion != "none" or config.judge.attribution:
        with timer("inspection"):
            inspected, pictures = inspect_model(config, bound.net, images, parts, private, device)
        if config.judge.inversion != "none" and "adversarial_radius" not in distances.metrics:
            inspected |= {"adversarial_radius": median_radius(bound.net, x, y)}
    correct = other_logits.argmax(1) == others.y
    hits, largest_class = int(correct.sum()), others.y.bincount().max().item() / len(correct)
    values = {
        "accuracy": hits / len(correct),
        "train_accuracy": (member_logits.argmax(1) == members.y).double().mean().item(),
        **robust_metrics(result),
        **distances.metrics,
        **inspected,
        **audits.metrics,
        **dp_metrics(config, len(private)),
        **({"selected_epoch": float(selected)} if (selected := selected_epoch(bound.curve)) else {}),
        "density": activation_density(bound.net, x),
        "weights_below_0.001": share_near_zero(bound.net),
        "flag/at_chance": float(wilson(hits, len(correct)).low <= largest_class),
        **{f"flag/{name}": float(raised) for name, raised in masking.items()},
        "flag/generator_silent": float(any(row.get("epoch/generator_norm", 1.0) < MIN_GENERATOR_NORM for row in bound.curve)),
        "flag/split_overlap": float(overlap(images, parts) > 0),
        **timer.metrics(train=len(private) * len(bound.curve), attack=len(y), audit=len(members.y) + len(rows)),
    }
    evidence = {
        "member_rows": private, "member_labels": members.y, "member_logits": member_logits,
        **audits.evidence, "rows": rows, "labels": others.y, "logits": other_logits,
        **{f"robust/{name}": robust for name, robust in result.robust.items()}, **distances.evidence,
        **{name: array for prefix, group in audits.groups.items() for name, array in group.arrays(prefix).items()},
    }  # fmt: skip
    arrays = {name: v.cpu().numpy() if isinstance(v, Tensor) else v for name, v in evidence.items()}
    return TrialResult(Metrics(values), bound.curve, arrays, bound.state(), audits.outputs, pictures)
