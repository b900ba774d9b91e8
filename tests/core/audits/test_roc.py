"""Statistics of the ROC against brute force, scikit-learn and known distributions."""

import math

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from auc_intervals import SAMPLERS, coverage
from audit_oracles import tied_groups
from hypothesis import given, settings
from hypothesis import strategies as st

from core.audits.roc import Roc, unresolved

GROUP = st.lists(st.integers(-4, 4), min_size=1, max_size=25)


def labels_and_scores(roc):
    return np.r_[np.ones(len(roc.members)), np.zeros(len(roc.non_members))], np.r_[roc.members, roc.non_members]


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.0, 2.0])
def test_auc_of_shifted_normals_is_phi_of_shift_over_root_two(shift):
    stream = np.random.default_rng(7)
    roc = Roc.of(stream.normal(shift, 1, 3000), stream.normal(0, 1, 3000))
    truth = scipy.stats.norm.cdf(shift / math.sqrt(2))
    q1, q2 = truth / (2 - truth), 2 * truth**2 / (1 + truth)  # Hanley and McNeil 1982
    se = math.sqrt((truth * (1 - truth) + 2999 * (q1 + q2 - 2 * truth**2)) / 3000**2)
    assert abs(roc.auc - truth) < 3 * se


def test_identical_populations_have_auc_one_half_and_a_tpr_equal_to_the_fpr():
    stream = np.random.default_rng(3)
    n = 20_000
    roc = Roc.of(stream.normal(size=n), stream.normal(size=n))
    assert abs(roc.auc - 0.5) < 3 * math.sqrt((2 * n + 1) / (12 * n * n))
    for fpr in (0.001, 0.01, 0.1):
        assert abs(roc.tpr_at(fpr) - fpr) < 3 * math.sqrt(2 * fpr * (1 - fpr) / n)
    assert abs(roc.balanced_accuracy - 0.5) < 0.02


def test_identical_scores_in_both_groups_have_auc_exactly_one_half():
    values = np.random.default_rng(0).integers(0, 5, 40)
    assert Roc.of(values, values[::-1]).auc == pytest.approx(0.5, abs=1e-12)


@given(tied_groups())
@settings(max_examples=60, deadline=None)
def test_auc_equals_its_definition_and_that_of_scikit_learn_with_ties(groups):
    members, others = groups
    roc = Roc.of(members, others)
    pairs = [(m > o) + (m == o) / 2 for m in members for o in others]
    assert roc.auc == pytest.approx(np.mean(pairs), abs=1e-12)
    assert roc.auc == pytest.approx(sklearn.metrics.roc_auc_score(*labels_and_scores(roc)), abs=1e-12)


@given(tied_groups())
@settings(max_examples=30, deadline=None)
def test_swapping_members_and_non_members_gives_one_minus_the_auc(groups):
    assert Roc.of(*groups).auc == pytest.approx(1 - Roc.of(*groups[::-1]).auc, abs=1e-12)


@given(tied_groups())
@settings(max_examples=30, deadline=None)
def test_a_strictly_monotone_transform_of_the_scores_changes_no_statistic(groups):
    roc = Roc.of(*groups)
    transformed = Roc.of(*[np.arctan(np.array(g) / 2) * 7 + 100 for g in groups])
    for statistic in (lambda r: r.auc, lambda r: r.balanced_accuracy, lambda r: r.tpr_at(0.1)):
        assert statistic(transformed) == pytest.approx(statistic(roc), abs=1e-12)


@given(tied_groups(), st.sampled_from([0.0, 0.001, 0.01, 0.1, 0.25, 1 / 3, 0.5, 0.9, 0.999]))
@settings(max_examples=100, deadline=None)
def test_tpr_at_is_the_largest_tpr_of_any_threshold_within_the_fpr(groups, fpr):
    members, others = map(np.array, groups)
    best = 0.0
    for threshold in [*members, *others, math.inf]:
        if np.sum(others >= threshold) <= fpr * len(others) * (1 + 1e-12):
            best = max(best, np.mean(members >= threshold))
    assert Roc.of(*groups).tpr_at(fpr) == pytest.approx(best, abs=1e-12)


