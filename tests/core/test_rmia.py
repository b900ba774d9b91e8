"""RMIA against the double loop of its definition, and what stands for p(x) against its formulas."""

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


def looped(target, usual, population_target, population_usual, gamma):
    """The share of z with [p(x|net) / p(x)] / [p(z|net) / p(z)] >= gamma."""
    scores = []
    for x, p_x in zip(np.exp(target), np.exp(usual), strict=True):
        hits = [(x / p_x) / (z / p_z) >= gamma for z, p_z in zip(np.exp(population_target), np.exp(population_usual), strict=True)]
        scores.append(np.mean(hits))
    return np.array(scores)


# ---- the score


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 8.0])
def test_it_is_the_double_loop_over_images_and_population(gamma):
    target, usual, z, p_z = (log_probabilities(n, seed=i) for i, n in enumerate((60, 60, 37, 37)))
    found = rmia.rmia(target, usual, z, p_z, gamma)
    np.testing.assert_allclose(found, looped(target, usual, z, p_z, gamma), atol=1e-6)
    assert len(np.unique(found)) > 3


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-4, 0), min_size=1, max_size=12), st.lists(st.integers(-4, 0), min_size=1, max_size=12))
def test_a_ratio_of_exactly_gamma_counts(xs, zs):
    target, z = np.array(xs, float), np.array(zs, float)
    found = rmia.rmia(target, np.zeros_like(target), z, np.zeros_like(z), gamma=1.0)
    assert np.array_equal(found, [np.mean([x >= w for w in zs]) for x in xs])


def test_gamma_is_one_by_default():
    arrays = [log_probabilities(40, seed=i) for i in range(4)]
    assert np.array_equal(rmia.rmia(*arrays), rmia.rmia(*arrays, gamma=1.0))
    assert not np.array_equal(rmia.rmia(*arrays), rmia.rmia(*arrays, gamma=2.0))


def test_a_larger_gamma_gives_smaller_shares_and_ties_more_images():
    target, usual, z, p_z = (log_probabilities(n, seed=i) / 8 for i, n in enumerate((200, 200, 99, 99)))
    shares = [rmia.rmia(target, usual, z, p_z, gamma) for gamma in (1.0, 1.5, 2.0)]
    assert all((after <= before).all() for before, after in itertools.pairwise(shares))
    assert len(np.unique(shares[2])) < len(np.unique(shares[0])) / 2


def test_a_network_that_makes_members_likelier_than_usual_is_caught_whatever_is_usual_for_an_image():
    s = np.random.default_rng(0)
    member, usual = np.arange(4000) < 2000, s.uniform(-12, -3, 4000)
    target, z = usual + s.normal(np.where(member, 1.5, 0), 0.5), s.uniform(-12, -3, 2000)
    found = rmia.rmia(target, usual, z + s.normal(0, 0.5, 2000), z)
    assert Roc.of(found[member], found[~member]).auc > 0.9 > Roc.of(target[member], target[~member]).auc + 0.2


def test_it_keeps_the_order_of_the_ratio_so_its_auc_is_that_ratios_but_for_ties():
    s = np.random.default_rng(1)
    member, usual = np.arange(3000) < 1500, s.normal(-1, 0.3, 3000)
    target, z = usual + s.normal(np.where(member, 0.6, 0), 0.6), s.normal(0, 2, 5000)
    found = rmia.rmia(target, usual, z, np.zeros(5000), gamma=1.0)
    ratio = Roc.of((target - usual)[member], (target - usual)[~member])
    assert Roc.of(found[member], found[~member]).auc == pytest.approx(ratio.auc, abs=2e-3)


# ---- what is usual for an image


def test_offline_is_its_formula_with_the_papers_slope():
    shadows, state = log_probabilities(5, 20), np.random.default_rng(1).choice([-1, 0, 1], (5, 20), p=[0.6, 0.2, 0.2])
    state[0] = -1
    for a in (0.3, 0.0, 1.0):
        expected = [
            math.log(0.5 * ((1 + a) * np.mean([math.exp(shadows[m, n]) for m in range(5) if state[m, n] == -1]) + 1 - a))
            for n in range(20)
        ]
        np.testing.assert_allclose(rmia.usual_offline(shadows, state, a), expected, rtol=1e-9)
    assert np.array_equal(rmia.usual_offline(shadows, state), rmia.usual_offline(shadows, state, 0.3))


def test_offline_gives_an_image_without_out_models_the_mean_of_the_others():
    shadows, state = log_probabilities(4, 10), -np.ones((4, 10), int)
    state[:, 2] = 1
    means = np.exp(shadows).mean(0)
    expected = math.log((1.3 * np.delete(means, 2).mean() + 0.7) / 2)
    assert rmia.usual_offline(shadows, state)[2] == pytest.approx(expected, rel=1e-12)


def test_online_is_half_way_between_the_means_of_both_sides():
    shadows, state = log_probabilities(6, 25), np.random.default_rng(2).choice([-1, 0, 1], (6, 25))
    state[0], state[1] = 1, -1
    expected = []
    for n in range(25):
        inside, outside = ([math.exp(shadows[m, n]) for m in range(6) if state[m, n] == sign] for sign in (1, -1))
        expected.append(math.log((np.mean(inside) + np.mean(outside)) / 2))
    np.testing.assert_allclose(rmia.usual_online(shadows, state), expected, rtol=1e-9)


def test_online_gives_an_image_that_lacks_a_side_the_mean_difference_of_the_others():
    shadows, state = np.log(np.random.default_rng(0).uniform(0.3, 0.7, (6, 25))), np.random.default_rng(3).choice([-1, 1], (6, 25))
    state[0], state[1] = 1, -1
    state[:, 4], state[:, 9] = 1, -1
    p, both = np.exp(shadows), [n for n in range(25) if n not in (4, 9)]
    gap = np.mean([p[state[:, n] > 0, n].mean() - p[state[:, n] < 0, n].mean() for n in both])
    found = rmia.usual_online(shadows, state)
    assert found[4] == pytest.approx(math.log(p[:, 4].mean() - gap / 2), rel=1e-9)
    assert found[9] == pytest.approx(math.log(p[:, 9].mean() + gap / 2), rel=1e-9)


def test_online_stays_a_probability_where_the_difference_would_push_it_out():
    shadows = np.log(np.array([[0.99, 0.01, 0.999, 0.001], [0.01, 0.01, 0.999, 0.001]]))
    state = np.array([[1, 1, -1, 1], [-1, -1, -1, 1]])
    found = rmia.usual_online(shadows, state)
    assert np.isfinite(found).all() and (found <= 0).all()
