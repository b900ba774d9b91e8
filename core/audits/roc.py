"""Separation of members from non-members by a score: AUC with its interval, balanced accuracy, TPR at a low FPR.

Scores are larger for members. Ties count half in the AUC; a threshold accepts `score >= threshold`.
"""

from dataclasses import dataclass

import numpy as np

from core.stats import Interval, placements, score_interval, wilson


@dataclass(frozen=True)
class Roc:
    """Sorted scores of members and non-members, with the statistics of their ROC curve."""

    members: np.ndarray
    """Scores of the members, ascending."""
    non_members: np.ndarray
    """Scores of the non-members, ascending."""

    @classmethod
    def of(cls, members, non_members, audit: str = "audit") -> "Roc":
        """The ROC of two groups of scores, one-dimensional arrays or tensors in any order; infinite scores are ranked like others.

        Raises:
            ValueError: a group is empty or a score is NaN; the message has the name of the audit.
        """
        groups = [np.sort(np.asarray(scores, dtype=np.float64)) for scores in (members, non_members)]
        (m, bad_m), (n, bad_n) = ((len(scores), int(np.isnan(scores).sum())) for scores in groups)
        if not m or not n or bad_m or bad_n:
            counts = f"{m} members ({bad_m} NaN) and {n} non-members ({bad_n} NaN)"
            raise ValueError(f"an ROC needs members and non-members, and scores without NaN; {audit} has {counts}")
        return cls(*groups)

    @property
    def auc(self) -> float:
        """Area under the curve: P(a member's score > a non-member's) + P(equal) / 2."""
        return float(placements(self.members, self.non_members).mean())

    def auc_interval(self, level: float = 0.95) -> Interval:
        """Wilson's interval of the AUC, with DeLong's variance (DeLong 1988) expressed as a number of independent pairs.

        The number is AUC (1 - AUC) / variance (Kottas 2014). DeLong's variance is too small near 0 and 1, and 0 there; one pair is
        therefore added with the largest variance of any distribution, AUC (1 - AUC) / min(members, non-members) (Birnbaum and
        Klose 1957). The interval has a positive width for all scores, also for a single image, and approaches DeLong's with more
        images. `tests/benchmarks/auc_intervals.py` compares its coverage with that of other intervals.
        """
        smallest = min(len(self.members), len(self.non_members))
        spread, variance = self.auc * (1 - self.auc), 0.0
        if smallest == 1:  # one image shows no variance
            return score_interval(self.auc, 1, level)
        for scores, others in ((self.members, self.non_members), (self.non_members, self.members)):
            variance += float(placements(scores, others).var(ddof=1)) / len(scores)
        return score_interval(self.auc, (spread + 1 / smallest) / (variance + 1 / smallest**2), level)

    @property
    def balanced_accuracy(self) -> float:
        """The largest (TPR + TNR) / 2 over all thresholds, chosen on the evaluated scores: an upper bound for an attacker."""
        thresholds = np.concatenate([self.members, self.non_members])
        tpr = 1 - np.searchsorted(self.members, thresholds) / len(self.members)
        tnr = np.searchsorted(self.non_members, thresholds) / len(self.non_members)
        return max(0.5, float((tpr + tnr).max() / 2))

    @property
    def advantage(self) -> float:
        """The largest TPR - FPR over all thresholds (Yeom 2018), an upper bound like `balanced_accuracy`."""
        return 2 * self.balanced_accuracy - 1

    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """False-positive and true-positive rates from the strictest threshold to the loosest, both rising from 0 to 1."""
        thresholds = np.unique(np.concatenate([self.members, self.non_members]))[::-1]
        rates = [1 - np.searchsorted(group, thresholds) / len(group) for group in (self.non_members, self.members)]
        return tuple(np.concatenate([[0.0], rate]) for rate in rates)  # pyright: ignore[reportReturnType]

    def tpr_at(self, fpr: float) -> float:
        """True-positive rate at the lowest threshold whose false-positive rate is at most `fpr`.

        With too few non-members it is not meaningful; see `unresolved`.
        """
        allowed = int(np.floor(fpr * len(self.non_members) + 1e-9))
        if allowed >= len(self.non_members):
            return 1.0
        above = self.non_members[len(self.non_members) - allowed - 1]  # this one must be rejected
        return float(1 - np.searchsorted(self.members, above, side="right") / len(self.members))

    def tpr_interval(self, fpr: float, level: float = 0.95) -> Interval:
        """Wilson's interval of `tpr_at` over the members, for a fixed threshold."""
        return wilson(round(self.tpr_at(fpr) * len(self.members)), len(self.members), level)


MIN_FALSE_POSITIVES = 10
"""Number of false positives that a threshold must be expected to have before its TPR is reported."""


def unresolved(fpr: float, non_members: int) -> str:
    """The reason why a TPR at this false-positive rate is not reported; empty if it can be.

    Below `MIN_FALSE_POSITIVES` expected false positives, a single non-member moves the threshold by more than a tenth of them, and
    a high TPR at 0.1 % may be due to one image.
    """
    expected = fpr * non_members
    if expected >= MIN_FALSE_POSITIVES:
        return ""
    return (
        f"with {non_members:,} non-members, {expected:.3g} false positives are expected at a rate of {100 * fpr:g} %; "
        f"a TPR there needs {MIN_FALSE_POSITIVES}, that is {round(MIN_FALSE_POSITIVES / fpr):,} non-members"
    )
