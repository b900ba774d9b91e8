"""Thresholds learned on shadow models against an exhaustive search."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.audits.learned import Scored, balanced_accuracy, best_threshold, learned

GROUP = st.lists(st.integers(-4, 4), min_size=1, max_size=25)


def reference_threshold(members, others):
    """The best of all observed scores as a threshold, in exact arithmetic; the lowest one of ties."""
    best = None
    for v in sorted({*members, *others}):
        share = Fraction(sum(m >= v for m in members), len(members)) + Fraction(sum(o < v for o in others), len(others))
        if best is None or share > best[0]:
            best = share, v
    return best[1]


def scored(n, seed, classes=4, gain=1.0):
    """Scores whose level differs by class, so that one threshold does not suit all classes."""
    s = np.random.default_rng(seed)
    y, member = s.integers(classes, size=n), s.random(n) < 0.5
    return Scored((s.normal(size=n) + gain * member + 2 * y).round(1), member, y)


def reference_accuracy(target, shadows, per_class):
    """(TPR + TNR) / 2 on the target, image by image."""
    hits = {True: [], False: []}
    for score, member, y in zip(*target, strict=True):
        rows = [r for r in zip(*shadows, strict=True) if not per_class or r[2] == y]
        threshold = reference_threshold([r[0] for r in rows if r[1]], [r[0] for r in rows if not r[1]])
        hits[bool(member)].append((score >= threshold) == member)
    return (np.mean(hits[True]) + np.mean(hits[False])) / 2


@settings(max_examples=200, deadline=None)
@given(GROUP, GROUP)
def test_the_threshold_is_the_lowest_one_of_the_best_observed_scores(members, others):
    assert best_threshold(np.array(members), np.array(others)) == reference_threshold(members, others)


def test_the_threshold_is_infinite_if_a_group_is_empty():
    some, none = np.array([0.1, 0.9]), np.array([])
    for members, others in ((some, none), (none, some), (none, none)):
        assert best_threshold(members, others) == math.inf


def test_balanced_accuracy_of_perfect_inverted_and_useless_scores():
    low, high = np.arange(10.0), np.arange(10.0) + 10
    member = np.r_[np.ones(10, bool), np.zeros(10, bool)]
    assert best_threshold(high, low) == 10
    assert balanced_accuracy(np.r_[high, low], member, 10) == 1
    assert balanced_accuracy(np.r_[low, high], member, 10) == 0
    assert balanced_accuracy(np.r_[low, low], member, 5) == 0.5


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_learned_accuracies_equal_those_of_an_exhaustive_search_for_all_images_and_per_class(seed):
    target, shadows = scored(70, seed), scored(120, seed + 10)
    one, per_class = learned(target, shadows)
    assert one == pytest.approx(reference_accuracy(target, shadows, False), abs=1e-12)
    assert per_class == pytest.approx(reference_accuracy(target, shadows, True), abs=1e-12)


def test_a_threshold_per_class_is_better_if_classes_differ_in_level():
    one, per_class = learned(scored(4000, 0, gain=2.0), scored(4000, 1, gain=2.0))
    assert per_class > one + 0.1
    assert per_class == pytest.approx(0.8413, abs=0.02)  # Phi(1), half-way between N(2, 1) and N(0, 1)


def test_a_class_without_members_or_non_members_of_shadow_models_gets_the_common_threshold():
    target = Scored(np.array([0.5, 1.5, 0.5, 1.5]), np.array([False, True, False, True]), np.array([5, 5, 2, 2]))
    scores, member = np.array([0.0, 1.0, 2.0, 3.0, 7.0]), np.array([False, False, True, True, True])
    shadows = Scored(scores - 1, member, np.array([0, 0, 0, 0, 2]))
    assert learned(target, shadows) == (1.0, 1.0)  # the common threshold is 1


def test_thresholds_are_learned_from_the_shadow_models_and_not_from_the_target():
    target = scored(300, 0, gain=2.0)
    shadows = scored(300, 1, gain=2.0)
    higher = shadows._replace(scores=shadows.scores + 1000)
    assert learned(target, higher) == (0.5, 0.5)  # all scores of the target are below the threshold
    assert min(learned(target, shadows)) > 0.6


def test_learned_accuracies_are_one_half_if_members_score_like_others():
    n = 6000
    for accuracy in learned(scored(n, 0, gain=0.0), scored(n, 1, gain=0.0)):
        assert abs(accuracy - 0.5) < 3 * math.sqrt(0.25 / n)  # TPR and TNR, each of n / 2 images


def test_a_balanced_accuracy_without_members_or_non_members_or_with_nan_is_rejected():
    for scores, member in (([1.0, 2.0], [True, True]), ([1.0, 2.0], [False, False]), ([1.0, np.nan], [True, False]), ([], [])):
        with pytest.raises(ValueError, match="needs members and non-members, and scores without NaN"):
            balanced_accuracy(np.array(scores), np.array(member, bool), 0.0)


def test_scores_of_shadow_models_that_are_nan_are_left_out_of_the_threshold_and_infinite_ones_are_ranked():
    members, others = np.array([2.0, 3.0, 4.0]), np.array([0.0, 1.0, 2.5])
    assert best_threshold(np.r_[members, np.nan], np.r_[np.nan, others]) == best_threshold(members, others)
    assert best_threshold(np.array([np.inf, 1.0]), np.array([-np.inf, 0.0])) == 1
