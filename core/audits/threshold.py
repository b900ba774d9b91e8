"""Threshold audits: one score per image, no shadow models (Yeom 2018, Salem 2019, Song and Mittal 2021)."""

from collections.abc import Mapping

from torch import Tensor

from core.audits.roc import Roc, unresolved
from core.audits.scores import SCORES
from core.stats import normal_quantile

FPRS = (0.01, 0.001)


def threshold_audits(member_logits: Tensor, member_labels: Tensor, other_logits: Tensor, other_labels: Tensor) -> dict[str, Roc]:
    """The ROC of every score in `core.audits.scores`.

    Args:
        member_logits: raw logits of the training images, un-augmented, evaluation mode, [M, C].
        member_labels: [M].
        other_logits, other_labels: of images that no training saw, [N, C] and [N].
    """
    return {
        name: Roc.of(score(member_logits, member_labels).cpu(), score(other_logits, other_labels).cpu())
        for name, score in SCORES.items()
    }


def leak_metrics(audits: Mapping[str, Roc]) -> dict[str, float]:
    """The audits as metrics: raw AUC with its 95 % interval, balanced accuracy, advantage, TPR at low FPR.

    A TPR is left out where the non-members cannot resolve it; `core.audits.roc.unresolved` says why.
    """
    metrics: dict[str, float] = {}
    for name, roc in audits.items():
        interval = roc.auc_interval()
        metrics |= {
            f"mia_auc/{name}": roc.auc,
            f"mia_auc_low/{name}": interval.low,
            f"mia_auc_high/{name}": interval.high,
            f"mia_balanced_accuracy/{name}": roc.balanced_accuracy,
            f"mia_advantage/{name}": roc.advantage,
        }
        for fpr in FPRS:
            if not unresolved(fpr, len(roc.non_members)):
                metrics[f"mia_tpr_at_fpr_{fpr:g}/{name}"] = roc.tpr_at(fpr)
    return metrics


def below_half(audits: Mapping[str, Roc]) -> bool:
    """Whether an AUC is below one half beyond its interval."""
    return any(roc.auc_interval().high < 0.5 for roc in audits.values())


def worst_leak(metrics: Mapping[str, float]) -> dict[str, float]:
    """`mia_auc`: the worst of all audits in the metrics, each AUC folded to max(a, 1 - a), because an attacker may flip the sign.

    `mia_auc_low` and `mia_auc_high` are the interval of that audit, widened for the choice of the worst (Bonferroni): with k
    audits it has a level of 1 - 0.05 / k. The largest of several noisy numbers is still a little too large on average.
    """
    named = {name: value for name, value in metrics.items() if name.startswith("mia_auc/")}
    folded = {name: max(auc, 1 - auc) for name, auc in named.items()}
    name = max(folded, key=lambda audit: folded[audit])
    low, high = (metrics[f"mia_auc_{end}/{name.removeprefix('mia_auc/')}"] for end in ("low", "high"))
    if named[name] < 0.5:
        low, high = 1 - high, 1 - low
    wider = normal_quantile(1 - 0.05 / len(named)) / normal_quantile(0.95)
    auc = folded[name]
    low, high = max(0.0, auc - wider * (auc - low)), min(1.0, auc + wider * (high - auc))
    return {"mia_auc": auc, "mia_auc_low": low, "mia_auc_high": high}
