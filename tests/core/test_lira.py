"""LiRA against a plain loop over images, against the best possible test where the Gaussians are known, and at its odd ends."""

import math

import numpy as np
import pytest
import scipy.stats

from core.audits import lira
from core.audits.roc import Roc


def stream(seed=0):
    return np.random.default_rng(seed)


def fleet(models=9, images=40, queries=3, seed=0, neither=0.1, inside=0.5):
    """phi of a target and of shadow models that differ by image, query and membership; and who was trained on what."""
    s = stream(seed)
    state = s.choice([-1, 0, 1], (models, images), p=[1 - neither - inside * (1 - neither), neither, inside * (1 - neither)])
    level, spread = s.normal(0, 3, (images, queries)), s.uniform(0.5, 2, (images, queries))
    noise = np.where(state[:, :, None] > 0, 2.0, 1.0) * s.normal(size=(models, images, queries))
    shadows = level + spread * (noise + 1.5 * (state[:, :, None] > 0))
    return level + spread * s.normal(1, 2, (images, queries)), shadows, state


def one_deviation(shadows, mask, q):
    """The deviation within images, pooled over all images: squares about each image's mean, by their degrees of freedom."""
    groups = [shadows[mask[:, n], n, q] for n in range(mask.shape[1])]
    free = sum(len(g) - 1 for g in groups if len(g))
    if free:
        return math.sqrt(sum(((g - g.mean()) ** 2).sum() for g in groups if len(g)) / free)
    return np.std([g.mean() for g in groups if len(g)])


def moments(shadows, mask, n, q, variance):
    """Median and deviation of the models in the mask on one query of one image, None and the common one where there are none."""
    values, common = shadows[mask[:, n], n, q], one_deviation(shadows, mask, q)
    deviation = np.std(values) if variance == "sample" and len(values) > 1 else common
    return (np.median(values) if len(values) else None), deviation


def gaps(shadows, state, q):
    """Median of IN less median of OUT, over images that have both."""
    found = []
    for n in range(state.shape[1]):
        inside, outside = (shadows[state[:, n] == sign, n, q] for sign in (1, -1))
        if len(inside) and len(outside):
            found.append(np.median(inside) - np.median(outside))
    if found:
        return np.median(found)
    return np.median(shadows[state == 1][:, q]) - np.median(shadows[state == -1][:, q])


def looped(target, shadows, state, variance):
    """Online LiRA, image by image and query by query."""
    scores = []
    for n in range(target.shape[0]):
        ratios = []
        for q in range(target.shape[1]):
            mean_in, std_in = moments(shadows, state == 1, n, q, variance)
            mean_out, std_out = moments(shadows, state == -1, n, q, variance)
            gap = gaps(shadows, state, q)
            mean_in, mean_out = (
                mean_out + gap if mean_in is None else mean_in,
                mean_in - gap if mean_out is None else mean_out,
            )
            log_in = scipy.stats.norm.logpdf(target[n, q], mean_in, std_in)
            ratios.append(log_in - scipy.stats.norm.logpdf(target[n, q], mean_out, std_out))
        scores.append(np.mean(ratios))
    return np.array(scores)


def best_auc(mean, std_in, std_out):
    """AUC of the likelihood ratio of N(mean, std_in) against N(0, std_out), by sorting a fine grid by it (Neyman-Pearson)."""
    grid = np.linspace(-60, 60, 400_001)
    inside, outside = scipy.stats.norm.logpdf(grid, mean, std_in), scipy.stats.norm.logpdf(grid, 0, std_out)
    order = np.argsort(inside - outside)
    p_in, p_out = (np.exp(log[order]) / np.exp(log).sum() for log in (inside, outside))
    return float((p_in * (np.cumsum(p_out) - p_out / 2)).sum())


