"""LiRA against a plain loop over images, against the optimal test for known Gaussians, and in edge cases."""

import math

import numpy as np
import pytest
import scipy.stats
from lira_oracles import auc, best_auc, gaussian_networks, median_gap, moments, networks, reference, stream

from core.audits import lira

# ---- equality with the loop


@pytest.mark.parametrize("variance", ["fixed", "sample"])
@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize("models", [8, 9])
def test_online_equals_a_loop_over_images_and_queries(models, queries, variance):
    target, shadows, state = networks(models, queries=queries)
    expected = reference(target, shadows, state, variance)
    np.testing.assert_allclose(lira.online(target, shadows, state, variance), expected, rtol=1e-6)


@pytest.mark.parametrize("variance", ["fixed", "sample"])
def test_online_equals_the_loop_if_many_images_have_only_in_or_only_out_models(variance):
    target, shadows, state = networks(models=3, images=60, neither=0.0)
    one_sided = [(state != sign).all(0).sum() for sign in (1, -1)]
    assert min(one_sided) >= 3 and sum(one_sided) < 40
    expected = reference(target, shadows, state, variance)
    np.testing.assert_allclose(lira.online(target, shadows, state, variance), expected, rtol=1e-6)


@pytest.mark.parametrize("variance", ["fixed", "sample"])
def test_online_equals_the_loop_with_a_single_shadow_model(variance):
    target, shadows, state = networks(models=1, images=60, neither=0.0)
    expected = reference(target, shadows, state, variance)
    np.testing.assert_allclose(lira.online(target, shadows, state, variance), expected, rtol=1e-6)


@pytest.mark.parametrize("variance", ["fixed", "sample"])
@pytest.mark.parametrize("queries", [1, 3])
def test_offline_equals_a_loop_over_images_and_queries(queries, variance):
    target, shadows, state = networks(queries=queries, inside=0.2)
    estimates = [[moments(shadows, state == -1, n, q, variance) for q in range(queries)] for n in range(40)]
    one = [np.mean([-scipy.stats.norm.logsf(target[n, q], *estimates[n][q]) for q in range(queries)]) for n in range(40)]
    two = [np.mean([-scipy.stats.norm.logpdf(target[n, q], *estimates[n][q]) for q in range(queries)]) for n in range(40)]
    np.testing.assert_allclose(lira.offline(target, shadows, state, variance), one, rtol=1e-6)
    np.testing.assert_allclose(
        lira.offline(target, shadows, state, variance, tails=2) + math.log(2 * math.pi) / 2, two, rtol=1e-6
    )  # its density omits a constant


def test_online_equals_the_loop_with_twenty_thousand_images_and_64_models():
    target, shadows, state = networks(models=64, images=20_000, queries=1)
    scores = lira.online(target, shadows, state)
    some = np.arange(0, 20_000, 250)
    np.testing.assert_allclose(
        scores[some], reference(target[some], shadows[:, some], state[:, some], "sample"), rtol=1e-6
    )  # every image has IN and OUT models, so no score depends on other images


def test_the_axis_of_queries_may_be_omitted_for_a_single_query():
    target, shadows, state = networks(queries=1, inside=0.3)
    for score in (lira.online, lira.offline, lira.calibrated):
        assert np.array_equal(score(target, shadows, state), score(target[:, 0], shadows[:, :, 0], state))


def test_scores_are_means_over_queries():
    target, shadows, state = networks(models=64, queries=2, inside=0.3)
    for score in (lira.online, lira.offline, lira.calibrated):
        each = [score(target[:, q], shadows[:, :, q], state) for q in (0, 1)]
        np.testing.assert_allclose(score(target, shadows, state), np.mean(each, 0), rtol=1e-12)


def test_auto_uses_the_variance_of_each_image_from_64_models_on():
    for models, variance, other in ((63, "fixed", "sample"), (64, "sample", "fixed")):
        target, shadows, state = networks(models=models)
        for score in (lira.online, lira.offline):
            assert np.array_equal(score(target, shadows, state), score(target, shadows, state, variance))
            assert not np.allclose(score(target, shadows, state), score(target, shadows, state, other))


# ---- power


