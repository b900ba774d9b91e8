"""Privacy of a trained network: audits of the network by itself, audits by other networks, and the guarantee of DP-SGD."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from core import data, rng, workers
from core.audits import shadow_audits
from core.audits.chance import chance_level
from core.audits.evidence import MembershipScores
from core.audits.gradient_norm import gradient_norm
from core.audits.label_only import boundary_distance
from core.audits.outputs import ModelOutputs, query
from core.audits.shadow_audits import ShadowAudit
from core.audits.threshold import below_half, leak_metrics, worst_case_auc
from core.bound import State, steps_per_epoch
from core.config import TrialConfig
from core.data import Images
from core.errors import InputError, TrialError
from core.evaluation.privacy_checks import PROBE, privacy_flags
from core.evaluation.stored import finite_logits, member_rows, stored_model, threat_model
from core.metrics import UNBOUNDED, Metrics


def dp_metrics(config: TrialConfig, members: int) -> dict[str, float]:
    """`dp_epsilon` at the optimizer's `delta`, if the optimizer is differentially private; otherwise empty."""
    if not hasattr(config.optimizer, "spent"):
        return {}
    epochs = config.optimizer.last_epoch(config.epochs)
    spent = config.optimizer.spent(members, steps_per_epoch(config, members), epochs)
    return {"dp_epsilon": min(spent, UNBOUNDED)}


NO_NON_MEMBERS = "the split has no non-members that are drawn like the members, so nothing can be audited; raise split.val"
NEED_NON_MEMBERS = ("mia_", "inversion_leak")
"""Beginnings of the names of metrics that compare members with non-members that are drawn like them."""
SHORT_WALK = {"steps": 4, "samples": 25}
"""Effort of the label-only audit of a network that masks its confidence: about 220 queries per image."""


def needs_non_members(metric: str) -> bool:
    """Whether a metric is measured only if the split has non-members that are drawn like the members."""
    return metric.startswith(NEED_NON_MEMBERS)


@workers.alone()
def outputs_of(config: TrialConfig, net: nn.Module, images: Images, *, device: torch.device | str = "cpu") -> ModelOutputs:
    """Outputs of a trained network of this configuration for every image of the pool.

    Mirrored images are added if training mirrored images. Adversarial images (Song 2019) are added for every network, whatever it
    was trained with; they are made only of members, `val` and `test` of a target, which contain every image that is audited.

    Raises:
        TrialError: a logit is not finite.
    """
    parts = config.parts(images)
    target = data.split(images, config.split)
    audited_rows = images.copies_of(np.concatenate([target.members, target.val, target.non_members("test")]))
    mirrored = bool(getattr(config.augmentation, "flip", False))
    private, reference = member_rows(config, images, parts)
    outputs = query(
        net, images, private, np.concatenate([reference, parts.selection]), mirrored=mirrored, attack=audited_rows,
        seed=config.seed, device=device, **threat_model(config.judge),
    )  # fmt: skip
    queried = outputs.logits if outputs.adversarial is None else np.append(outputs.logits, outputs.adversarial[audited_rows])
    if not np.isfinite(queried).all():
        raise TrialError("the trained network's logits are not finite; lower optimizer.lr")
    return outputs


def further_audits(
    config: TrialConfig, net: nn.Module, outputs: ModelOutputs, members: Images, others: Images, private: np.ndarray,
    rows: np.ndarray,
) -> dict[str, MembershipScores]:  # fmt: skip
    """Audits of one network that need more than one forward pass per image, in groups that audit the same images.

    Args:
        config: configuration of the network.
        net: the network.
        outputs: its outputs for the pool.
        members: its training images.
        others: non-members.
        private: rows of the training images in the pool.
        rows: rows of the non-members in the pool.

    Returns:
        `own`, for all images, and `label_only`, for the first `judge.images` members and non-members, with `judge.audits=full`.
    """
    judged = np.concatenate([private, rows])
    scores = {"gradient_norm": torch.cat([gradient_norm(net, part.x, part.y).cpu() for part in (members, others)]).numpy()}
    if outputs.adversarial_phi is not None:
        scores["loss_adversarial"] = outputs.adversarial_phi[judged, 0]
    groups = {"own": MembershipScores.of(private, rows, scores)}
    if config.judge.audits == "full":
        groups["label_only"] = _label_only(config, net, (members, private), (others, rows), config.judge.images)
    return groups


