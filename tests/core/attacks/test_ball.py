"""Projections and random offsets of perturbations in Linf and L2."""

import math

import pytest
import scipy.stats
import torch
from attack_contract import NORMS, SHAPE, distance
from hypothesis import given, settings
from hypothesis import strategies as st

from core import rng
from core.attacks.ball import draw_offset, inside, project, random_offset, step

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


RADII = [1e-3, 0.01, 8 / 255, 0.5, 3.0, 27.7, 100.0, 1000.0]
SHAPES = [(1, 1, 1), (1, 4, 4), (3, 32, 32), (3, 64, 64), (3, 224, 224)]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_projections_of_every_size_are_inside_the_ball(shape, dtype, norm):
    """float32 rounds a length in proportion to it: 1e-5 is less than the rounding of a radius of 27, in images of 3x64x64."""
    stream = torch.Generator().manual_seed(0)
    for epsilon in RADII:
        grey = torch.rand(1, *shape, generator=stream, dtype=dtype)
        for x in (grey, grey.round(), torch.full_like(grey, 0.5)):  # around plain grey, few pixels are clipped
            for spread in (1.0, 30 * epsilon):
                noise = torch.randn(1, *shape, generator=stream, dtype=dtype)
                for offset in (noise, noise.sign()):
                    assert inside(project(x + spread * offset, x, epsilon, norm), x, epsilon, norm), (epsilon, spread)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_images_that_are_a_thousandth_of_the_radius_too_far_are_outside_the_ball(shape, norm):
    direction = torch.randn(1, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    direction /= distance(direction, torch.zeros(()), norm)
    tested = 0
    for epsilon in RADII[1:]:
        offset = 1.001 * epsilon * direction
        rounded = norm == "l2" and shape == (3, 224, 224) and epsilon < 0.02  # the pixels round by up to 1.2e-5 in all
        if offset.abs().max() < 0.5 and not rounded:
            x = torch.full((1, *shape), 0.5)
            assert not inside((x + offset).float(), x, epsilon, norm), epsilon
            tested += 1
    assert tested >= 2


@pytest.mark.parametrize("norm", NORMS)
def test_points_with_a_nan_or_outside_zero_one_are_not_inside(norm):
    x = torch.full((1, 1, 2, 2), 0.5)
    for value in (float("nan"), -1e-6, 1 + 1e-6):
        adv = x.clone()
        adv[0, 0, 0, 0] = value
        assert not inside(adv, x, 10.0, norm)
    assert inside(x, x, 0.0, norm) and inside(x[:0], x[:0], 0.1, norm)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_l2_steps_have_their_length_for_gradients_of_every_scale_and_are_zero_for_a_gradient_of_zero(dtype):
    for scale in (torch.finfo(dtype).smallest_normal * 8, 1.0, torch.finfo(dtype).max / 8):
        moved = step(torch.full((1, 3, 4, 4), scale, dtype=dtype), 0.25, "l2")
        assert distance(moved, torch.zeros(()), "l2").item() == pytest.approx(0.25, rel=8 * torch.finfo(dtype).eps)
    zero = torch.zeros(1, 3, 4, 4, dtype=dtype)
    assert torch.equal(step(zero, 0.25, "l2"), zero) and torch.equal(project(zero, zero, 0.0, "l2"), zero)
