"""What can be found out about who was in a trained network's training set: by itself, and by other networks of its recipe."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from core import data, rng
from core.audits import fleet
from core.audits.answers import Answers, ask
from core.audits.fleet import Audit
from core.audits.gradient_norm import gradient_norm
from core.audits.label_only import boundary_distance
from core.audits.roc import Roc
from core.audits.threshold import below_half, leak_metrics, worst_leak
from core.config import Metrics, TrialConfig
from core.data import Images
from core.errors import TrialError
from core.perturbations import PERTURBATIONS
from core.subject import ball, member_rows, stored
from core.train import State


def answers_of(config: TrialConfig, net: nn.Module, images: Images, *, device: torch.device | str = "cpu") -> Answers:
    """What a trained network of this configuration says of every image.

    Mirrored, too, where training mirrored; and moved to be misread, where training saw such images. The latter for the target's
    half of the pool only, which is where all who are audited are.

    Raises:
        TrialError: its logits are not finite.
    """
    parts = data.split(images, config.split, config.replicate, config.shadow)
    target = data.split(images, config.split)
    half = np.sort(np.concatenate([target.members, target.val, target.test]))
    flips = bool(getattr(config.augmentation, "flip", False))
    robust = not isinstance(config.perturbation, PERTURBATIONS["none"])
    answers = ask(
        net, images, *member_rows(config, images, parts), mirrored=flips, attack=half if robust else None,
        seed=config.seed, device=device, **ball(config.judge),
    )  # fmt: skip
    if not np.isfinite(answers.logits).all():
        raise TrialError("the trained network's logits are not finite; lower optimizer.lr")
    return answers


def further_audits(
    config: TrialConfig, net: nn.Module, answers: Answers, members: Images, others: Images, private: np.ndarray, rows: np.ndarray
) -> dict[str, Roc]:
    """Audits of one network that take more than a forward pass."""
    found = {"gradient_norm": Roc.of(*(gradient_norm(net, part.x, part.y).cpu() for part in (members, others)))}
    if answers.adversarial_phi is not None:
        found["loss_adversarial"] = Roc.of(answers.adversarial_phi[private, 0], answers.adversarial_phi[rows, 0])
    if config.judge.audits == "full":
        distances = []
        for part, ids in ((members, private), (others, rows)):
            some = part.at(torch.arange(min(config.judge.images or len(ids), len(ids)), device=part.y.device))
            draw = rng.per_image(config.seed, "label_only", ids=torch.from_numpy(ids[: len(some.y)]).to(part.y.device))
            distances.append(boundary_distance(net, some.x, some.y, draw=draw).cpu())
        found["label_only"] = Roc.of(*distances)
    return found


def reaudit(
    config: TrialConfig, modules: Mapping[str, State], images: Images, known: Mapping[str, float], *,
    device: torch.device | str = "cpu",
) -> Metrics:  # fmt: skip
    """What a network judged with `judge.audits=scores` gets at `standard`, from its stored state.

    Args:
        config: of the trial. modules: what `Result.state["modules"]` was. images: the pool. known: its metrics. device: where.

    Raises:
        TrialError: a metric is not finite.
    """
    device = torch.device(device)
    parts = data.split(images, config.split, config.replicate)
    (private, _), rows = member_rows(config, images, parts), parts.judged(config.judge.part)
    bound = stored(config, modules, images, device)
    members, others = images.at(private).to(device), images.at(rows).to(device)
    answers = answers_of(config, bound.net, images, device=device)
    audits = further_audits(config, bound.net, answers, members, others, private, rows)
    leaks = leak_metrics(audits) | {"flag/auc_below_half": float(below_half(audits))}
    return Metrics(leaks | worst_leak({**known, **leaks}))


@dataclass(frozen=True)
class Audited:
    """What other networks found out about one."""

    metrics: Metrics
    """Of the audits by others, and `mia_auc`, the worst of these and all that were known."""
    evidence: dict[str, np.ndarray]
    """`<protocol>/rows`, `<protocol>/member` and `<protocol>/<audit>`, the scores."""


def by_others(
    config: TrialConfig, target: Answers, others: Sequence[Answers], shadows: Sequence[Answers], images: Images,
    known: Mapping[str, float],
) -> Audited:  # fmt: skip
    """Audit a network by other networks of its recipe; nothing is trained but a small attack network.

    Args:
        config: of the network, a replicate. target: its answers.
        others: of its sister replicates, for the protocol `auditor`; none skips it.
        shadows: of shadow models, for the protocol `attacker`; none skips it.
        images: the pool. known: metrics of the network so far.

    Raises:
        TrialError: the answers are of networks that were trained on other images than the configuration says.
    """
    parts = data.split(images, config.split, config.replicate)
    private, _ = member_rows(config, images, parts)
    if not np.array_equal(np.sort(np.flatnonzero(target.state > 0)), np.sort(private)):
        raise TrialError("the stored answers are of a network with other members; is it the same data set and version?")
    open_, judged = np.concatenate([parts.members, parts.val]), np.concatenate([private, parts.test])

    def auditor(networks: Sequence[Answers], control: bool = False) -> Audit:
        return fleet.auditor(networks[0], networks[1:], open_, open_, control=control)

    def attacker(networks: Sequence[Answers], control: bool = False) -> Audit:
        return fleet.attacker(networks[0], networks[1:], judged, parts.shadow, seed=config.seed, control=control)

    protocols: dict[str, tuple[Callable[..., Audit], Sequence[Answers], list[np.ndarray]]] = {}
    protocols |= {"auditor": (auditor, [target, *others], [open_])} if others else {}
    protocols |= {"attacker": (attacker, [target, *shadows], [judged, parts.shadow])} if shadows else {}
    values: dict[str, float] = {}
    evidence: dict[str, np.ndarray] = {}
    for protocol, (run, networks, groups) in protocols.items():
        result = run(networks)
        rocs, twins = result.rocs(), run([fleet.memorising(answers) for answers in networks], control=True).rocs()
        chance = run(fleet.shuffled(networks, groups, config.seed), control=True).rocs()
        values |= leak_metrics(rocs)
        values |= {f"mia_learned_accuracy/{name}": value for name, value in result.accuracies.items()}
        values[f"mia_control_memorised/{protocol}"] = min(roc.auc for roc in twins.values())
        values[f"mia_control_shuffled/{protocol}"] = max((roc.auc for roc in chance.values()), key=lambda auc: abs(auc - 0.5))
        flags = {"audit_is_blind": fleet.misses(twins), "audit_is_biased": fleet.biased(chance), "auc_below_half": below_half(rocs)}
        values |= {f"flag/{name}": max(values.get(f"flag/{name}", 0.0), float(bool(up))) for name, up in flags.items()}
        evidence |= {f"{protocol}/rows": result.rows, f"{protocol}/member": result.member}
        evidence |= {f"{protocol}/{name}": score for name, score in result.scores.items()}
    return Audited(Metrics(values | (worst_leak({**known, **values}) if values else {})), evidence)
