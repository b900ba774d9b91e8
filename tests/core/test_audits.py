"""Membership scores against their formulas, ROC readings against brute force, scikit-learn and known distributions."""

import math

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.audits import scores
from core.audits.roc import Roc
from core.audits.threshold import leak_metrics, threshold_audits, worst_leak

torch.set_num_threads(1)


def naive_modified_entropy(logits, y):
    """-M by the definition, for logits that float64 can exponentiate and subtract without harm."""
    total = []
    for row, label in zip(logits.double().numpy(), y.tolist(), strict=True):
        p = np.exp(row) / np.exp(row).sum()
        m = -(1 - p[label]) * math.log(p[label])
        m -= sum(p[i] * math.log(1 - p[i]) for i in range(len(p)) if i != label)
        total.append(-m)
    return np.array(total)


def logits_and_labels(n=64, classes=7, scale=2.0, seed=0):
    stream = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, classes, generator=stream), torch.randint(classes, (n,), generator=stream)


def labelled(roc):
    return np.r_[np.ones(len(roc.members)), np.zeros(len(roc.non_members))], np.r_[roc.members, roc.non_members]


def tied_groups(min_size=1):
    group = st.lists(st.integers(-3, 3), min_size=min_size, max_size=30)
    return st.tuples(group, group)


# ---- scores


def test_modified_entropy_of_a_sure_and_right_prediction_is_zero():
    logits = torch.zeros(1, 10)
    logits[0, 3] = 1e4
    assert scores.modified_entropy(logits, torch.tensor([3])).item() == 0
    logits[0, 3] = 30
    assert abs(scores.modified_entropy(logits, torch.tensor([3])).item()) < 1e-10


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
def test_modified_entropy_of_a_uniform_prediction_has_its_closed_form(classes):
    expected = (classes - 1) / classes * (math.log(classes) + math.log(classes / (classes - 1)))
    got = -scores.modified_entropy(torch.full((1, classes), 5.0), torch.tensor([1])).item()
    assert got == pytest.approx(expected, rel=1e-12)
    if classes == 10:
        assert got == pytest.approx(2.1672, abs=5e-5)


def test_modified_entropy_of_a_sure_and_wrong_prediction_grows_without_bound():
    logits = torch.zeros(5, 10)
    logits[:, 0] = torch.tensor([5.0, 10, 100, 1000, 1e4])
    m = -scores.modified_entropy(logits, torch.full((5,), 4))
    assert (m.diff() > 0).all() and torch.isfinite(m).all()
    assert m[-1].item() == pytest.approx(2e4, rel=1e-3)  # -log p_y, and -log(1 - p_0), each 1e4


