"""RMIA against the double loop of its definition, and the estimates of p(x) against their formulas."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.audits import rmia
from core.audits.roc import Roc


def log_probabilities(*shape, seed=0):
    return np.log(np.random.default_rng(seed).uniform(0.01, 0.99, shape))


def reference(target, marginal, population_target, population_marginal, gamma):
    """The share of z with [p(x|net) / p(x)] / [p(z|net) / p(z)] >= gamma."""
    scores = []
    for x, p_x in zip(np.exp(target), np.exp(marginal), strict=True):
        population = zip(np.exp(population_target), np.exp(population_marginal), strict=True)
        hits = [(x / p_x) / (z / p_z) >= gamma for z, p_z in population]
        scores.append(np.mean(hits))
    return np.array(scores)


# ---- the score


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 8.0])
def test_the_score_equals_the_double_loop_over_images_and_population(gamma):
    target, marginal, z, p_z = (log_probabilities(n, seed=i) for i, n in enumerate((60, 60, 37, 37)))
    scores = rmia.rmia(target, marginal, z, p_z, gamma)
    np.testing.assert_allclose(scores, reference(target, marginal, z, p_z, gamma), atol=1e-6)
    assert len(np.unique(scores)) > 3


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-4, 0), min_size=1, max_size=12), st.lists(st.integers(-4, 0), min_size=1, max_size=12))
def test_a_ratio_of_exactly_gamma_counts(xs, zs):
    target, z = np.array(xs, float), np.array(zs, float)
    scores = rmia.rmia(target, np.zeros_like(target), z, np.zeros_like(z), gamma=1.0)
    assert np.array_equal(scores, [np.mean([x >= w for w in zs]) for x in xs])


def test_the_default_of_gamma_is_one():
    arrays = [log_probabilities(40, seed=i) for i in range(4)]
    assert np.array_equal(rmia.rmia(*arrays), rmia.rmia(*arrays, gamma=1.0))
    assert not np.array_equal(rmia.rmia(*arrays), rmia.rmia(*arrays, gamma=2.0))


def test_a_larger_gamma_gives_smaller_shares_and_more_ties():
    target, marginal, z, p_z = (log_probabilities(n, seed=i) / 8 for i, n in enumerate((200, 200, 99, 99)))
    shares = [rmia.rmia(target, marginal, z, p_z, gamma) for gamma in (1.0, 1.5, 2.0)]
    assert all((after <= before).all() for before, after in itertools.pairwise(shares))
    assert len(np.unique(shares[2])) < len(np.unique(shares[0])) / 2


def test_members_of_increased_probability_are_found_for_any_marginal_probability():
    s = np.random.default_rng(0)
    member, marginal = np.arange(4000) < 2000, s.uniform(-12, -3, 4000)
    target, z = marginal + s.normal(np.where(member, 1.5, 0), 0.5), s.uniform(-12, -3, 2000)
    scores = rmia.rmia(target, marginal, z + s.normal(0, 0.5, 2000), z)
    assert Roc.of(scores[member], scores[~member]).auc > 0.9 > Roc.of(target[member], target[~member]).auc + 0.2


def test_the_auc_is_that_of_the_likelihood_ratio_up_to_ties():
    s = np.random.default_rng(1)
    member, marginal = np.arange(3000) < 1500, s.normal(-1, 0.3, 3000)
    target, z = marginal + s.normal(np.where(member, 0.6, 0), 0.6), s.normal(0, 2, 5000)
    scores = rmia.rmia(target, marginal, z, np.zeros(5000), gamma=1.0)
    ratio = Roc.of((target - marginal)[member], (target - marginal)[~member])
    assert Roc.of(scores[member], scores[~member]).auc == pytest.approx(ratio.auc, abs=2e-3)


# ---- estimates of p(x)


def test_the_offline_estimate_equals_its_formula_with_the_slope_of_the_paper():
    shadows, state = log_probabilities(5, 20), np.random.default_rng(1).choice([-1, 0, 1], (5, 20), p=[0.6, 0.2, 0.2])
    state[0] = -1
    for a in (0.3, 0.0, 1.0):
        expected = [
            math.log(0.5 * ((1 + a) * np.mean([math.exp(shadows[m, n]) for m in range(5) if state[m, n] == -1]) + 1 - a))
            for n in range(20)
        ]
        np.testing.assert_allclose(rmia.marginal_offline(shadows, state, a), expected, rtol=1e-9)
    assert np.array_equal(rmia.marginal_offline(shadows, state), rmia.marginal_offline(shadows, state, 0.3))


def test_the_offline_estimate_of_an_image_without_out_models_uses_the_mean_of_the_other_images():
    shadows, state = log_probabilities(4, 10), -np.ones((4, 10), int)
    state[:, 2] = 1
    means = np.exp(shadows).mean(0)
    expected = math.log((1.3 * np.delete(means, 2).mean() + 0.7) / 2)
    assert rmia.marginal_offline(shadows, state)[2] == pytest.approx(expected, rel=1e-12)


def test_the_online_estimate_is_the_mean_of_the_in_and_out_means():
    shadows, state = log_probabilities(6, 25), np.random.default_rng(2).choice([-1, 0, 1], (6, 25))
    state[0], state[1] = 1, -1
    expected = []
    for n in range(25):
        inside, outside = ([math.exp(shadows[m, n]) for m in range(6) if state[m, n] == sign] for sign in (1, -1))
        expected.append(math.log((np.mean(inside) + np.mean(outside)) / 2))
    np.testing.assert_allclose(rmia.marginal_online(shadows, state), expected, rtol=1e-9)


def test_the_online_estimate_of_an_image_without_in_or_out_models_uses_the_mean_difference_of_the_others():
    shadows, state = np.log(np.random.default_rng(0).uniform(0.3, 0.7, (6, 25))), np.random.default_rng(3).choice([-1, 1], (6, 25))
    state[0], state[1] = 1, -1
    state[:, 4], state[:, 9] = 1, -1
    p, both = np.exp(shadows), [n for n in range(25) if n not in (4, 9)]
    gap = np.mean([p[state[:, n] > 0, n].mean() - p[state[:, n] < 0, n].mean() for n in both])
    marginal = rmia.marginal_online(shadows, state)
    assert marginal[4] == pytest.approx(math.log(p[:, 4].mean() - gap / 2), rel=1e-9)
    assert marginal[9] == pytest.approx(math.log(p[:, 9].mean() + gap / 2), rel=1e-9)


def test_the_online_estimate_is_clipped_to_a_probability():
    shadows = np.log(np.array([[0.99, 0.01, 0.999, 0.001], [0.01, 0.01, 0.999, 0.001]]))
    state = np.array([[1, 1, -1, 1], [-1, -1, -1, 1]])
    marginal = rmia.marginal_online(shadows, state)
    assert np.isfinite(marginal).all() and (marginal <= 0).all()


# ---- values that are not finite, and an empty population


def test_an_empty_population_is_rejected():
    with pytest.raises(ValueError, match="at least one population image"):
        rmia.rmia(np.log([0.5]), np.log([0.4]), np.zeros(0), np.zeros(0))


def test_ratios_that_are_nan_are_rejected_and_a_probability_of_zero_is_ranked_lowest():
    p, marginal = np.log([0.5, 0.9, 0.2]), np.log([0.4, 0.5, 0.3])
    for own, population in ((np.array([np.nan, *p[1:]]), p), (p, np.array([np.nan, *p[1:]])), (p, np.array([np.nan] * 3))):
        with pytest.raises(ValueError, match="NaN"):
            rmia.rmia(own, marginal, population, marginal)
    scores = rmia.rmia(np.array([-np.inf, *p[1:]]), marginal, p, marginal)
    assert scores[0] == 0 and (scores[1:] == rmia.rmia(p, marginal, p, marginal)[1:]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("estimate", [rmia.marginal_online, rmia.marginal_offline])
def test_a_shadow_output_that_is_not_a_log_probability_is_left_out_for_its_image(estimate, bad):
    stream = np.random.default_rng(0)
    shadows, state = np.log(stream.uniform(0.1, 1, (6, 30))), stream.choice([-1, 1], (6, 30))
    planted, without = shadows.copy(), state.copy()
    planted[2, 4], without[2, 4] = bad, 0
    np.testing.assert_array_equal(estimate(planted, state), estimate(shadows, without))
    planted[:, 4] = bad  # no model is left
    others = np.delete(np.arange(30), 4)
    marginal = estimate(planted, state)
    assert np.isfinite(marginal).all() and marginal[others].min() <= marginal[4] <= marginal[others].max()