def known(mean, std_in, std_out, models=128, images=6000, seed=1):
    """Half of the images are the target's members; phi is Gaussian about a level and on a scale of each image's own."""
    s = stream(seed)
    level, scale = s.normal(0, 5, images), s.uniform(0.2, 5, images)
    member = np.arange(images) < images // 2
    state = np.where(s.random((models, images)).argsort(0) < models // 2, 1, -1)

    def phi(inside):
        return level + scale * np.where(inside, mean + std_in * s.normal(size=inside.shape), std_out * s.normal(size=inside.shape))

    return phi(member), phi(state > 0), state, member


def auc(scores, member):
    return Roc.of(scores[member], scores[~member]).auc


# ---- equal to the loop


@pytest.mark.parametrize("variance", ["fixed", "sample"])
@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize("models", [8, 9])
def test_online_equals_a_loop_over_images_and_queries(models, queries, variance):
    target, shadows, state = fleet(models, queries=queries)
    np.testing.assert_allclose(lira.online(target, shadows, state, variance), looped(target, shadows, state, variance), rtol=1e-6)


@pytest.mark.parametrize("variance", ["fixed", "sample"])
def test_online_equals_the_loop_where_many_images_lack_a_side(variance):
    target, shadows, state = fleet(models=3, images=60, neither=0.0)
    lacking = [(state != sign).all(0).sum() for sign in (1, -1)]
    assert min(lacking) >= 3 and sum(lacking) < 40
    np.testing.assert_allclose(lira.online(target, shadows, state, variance), looped(target, shadows, state, variance), rtol=1e-6)


@pytest.mark.parametrize("variance", ["fixed", "sample"])
def test_online_equals_the_loop_with_one_shadow_model_where_every_image_lacks_a_side(variance):
    target, shadows, state = fleet(models=1, images=60, neither=0.0)
    np.testing.assert_allclose(lira.online(target, shadows, state, variance), looped(target, shadows, state, variance), rtol=1e-6)


@pytest.mark.parametrize("variance", ["fixed", "sample"])
@pytest.mark.parametrize("queries", [1, 3])
def test_offline_equals_a_loop_over_images_and_queries(queries, variance):
    target, shadows, state = fleet(queries=queries, inside=0.2)
    moved = [[moments(shadows, state == -1, n, q, variance) for q in range(queries)] for n in range(40)]
    one = [np.mean([-scipy.stats.norm.logsf(target[n, q], *moved[n][q]) for q in range(queries)]) for n in range(40)]
    two = [np.mean([-scipy.stats.norm.logpdf(target[n, q], *moved[n][q]) for q in range(queries)]) for n in range(40)]
    np.testing.assert_allclose(lira.offline(target, shadows, state, variance), one, rtol=1e-6)
    np.testing.assert_allclose(
        lira.offline(target, shadows, state, variance, tails=2) + math.log(2 * math.pi) / 2, two, rtol=1e-6
    )  # its density is less a constant


def test_twenty_thousand_images_and_64_models_score_as_the_loop_does():
    target, shadows, state = fleet(models=64, images=20_000, queries=1)
    found = lira.online(target, shadows, state)
    some = np.arange(0, 20_000, 250)
    np.testing.assert_allclose(
        found[some], looped(target[some], shadows[:, some], state[:, some], "sample"), rtol=1e-6
    )  # no image lacks a side, so none needs the others


def test_one_query_may_come_without_its_axis():
    target, shadows, state = fleet(queries=1, inside=0.3)
    for score in (lira.online, lira.offline, lira.calibrated):
        assert np.array_equal(score(target, shadows, state), score(target[:, 0], shadows[:, :, 0], state))


def test_each_score_is_the_mean_over_its_queries():
    target, shadows, state = fleet(models=64, queries=2, inside=0.3)
    for score in (lira.online, lira.offline, lira.calibrated):
        each = [score(target[:, q], shadows[:, :, q], state) for q in (0, 1)]
        np.testing.assert_allclose(score(target, shadows, state), np.mean(each, 0), rtol=1e-12)


def test_auto_trusts_an_images_own_variance_from_64_models_on():
    for models, variance, other in ((63, "fixed", "sample"), (64, "sample", "fixed")):
        target, shadows, state = fleet(models=models)
        for score in (lira.online, lira.offline):
            assert np.array_equal(score(target, shadows, state), score(target, shadows, state, variance))
            assert not np.allclose(score(target, shadows, state), score(target, shadows, state, other))


# ---- as good as can be


@pytest.mark.parametrize("shift", [0.5, 1.0, 2.0])
def test_with_equal_deviations_online_reaches_phi_of_shift_over_root_two(shift):
    target, shadows, state, member = known(shift, 1.0, 1.0)
    truth = scipy.stats.norm.cdf(shift / math.sqrt(2))
    assert best_auc(shift, 1.0, 1.0) == pytest.approx(truth, abs=1e-6)
    found = lira.online(target, shadows, state)
    assert auc(found, member) == pytest.approx(truth, abs=0.02)
    assert auc(target, member) < truth - 0.05  # images differ by more than membership does


@pytest.mark.parametrize(("std_in", "std_out"), [(0.5, 2.0), (2.0, 0.5), (1.0, 3.0)])
def test_online_reaches_the_best_auc_only_with_a_deviation_for_each_side(std_in, std_out):
    target, shadows, state, member = known(1.0, std_in, std_out)
    truth = best_auc(1.0, std_in, std_out)
    assert auc(lira.online(target, shadows, state), member) == pytest.approx(truth, abs=0.02)
    inside = [shadows[state[:, n] > 0, n] for n in range(len(target))]
    outside = [shadows[state[:, n] < 0, n] for n in range(len(target))]
    means, borrowed = [np.array([np.median(v) for v in side]) for side in (inside, outside)], np.array([np.std(v) for v in inside])
    wrong = scipy.stats.norm.logpdf(target, means[0], borrowed) - scipy.stats.norm.logpdf(target, means[1], borrowed)
    assert auc(wrong, member) < truth - 0.06  # the OUT deviation taken from the IN models


def test_with_one_deviation_for_all_images_fixed_variance_reaches_the_best_auc_and_sides_differ():
    s = stream(3)
    images, models, member = 6000, 16, np.arange(6000) < 3000
    level, state = s.normal(0, 5, images), np.where(s.random((16, images)).argsort(0) < models // 2, 1, -1)

    def phi(inside):
        return level + np.where(inside, s.normal(1, 0.5, inside.shape), s.normal(0, 2, inside.shape))

    target, shadows = phi(member), phi(state > 0)
    fixed, own = (auc(lira.online(target, shadows, state, v), member) for v in ("fixed", "sample"))
    assert fixed == pytest.approx(best_auc(1, 0.5, 2), abs=0.03)
    assert own < fixed - 0.01  # eight values an image and side are too few


def test_offline_is_the_one_sided_p_value_of_the_out_models():
    target, shadows, state, member = known(2.0, 1.0, 1.0)
    found = lira.offline(target, shadows, np.where(state > 0, 0, state))
    assert auc(found, member) == pytest.approx(scipy.stats.norm.cdf(2 / math.sqrt(2)), abs=0.02)
    assert scipy.stats.kstest(np.exp(-found[~member]), "uniform").statistic < 0.03  # a p-value, but for 64 models' error
    paper = scipy.stats.norm.cdf(target, *(f(np.where(state < 0, shadows, np.nan), 0) for f in (np.nanmedian, np.nanstd)))
    assert auc(found, member) == pytest.approx(auc(paper, member), abs=1e-4)  # the same order, but for ties at 1


def test_one_query_that_a_network_is_sure_of_outweighs_one_that_it_does_not_know():
    s = stream(8)
    shadows, member = s.normal(size=(8, 1000, 2)), np.arange(1000) < 500
    target = s.normal(size=(1000, 2))
    target[member, 0] += 20  # the image as it is, not its mirror image
    assert auc(lira.offline(target, shadows, -np.ones((8, 1000), int)), member) > 0.999


def test_offline_tells_images_apart_that_are_all_far_out():
    shadows, far = stream(0).normal(size=(64, 3)), np.array([30.0, 60.0, 300.0])
    found = lira.offline(far, np.tile(shadows[:, :1], 3), -np.ones((64, 3), int))
    assert np.isfinite(found).all() and (np.diff(found) > 100).all()


def test_one_tail_takes_no_unusually_low_image_for_a_member_and_two_tails_do():
    s = stream(0)
    shadows, state = s.normal(size=(64, 3)), -np.ones((64, 3), int)
    usual, low, high = 0, 1, 2
    target = np.array([0.0, -6.0, 6.0])
    one, two = (lira.offline(target, shadows, state, tails=tails) for tails in (1, 2))
    assert one[low] < one[usual] < one[high]
    assert two[usual] < min(two[low], two[high])


def test_members_that_are_unusually_low_are_found_by_two_tails_alone():
    s = stream(1)
    shadows, state, member = s.normal(size=(64, 2000)), -np.ones((64, 2000), int), np.arange(2000) < 1000
    target = s.normal(np.where(member, -3, 0), 1)
    assert auc(lira.offline(target, shadows, state), member) < 0.05
    assert auc(lira.offline(target, shadows, state, tails=2), member) > 0.9


def test_where_networks_do_not_know_members_online_offline_and_calibrated_are_at_chance():
    s = stream(4)
    n, member = 8000, np.arange(8000) < 4000
    level, state = s.normal(0, 3, n), s.choice([-1, 1], (6, n))
    target, shadows = level + s.normal(size=n), level + s.normal(size=(6, n))
    error = math.sqrt((n + 1) / (12 * (n / 2) ** 2))
    outside = np.where(state > 0, 0, state)
    outside[0] = -1
    for found in (
        lira.online(target, shadows, state), lira.online(target, shadows, state, "sample"),
        lira.offline(target, shadows, outside), lira.calibrated(target, shadows, state),
    ):  # fmt: skip
        assert abs(auc(found, member) - 0.5) < 3 * error


# ---- images without one side, and nothing at all


def test_an_image_without_in_models_gets_its_out_mean_moved_by_the_median_gap():
    s = stream(5)
    level, state = s.normal(0, 3, 500), s.choice([-1, 1], (8, 500))
    state[:, 0], state[:, 1] = -1, 1
    shadows = level + 4.0 * (state > 0)  # no noise: the gap is 4 on every image
    shadows[:, 2:] += s.normal(0, 1, (8, 498))
    middle = level + 2.0
    found = lira.online(middle, shadows, state, "fixed")
    outside, inside = lira.online(level, shadows, state, "fixed"), lira.online(level + 4, shadows, state, "fixed")
    assert (outside[:2] < found[:2]).all() and (found[:2] < inside[:2]).all()
    assert np.abs(found[:2]).max() < 0.5 < np.abs(inside[:2]).min()


def test_a_fleet_without_in_or_without_out_is_refused():
    target, shadows, state = fleet()
    for one_sided in (np.minimum(state, 0), np.maximum(state, 0)):
        with pytest.raises(ValueError, match="needs shadow models"):
            lira.online(target, shadows, one_sided)


def test_offline_counts_the_images_without_an_out_model_and_refuses_them():
    target, shadows, state = fleet(neither=0.0)
    state[:, [3, 7]] = 1
    with pytest.raises(ValueError, match=f"^{(state > 0).all(0).sum()} images"):
        lira.offline(target, shadows, state)


def test_an_image_that_no_shadow_model_says_anything_about_is_refused():
    target, shadows, state = fleet(neither=0.0)
    state[:, 4] = 0
    for score in (lira.online, lira.calibrated):
        with pytest.raises(ValueError, match=r"^1 images have no shadow model"):
            score(target, shadows, state)


def test_answers_of_models_for_which_an_image_served_otherwise_do_not_count():
    target, shadows, state = fleet(inside=0.3)
    assert (state == 0).sum() > 10
    lies = np.where((state == 0)[:, :, None], 1e6, shadows)
    for score in (lira.online, lira.offline, lira.calibrated):
        assert np.array_equal(score(target, lies, state), score(target, shadows, state))


def test_models_that_all_say_the_same_give_finite_scores():
    state = np.repeat([[1], [-1]], 4, 1).repeat(3, 0)
    shadows = np.where(state > 0, 2.0, 0.0)
    for variance in ("fixed", "sample"):
        found = lira.online(np.array([2.0, 0.0, 1.5, 0.5]), shadows, state, variance)
        assert np.isfinite(found).all() and (found[[0, 2]] > 0).all() and (found[[1, 3]] < 0).all()


# ---- calibrated


def test_calibrated_is_phi_less_the_mean_of_models_after_the_gap_is_taken_off():
    target, shadows, state = fleet(models=5, images=50)
    state[0] = np.where((state == 0).all(0), -1, state[0])
    expected = []
    for n in range(50):
        each = []
        for q in range(3):
            gap = gaps(shadows, state, q)
            usual = [shadows[m, n, q] - gap * (state[m, n] == 1) for m in range(5) if state[m, n]]
            each.append(target[n, q] - np.mean(usual))
        expected.append(np.mean(each))
    np.testing.assert_allclose(lira.calibrated(target, shadows, state), expected, rtol=1e-9)


def test_calibrated_with_out_models_alone_is_phi_less_their_mean():
    target, shadows, state = fleet()
    out = -np.ones_like(state)
    np.testing.assert_allclose(lira.calibrated(target, shadows, out), (target - shadows.mean(0)).mean(1), rtol=1e-12)


@pytest.mark.parametrize("models", [1, 4, 16])
def test_calibrated_has_its_closed_form_auc(models):
    s = stream(6)
    n, member, shift = 8000, np.arange(8000) < 4000, 1.5
    level, state = s.normal(0, 10, n), s.choice([-1, 1], (models, n))
    target, shadows = (level + shift * inside + s.normal(size=inside.shape) for inside in (member, state > 0))
    if models > 1:
        truth = scipy.stats.norm.cdf(shift / math.sqrt(2 * (1 + 1 / models)))  # the usual's own error comes on top
    else:
        state, shadows = -np.ones_like(state), level + s.normal(size=state.shape)
        truth = scipy.stats.norm.cdf(shift / 2)
    found = lira.calibrated(target, shadows, state)
    assert auc(found, member) == pytest.approx(truth, abs=0.02)
