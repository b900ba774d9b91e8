"""Privacy of a trained network: audits of the network by itself, audits by other networks, and the guarantee of DP-SGD."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from core import data, rng, workers
from core.audits import shadow_audits
from core.audits.gradient_norm import gradient_norm
from core.audits.label_only import boundary_distance
from core.audits.outputs import ModelOutputs, query
from core.audits.roc import Roc
from core.audits.shadow_audits import ShadowAudit
from core.audits.threshold import below_half, leak_metrics, worst_case_auc
from core.config import TrialConfig
from core.data import Images
from core.errors import TrialError
from core.evaluation.stored import member_rows, stored_model, threat_model
from core.metrics import UNBOUNDED, Metrics
from core.perturbations import PERTURBATIONS
from core.train import State, steps_per_epoch


def dp_metrics(config: TrialConfig, members: int) -> dict[str, float]:
    """`dp_epsilon` at the optimizer's `delta`, if the optimizer is differentially private; otherwise empty."""
    if not hasattr(config.optimizer, "spent"):
        return {}
    epochs = config.optimizer.last_epoch(config.epochs)
    spent = config.optimizer.spent(members, steps_per_epoch(config, members), epochs)
    return {"dp_epsilon": min(spent, UNBOUNDED)}


@workers.alone()
def outputs_of(config: TrialConfig, net: nn.Module, images: Images, *, device: torch.device | str = "cpu") -> ModelOutputs:
    """Outputs of a trained network of this configuration for every image of the pool.

    Mirrored images are added if training mirrored images, and adversarial images if training used adversarial images. The latter
    are computed only for members, `val` and `test` of a target, which contain every image that is audited.

    Raises:
        TrialError: a logit is not finite.
    """
    parts = data.split(images, config.split, config.replicate, config.shadow)
    target = data.split(images, config.split)
    audited = images.copies_of(np.concatenate([target.members, target.val, target.test]))
    mirrored = bool(getattr(config.augmentation, "flip", False))
    adversarial = not isinstance(config.perturbation, PERTURBATIONS["none"])
    outputs = query(
        net, images, *member_rows(config, images, parts), mirrored=mirrored, attack=audited if adversarial else None,
        seed=config.seed, device=device, **threat_model(config.judge),
    )  # fmt: skip
    queried = outputs.logits if outputs.adversarial is None else np.append(outputs.logits, outputs.adversarial[audited])
    if not np.isfinite(queried).all():
        raise TrialError("the trained network's logits are not finite; lower optimizer.lr")
    return outputs


def further_audits(
    config: TrialConfig, net: nn.Module, outputs: ModelOutputs, members: Images, others: Images, private: np.ndarray,
    rows: np.ndarray,
) -> dict[str, Roc]:  # fmt: skip
    """Audits of one network that need more than one forward pass per image.

    Args:
        config: configuration of the network.
        net: the network.
        outputs: its outputs for the pool.
        members: its training images.
        others: non-members.
        private: rows of the training images in the pool.
        rows: rows of the non-members in the pool.
    """
    norms = (gradient_norm(net, part.x, part.y).cpu() for part in (members, others))
    rocs = {"gradient_norm": Roc.of(*norms, audit="gradient_norm")}
    if outputs.adversarial_phi is not None:
        phi = outputs.adversarial_phi[:, 0]
        rocs["loss_adversarial"] = Roc.of(phi[private], phi[rows], "loss_adversarial")
    if config.judge.audits == "full":
        distances = []
        for part, ids in ((members, private), (others, rows)):
            audited = part.at(torch.arange(min(config.judge.images or len(ids), len(ids)), device=part.y.device))
            draw = rng.per_image(config.seed, "label_only", ids=torch.from_numpy(ids[: len(audited.y)]).to(part.y.device))
            distances.append(boundary_distance(net, audited.x, audited.y, draw=draw).cpu())
        rocs["label_only"] = Roc.of(*distances, audit="label_only")
    return rocs


@workers.alone()
def reaudit(
    config: TrialConfig, modules: Mapping[str, State], images: Images, known: Mapping[str, float], *,
    device: torch.device | str = "cpu",
) -> Metrics:  # fmt: skip
    """Run the further audits of `judge.audits=standard` on a stored network that was evaluated with `judge.audits=scores`.

    Args:
        config: configuration of the trial.
        modules: `TrialResult.state["modules"]` of the trial.
        images: the pool.
        known: the trial's metrics.
        device: device to run on.

    Raises:
        TrialError: a metric is not finite.
    """
    device = torch.device(device)
    parts = data.split(images, config.split, config.replicate)
    (private, _), rows = member_rows(config, images, parts), parts.judged(config.judge.part)
    bound = stored_model(config, modules, images, device)
    members, others = images.at(private).to(device), images.at(rows).to(device)
    outputs = outputs_of(config, bound.net, images, device=device)
    audits = further_audits(config, bound.net, outputs, members, others, private, rows)
    leaks = leak_metrics(audits)
    every = {**known, **leaks}
    return Metrics(leaks | worst_case_auc(every) | {"flag/auc_below_half": float(below_half(every))})


