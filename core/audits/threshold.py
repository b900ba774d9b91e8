"""Threshold audits: one score per image, no shadow models (Yeom 2018, Salem 2019, Song and Mittal 2021)."""

from torch import Tensor

from core.audits.roc import Roc
from core.audits.scores import SCORES

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


def leak_metrics(audits: dict[str, Roc]) -> dict[str, float]:
    """The audits as metrics: raw AUC with its 95 % interval, balanced accuracy, TPR at low FPR, and `mia_auc`.

    `mia_auc` is the worst audit, each AUC folded to max(a, 1 - a), because an attacker may flip the sign. A TPR is left
    out where the non-members cannot produce one false positive at that rate.
    """
    metrics: dict[str, float] = {}
    for name, roc in audits.items():
        interval = roc.auc_interval()
        metrics |= {
            f"mia_auc/{name}": roc.auc,
            f"mia_auc_low/{name}": interval.low,
            f"mia_auc_high/{name}": interval.high,
            f"mia_balanced_accuracy/{name}": roc.balanced_accuracy,
        }
        for fpr in FPRS:
            if fpr * len(roc.non_members) >= 1:
                metrics[f"mia_tpr_at_fpr_{fpr:g}/{name}"] = roc.tpr_at(fpr)
    return metrics | {"mia_auc": max(max(roc.auc, 1 - roc.auc) for roc in audits.values())}
