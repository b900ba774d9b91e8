"""Thresholds learned on shadow models against trying every one, and what else is read off an ROC."""

import math
from fractions import Fraction

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from core.audits.learned import Scored, balanced_accuracy, best_threshold, learned
from core.audits.roc import Roc, unresolved
from core.audits.threshold import leak_metrics, worst_leak

GROUP = st.lists(st.integers(-4, 4), min_size=1, max_size=25)


def tried(members, others):
    """Every observed score as a threshold, in exact arithmetic; the lowest of the best."""
    best = None
    for v in sorted({*members, *others}):
        share = Fraction(sum(m >= v for m in members), len(members)) + Fraction(sum(o < v for o in others), len(others))
        if best is None or share > best[0]:
            best = share, v
    return best[1]


def scored(n, seed, classes=4, gain=1.0):
    """Scores whose level differs by class, so that one threshold does not fit all."""
    s = np.random.default_rng(seed)
    y, member = s.integers(classes, size=n), s.random(n) < 0.5
    return Scored((s.normal(size=n) + gain * member + 2 * y).round(1), member, y)


def looped(target, shadows, per_class):
    """(TPR + TNR) / 2 on the target, image by image."""
    right = {True: [], False: []}
    for score, member, y in zip(*target, strict=True):
        rows = [r for r in zip(*shadows, strict=True) if not per_class or r[2] == y]
        threshold = tried([r[0] for r in rows if r[1]], [r[0] for r in rows if not r[1]])
        right[bool(member)].append((score >= threshold) == member)
    return (np.mean(right[True]) + np.mean(right[False])) / 2


# ---- learned thresholds


@settings(max_examples=200, deadline=None)
@given(GROUP, GROUP)
def test_the_threshold_is_the_lowest_of_the_best_among_all_observed_scores(members, others):
    assert best_threshold(np.array(members), np.array(others)) == tried(members, others)


def test_without_members_or_without_others_nobody_is_called_a_member():
    some, none = np.array([0.1, 0.9]), np.array([])
    for members, others in ((some, none), (none, some), (none, none)):
        assert best_threshold(members, others) == math.inf


def test_perfect_and_inverted_scores():
    low, high = np.arange(10.0), np.arange(10.0) + 10
    member = np.r_[np.ones(10, bool), np.zeros(10, bool)]
    assert best_threshold(high, low) == 10
    assert balanced_accuracy(np.r_[high, low], member, 10) == 1
    assert balanced_accuracy(np.r_[low, high], member, 10) == 0
    assert balanced_accuracy(np.r_[low, low], member, 5) == 0.5


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_learned_accuracies_are_those_of_trying_every_threshold_for_all_and_for_each_class(seed):
    target, shadows = scored(70, seed), scored(120, seed + 10)
    one, per_class = learned(target, shadows)
    assert one == pytest.approx(looped(target, shadows, False), abs=1e-12)
    assert per_class == pytest.approx(looped(target, shadows, True), abs=1e-12)


def test_where_classes_differ_in_level_a_threshold_per_class_is_better():
    one, per_class = learned(scored(4000, 0, gain=2.0), scored(4000, 1, gain=2.0))
    assert per_class > one + 0.1
    assert per_class == pytest.approx(0.8413, abs=0.02)  # Phi(1), half-way between N(2, 1) and N(0, 1)


def test_a_class_that_shadow_models_lack_or_know_from_one_side_gets_the_threshold_for_all():
    target = Scored(np.array([0.5, 1.5, 0.5, 1.5]), np.array([False, True, False, True]), np.array([5, 5, 2, 2]))
    scores, member = np.array([0.0, 1.0, 2.0, 3.0, 7.0]), np.array([False, False, True, True, True])
    shadows = Scored(scores - 1, member, np.array([0, 0, 0, 0, 2]))
    assert learned(target, shadows) == (1.0, 1.0)  # the threshold for all is 1


def test_thresholds_come_from_the_shadow_models_and_not_from_the_target():
    target = scored(300, 0, gain=2.0)
    shadows = scored(300, 1, gain=2.0)
    higher = shadows._replace(scores=shadows.scores + 1000)
    assert learned(target, higher) == (0.5, 0.5)  # all of the target is below
    assert min(learned(target, shadows)) > 0.6