def test_tpr_at_an_fpr_of_one_is_one():
    assert Roc.of([0, 1, 2], [3, 4, 5]).tpr_at(1.0) == 1


def test_tpr_at_grows_with_the_fpr():
    stream = np.random.default_rng(1)
    roc = Roc.of(stream.normal(1, 1, 300), stream.normal(0, 1, 200))
    rates = [roc.tpr_at(f) for f in np.linspace(0, 0.99, 100)]
    assert (np.diff(rates) >= 0).all() and rates[-1] > rates[0]


def test_tpr_interval_is_the_wilson_interval_over_the_members():
    roc = Roc.of(np.arange(50), np.arange(0, 40))
    ci = scipy.stats.binomtest(round(roc.tpr_at(0.1) * 50), 50).proportion_ci(0.95, method="wilson")
    assert tuple(roc.tpr_interval(0.1)) == pytest.approx((ci.low, ci.high), abs=1e-12)


@given(tied_groups())
@settings(max_examples=60, deadline=None)
def test_balanced_accuracy_is_the_best_of_all_thresholds(groups):
    members, others = map(np.array, groups)
    candidates = [-math.inf, *members, *others, math.inf]
    best = max((np.mean(members >= t) + np.mean(others < t)) / 2 for t in candidates)
    assert Roc.of(*groups).balanced_accuracy == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("groups", [([0.1, math.nan], [0.2]), ([0.1], [math.nan]), ([], [0.1]), ([0.1], [])])
def test_nan_and_empty_groups_are_rejected(groups):
    with pytest.raises(ValueError, match="NaN"):
        Roc.of(*groups)


def test_infinite_scores_are_ranked_like_others():
    assert Roc.of([math.inf, 0.0], [-math.inf, 0.0]).auc == pytest.approx(3.5 / 4)


# ---- the interval of the AUC


def delong_variance(members, others):
    """DeLong's variance from the full matrix of comparisons."""
    wins = (members[:, None] > others) + (members[:, None] == others) / 2
    return wins.mean(1).var(ddof=1) / len(members) + wins.mean(0).var(ddof=1) / len(others)


@pytest.mark.parametrize("decimals", [8, 0], ids=["continuous", "tied"])
def test_auc_interval_solves_the_score_equation_with_delongs_variance_and_one_pair_of_the_largest_variance(decimals):
    stream = np.random.default_rng(2)
    members, others = stream.normal(0.8, 1, 90).round(decimals), stream.normal(0, 1, 70).round(decimals)
    roc = Roc.of(members, others)
    size = (roc.auc * (1 - roc.auc) + 1 / 70) / (delong_variance(members, others) + 1 / 70**2)
    for end in roc.auc_interval():
        assert (roc.auc - end) ** 2 == pytest.approx(1.959963985**2 * end * (1 - end) / size, rel=1e-8)


@pytest.mark.parametrize(("shift", "difference"), [(0.0, 0.003), (1.2, 0.003), (2.66, 0.02)])
def test_auc_interval_is_as_wide_as_delongs_with_many_images(shift, difference):
    stream = np.random.default_rng(4)
    members, others = stream.normal(shift, 1, 3000), stream.normal(0, 1.5, 2000)
    low, high = Roc.of(members, others).auc_interval()
    assert high - low == pytest.approx(2 * 1.959963985 * math.sqrt(delong_variance(members, others)), rel=difference)


PERFECT, CONSTANT = (np.arange(4) + 10, np.arange(2)), (np.zeros(30), np.zeros(15))


@pytest.mark.parametrize(("members", "others"), [PERFECT, PERFECT[::-1], CONSTANT, ([1], [0]), ([1], [1]), ([2, 3, 4], [3])])
def test_auc_interval_has_a_width_and_stays_in_zero_one_for_separated_constant_and_single_scores(members, others):
    roc = Roc.of(members, others)
    low, high = roc.auc_interval()
    assert 0 <= low <= roc.auc <= high <= 1 and high - low > 0.1