@pytest.mark.parametrize("shift", [0.5, 1.0, 2.0])
def test_online_reaches_an_auc_of_phi_of_shift_over_root_two_with_equal_standard_deviations(shift):
    target, shadows, state, member = gaussian_networks(shift, 1.0, 1.0)
    truth = scipy.stats.norm.cdf(shift / math.sqrt(2))
    assert best_auc(shift, 1.0, 1.0) == pytest.approx(truth, abs=1e-6)
    assert auc(lira.online(target, shadows, state), member) == pytest.approx(truth, abs=0.02)
    assert auc(target, member) < truth - 0.05  # images differ by more than membership does


@pytest.mark.parametrize(("std_in", "std_out"), [(0.5, 2.0), (2.0, 0.5), (1.0, 3.0)])
def test_online_reaches_the_best_auc_only_with_separate_standard_deviations_for_in_and_out(std_in, std_out):
    target, shadows, state, member = gaussian_networks(1.0, std_in, std_out)
    truth = best_auc(1.0, std_in, std_out)
    assert auc(lira.online(target, shadows, state), member) == pytest.approx(truth, abs=0.02)
    inside = [shadows[state[:, n] > 0, n] for n in range(len(target))]
    outside = [shadows[state[:, n] < 0, n] for n in range(len(target))]
    means, borrowed = [np.array([np.median(v) for v in side]) for side in (inside, outside)], np.array([np.std(v) for v in inside])
    one_std = scipy.stats.norm.logpdf(target, means[0], borrowed) - scipy.stats.norm.logpdf(target, means[1], borrowed)
    assert auc(one_std, member) < truth - 0.06  # the standard deviation of the IN models for both sides