def audited(
    groups: Iterable[MembershipScores], known: Mapping[str, float] = {}, earlier: Sequence[MembershipScores] = ()
) -> dict[str, float]:  # fmt: skip
    """Metrics of audits of a network, and the worst case over these and all earlier audits, with its chance level and flags.

    Args:
        groups: the scores of new audits.
        known: metrics of the network so far.
        earlier: the scores of earlier audits; if some are missing, so is the chance level of the worst case.
    """
    groups = list(groups)
    values = leak_metrics({name: roc for group in groups for name, roc in group.rocs().items()})
    every = {**known, **values}
    values |= worst_case_auc(every) | {"flag/auc_below_half": float(below_half(every))}
    fresh = {name for group in groups for name in group.scores}
    kept = [replace(g, scores={name: s for name, s in g.scores.items() if name not in fresh}) for g in earlier]
    groups += [group for group in kept if group.scores]
    scored = {f"mia_auc/{name}" for group in groups for name in group.scores}
    if all(name in scored for name in every if name.startswith("mia_auc/")):
        values["mia_auc_chance"] = chance_level(groups)
        values["flag/leak_not_resolved"] = float(values["mia_auc"] <= values["mia_auc_chance"])
    return values


@dataclass(frozen=True)
class FurtherAudits:
    """Results of further audits of one network."""

    metrics: Metrics
    """Metrics of these audits, and `mia_auc`, the worst case over these and all earlier audits, with its chance level."""
    evidence: dict[str, np.ndarray]
    """The audits' groups of membership scores; see `core.audits.evidence.MembershipScores.arrays`."""


def concealed_membership(
    config: TrialConfig, net: nn.Module, members: Images, others: Images, member_logits: Tensor, other_logits: Tensor,
    private: np.ndarray, rows: np.ndarray, groups: Mapping[str, MembershipScores],
) -> tuple[dict[str, bool], dict[str, MembershipScores]]:  # fmt: skip
    """Flags of concealed membership; for a network that masks its confidence, also the label-only audit on at most `PROBE` images.

    Args:
        config, net, members, others, private, rows: see `further_audits`.
        member_logits, other_logits: logits of the members and of the non-members.
        groups: scores of the audits so far; the label-only audit is not repeated.
    """
    flags = privacy_flags(net, members, others, member_logits, other_logits, seed=config.seed)
    if not flags["masked_confidence"] or "label_only" in groups:
        return flags, {}
    scores = _label_only(config, net, (members, private), (others, rows), PROBE, **SHORT_WALK)
    return flags, {"label_only": scores}


def _label_only(
    config: TrialConfig, net: nn.Module, members: tuple[Images, np.ndarray], others: tuple[Images, np.ndarray], limit: int,
    **effort: int,
) -> MembershipScores:  # fmt: skip
    """Scores of the label-only audit for the first images of both parts, at most `limit` each; 0 is all.

    Parts have images and their rows.
    """
    distances, few = [], limit or None
    for part, ids in (members, others):
        near = part.at(torch.arange(len(ids[:few]), device=part.y.device))
        draw = rng.per_image(config.seed, "label_only", ids=torch.from_numpy(ids[:few]).to(part.y.device))
        distances.append(boundary_distance(net, near.x, near.y, draw=draw, **effort).cpu())
    return MembershipScores.of(members[1][:few], others[1][:few], {"label_only": torch.cat(distances).numpy()})


@workers.alone()
def reaudit(
    config: TrialConfig, modules: Mapping[str, State], images: Images, known: Mapping[str, float],
    earlier: Sequence[MembershipScores] = (), *, device: torch.device | str = "cpu",
) -> FurtherAudits:  # fmt: skip
    """Run the further audits of `judge.audits=standard` on a stored network that was evaluated with `judge.audits=scores`.

    Args:
        config: configuration of the trial.
        modules: `TrialResult.state["modules"]` of the trial.
        images: the pool.
        known: the trial's metrics.
        earlier: the trial's membership scores; without them the chance level of the worst case is unknown.
        device: device to run on.

    Raises:
        TrialError: a metric is not finite.
    """
    device = torch.device(device)
    parts = config.parts(images)
    (private, _), rows = member_rows(config, images, parts), parts.non_members(config.judge.part)
    if not len(rows):
        raise InputError(NO_NON_MEMBERS)
    bound = stored_model(config, modules, images, device)
    members, others = images.at(private).to(device), images.at(rows).to(device)
    outputs = outputs_of(config, bound.net, images, device=device)
    groups = further_audits(config, bound.net, outputs, members, others, private, rows)
    member_logits, other_logits = finite_logits(bound.net, members.x), finite_logits(bound.net, others.x)
    flags, label_only = concealed_membership(config, bound.net, members, others, member_logits, other_logits, private, rows, groups)
    groups |= label_only
    evidence = {name: array for prefix, group in groups.items() for name, array in group.arrays(prefix).items()}
    raised = {f"flag/{name}": float(up) for name, up in flags.items()}
    return FurtherAudits(Metrics(audited(groups.values(), known, earlier) | raised), evidence)