@pytest.mark.parametrize("classes", [2, 7, 40])
def test_modified_entropy_equals_the_naive_formula_on_moderate_logits(classes):
    logits, y = logits_and_labels(classes=classes)
    np.testing.assert_allclose(scores.modified_entropy(logits, y).numpy(), naive_modified_entropy(logits, y), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", scores.SCORES)
@given(scale=st.sampled_from([1.0, 50.0, 1e3, 1e4]), seed=st.integers(0, 999), classes=st.sampled_from([2, 5, 10]))
@settings(max_examples=15, deadline=None)
def test_scores_are_finite_for_any_logits(name, scale, seed, classes):
    logits = (2 * torch.rand(16, classes, generator=torch.Generator().manual_seed(seed)) - 1) * scale
    y = torch.arange(16) % classes
    got = scores.SCORES[name](logits, y)
    assert got.dtype == torch.float64 and torch.isfinite(got).all()
    assert (got <= 1 if name == "confidence" else got <= 1e-12).all()


@pytest.mark.parametrize("name", scores.SCORES)
def test_scores_do_not_change_when_a_constant_is_added_to_all_logits(name):
    logits, y = logits_and_labels()
    logits = logits.double()
    torch.testing.assert_close(scores.SCORES[name](logits + 300, y), scores.SCORES[name](logits, y), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("classes", [2, 10])
def test_entropy_of_a_uniform_prediction_is_log_classes(classes):
    got = scores.entropy(torch.zeros(1, classes), torch.tensor([0])).item()
    assert -got == pytest.approx(math.log(classes), rel=1e-12)


@pytest.mark.parametrize("name", scores.SCORES)
def test_a_class_with_logit_minus_infinity_is_as_good_as_absent(name):
    logits, y = logits_and_labels(classes=5)
    masked = torch.cat([logits, torch.full((len(y), 1), -math.inf)], 1)
    torch.testing.assert_close(scores.SCORES[name](masked, y), scores.SCORES[name](logits, y), rtol=1e-9, atol=1e-12)


def test_entropy_equals_scipys():
    logits, y = logits_and_labels()
    expected = scipy.stats.entropy(logits.double().softmax(1).numpy(), axis=1)
    np.testing.assert_allclose(-scores.entropy(logits, y).numpy(), expected, rtol=1e-12)


def test_confidence_is_the_probability_of_the_label_and_loss_its_logarithm_in_the_same_order():
    logits, y = logits_and_labels()
    p = np.array([row[label] for row, label in zip(logits.double().softmax(1).numpy(), y, strict=True)])
    np.testing.assert_allclose(scores.confidence(logits, y), p, rtol=1e-12)
    np.testing.assert_allclose(scores.loss(logits, y), np.log(p), rtol=1e-12)
    assert (scores.confidence(logits, y).argsort() == scores.loss(logits, y).argsort()).all()


def test_loss_still_orders_images_whose_confidence_rounds_to_one():
    logits = torch.tensor([[40.0, 0.0], [50.0, 0.0], [90.0, 0.0]])
    y = torch.zeros(3, dtype=torch.long)
    assert scores.confidence(logits, y).unique().numel() == 1
    assert (scores.loss(logits, y).diff() > 0).all()


# ---- readings of the ROC


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.0, 2.0])
def test_auc_of_shifted_normals_is_phi_of_shift_over_root_two(shift):
    stream = np.random.default_rng(7)
    roc = Roc.of(stream.normal(shift, 1, 3000), stream.normal(0, 1, 3000))
    truth = scipy.stats.norm.cdf(shift / math.sqrt(2))
    q1, q2 = truth / (2 - truth), 2 * truth**2 / (1 + truth)  # Hanley and McNeil 1982
    se = math.sqrt((truth * (1 - truth) + 2999 * (q1 + q2 - 2 * truth**2)) / 3000**2)
    assert abs(roc.auc - truth) < 3 * se


def test_identical_populations_have_auc_one_half_and_a_tpr_that_is_the_fpr():
    stream = np.random.default_rng(3)
    n = 20_000
    roc = Roc.of(stream.normal(size=n), stream.normal(size=n))
    assert abs(roc.auc - 0.5) < 3 * math.sqrt((2 * n + 1) / (12 * n * n))
    for fpr in (0.001, 0.01, 0.1):
        assert abs(roc.tpr_at(fpr) - fpr) < 3 * math.sqrt(2 * fpr * (1 - fpr) / n)
    assert abs(roc.balanced_accuracy - 0.5) < 0.02


def test_the_same_scores_on_both_sides_have_auc_exactly_one_half():
    values = np.random.default_rng(0).integers(0, 5, 40)
    assert Roc.of(values, values[::-1]).auc == pytest.approx(0.5, abs=1e-12)


@given(tied_groups())
@settings(max_examples=60, deadline=None)
def test_auc_equals_the_definition_and_scikit_learn_with_ties(groups):
    members, others = groups
    roc = Roc.of(members, others)
    pairs = [(m > o) + (m == o) / 2 for m in members for o in others]
    assert roc.auc == pytest.approx(np.mean(pairs), abs=1e-12)
    assert roc.auc == pytest.approx(sklearn.metrics.roc_auc_score(*labelled(roc)), abs=1e-12)


