"""The level that the largest AUC of several audits reaches by chance, from permuted membership; nothing is trained."""

from collections.abc import Sequence

import numpy as np

from core.audits.evidence import MembershipScores, null_influence, permuted_members

PERMUTATIONS = 200
"""Number of permutations."""
LEVEL = 0.95
"""Share of the permutations whose largest AUC is at most the chance level."""


def chance_level(groups: Sequence[MembershipScores], *, permutations: int = PERMUTATIONS, seed: int = 0) -> float:
    """The 95 % quantile, over permutations of membership, of the largest AUC of all audits of one network.

    Each AUC is folded to max(a, 1 - a), as in `core.audits.threshold.worst_case_auc`.
    """
    return float(np.quantile(np.abs(permuted_aucs(groups, permutations, seed) - 0.5).max(1), LEVEL)) + 0.5


def permuted_aucs(groups: Sequence[MembershipScores], permutations: int, seed: int) -> np.ndarray:
    """The AUC of every audit under permuted membership, [permutations, audits]."""
    columns = []
    for group, member in zip(groups, permuted_members(groups, permutations, seed), strict=True):
        influence = np.stack([null_influence(scores) for scores in group.scores.values()], 1)
        inside = member @ influence
        counts = member.sum(1, keepdims=True)
        columns.append(0.5 + inside / counts - (influence.sum(0) - inside) / (len(group.rows) - counts))
    return np.concatenate(columns, 1)