@workers.alone()
def audit_by_others(
    config: TrialConfig, target: ModelOutputs, siblings: Sequence[ModelOutputs], shadows: Sequence[ModelOutputs], images: Images,
    known: Mapping[str, float], earlier: Sequence[MembershipScores] = (),
) -> FurtherAudits:  # fmt: skip
    """Audit a network by other networks of its recipe. Only the small network of the neural attack is trained.

    Args:
        config: configuration of the network, a replicate.
        target: outputs of the network.
        siblings: outputs of its sibling replicates, for the protocol `auditor`; none skips this protocol, as does a split without
            `val`, in which the siblings have the same members.
        shadows: outputs of its shadow models, for the protocol `attacker`; none skips this protocol.
        images: the pool.
        known: metrics of the network so far.
        earlier: its membership scores so far; without them the chance level of the worst case is unknown.

    Returns:
        The evidence has a group of scores for each protocol.

    Raises:
        TrialError: the outputs belong to a network whose members are not those of the configuration, or are not finite.
    """
    parts = config.parts(images)
    private, _ = member_rows(config, images, parts)
    if not np.array_equal(np.flatnonzero(target.state > 0), images.copies_of(private)):
        raise TrialError("the stored outputs are of a network with other members; is it the same data set and version?")
    if bad := int((~target.finite).sum()):
        raise TrialError(f"the network's stored outputs are not finite for {bad} of {len(target.y)} images; train it again")
    candidates = np.concatenate([parts.members, parts.val])
    others = parts.non_members("test")
    if not len(others):
        raise InputError(NO_NON_MEMBERS)
    judged = np.concatenate([private, others])

    def auditor(networks: Sequence[ModelOutputs], control: bool = False) -> ShadowAudit:
        return shadow_audits.auditor(networks[0], networks[1:], candidates, candidates, control=control)

    def attacker(networks: Sequence[ModelOutputs], control: bool = False) -> ShadowAudit:
        settings = {"seed": config.seed, "control": control, "lr": config.judge.nn_lr}
        return shadow_audits.attacker(networks[0], networks[1:], judged, parts.shadow, **settings)

    protocols: dict[str, tuple[Callable[..., ShadowAudit], Sequence[ModelOutputs], list[np.ndarray]]] = {}
    protocols |= {"auditor": (auditor, [target, *siblings], [candidates])} if siblings and len(parts.val) else {}
    protocols |= {"attacker": (attacker, [target, *shadows], [judged, parts.shadow])} if shadows else {}
    values: dict[str, float] = {}
    audits: dict[str, ShadowAudit] = {}
    for protocol, (run, networks, groups) in protocols.items():
        audits[protocol] = audit = run(networks)
        positive = run([shadow_audits.positive_control(outputs) for outputs in networks], control=True).rocs()
        negative = shadow_audits.negative_audits(partial(run, control=True), networks, groups, config.seed)
        shuffled = [0.5 + float(np.mean([abs(rocs[name].auc - 0.5) for rocs in negative])) for name in negative[0]]
        values |= {f"mia_left_out/{protocol}": float(audit.left_out)} if audit.left_out else {}
        values |= {f"mia_learned_accuracy/{name}": value for name, value in audit.accuracies.items()}
        values[f"mia_control_memorised/{protocol}"] = min(roc.auc for roc in positive.values())
        values[f"mia_control_shuffled/{protocol}"] = max(shuffled, key=lambda auc: abs(auc - 0.5))
        flags = {
            "audit_is_blind": shadow_audits.blind(positive),
            "audit_is_biased": shadow_audits.biased(*negative),
        }
        values |= {f"flag/{name}": max(values.get(f"flag/{name}", 0.0), float(bool(up))) for name, up in flags.items()}
    values |= audited(audits.values(), known, earlier) if audits else {}
    evidence = {name: array for protocol, audit in audits.items() for name, array in audit.arrays(protocol).items()}
    return FurtherAudits(Metrics(values), evidence)
