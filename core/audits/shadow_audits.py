"""Audits of a network by other networks of its recipe, under two assumptions about the attacker's knowledge.

Protocol `auditor`: the other networks' members were drawn from the same images, so for each audited image the attacker can compare
networks that were trained on it with networks that were not. No outside attacker has such networks; the result is an upper
bound on the leak, and costs no further training where a recipe is trained with several seeds anyway.

Protocol `attacker`: shadow models of the same recipe, trained on images of the same source that are neither members nor
non-members of the target. This is the usual attacker of the literature. Both attackers know the recipe and its knobs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from core import rng
from core.audits import lira, rmia
from core.audits.evidence import MembershipScores
from core.audits.learned import Scored, learned
from core.audits.nn_attack import BATCH_SIZE, EPOCHS, LR, train_attack
from core.audits.outputs import ModelOutputs
from core.audits.roc import Roc
from core.audits.scores import SCORES


@dataclass(frozen=True)
class ShadowAudit(MembershipScores):
    """Membership scores of one network from audits by other networks."""

    accuracies: dict[str, float] = field(default_factory=dict)
    """Balanced accuracies by score, with thresholds learned on the other networks; `.../per_class` with one per class."""
    left_out: int = 0
    """Number of images of other networks that were left out because the outputs are not finite."""


def auditor(
    target: ModelOutputs, others: Sequence[ModelOutputs], rows: np.ndarray, population: np.ndarray, *, control: bool = False
) -> ShadowAudit:
    """Audit a network by networks whose members were drawn from the same images.

    Args:
        target: outputs of the network.
        others: outputs of at least one other network.
        rows: images from which members were drawn with equal probability. Images in the reference set of the target, or of all
            others, are left out.
        population: images that RMIA compares each image with; images that no other network gives evidence about are left out.
        control: compute scores only, for a control.

    Raises:
        ValueError: outputs of the target are not finite, or no other network gives evidence about any image.
    """
    others, left_out = _without_non_finite(target, others)
    states = np.stack([other.state for other in others])
    rows = rows[(target.state[rows] != 0) & (states[:, rows] != 0).any(0)]
    population = population[(states[:, population] != 0).any(0)]
    _require_images(rows)
    row_states = states[:, rows]
    phi = np.stack([other.phi for other in others])
    target_log_p, log_p = _log_p(target.phi[:, 0]), _log_p(phi[:, :, 0])
    marginal = rmia.marginal_online(log_p, states)
    scores = {
        "lira": lira.online(target.phi[rows], phi[:, rows], row_states),
        "calibrated": lira.calibrated(target.phi[rows], phi[:, rows], row_states),
        "rmia": rmia.rmia(target_log_p[rows], marginal[rows], target_log_p[population], marginal[population]),
    }
    if adversarial := _adversarial(target, others, rows):
        scores["lira_adversarial"] = lira.online(*adversarial, row_states)
        scores["calibrated_adversarial"] = lira.calibrated(*adversarial, row_states)
    pooled = [(other, rows[other.state[rows] != 0]) for other in others]
    accuracies = {} if control else _learned("auditor", target, rows, pooled)
    return ShadowAudit(rows, target.state[rows] > 0, scores, accuracies, left_out)


def attacker(
    target: ModelOutputs, shadows: Sequence[ModelOutputs], rows: np.ndarray, shadow_rows: np.ndarray, *, seed: int = 0,
    control: bool = False, lr: float = LR,
) -> ShadowAudit:  # fmt: skip
    """Audit a network by shadow models that were trained on neither its members nor its non-members.

    Args:
        target: outputs of the network.
        shadows: outputs of at least one shadow model.
        rows: training images of the target, and images that no network was trained on.
        shadow_rows: images from which the shadow models' members were drawn.
        seed: seed of the neural attack.
        control: compute scores only, for a control, in which the neural attack needs few steps.
        lr: initial learning rate of the neural attack.

    Raises:
        ValueError: a shadow model was trained on audited images, or the target on images of the shadow models; outputs of the
            target are not finite, or no shadow model gives evidence about any image.
    """
    states = np.stack([shadow.state for shadow in shadows])
    if (states[:, rows] >= 0).any() or (target.state[shadow_rows] >= 0).any():
        raise ValueError("target and shadow models were trained on the same images")
    shadows, left_out = _without_non_finite(target, shadows)
    states = np.stack([shadow.state for shadow in shadows])
    rows = rows[(states[:, rows] < 0).any(0)]
    _require_images(rows)
    phi = np.stack([shadow.phi for shadow in shadows])
    target_log_p, log_p = _log_p(target.phi[:, 0]), _log_p(phi[:, :, 0])
    marginal = rmia.marginal_offline(log_p, states)
    training = [(shadow, shadow_rows[shadow.state[shadow_rows] != 0]) for shadow in shadows]
    batches = max(1, -(-sum(len(own) for _, own in training) // BATCH_SIZE))
    epochs = min(EPOCHS, max(20, -(-CONTROL_STEPS // batches))) if control else EPOCHS
    attack = train_attack(
        torch.cat([_probabilities(shadow, own) for shadow, own in training]),
        torch.cat([torch.from_numpy(shadow.y[own]) for shadow, own in training]),
        torch.cat([torch.from_numpy(shadow.state[own] > 0) for shadow, own in training]), seed=seed, epochs=epochs, lr=lr,
    )  # fmt: skip
    scores = {
        "lira_offline": lira.offline(target.phi[rows], phi[:, rows], states[:, rows]),
        "calibrated_offline": lira.calibrated(target.phi[rows], phi[:, rows], states[:, rows]),
        "rmia_offline": rmia.rmia(target_log_p[rows], marginal[rows], target_log_p[shadow_rows], marginal[shadow_rows]),
        "nn": attack.score(_probabilities(target, rows), torch.from_numpy(target.y[rows])).numpy(),
    }
    if adversarial := _adversarial(target, shadows, rows):
        scores["lira_offline_adversarial"] = lira.offline(*adversarial, states[:, rows])
    accuracies = {} if control else _learned("attacker", target, rows, training)
    return ShadowAudit(rows, target.state[rows] > 0, scores, accuracies, left_out)


def _without_non_finite(
    target: ModelOutputs, others: Sequence[ModelOutputs]
) -> tuple[list[ModelOutputs], int]:  # fmt: skip
    """The others with state 0 for images on which their outputs are not finite, and the number of these outputs."""
    if bad := int((~target.finite).sum()):
        raise ValueError(f"outputs of the audited network are not finite for {bad} of {len(target.y)} images")
    left_out = sum(int((~other.finite).sum()) for other in others)
    if not left_out:
        return list(others), 0
    return [replace(other, state=np.where(other.finite, other.state, 0).astype(np.int8)) for other in others], left_out


def _require_images(rows: np.ndarray) -> None:
    if not len(rows):
        raise ValueError("there is no image to audit about which another network gives evidence")


def _adversarial(
    target: ModelOutputs, others: Sequence[ModelOutputs], rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:  # fmt: skip
    """phi of the adversarial queries of the target and of the others; None unless all networks have them."""
    values = [phi[rows] for outputs in (target, *others) if (phi := outputs.adversarial_phi) is not None]
    return (values[0], np.stack(values[1:])) if len(values) == 1 + len(others) else None


def _log_p(phi: np.ndarray) -> np.ndarray:
    """log p_y from the log-odds."""
    with np.errstate(invalid="ignore"):  # NaN stays NaN, and is left out later
        return -np.logaddexp(0.0, -phi)


def _probabilities(outputs: ModelOutputs, rows: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(outputs.logits[rows, 0]).softmax(1)


def _learned(
    protocol: str, target: ModelOutputs, rows: np.ndarray, pooled: Sequence[tuple[ModelOutputs, np.ndarray]]
) -> dict[str, float]:  # fmt: skip
    """Balanced accuracies on the target with thresholds learned on other networks, each of which comes with its rows."""
    accuracies = {}
    member, other_member = target.state[rows] > 0, np.concatenate([other.state[own] > 0 for other, own in pooled])
    labels = np.concatenate([other.y[own] for other, own in pooled])
    for name in SCORES:
        scores = np.concatenate([other.score(name, own) for other, own in pooled])
        one, per_class = learned(Scored(target.score(name, rows), member, target.y[rows]), Scored(scores, other_member, labels))
        accuracies |= {f"{protocol}/{name}": one, f"{protocol}/{name}/per_class": per_class}
    return accuracies


# -- controls ------------------------------------------------------------------------------------------------------------------


MEMORISED_LOGIT = 10.0
"""Logit by which the positive control recognises its training images."""


def positive_control(outputs: ModelOutputs) -> ModelOutputs:
    """Positive control: outputs of a simulated model that has memorised its training images.

    Training images are recognised by their pixels, not by the rows that the audit takes for members. On other images, the
    simulated model's logits are scaled down so that they carry almost no information.
    """
    memorised = MEMORISED_LOGIT * np.eye(outputs.logits.shape[2], dtype=np.float32)[outputs.y]
    finite = outputs.logits[outputs.finite]
    scale = 1 / max(float(np.ptp(finite)) if finite.size else 1.0, 1.0)
    adversarial = outputs.adversarial
    if adversarial is not None:
        adversarial = scale * adversarial + np.where(outputs.recognised[:, :1], memorised, 0)
    logits = scale * outputs.logits + np.where(outputs.recognised[:, :, None], memorised[:, None], 0)
    return replace(outputs, logits=logits, adversarial=adversarial)


def negative_control(networks: Sequence[ModelOutputs], groups: Sequence[np.ndarray], seed: int = 0) -> list[ModelOutputs]:
    """Negative control: the same outputs with membership permuted over images, by one permutation for all networks.

    Evidence that does not come from the target's outputs (for example, how many other networks were trained on an image) is
    permuted with the membership, so an audit that uses such evidence still succeeds and is detected.

    Args:
        networks: outputs of networks that are audited together.
        groups: groups of rows; membership is permuted within each.
        seed: seed of the permutation.
    """
    order = np.arange(len(networks[0].y))
    for i, rows in enumerate(groups):
        order[rows] = rows[np.random.Generator(np.random.PCG64(rng.fold(seed, "shuffled", i))).permutation(len(rows))]
    permuted = [replace(outputs, state=outputs.state[order]) for outputs in networks]
    for old, new in zip(networks, permuted, strict=True):  # logits are the same, so cached properties remain valid
        vars(new).update({name: vars(old)[name] for name in ("phi", "adversarial_phi", "finite") if name in vars(old)})
    return permuted


CONTROL_STEPS = 1000
"""Training steps of the neural attack in a control, at most; memorised members are learned quickly."""
MIN_CONTROL_AUC = 0.9
"""AUC that an audit must reach on the positive control."""
CONTROL_LEVEL = 1 - 6.3e-5
"""Level of the interval of the AUC of the negative control, four standard errors; it must contain 0.5."""


def blind(rocs: dict[str, Roc]) -> list[str]:
    """Names of the audits that fail on the positive control, given their ROCs there."""
    return [name for name, roc in rocs.items() if roc.auc < MIN_CONTROL_AUC]


SHUFFLES = 4
"""Number of permutations of membership over which an audit that is biased in the first one must be biased on average."""


def biased(*shuffles: dict[str, Roc]) -> list[str]:
    """Names of the audits that find members in the negative control: on average over permutations, their AUC is too far from 0.5.

    A permutation carries along which other networks were trained on an image, so the chance association of the target's members
    with theirs is the same in all permutations. It decides the order of images with tied outputs: RMIA estimates the evidence of
    missing models from a gap between the others, which shifts all tied images with the same models alike. The sign of the gap and
    the rest of the noise change between permutations, so that one of them can be too far from 0.5 by chance.

    Args:
        shuffles: ROCs by audit in each of at least one permutation, by `negative_control` with different seeds.
    """
    names = []
    for name in shuffles[0]:
        rocs = [shuffle[name] for shuffle in shuffles]
        ends = [roc.auc_interval(CONTROL_LEVEL) for roc in rocs]
        allowed = [roc.auc - low if roc.auc > 0.5 else high - roc.auc for roc, (low, high) in zip(rocs, ends, strict=True)]
        if sum(abs(roc.auc - 0.5) for roc in rocs) > sum(allowed):
            names.append(name)
    return names


def negative_audits(
    run: Callable[[Sequence[ModelOutputs]], ShadowAudit], networks: Sequence[ModelOutputs], groups: Sequence[np.ndarray],
    seed: int = 0,
) -> list[dict[str, Roc]]:  # fmt: skip
    """ROCs of all audits in the negative control: in one permutation, or in `SHUFFLES` if an audit is biased in the first.

    One more score, `design`, is the number of other networks that were trained on an image. It has the same AUC in all
    permutations, far from 0.5 if the members of the networks depend on each other.

    Args:
        run: audits networks, of which the first is the target.
        networks: outputs of these networks.
        groups: see `negative_control`.
        seed: seed of the permutations.
    """

    def shuffle(seed: int) -> dict[str, Roc]:
        permuted = negative_control(networks, groups, seed)
        audit = run(permuted)
        counts = np.sum([other.state[audit.rows] > 0 for other in permuted[1:]], axis=0)
        return audit.rocs() | {"design": Roc.of(counts[audit.member], counts[~audit.member], "design")}

    first = shuffle(seed)
    further = [rng.fold(seed, "shuffle", i) for i in range(1, SHUFFLES)] if biased(first) else []
    return [first, *map(shuffle, further)]