def test_auc_interval_of_separated_scores_is_wilsons_for_as_many_hits_as_the_smaller_group_has_images():
    for m, n in ((4, 2), (30, 15), (1, 1), (1, 50)):
        roc = Roc.of(np.arange(m) + 100, np.arange(n))
        wilson = scipy.stats.binomtest(min(m, n), min(m, n)).proportion_ci(0.95, method="wilson")
        assert tuple(roc.auc_interval()) == pytest.approx((wilson.low, 1), abs=1e-12)


@given(tied_groups(), st.sampled_from([0.5, 0.95, 0.9999]))
@settings(max_examples=60, deadline=None)
def test_auc_interval_of_swapped_groups_is_mirrored_and_contains_the_auc(groups, level):
    roc, swapped = Roc.of(*groups), Roc.of(*groups[::-1])
    low, high = roc.auc_interval(level)
    assert 0 <= low <= roc.auc <= high <= 1 and low < high
    assert tuple(swapped.auc_interval(level)) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_auc_interval_is_close_to_the_bootstrap_interval():
    stream = np.random.default_rng(5)
    members, others = stream.normal(0.6, 1, 200), stream.normal(0, 1, 150)
    bootstrap = [Roc.of(stream.choice(members, 200), stream.choice(others, 150)).auc for _ in range(1000)]
    assert tuple(Roc.of(members, others).auc_interval()) == pytest.approx(np.quantile(bootstrap, [0.025, 0.975]), abs=0.012)


SMALL = [(4, 2, 0.5), (4, 2, 0.97), (10, 10, 0.6), (10, 10, 0.99), (30, 15, 0.97), (30, 15, 0.8), (80, 60, 0.5), (80, 60, 0.97)]


@pytest.mark.parametrize("scores", ["normal", "members /3", "-exponential", "rare"])
@pytest.mark.parametrize(("m", "n", "auc"), SMALL)
def test_auc_interval_covers_the_truth_at_least_93_percent_of_the_time(m, n, auc, scores):
    """DeLong's covers 0.81 with 30 and 15 normal scores at an AUC of 0.97, and 0.16 with 4 and 2."""
    repetitions = 400
    covered, _ = coverage(SAMPLERS[scores], auc, m, n, repetitions, seed=11)["Roc.auc_interval"]
    assert covered > 0.93 - 3 * math.sqrt(0.93 * 0.07 / repetitions)


def test_auc_interval_covers_the_truth_95_percent_of_the_time_with_hundreds_of_images():
    repetitions = 600
    for auc in (0.5, 0.8):
        covered, _ = coverage(SAMPLERS["normal"], auc, 400, 300, repetitions, seed=1)["Roc.auc_interval"]
        assert abs(covered - 0.95) < 3 * math.sqrt(0.95 * 0.05 / repetitions)


def test_auc_interval_stays_in_zero_one_and_widens_with_the_level():
    roc = Roc.of([2, 3, 4, 5.0, 0.5], [0, 1, 0.2, -1, 2.5])
    narrow, wide = roc.auc_interval(0.5), roc.auc_interval(0.999)
    assert 0 <= wide.low < narrow.low < roc.auc < narrow.high <= wide.high <= 1


# ---- the ROC's curve, advantage and resolution


@settings(max_examples=60, deadline=None)
@given(GROUP, GROUP)
def test_the_curve_equals_that_of_scikit_learn(members, others):
    fpr, tpr, _ = sklearn.metrics.roc_curve([1] * len(members) + [0] * len(others), members + others, drop_intermediate=False)
    curve = Roc.of(members, others).curve()
    np.testing.assert_allclose(curve[0], fpr, atol=1e-12)
    np.testing.assert_allclose(curve[1], tpr, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(GROUP, GROUP)
def test_the_area_under_the_curve_is_the_auc_and_its_largest_distance_above_the_diagonal_the_advantage(members, others):
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
def test_a_false_positive_rate_is_resolved_with_at_least_ten_expected_false_positives(fpr, enough):
    assert unresolved(fpr, enough) == ""
    reason = unresolved(fpr, enough - 1)
    assert f"{enough - 1:,} non-members" in reason and f"{enough:,} non-members" in reason and f"{100 * fpr:g} %" in reason
