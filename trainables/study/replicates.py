"""Replicates of confirmed points, as measurements with the influence of every judged image."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from core.audits.evidence import MembershipScores, stored_scores
from core.errors import InputError
from core.estimates import Measurement
from trainables.study.results import NetworkResult

GROUPS = ("own", "reference", "label_only", "auditor", "attacker")
"""Groups of membership scores: audits of a network by itself, of its reference images, by labels alone, by sibling replicates, and
by shadow models."""


OVER_EPSILON = "robust_accuracy_at/"
"""Beginning of the names of robust accuracies in balls of a multiple of epsilon."""


@dataclass(frozen=True)
class Replicate:
    """One training of a confirmed point, with its per-image evidence; empty if it failed."""

    result: NetworkResult
    shares: Mapping[str, Measurement] = field(default_factory=dict)
    """`accuracy`, `robust_accuracy`, `robust_accuracy/<attack>` and `robust_accuracy_at/<multiple of epsilon>`."""
    groups: Mapping[str, MembershipScores] = field(default_factory=dict)
    """Membership scores by group."""
    aucs: Mapping[str, Measurement] = field(default_factory=dict)
    """AUC by audit, not folded."""

    @classmethod
    def of(cls, result: NetworkResult, arrays: Mapping[str, np.ndarray]) -> "Replicate":
        """A replicate that succeeded, from its stored arrays.

        Args:
            result: its result.
            arrays: `rows`, `labels`, `logits`, `robust/<attack>`, `robust_at/<multiple>`, and the arrays of the groups of
                membership scores.

        Raises:
            InputError: an array is missing.
        """
        if lacking := [name for name in ("rows", "labels", "logits", "own/member") if name not in arrays]:
            raise InputError(f"its evidence has no {' and no '.join(lacking)}")
        groups: dict[str, MembershipScores] = {}
        for group in GROUPS:
            for scores in stored_scores({name: array for name, array in arrays.items() if name.startswith(f"{group}/")}):
                groups[group] = scores
        aucs = {
            audit: Measurement.of_auc(group.rows, group.member, scores)
            for group in groups.values() for audit, scores in group.scores.items()
        }  # fmt: skip
        audits = [name.removeprefix("mia_auc/") for name in result.metrics if name.startswith("mia_auc/")]
        if lacking := [audit for audit in audits if audit not in aucs]:
            raise InputError(f"the scores of {' and '.join(lacking)} are missing")
        return cls(result, _shares(arrays), groups, aucs)

    def measurement(self, metric: str) -> Measurement | None:
        """The measurement of any metric except `mia_auc`, which needs all replicates of a point; None if it was not measured."""
        if metric in self.shares:
            return self.shares[metric]
        if metric.removeprefix("mia_auc/") in self.aucs:
            return self.aucs[metric.removeprefix("mia_auc/")]
        return Measurement.of_value(self.result.metrics[metric]) if metric in self.result.metrics else None


def _shares(arrays: Mapping[str, np.ndarray]) -> dict[str, Measurement]:
    """Accuracy, and robust accuracy under all attacks, under each of them, and over epsilon."""
    rows = arrays["rows"]
    shares = {"accuracy": Measurement.of_share(rows, arrays["logits"].argmax(1) == arrays["labels"])}
    robust = {name.removeprefix("robust/"): array for name, array in arrays.items() if name.startswith("robust/")}
    if robust:
        every = {"robust_accuracy": np.all(list(robust.values()), axis=0)}
        every |= {f"robust_accuracy/{name}": array for name, array in robust.items()}
        shares |= {name: Measurement.of_share(rows[: len(array)], array) for name, array in every.items()}
    over_epsilon = {name.removeprefix("robust_at/"): array for name, array in arrays.items() if name.startswith("robust_at/")}
    return shares | {
        f"{OVER_EPSILON}{multiple}": Measurement.of_share(rows[: len(array)], array) for multiple, array in over_epsilon.items()
    }
