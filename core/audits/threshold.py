"""Threshold audits: one score per image, without shadow models (Yeom 2018, Salem 2019, Song and Mittal 2021)."""

from collections.abc import Mapping

from torch import Tensor

from core.audits.roc import Roc, unresolved
from core.audits.scores import SCORES
from core.stats import normal_quantile

FPRS = (0.01, 0.001)
"""False-positive rates at which the true-positive rate is reported."""


def threshold_audits(member_logits: Tensor, member_labels: Tensor, other_logits: Tensor, other_labels: Tensor) -> dict[str, Roc]:
    """The ROC of every score in `core.audits.scores`.

    Args:
        member_logits: logits of the training images, without augmentation, in evaluation mode, [M, C].
        member_labels: labels of the training images, [M].
        other_logits, other_labels: the same for images that the network was not trained on, [N, C] and [N].
    """
    return {
        name: Roc.of(score(member_logits, member_labels).cpu(), score(other_logits, other_labels).cpu())
        for name, score in SCORES.items()
    }


def leak_metrics(audits: Mapping[str, Roc]) -> dict[str, float]:
    """Metrics of audits: AUC (not folded) with its 95 % interval, balanced accuracy, advantage, and TPR at low FPR.

    A TPR is omitted if there are too few non-members to resolve it; see `core.audits.roc.unresolved`.
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
    """Whether the 95 % interval of any AUC lies below one half."""
    return any(roc.auc_interval().high < 0.5 for roc in audits.values())


def worst_case_auc(metrics: Mapping[str, float]) -> dict[str, float]:
    """`mia_auc`: the largest AUC of all audits in the metrics, folded to max(a, 1 - a) because an attacker may flip the sign.

    `mia_auc_low` and `mia_auc_high` are that audit's interval at level 1 - 0.05 / k for k audits (Bonferroni), which allows for
    choosing the worst. The estimate itself is biased upward, as every maximum of noisy numbers.
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
