"""Audits of a network by others of its recipe, under two assumptions about what the attacker has (design: "two protocols").

`auditor`: other networks of the same recipe whose members were drawn from the same images, so that the attacker knows for each
audited image what networks say that were trained on it, and that were not. That is more than an outsider can have; it bounds
what one could learn, at no further training where a recipe is trained with several seeds anyway.

`attacker`: shadow models of the same recipe on images of the same source that are neither the target's members nor its
non-members: the outsider of the literature. Both know recipe and knobs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from core import rng
from core.audits import lira, rmia
from core.audits.answers import Answers
from core.audits.learned import Scored, learned
from core.audits.nn_attack import BATCH, EPOCHS, train_attack
from core.audits.roc import Roc
from core.audits.scores import SCORES


@dataclass(frozen=True)
class Audit:
    """What audits made of one network."""

    rows: np.ndarray
    """Of the pool, that were audited, [n]."""
    member: np.ndarray
    """bool, [n]."""
    scores: dict[str, np.ndarray] = field(default_factory=dict)
    """By audit, larger for members, [n]."""
    accuracies: dict[str, float] = field(default_factory=dict)
    """Balanced accuracies with thresholds learned on the other networks, by score; `.../per_class` with one per class."""

    def rocs(self) -> dict[str, Roc]:
        """The curve of every audit."""
        return {name: Roc.of(score[self.member], score[~self.member]) for name, score in self.scores.items()}


def auditor(
    target: Answers, others: Sequence[Answers], rows: np.ndarray, population: np.ndarray, *, control: bool = False
) -> Audit:
    """Audit a network by others whose members were drawn from the same images.

    Args:
        target: the network. others: at least one.
        rows: images that members were drawn from, each with the same chance; what served the target, or all of the others,
            otherwise is left out.
        population: images that RMIA compares each one with; those that none of the others says anything about are left out.
        control: only the scores are wanted.
    """
    states = np.stack([other.state for other in others])
    rows = rows[(target.state[rows] != 0) & (states[:, rows] != 0).any(0)]
    population = population[(states[:, population] != 0).any(0)]
    here = states[:, rows]
    phi = np.stack([other.phi for other in others])
    target_log_p, log_p = _log_p(target.phi[:, 0]), _log_p(phi[:, :, 0])
    usual = rmia.usual_online(log_p, states)
    found = {
        "lira": lira.online(target.phi[rows], phi[:, rows], here),
        "calibrated": lira.calibrated(target.phi[rows], phi[:, rows], here),
        "rmia": rmia.rmia(target_log_p[rows], usual[rows], target_log_p[population], usual[population]),
    }
    if moved := _adversarial(target, others, rows):
        found["lira_adversarial"] = lira.online(*moved, here)
        found["calibrated_adversarial"] = lira.calibrated(*moved, here)
    pooled = [(other, rows[other.state[rows] != 0]) for other in others]
    accuracies = {} if control else _learned("auditor", target, rows, pooled)
    return Audit(rows, target.state[rows] > 0, found, accuracies)


def attacker(
    target: Answers, shadows: Sequence[Answers], rows: np.ndarray, shadow_rows: np.ndarray, *, seed: int = 0, control: bool = False
) -> Audit:
    """Audit a network by shadow models that saw neither its members nor its non-members.

    Args:
        target: the network. shadows: at least one.
        rows: images that it was trained on, and images that no network saw.
        shadow_rows: rows that the shadow models' members were drawn from.
        seed: of the neural attack. control: only the scores are wanted, of networks on which they are easily right.

    Raises:
        ValueError: a shadow model has seen audited images, or the target has seen images of the shadow models.
    """
    states = np.stack([shadow.state for shadow in shadows])
    if (states[:, rows] >= 0).any() or (target.state[shadow_rows] >= 0).any():
        raise ValueError("target and shadow models have seen the same images")
    phi = np.stack([shadow.phi for shadow in shadows])
    target_log_p, log_p = _log_p(target.phi[:, 0]), _log_p(phi[:, :, 0])
    usual = rmia.usual_offline(log_p, states)
    attack_on = [(shadow, shadow_rows[shadow.state[shadow_rows] != 0]) for shadow in shadows]
    batches = -(-sum(len(own) for _, own in attack_on) // BATCH)
    epochs = min(EPOCHS, max(20, -(-CONTROL_STEPS // batches))) if control else EPOCHS
    attack = train_attack(
        torch.cat([_probabilities(shadow, own) for shadow, own in attack_on]),
        torch.cat([torch.from_numpy(shadow.y[own]) for shadow, own in attack_on]),
        torch.cat([torch.from_numpy(shadow.state[own] > 0) for shadow, own in attack_on]), seed=seed, epochs=epochs,
    )  # fmt: skip
    found = {
        "lira_offline": lira.offline(target.phi[rows], phi[:, rows], states[:, rows]),
        "calibrated_offline": lira.calibrated(target.phi[rows], phi[:, rows], states[:, rows]),
        "rmia_offline": rmia.rmia(target_log_p[rows], usual[rows], target_log_p[shadow_rows], usual[shadow_rows]),
        "nn": attack.score(_probabilities(target, rows), torch.from_numpy(target.y[rows])).numpy(),
    }
    if moved := _adversarial(target, shadows, rows):
        found["lira_offline_adversarial"] = lira.offline(*moved, states[:, rows])
    accuracies = {} if control else _learned("attacker", target, rows, attack_on)
    return Audit(rows, target.state[rows] > 0, found, accuracies)


def _adversarial(target: Answers, others: Sequence[Answers], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """phi of the adversarial images, of the target and of the others, where all were asked for such."""
    moved = [values[rows] for answers in (target, *others) if (values := answers.adversarial_phi) is not None]
    return (moved[0], np.stack(moved[1:])) if len(moved) == 1 + len(others) else None


def _log_p(phi: np.ndarray) -> np.ndarray:
    """log p_y from the log-odds."""
    return -np.logaddexp(0.0, -phi)


def _probabilities(answers: Answers, rows: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(answers.logits[rows, 0]).softmax(1)


def _learned(protocol: str, target: Answers, rows: np.ndarray, shadows: Sequence[tuple[Answers, np.ndarray]]) -> dict[str, float]:
    found = {}
    member, inside = target.state[rows] > 0, np.concatenate([shadow.state[own] > 0 for shadow, own in shadows])
    labels = np.concatenate([shadow.y[own] for shadow, own in shadows])
    for name in SCORES:
        pooled = np.concatenate([shadow.score(name, own) for shadow, own in shadows])
        one, per_class = learned(Scored(target.score(name, rows), member, target.y[rows]), Scored(pooled, inside, labels))
        found |= {f"{protocol}/{name}": one, f"{protocol}/{name}/per_class": per_class}
    return found


# -- controls ------------------------------------------------------------------------------------------------------------------


SURE = 10.0


def memorising(answers: Answers) -> Answers:
    """A twin of the network that knows its training images by heart and next to nothing of others.

    Which images these are is read off their pixels, not off the rows that the audit believes to be members.
    """
    known = SURE * np.eye(answers.logits.shape[2], dtype=np.float32)[answers.y]
    faint = 1 / max(float(np.ptp(answers.logits)), 1.0)
    moved = answers.adversarial
    if moved is not None:
        moved = faint * moved + np.where(answers.recognised[:, :1], known, 0)
    return replace(answers, logits=faint * answers.logits + np.where(answers.recognised[:, :, None], known[:, None], 0),
                   adversarial=moved)  # fmt: skip


def shuffled(fleet: Sequence[Answers], groups: Sequence[np.ndarray], seed: int = 0) -> list[Answers]:
    """The same answers with membership handed to other images, in one and the same way for all networks.

    Whatever tells members from others without asking the target (how often others were trained on an image, say) is handed on with
    it, so an audit that draws on such a thing still wins.

    Args:
        fleet: networks that are audited together. groups: rows within which membership moves. seed: of the moves.
    """
    order = np.arange(len(fleet[0].y))
    for i, rows in enumerate(groups):
        order[rows] = rows[np.random.Generator(np.random.PCG64(rng.fold(seed, "shuffled", i))).permutation(len(rows))]
    moved = [replace(answers, state=answers.state[order]) for answers in fleet]
    for old, new in zip(fleet, moved, strict=True):  # the answers are the same, and so is what was computed from them
        vars(new).update({name: vars(old)[name] for name in ("phi", "adversarial_phi") if name in vars(old)})
    return moved


CONTROL_STEPS = 1000
"""Of the neural attack in a control, unless the attack itself takes fewer: who knows its members by heart is found soon."""
CAUGHT = 0.9
"""The AUC that an audit must reach on networks that memorise."""
BIASED = 4.0
"""Standard errors that its AUC may be away from 0.5 when membership is shuffled."""


def misses(rocs: dict[str, Roc]) -> list[str]:
    """Audits that fail to catch memorising networks, from their curves on those."""
    return [name for name, roc in rocs.items() if roc.auc < CAUGHT]


def biased(rocs: dict[str, Roc]) -> list[str]:
    """Audits that find members where membership is shuffled, from their curves on that."""
    found = []
    for name, roc in rocs.items():
        low, high = roc.auc_interval(0.95)
        error = max(high - low, 1e-3) / 3.92
        if abs(roc.auc - 0.5) > BIASED * error:
            found.append(name)
    return found