@given(tied_groups())
@settings(max_examples=30, deadline=None)
def test_swapping_members_and_non_members_turns_auc_into_one_minus_it(groups):
    assert Roc.of(*groups).auc == pytest.approx(1 - Roc.of(*groups[::-1]).auc, abs=1e-12)


@given(tied_groups())
@settings(max_examples=30, deadline=None)
def test_a_strictly_monotone_transform_changes_no_reading(groups):
    roc = Roc.of(*groups)
    bent = Roc.of(*[np.arctan(np.array(g) / 2) * 7 + 100 for g in groups])
    for reading in (lambda r: r.auc, lambda r: r.balanced_accuracy, lambda r: r.tpr_at(0.1)):
        assert reading(bent) == pytest.approx(reading(roc), abs=1e-12)


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


def test_tpr_interval_is_wilsons_over_the_members():
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
def test_nan_and_empty_groups_are_refused(groups):
    with pytest.raises(ValueError, match="NaN"):
        Roc.of(*groups)


def test_infinite_scores_are_ranked_like_any_other():
    assert Roc.of([math.inf, 0.0], [-math.inf, 0.0]).auc == pytest.approx(3.5 / 4)


# ---- DeLong


def delong_variance(members, others):
    """DeLong's variance from the full matrix of comparisons."""
    wins = (members[:, None] > others) + (members[:, None] == others) / 2
    return wins.mean(1).var(ddof=1) / len(members) + wins.mean(0).var(ddof=1) / len(others)


@pytest.mark.parametrize("decimals", [8, 0], ids=["continuous", "tied"])
def test_auc_interval_is_delongs_from_the_full_matrix_of_comparisons(decimals):
    stream = np.random.default_rng(2)
    members, others = stream.normal(0.8, 1, 90).round(decimals), stream.normal(0, 1, 70).round(decimals)
    roc = Roc.of(members, others)
    half = 1.959963985 * math.sqrt(delong_variance(members, others))
    assert tuple(roc.auc_interval()) == pytest.approx((roc.auc - half, roc.auc + half), abs=1e-8)


def test_auc_interval_is_close_to_the_bootstraps():
    stream = np.random.default_rng(5)
    members, others = stream.normal(0.6, 1, 200), stream.normal(0, 1, 150)
    boot = [Roc.of(stream.choice(members, 200), stream.choice(others, 150)).auc for _ in range(1000)]
    assert tuple(Roc.of(members, others).auc_interval()) == pytest.approx(np.quantile(boot, [0.025, 0.975]), abs=0.012)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_auc_interval_covers_the_truth_95_percent_of_the_time(shift):
    stream = np.random.default_rng(11)
    truth = scipy.stats.norm.cdf(shift / math.sqrt(2))
    n = 500
    ends = [Roc.of(stream.normal(shift, 1, 80), stream.normal(0, 1, 60)).auc_interval() for _ in range(n)]
    assert abs(np.mean([low <= truth <= high for low, high in ends]) - 0.95) < 3 * math.sqrt(0.95 * 0.05 / n)


def test_auc_interval_stays_in_zero_one_and_widens_with_the_level():
    roc = Roc.of([2, 3, 4, 5.0, 0.5], [0, 1, 0.2, -1, 2.5])
    narrow, wide = roc.auc_interval(0.5), roc.auc_interval(0.999)
    assert 0 <= wide.low < narrow.low < roc.auc < narrow.high <= wide.high <= 1


# ---- the audits together


def audits(members=200, others=100, gain=6.0):
    logits, y = logits_and_labels(members, seed=1)
    other_logits, other_y = logits_and_labels(others, seed=2)
    logits[torch.arange(members), y] += gain
    return threshold_audits(logits, y, other_logits, other_y)


