"""Thresholds that are learned on shadow models and applied to the target (Song and Mittal 2021)."""

from typing import NamedTuple

import numpy as np


def best_threshold(members: np.ndarray, non_members: np.ndarray) -> float:
    """The observed score v that maximises (share of members >= v + share of non-members < v) / 2; the lowest one of ties.

    Scores that are NaN are left out. Infinite if either group is empty; no image is then classified as a member.
    """
    members, non_members = (scores[~np.isnan(scores)] for scores in (members, non_members))
    if not len(members) or not len(non_members):
        return np.inf
    members, non_members = np.sort(members), np.sort(non_members)
    values = np.unique(np.concatenate([members, non_members]))
    above, below = len(members) - np.searchsorted(members, values), np.searchsorted(non_members, values)
    return float(values[(above * len(non_members) + below * len(members)).argmax()])  # in integers, so that ties are exact


def balanced_accuracy(scores: np.ndarray, member: np.ndarray, thresholds: np.ndarray | float) -> float:
    """(TPR + TNR) / 2 of the rule `score >= threshold`, with one threshold or one per image.

    Raises:
        ValueError: there are no members or no non-members, or a score is NaN.
    """
    if member.all() or not member.any() or np.isnan(scores).any():
        raise ValueError("a balanced accuracy needs members and non-members, and scores without NaN")
    predicted = scores >= thresholds
    return float((predicted[member].mean() + (~predicted[~member]).mean()) / 2)


class Scored(NamedTuple):
    """Scored images of the target, or of all shadow models pooled."""

    scores: np.ndarray
    """Scores, [N]."""
    member: np.ndarray
    """Whether the network that produced the score was trained on the image, bool [N]."""
    y: np.ndarray
    """Labels, [N]."""


def learned(target: Scored, shadows: Scored) -> tuple[float, float]:
    """Balanced accuracies on the target with one threshold, and with one per class, both learned on shadow models."""
    one = best_threshold(shadows.scores[shadows.member], shadows.scores[~shadows.member])
    per_class = np.full(int(max(target.y.max(), shadows.y.max())) + 1, one)
    for c in np.unique(shadows.y):
        scores, inside = shadows.scores[shadows.y == c], shadows.member[shadows.y == c]
        if inside.any() and not inside.all():
            per_class[c] = best_threshold(scores[inside], scores[~inside])
    accuracies = (balanced_accuracy(target.scores, target.member, thresholds) for thresholds in (one, per_class[target.y]))
    return next(accuracies), next(accuracies)
