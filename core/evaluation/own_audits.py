"""The audits of a network that need no other network: on its members, and on non-members that are drawn like them."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from core.audits.evidence import MembershipScores
from core.audits.outputs import ModelOutputs
from core.audits.threshold import threshold_audits
from core.bound import Bound
from core.config import TrialConfig
from core.data import Images, Parts
from core.evaluation.privacy import audited, concealed_membership, further_audits, outputs_of
from core.evaluation.stored import finite_logits, member_rows

MIN_NON_MEMBERS = 1000
"""Non-members from which a true-positive rate at a false-positive rate of 1 % can be given."""


@dataclass(frozen=True)
class OwnAudits:
    """Results of the audits of one network by itself."""

    metrics: dict[str, float]
    """Metrics of the audits and their flags; without non-members, only the flag `not_audited`."""
    groups: dict[str, MembershipScores] = field(default_factory=dict)
    """Scores, in groups that audit the same images: `own`, `reference` and `label_only`."""
    evidence: dict[str, Tensor | np.ndarray] = field(default_factory=dict)
    """Rows, labels and logits of the reference set, if there is one."""
    outputs: ModelOutputs | None = None
    """Outputs for every image of the pool, if `judge.audits` stores them."""


def own_audits(
    config: TrialConfig, bound: Bound, images: Images, parts: Parts, member_logits: Tensor, outputs: ModelOutputs | None,
    device: torch.device,
) -> OwnAudits:  # fmt: skip
    """Audit a network by its outputs, and with `judge.audits=standard` or `full` also by its gradients and further queries.

    The reference set that a component holds out counts as members, because its images affect the training.

    Args:
        config: configuration of the network.
        bound: the network.
        images: the pool.
        parts: the parts of the pool.
        member_logits: logits of the members.
        outputs: outputs of the network for the pool, if they are known.
        device: device to run on.

    Raises:
        TrialError: a logit is not finite.
    """
    rows = parts.non_members(config.judge.part)
    needs_outputs = config.judge.audits != "scores"
    outputs = (outputs or outputs_of(config, bound.net, images, device=device)) if needs_outputs else None
    if not len(rows):
        return OwnAudits({"flag/not_audited": 1.0}, outputs=outputs)
    private, reference = member_rows(config, images, parts)
    members, others = images.at(private).to(device), images.at(rows).to(device)
    other_logits = finite_logits(bound.net, others.x)
    scores = threshold_audits(member_logits, members.y, other_logits, others.y)
    groups: dict[str, MembershipScores] = {}
    evidence: dict[str, Tensor | np.ndarray] = {}
    if len(reference):
        labels = images.y[reference].to(device)
        logits = finite_logits(bound.net, images.x[reference].to(device))
        of_reference = threshold_audits(logits, labels, other_logits, others.y)
        named = {f"reference_{name}": score for name, score in of_reference.items()}
        groups["reference"] = MembershipScores.of(reference, rows, named)
        evidence = {"reference_rows": reference, "reference_labels": labels, "reference_logits": logits}
    if outputs:
        further = further_audits(config, bound.net, outputs, members, others, private, rows)
        scores |= further.pop("own").scores
        groups |= further
    concealment, label_only = concealed_membership(
        config, bound.net, members, others, member_logits, other_logits, private, rows, groups
    )
    groups = {"own": MembershipScores.of(private, rows, scores), **groups, **label_only}
    flags = {f"flag/{name}": float(raised) for name, raised in concealment.items()}
    flags |= {"flag/few_non_members": float(len(rows) < MIN_NON_MEMBERS), "flag/not_audited": 0.0}
    return OwnAudits(audited(groups.values()) | flags, groups, evidence, outputs)
