"""DeepDream: its step size, its reduction to gradient ascent, its octaves and its penalty."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from core import rng
from core.inversion.ascent import gradient_ascent, uniform
from core.inversion.deepdream import blurred, deepdream

torch.set_num_threads(1)

SHAPE = (3, 8, 8)
CLASSES = torch.tensor([0, 1, 2, 1])


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(256, 3)).double()


def starts(low=0.0, high=1.0):
    return low + (high - low) * uniform(SHAPE, rng.per_image(0, "start", ids=torch.arange(4))).double()


def test_the_mean_absolute_change_of_a_step_is_lr():
    x = starts(0.45, 0.55)
    dream = deepdream(network(), CLASSES, x, lr=0.01, passes=1, octaves=1, steps=1)
    assert dream.images.min() > 0 and dream.images.max() < 1  # nothing was clipped
    torch.testing.assert_close((dream.images - x).abs().flatten(1).mean(1), torch.full((4,), 0.01).double())


def test_one_octave_without_penalty_and_normalisation_equals_gradient_ascent():
    net, x = network(), starts()
    dream = deepdream(net, CLASSES, x, lr=0.2, passes=3, octaves=1, steps=4, weight=0, scaling="raw")
    ascent = gradient_ascent(net, CLASSES, x, lr=0.2, iterations=12, every=4)
    assert torch.equal(dream.images, ascent.images) and torch.equal(dream.first, ascent.first)
    assert torch.equal(dream.logits, ascent.logits) and torch.equal(dream.trajectory, ascent.trajectory[1:])
    assert (ascent.first > 0).any()


def test_the_input_of_the_network_always_has_the_full_size():
    sizes = []
    net = network()
    net.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape)))
    deepdream(net, CLASSES, starts(), passes=2, octaves=4, steps=1)
    assert set(sizes) == {(4, *SHAPE)} and len(sizes) == 2 * 4 * 2


def test_octaves_run_from_the_coarsest_and_each_starts_from_a_blurred_image():
    net, x = network(), starts()
    dream = deepdream(net, CLASSES, x, lr=0.0, passes=1, octaves=3, steps=1)
    torch.testing.assert_close(dream.images, blurred(blurred(x, 4), 2))
    kept = deepdream(net, CLASSES, x, lr=0.0, passes=1, octaves=2, steps=1, blend=0.4)
    torch.testing.assert_close(kept.images, 0.4 * x + 0.6 * blurred(x, 2))
    assert dream.trajectory.shape == (3, 4) and torch.equal(dream.trajectory[-1], dream.logits)


def test_blurring_reduces_the_spread_keeps_constants_and_ends_at_one_pixel():
    x = starts()
    assert torch.equal(blurred(torch.full((1, 1, 8, 8), 0.3), 4), torch.full((1, 1, 8, 8), 0.3))
    flat = blurred(x, 1000)
    torch.testing.assert_close(flat, flat[:, :, :1, :1].expand_as(flat))
    spread = [blurred(x, factor).flatten(1).std(1) for factor in (1, 2, 4)]
    torch.testing.assert_close(spread[0], x.flatten(1).std(1))
    assert (spread[0] > spread[1]).all() and (spread[1] > spread[2]).all()
    small = F.interpolate(x, (4, 4), mode="bilinear", antialias=True)
    torch.testing.assert_close(blurred(x, 2), F.interpolate(small, (8, 8), mode="bilinear", antialias=True))


def test_the_penalty_is_the_alpha_norm_in_mean_std_units():
    net, x = network(), starts(0.3, 0.7)
    with torch.no_grad():
        net[3].weight.zero_()  # only the penalty changes the image
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])
    options = {"passes": 1, "octaves": 1, "steps": 1, "scaling": "raw", "mean": mean, "std": std}
    dream = deepdream(net, CLASSES, x, lr=1e-3, weight=0.01, power=6, **options)
    m, s = mean.double().view(3, 1, 1), std.double().view(3, 1, 1)
    torch.testing.assert_close(dream.images, x - 1e-3 * 0.01 * 6 * ((x - m) / s) ** 5 / s)


def test_a_larger_penalty_gives_pixels_closer_to_the_mean():
    mean, std = torch.full((3,), 0.5), torch.full((3,), 0.25)
    norms = []
    for weight in (0.0, 1e-3, 1.0):
        dream = deepdream(network(), CLASSES, starts(), weight=weight, mean=mean, std=std, passes=2, lr=0.03)
        norms.append(((dream.images - 0.5).abs().flatten(1) ** 6).sum(1).mean().item())
    assert norms[0] > norms[1] > norms[2]


def test_iterations_are_counted_over_all_passes_and_octaves():
    """The logit of class 1 is sum(x) - 20 over 192 pixels; a step of 0.01 on each adds 1.92, and blurring changes nothing."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 2)).double()
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([0.0, 1.0]).unsqueeze(1).expand(2, 192))
        net[1].bias.copy_(torch.tensor([0.0, -20.0]))
    dream = deepdream(net, torch.tensor([1, 0]), torch.zeros(2, *SHAPE).double(), lr=0.01, passes=3, octaves=2, steps=2, weight=0)
    assert dream.first.tolist() == [11, 0]
    assert dream.logits[0].item() == pytest.approx(12 * 1.92 - 20)
