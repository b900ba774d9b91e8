"""Threshold audits: one score per image, without shadow models (Yeom 2018, Salem 2019, Song and Mittal 2021)."""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from core.audits.roc import Roc, unresolved
from core.audits.scores import SCORES
from core.stats import Interval, effective_size, score_interval

FPRS = (0.01, 0.001)
"""False-positive rates at which the true-positive rate is reported."""


def threshold_audits(
    member_logits: Tensor, member_labels: Tensor, other_logits: Tensor, other_labels: Tensor
) -> dict[str, np.ndarray]:  # fmt: skip
    """Every score in `core.audits.scores` of the training images, followed by that of the others, [M + N].

    Args:
        member_logits: logits of the training images, without augmentation, in evaluation mode, [M, C].
        member_labels: labels of the training images, [M].
        other_logits, other_labels: the same for images that the network was not trained on, [N, C] and [N].
    """
    groups = ((member_logits, member_labels), (other_logits, other_labels))
    return {name: np.concatenate([score(*group).cpu().numpy() for group in groups]) for name, score in SCORES.items()}


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


def below_half(metrics: Mapping[str, float]) -> bool:
    """Whether the interval of any AUC in the metrics lies below one half, at level 1 - 0.05 / k for k audits (Bonferroni).

    At most 2.5 % of the networks without any leak have such an audit, however many audits there are.
    """
    return any(interval.high < 0.5 for _, interval in _simultaneous(metrics).values())


def worst_case_auc(metrics: Mapping[str, float]) -> dict[str, float]:
    """`mia_auc`: the largest AUC of all audits in the metrics, folded to max(a, 1 - a) because an attacker may flip the sign.

    `mia_auc_low` and `mia_auc_high` are that audit's interval at level 1 - 0.05 / k for k audits (Bonferroni), which allows for
    choosing the worst. The estimate itself is biased upward, as every maximum of noisy numbers.
    """
    auc, (low, high) = max(_simultaneous(metrics).values(), key=lambda pair: max(pair[0], 1 - pair[0]))
    if auc < 0.5:
        auc, low, high = 1 - auc, 1 - high, 1 - low
    return {"mia_auc": auc, "mia_auc_low": low, "mia_auc_high": high}


def _simultaneous(metrics: Mapping[str, float]) -> dict[str, tuple[float, Interval]]:
    """AUC of each of the k audits in the metrics, with its interval at level 1 - 0.05 / k; from the intervals at 95 %."""
    aucs = {name.removeprefix("mia_auc/"): auc for name, auc in metrics.items() if name.startswith("mia_auc/")}
    stored = {name: Interval(metrics[f"mia_auc_low/{name}"], metrics[f"mia_auc_high/{name}"]) for name in aucs}
    level = 1 - 0.05 / max(1, len(aucs))
    return {name: (auc, score_interval(auc, effective_size(auc, stored[name]), level)) for name, auc in aucs.items()}
