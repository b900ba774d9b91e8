"""Interim evaluation of a network during training, for early stopping."""

import numpy as np
import torch

from core import workers
from core.attacks.suite import PROBE, accuracy_over_epsilon
from core.audits.evidence import MembershipScores
from core.audits.threshold import threshold_audits
from core.bound import Bound
from core.config import TrialConfig
from core.data import Images, Parts
from core.evaluation.privacy import audited
from core.evaluation.privacy_checks import privacy_flags
from core.evaluation.stored import finite_logits, member_rows
from core.modes import as_float, with_autograd

INTERIM_METRICS = ("accuracy", "robust_accuracy", "mia_auc")
"""Metrics by which unfinished trials can be compared."""
MAX_STEPS = 10
"""PGD steps of an interim evaluation, at most."""


@with_autograd
@workers.alone()
def evaluate_interim(config: TrialConfig, bound: Bound, images: Images, parts: Parts) -> dict[str, float]:
    """Estimate `INTERIM_METRICS` and the AUC's chance level of a network in training, on the part that `config.judge` names.

    The AUC is omitted if the split has no non-members to audit.

    Accuracy and the worst threshold audit use all images of the part; PGD takes at most 10 steps on 128 of them. A network with a
    flag of concealed membership counts as one that reveals all its members, so that it stops no other trial. The network and all
    random streams are unchanged.

    Raises:
        TrialError: a logit is not finite.
    """
    device = next(bound.net.parameters()).device
    rows = parts.judged(config.judge.part)
    private, _ = member_rows(config, images, parts)
    members, others = images.at(private).to(device), images.at(rows).to(device)
    member_logits, other_logits = finite_logits(bound.net, members.x), finite_logits(bound.net, others.x)
    radius, count = config.judge.epsilon, min(PROBE, config.judge.images or PROBE)
    robust_accuracy = accuracy_over_epsilon(
        bound.net, as_float(others.x[:count]), others.y[:count], [radius],
        norm=config.judge.norm, steps=min(MAX_STEPS, config.judge.steps), seed=config.seed,
    )  # fmt: skip
    accuracy = (other_logits.argmax(1) == others.y).to(torch.float64).mean().item()
    measured = {"accuracy": accuracy, "robust_accuracy": robust_accuracy[radius]}
    audit_rows = parts.non_members(config.judge.part)
    if not len(audit_rows):
        return measured
    if not np.array_equal(audit_rows, rows):
        others = images.at(audit_rows).to(device)
        other_logits = finite_logits(bound.net, others.x)
    scores = threshold_audits(member_logits, members.y, other_logits, others.y)
    leak = audited([MembershipScores.of(private, audit_rows, scores)])
    concealed = any(privacy_flags(bound.net, members, others, member_logits, other_logits, seed=config.seed).values())
    return measured | {"mia_auc": 1.0 if concealed else leak["mia_auc"], "mia_auc_chance": leak["mia_auc_chance"]}