def test_fixed_variance_reaches_the_best_auc_if_all_images_have_the_same_variance():
    s = stream(3)
    images, models, member = 6000, 16, np.arange(6000) < 3000
    level, state = s.normal(0, 5, images), np.where(s.random((16, images)).argsort(0) < models // 2, 1, -1)

    def phi(inside):
        return level + np.where(inside, s.normal(1, 0.5, inside.shape), s.normal(0, 2, inside.shape))

    target, shadows = phi(member), phi(state > 0)
    fixed, sample = (auc(lira.online(target, shadows, state, v), member) for v in ("fixed", "sample"))
    assert fixed == pytest.approx(best_auc(1, 0.5, 2), abs=0.03)
    assert sample < fixed - 0.01  # eight values per image and side are too few


def test_offline_is_the_negative_log_p_value_of_a_one_sided_test_against_the_out_models():
    target, shadows, state, member = gaussian_networks(2.0, 1.0, 1.0)
    scores = lira.offline(target, shadows, np.where(state > 0, 0, state))
    assert auc(scores, member) == pytest.approx(scipy.stats.norm.cdf(2 / math.sqrt(2)), abs=0.02)
    assert scipy.stats.kstest(np.exp(-scores[~member]), "uniform").statistic < 0.03  # a p-value up to the error of 64 models
    paper = scipy.stats.norm.cdf(target, *(f(np.where(state < 0, shadows, np.nan), 0) for f in (np.nanmedian, np.nanstd)))
    assert auc(scores, member) == pytest.approx(auc(paper, member), abs=1e-4)  # the same order up to ties at 1


def test_a_query_on_which_the_network_is_certain_outweighs_one_on_which_it_is_not():
    s = stream(8)
    shadows, member = s.normal(size=(8, 1000, 2)), np.arange(1000) < 500
    target = s.normal(size=(1000, 2))
    target[member, 0] += 20  # the original image, not its mirror image
    assert auc(lira.offline(target, shadows, -np.ones((8, 1000), int)), member) > 0.999


def test_offline_distinguishes_images_that_are_all_far_from_the_mean():
    shadows, far = stream(0).normal(size=(64, 3)), np.array([30.0, 60.0, 300.0])
    scores = lira.offline(far, np.tile(shadows[:, :1], 3), -np.ones((64, 3), int))
    assert np.isfinite(scores).all() and (np.diff(scores) > 100).all()


def test_unusually_low_values_indicate_members_with_two_tails_but_not_with_one():
    s = stream(0)
    shadows, state = s.normal(size=(64, 3)), -np.ones((64, 3), int)
    typical, low, high = 0, 1, 2
    target = np.array([0.0, -6.0, 6.0])
    one, two = (lira.offline(target, shadows, state, tails=tails) for tails in (1, 2))
    assert one[low] < one[typical] < one[high]
    assert two[typical] < min(two[low], two[high])


def test_members_with_unusually_low_values_are_found_with_two_tails_only():
    s = stream(1)
    shadows, state, member = s.normal(size=(64, 2000)), -np.ones((64, 2000), int), np.arange(2000) < 1000
    target = s.normal(np.where(member, -3, 0), 1)
    assert auc(lira.offline(target, shadows, state), member) < 0.05
    assert auc(lira.offline(target, shadows, state, tails=2), member) > 0.9


def test_online_offline_and_calibrated_are_at_chance_if_networks_treat_members_like_others():
    s = stream(4)
    n, member = 8000, np.arange(8000) < 4000
    level, state = s.normal(0, 3, n), s.choice([-1, 1], (6, n))
    target, shadows = level + s.normal(size=n), level + s.normal(size=(6, n))
    error = math.sqrt((n + 1) / (12 * (n / 2) ** 2))
    outside = np.where(state > 0, 0, state)
    outside[0] = -1
    for scores in (
        lira.online(target, shadows, state), lira.online(target, shadows, state, "sample"),
        lira.offline(target, shadows, outside), lira.calibrated(target, shadows, state),
    ):  # fmt: skip
        assert abs(auc(scores, member) - 0.5) < 3 * error


# ---- images with only IN, only OUT or no models


def test_an_image_without_in_models_gets_its_out_mean_plus_the_median_gap():
    s = stream(5)
    level, state = s.normal(0, 3, 500), s.choice([-1, 1], (8, 500))
    state[:, 0], state[:, 1] = -1, 1
    shadows = level + 4.0 * (state > 0)  # no noise: the gap is 4 on every image
    shadows[:, 2:] += s.normal(0, 1, (8, 498))
    middle = level + 2.0
    between = lira.online(middle, shadows, state, "fixed")
    outside, inside = lira.online(level, shadows, state, "fixed"), lira.online(level + 4, shadows, state, "fixed")
    assert (outside[:2] < between[:2]).all() and (between[:2] < inside[:2]).all()
    assert np.abs(between[:2]).max() < 0.5 < np.abs(inside[:2]).min()


def test_shadow_models_without_any_in_or_any_out_are_rejected():
    target, shadows, state = networks()
    for one_sided in (np.minimum(state, 0), np.maximum(state, 0)):
        with pytest.raises(ValueError, match="needs shadow models"):
            lira.online(target, shadows, one_sided)


def test_offline_rejects_images_without_an_out_model_and_reports_their_number():
    target, shadows, state = networks(neither=0.0)
    state[:, [3, 7]] = 1
    with pytest.raises(ValueError, match=f"^{(state > 0).all(0).sum()} images"):
        lira.offline(target, shadows, state)


def test_an_image_without_in_and_out_models_is_rejected():
    target, shadows, state = networks(neither=0.0)
    state[:, 4] = 0
    for score in (lira.online, lira.calibrated):
        with pytest.raises(ValueError, match=r"^1 images have no shadow model"):
            score(target, shadows, state)


def test_models_with_an_image_in_their_reference_set_are_ignored_for_this_image():
    target, shadows, state = networks(inside=0.3)
    assert (state == 0).sum() > 10
    changed = np.where((state == 0)[:, :, None], 1e6, shadows)
    for score in (lira.online, lira.offline, lira.calibrated):
        assert np.array_equal(score(target, changed, state), score(target, shadows, state))


def test_models_with_equal_outputs_give_finite_scores():
    state = np.repeat([[1], [-1]], 4, 1).repeat(3, 0)
    shadows = np.where(state > 0, 2.0, 0.0)
    for variance in ("fixed", "sample"):
        scores = lira.online(np.array([2.0, 0.0, 1.5, 0.5]), shadows, state, variance)
        assert np.isfinite(scores).all() and (scores[[0, 2]] > 0).all() and (scores[[1, 3]] < 0).all()


# ---- calibrated


def test_calibrated_is_phi_less_the_mean_over_models_corrected_by_the_gap():
    target, shadows, state = networks(models=5, images=50)
    state[0] = np.where((state == 0).all(0), -1, state[0])
    expected = []
    for n in range(50):
        each = []
        for q in range(3):
            gap = median_gap(shadows, state, q)
            corrected = [shadows[m, n, q] - gap * (state[m, n] == 1) for m in range(5) if state[m, n]]
            each.append(target[n, q] - np.mean(corrected))
        expected.append(np.mean(each))
    np.testing.assert_allclose(lira.calibrated(target, shadows, state), expected, rtol=1e-9)


def test_calibrated_with_out_models_only_is_phi_less_their_mean():
    target, shadows, state = networks()
    out = -np.ones_like(state)
    np.testing.assert_allclose(lira.calibrated(target, shadows, out), (target - shadows.mean(0)).mean(1), rtol=1e-12)


@pytest.mark.parametrize("models", [1, 4, 16])
def test_calibrated_has_the_auc_of_its_closed_form(models):
    s = stream(6)
    n, member, shift = 8000, np.arange(8000) < 4000, 1.5
    level, state = s.normal(0, 10, n), s.choice([-1, 1], (models, n))
    target, shadows = (level + shift * inside + s.normal(size=inside.shape) for inside in (member, state > 0))
    if models > 1:
        truth = scipy.stats.norm.cdf(shift / math.sqrt(2 * (1 + 1 / models)))  # includes the error of the estimated mean
    else:
        state, shadows = -np.ones_like(state), level + s.normal(size=state.shape)
        truth = scipy.stats.norm.cdf(shift / 2)
    assert auc(lira.calibrated(target, shadows, state), member) == pytest.approx(truth, abs=0.02)


# ---- values that are not finite


BAD = [math.inf, -math.inf, math.nan]
SCORES = {
    "online": lira.online, "online sample": lambda *a: lira.online(*a, "sample"), "offline": lira.offline,
    "two tails": lambda *a: lira.offline(*a, tails=2), "calibrated": lira.calibrated,
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", SCORES)
def test_a_shadow_output_that_is_not_finite_is_left_out_for_its_image(name, bad):
    target, shadows, state = networks(8, queries=2, inside=0.2 if "off" in name or "two" in name else 0.5)
    shadows, without = shadows.copy(), state.copy()
    shadows[3, 5, 1], without[3, 5] = bad, 0
    assert state[3, 5] != 0 and np.isfinite(SCORES[name](target, shadows, state)).all()
    finite = np.nan_to_num(shadows, nan=9, posinf=9, neginf=9)
    np.testing.assert_array_equal(SCORES[name](target, shadows, state), SCORES[name](target, finite, without))


@pytest.mark.parametrize("name", SCORES)
def test_an_infinite_output_of_the_target_counts_as_the_largest_finite_one_and_changes_no_other_score(name):
    target, shadows, state = networks(8, queries=1, inside=0.2 if "off" in name or "two" in name else 0.5)
    for sign in (1, -1):
        infinite, largest = target.copy(), target.copy()
        infinite[5], largest[5] = sign * math.inf, sign * max(np.abs(shadows).max(), np.abs(np.delete(target, 5)).max())
        scores = SCORES[name](infinite, shadows, state)
        assert np.isfinite(scores).all()
        np.testing.assert_array_equal(scores, SCORES[name](largest, shadows, state))
        np.testing.assert_array_equal(np.delete(scores, 5), np.delete(SCORES[name](target, shadows, state), 5))


@pytest.mark.parametrize("name", SCORES)
def test_a_nan_of_the_target_and_an_image_without_finite_shadow_outputs_are_rejected_with_their_number(name):
    target, shadows, state = networks(8, queries=1, inside=0.2 if "off" in name or "two" in name else 0.5)
    with pytest.raises(ValueError, match=r"audited network are NaN for 2 of 40 images"):
        SCORES[name](np.where((np.arange(40) < 2).reshape(-1, *[1] * (target.ndim - 1)), np.nan, target), shadows, state)
    shadows = shadows.copy()
    shadows[:, 7] = np.inf
    with pytest.raises(ValueError, match="1 images have no shadow model"):
        SCORES[name](target, shadows, state)
