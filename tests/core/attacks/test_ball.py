"""Projections and random offsets of perturbations in Linf and L2."""

import math

import pytest
import scipy.stats
import torch
from attack_contract import NORMS, SHAPE, distance
from hypothesis import given, settings
from hypothesis import strategies as st

from core import rng
from core.attacks.ball import draw_offset, project, random_offset

torch.set_num_threads(1)


def draw(n, seed=0):
    return rng.Draw(torch.Generator().manual_seed(seed), n)


@given(st.sampled_from(NORMS), st.floats(0.01, 2), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_project_keeps_points_inside_the_ball_and_moves_other_points_into_it(norm, epsilon, seed):
    stream = torch.Generator().manual_seed(seed)
    x = torch.rand(6, *SHAPE, generator=stream)
    points = x + 3 * torch.randn(6, *SHAPE, generator=stream)
    inside = project(points, x, epsilon, norm)
    assert inside.min() >= 0 and inside.max() <= 1 and (distance(inside, x, norm) <= epsilon + 1e-6).all()
    torch.testing.assert_close(project(inside, x, epsilon, norm), inside, rtol=0, atol=1e-6)


def test_random_offsets_in_linf_are_uniform_in_each_pixel():
    offset = random_offset(torch.rand(500, *SHAPE, generator=torch.Generator().manual_seed(0)), None, 0.3, "linf")
    assert scipy.stats.kstest(offset.flatten().numpy(), scipy.stats.uniform(-0.3, 0.6).cdf).pvalue > 0.01
    assert offset.abs().max() <= 0.3 + 1e-6


def test_random_offsets_in_l2_are_uniform_in_the_ball():
    """The share of the ball's volume inside radius r is (r / epsilon)^D; all directions are equally likely."""
    offset = draw_offset(draw(4000), torch.Size((4000, *SHAPE)), 0.3, "l2").flatten(1)
    assert scipy.stats.kstest(((offset.norm(dim=1) / 0.3) ** 16).numpy(), "uniform").pvalue > 0.01
    unit = offset / offset.norm(dim=1, keepdim=True)
    assert unit.mean(0).abs().max() < 4 * math.sqrt(1 / 16 / 4000)
    torch.testing.assert_close(unit.T @ unit / 4000, torch.eye(16) / 16, rtol=0, atol=0.006)


@pytest.mark.parametrize("norm", NORMS)
def test_offsets_for_a_part_of_the_batch_are_rows_of_those_for_the_whole_batch(norm):
    whole = draw_offset(draw(6), torch.Size((6, *SHAPE)), 0.2, norm)
    stream = rng.Draw(torch.Generator().manual_seed(0), 6, slice(2, 5))
    assert torch.equal(draw_offset(stream, torch.Size((3, *SHAPE)), 0.2, norm), whole[2:5])