@dataclass(frozen=True)
class AuditByOthers:
    """Results of audits of one network by other networks."""

    metrics: Metrics
    """Metrics of these audits, and `mia_auc`, the worst case over these and all earlier audits."""
    evidence: dict[str, np.ndarray]
    """`<protocol>/rows`, `<protocol>/member` and `<protocol>/<audit>`, the scores."""


@workers.alone()
def audit_by_others(
    config: TrialConfig, target: ModelOutputs, siblings: Sequence[ModelOutputs], shadows: Sequence[ModelOutputs], images: Images,
    known: Mapping[str, float],
) -> AuditByOthers:  # fmt: skip
    """Audit a network by other networks of its recipe. Only the small network of the neural attack is trained.

    Args:
        config: configuration of the network, a replicate.
        target: outputs of the network.
        siblings: outputs of its sibling replicates, for the protocol `auditor`; none skips this protocol.
        shadows: outputs of its shadow models, for the protocol `attacker`; none skips this protocol.
        images: the pool.
        known: metrics of the network so far.

    Raises:
        TrialError: the outputs belong to a network whose members are not those of the configuration, or are not finite.
    """
    parts = data.split(images, config.split, config.replicate)
    private, _ = member_rows(config, images, parts)
    if not np.array_equal(np.flatnonzero(target.state > 0), images.copies_of(private)):
        raise TrialError("the stored outputs are of a network with other members; is it the same data set and version?")
    if bad := int((~target.finite).sum()):
        raise TrialError(f"the network's stored outputs are not finite for {bad} of {len(target.y)} images; train it again")
    candidates, judged = np.concatenate([parts.members, parts.val]), np.concatenate([private, parts.test])

    def auditor(networks: Sequence[ModelOutputs], control: bool = False) -> ShadowAudit:
        return shadow_audits.auditor(networks[0], networks[1:], candidates, candidates, control=control)

    def attacker(networks: Sequence[ModelOutputs], control: bool = False) -> ShadowAudit:
        return shadow_audits.attacker(networks[0], networks[1:], judged, parts.shadow, seed=config.seed, control=control)

    protocols: dict[str, tuple[Callable[..., ShadowAudit], Sequence[ModelOutputs], list[np.ndarray]]] = {}
    protocols |= {"auditor": (auditor, [target, *siblings], [candidates])} if siblings else {}
    protocols |= {"attacker": (attacker, [target, *shadows], [judged, parts.shadow])} if shadows else {}
    values: dict[str, float] = {}
    evidence: dict[str, np.ndarray] = {}
    for protocol, (run, networks, groups) in protocols.items():
        audit = run(networks)
        rocs = audit.rocs()
        positive = run([shadow_audits.positive_control(outputs) for outputs in networks], control=True).rocs()
        negative = run(shadow_audits.negative_control(networks, groups, config.seed), control=True).rocs()
        values |= leak_metrics(rocs) | ({f"mia_left_out/{protocol}": float(audit.left_out)} if audit.left_out else {})
        values |= {f"mia_learned_accuracy/{name}": value for name, value in audit.accuracies.items()}
        values[f"mia_control_memorised/{protocol}"] = min(roc.auc for roc in positive.values())
        values[f"mia_control_shuffled/{protocol}"] = max((roc.auc for roc in negative.values()), key=lambda auc: abs(auc - 0.5))
        flags = {
            "audit_is_blind": shadow_audits.blind(positive),
            "audit_is_biased": shadow_audits.biased(negative),
        }
        values |= {f"flag/{name}": max(values.get(f"flag/{name}", 0.0), float(bool(up))) for name, up in flags.items()}
        evidence |= {f"{protocol}/rows": audit.rows, f"{protocol}/member": audit.member}
        evidence |= {f"{protocol}/{name}": score for name, score in audit.scores.items()}
    if values:
        every = {**known, **values}
        values |= worst_case_auc(every) | {"flag/auc_below_half": float(below_half(every))}
    return AuditByOthers(Metrics(values), evidence)