def test_threshold_audits_score_members_higher_and_equal_scikit_learn():
    logits, y = logits_and_labels(120, seed=1)
    logits[torch.arange(120), y] += 2
    others, other_y = logits_and_labels(80, seed=2)
    got = threshold_audits(logits, y, others, other_y)
    assert set(got) == {"confidence", "loss", "entropy", "modified_entropy"}
    truth = np.r_[np.ones(120), np.zeros(80)]
    nll = [torch.nn.functional.cross_entropy(a.double(), b, reduction="none") for a, b in ((logits, y), (others, other_y))]
    assert got["loss"].auc == pytest.approx(sklearn.metrics.roc_auc_score(truth, -torch.cat(nll).numpy()), abs=1e-12)
    naive = np.r_[naive_modified_entropy(logits, y), naive_modified_entropy(others, other_y)]
    assert got["modified_entropy"].auc == pytest.approx(sklearn.metrics.roc_auc_score(truth, naive), abs=1e-9)
    assert all(roc.auc > 0.9 for roc in audits(gain=9.0).values())


def test_leak_metrics_take_the_worst_audit_after_folding_at_one_half():
    rocs = {"weak": Roc.of([1, 2, 3, 4], [1, 2, 3, 5]), "flipped": Roc.of([0, 1, 2, 9], [3, 4, 5, 6])}
    got = leak_metrics(rocs)
    assert got["mia_auc/flipped"] == pytest.approx(0.25)  # raw, not folded
    assert got["mia_auc/weak"] == pytest.approx((0.5 + 1.5 + 2.5 + 3) / 16)
    assert worst_leak(got)["mia_auc"] == pytest.approx(0.75)
    assert got["mia_auc_low/flipped"] <= 0.25 <= got["mia_auc_high/flipped"]


@given(tied_groups(2))
@settings(max_examples=30, deadline=None)
def test_mia_auc_is_at_least_one_half_and_blind_to_the_scores_sign(groups):
    members, others = map(np.array, groups)
    got, flipped = (worst_leak(leak_metrics({"a": Roc.of(s * members, s * others)}))["mia_auc"] for s in (1, -1))
    assert got >= 0.5 and got == pytest.approx(flipped, abs=1e-12)


@pytest.mark.parametrize(("others", "expected"), [(999, set()), (1000, {"0.01"}), (9999, {"0.01"}), (10000, {"0.01", "0.001"})])
def test_a_tpr_is_left_out_where_the_non_members_cannot_resolve_its_fpr(others, expected):
    got = leak_metrics(audits(others=others))
    rates = {name.split("/")[0].removeprefix("mia_tpr_at_fpr_") for name in got if name.startswith("mia_tpr")}
    assert rates == expected


def test_leak_metrics_are_readings_of_the_rocs():
    rocs = audits(others=1000)
    got = leak_metrics(rocs)
    for name, roc in rocs.items():
        assert got[f"mia_auc/{name}"] == roc.auc
        assert (got[f"mia_auc_low/{name}"], got[f"mia_auc_high/{name}"]) == tuple(roc.auc_interval())
        assert got[f"mia_balanced_accuracy/{name}"] == roc.balanced_accuracy
        assert got[f"mia_advantage/{name}"] == pytest.approx(2 * roc.balanced_accuracy - 1)
        assert got[f"mia_tpr_at_fpr_0.01/{name}"] == roc.tpr_at(0.01)


def test_the_interval_of_the_worst_audit_is_that_audits_own_made_wider_for_having_been_chosen():
    one = leak_metrics({"a": Roc.of(np.arange(50) + 20, np.arange(50))})
    assert worst_leak(one) == pytest.approx(
        {"mia_auc": one["mia_auc/a"], "mia_auc_low": one["mia_auc_low/a"], "mia_auc_high": one["mia_auc_high/a"]}
    )
    weak = Roc.of(np.arange(50) + 1, np.arange(50))
    ten = worst_leak(one | leak_metrics({str(i): weak for i in range(9)}))
    wider = scipy.stats.norm.ppf(1 - 0.005 / 2) / scipy.stats.norm.ppf(0.975)
    assert ten["mia_auc"] - ten["mia_auc_low"] == pytest.approx(wider * (one["mia_auc/a"] - one["mia_auc_low/a"]))
    flipped = worst_leak(leak_metrics({"a": Roc.of(np.arange(50), np.arange(50) + 20)}))
    assert flipped == pytest.approx(worst_leak(one))