def test_where_nothing_tells_members_from_others_learned_accuracies_are_one_half():
    n = 6000
    for found in learned(scored(n, 0, gain=0.0), scored(n, 1, gain=0.0)):
        assert abs(found - 0.5) < 3 * math.sqrt(0.25 / n)  # TPR and TNR, each of n / 2 images


# ---- the ROC's curve, its advantage, and what it does not resolve


@settings(max_examples=60, deadline=None)
@given(GROUP, GROUP)
def test_the_curve_is_scikit_learns(members, others):
    fpr, tpr, _ = sklearn.metrics.roc_curve([1] * len(members) + [0] * len(others), members + others, drop_intermediate=False)
    got = Roc.of(members, others).curve()
    np.testing.assert_allclose(got[0], fpr, atol=1e-12)
    np.testing.assert_allclose(got[1], tpr, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(GROUP, GROUP)
def test_the_area_under_the_curve_is_the_auc_and_its_widest_rise_above_the_diagonal_the_advantage(members, others):
    roc = Roc.of(members, others)
    fpr, tpr = roc.curve()
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1) and (np.diff(fpr) >= 0).all() and (np.diff(tpr) >= 0).all()
    assert np.trapezoid(tpr, fpr) == pytest.approx(roc.auc, abs=1e-12)
    thresholds = [*members, *others, math.inf]
    gaps = [np.mean([m >= t for m in members]) - np.mean([o >= t for o in others]) for t in thresholds]
    assert roc.advantage == pytest.approx(max(gaps), abs=1e-12)


def test_advantage_of_perfect_useless_and_inverted_scores():
    assert Roc.of([3, 4], [1, 2]).advantage == 1
    assert Roc.of([1, 1, 1], [1, 1]).advantage == 0
    assert Roc.of([1, 2], [3, 4]).advantage == 0


def test_the_curve_passes_through_tpr_at():
    s = np.random.default_rng(0)
    roc = Roc.of(s.normal(1, 1, 500).round(1), s.normal(0, 1, 400).round(1))
    fpr, tpr = roc.curve()
    for rate in (0.0, 0.01, 0.1, 0.5):
        assert roc.tpr_at(rate) == tpr[fpr <= rate + 1e-12].max()


@pytest.mark.parametrize(("fpr", "enough"), [(0.01, 1000), (0.001, 10_000), (0.1, 100), (0.05, 200)])
def test_a_false_positive_rate_is_resolved_from_ten_expected_false_positives_on(fpr, enough):
    assert unresolved(fpr, enough) == ""
    why = unresolved(fpr, enough - 1)
    assert f"{enough - 1:,} non-members" in why and f"{enough:,} non-members" in why and f"{100 * fpr:g} %" in why


@pytest.mark.parametrize("others", [999, 1000, 9_999, 10_000])
def test_metrics_have_a_tpr_exactly_where_its_rate_is_resolved(others):
    got = leak_metrics({"a": Roc.of(np.arange(50), np.arange(others))})
    for fpr in (0.01, 0.001):
        assert (f"mia_tpr_at_fpr_{fpr:g}/a" in got) == (unresolved(fpr, others) == "")


def test_metrics_have_every_reading_of_every_audit_under_its_name():
    rocs = {name: Roc.of(np.arange(20) + shift, np.arange(20)) for name, shift in (("a", 3), ("b/per", 7))}
    got = leak_metrics(rocs)
    kinds = ("auc", "auc_low", "auc_high", "balanced_accuracy", "advantage")
    assert set(got) == {f"mia_{kind}/{name}" for kind in kinds for name in rocs}
    for name, roc in rocs.items():
        assert got[f"mia_advantage/{name}"] == pytest.approx(max(np.subtract(*roc.curve()[::-1])), abs=1e-12)


def test_the_worst_leak_sees_audits_of_the_metrics_alone_and_folds_the_sign():
    metrics = {"mia_auc/a": 0.6, "mia_auc_low/a": 0.55, "mia_auc_high/a": 0.65, "accuracy": 0.99, "mia_learned_accuracy/x": 1.0}
    flipped = {"mia_auc/b": 0.2, "mia_auc_low/b": 0.1, "mia_auc_high/b": 0.3}
    assert worst_leak(metrics)["mia_auc"] == 0.6
    got = worst_leak(metrics | flipped)
    assert got["mia_auc"] == pytest.approx(0.8) and got["mia_auc_low"] < 0.7 < 0.9 < got["mia_auc_high"]
