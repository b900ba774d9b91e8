"""How well a score tells members from non-members: AUC with its interval, balanced accuracy, TPR at a low FPR.

Scores are larger for members. Ties count half in the AUC; a threshold accepts `score >= threshold`.
"""

from dataclasses import dataclass

import numpy as np

from core.stats import Interval, normal_quantile, wilson


@dataclass(frozen=True)
class Roc:
    """The two groups' scores, sorted, and everything read off them."""

    members: np.ndarray
    non_members: np.ndarray

    @classmethod
    def of(cls, members, non_members) -> "Roc":
        """From two one-dimensional arrays or tensors.

        Raises:
            ValueError: an empty group or a score that is NaN.
        """
        groups = [np.sort(np.asarray(scores, dtype=np.float64)) for scores in (members, non_members)]
        if not len(groups[0]) or not len(groups[1]) or any(np.isnan(scores).any() for scores in groups):
            raise ValueError("an ROC needs members and non-members, and no NaN")
        return cls(*groups)

    @property
    def auc(self) -> float:
        """P(member's score > non-member's) + P(equal) / 2."""
        return float(_placements(self.members, self.non_members).mean())

    def auc_interval(self, level: float = 0.95) -> Interval:
        """DeLong's interval of the AUC (DeLong 1988); needs two images in each group."""
        over = _placements(self.members, self.non_members)
        under = 1 - _placements(self.non_members, self.members)
        variance = over.var(ddof=1) / len(over) + under.var(ddof=1) / len(under)
        half = normal_quantile(level) * float(np.sqrt(variance))
        return Interval(max(0.0, self.auc - half), min(1.0, self.auc + half))

    @property
    def balanced_accuracy(self) -> float:
        """The best (TPR + TNR) / 2 over all thresholds of these very scores: an upper bound, not an attacker's result."""
        thresholds = np.concatenate([self.members, self.non_members])
        tpr = 1 - np.searchsorted(self.members, thresholds) / len(self.members)
        tnr = np.searchsorted(self.non_members, thresholds) / len(self.non_members)
        return max(0.5, float((tpr + tnr).max() / 2))

    @property
    def advantage(self) -> float:
        """The largest TPR - FPR over all thresholds (Yeom 2018), from the same hindsight as `balanced_accuracy`."""
        return 2 * self.balanced_accuracy - 1

    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """False- and true-positive rates of every threshold from the strictest on, both rising from 0 to 1."""
        thresholds = np.unique(np.concatenate([self.members, self.non_members]))[::-1]
        rates = [1 - np.searchsorted(group, thresholds) / len(group) for group in (self.non_members, self.members)]
        return tuple(np.concatenate([[0.0], rate]) for rate in rates)  # pyright: ignore[reportReturnType]

    def tpr_at(self, fpr: float) -> float:
        """True-positive rate at the lowest threshold whose false-positive rate is at most `fpr`.

        Whether so few non-members say anything about it: `unresolved`.
        """
        allowed = int(np.floor(fpr * len(self.non_members) + 1e-9))
        if allowed >= len(self.non_members):
            return 1.0
        above = self.non_members[len(self.non_members) - allowed - 1]  # this one must be rejected
        return float(1 - np.searchsorted(self.members, above, side="right") / len(self.members))

    def tpr_interval(self, fpr: float, level: float = 0.95) -> Interval:
        """Wilson's interval of `tpr_at` over the members, the threshold taken as given."""
        return wilson(round(self.tpr_at(fpr) * len(self.members)), len(self.members), level)


ENOUGH = 10
"""False positives expected of a threshold before the TPR there is worth a number."""


def unresolved(fpr: float, non_members: int) -> str:
    """Why a TPR at this false-positive rate is not to be quoted; empty if it may be.

    Below `ENOUGH` expected false positives one image more or less moves the threshold by over a tenth of them, and an audit
    that looks strong at 0.1 % has been lucky with one.
    """
    expected = fpr * non_members
    if expected >= ENOUGH:
        return ""
    return (
        f"{non_members:,} non-members put {expected:.3g} of them beyond a false-positive rate of {100 * fpr:g} %; "
        f"a TPR there needs {ENOUGH}, that is {round(ENOUGH / fpr):,} non-members"
    )


def _placements(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """For each of ours, the share of theirs that is smaller, ties half. Both sorted."""
    return (np.searchsorted(theirs, ours) + np.searchsorted(theirs, ours, side="right")) / (2 * len(theirs))
