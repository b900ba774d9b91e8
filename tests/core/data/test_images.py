"""Numbers that are computed from the pixels of a pool."""

import torch

from core import data


def test_channel_statistics_are_the_means_and_standard_deviations_of_all_pixels():
    x = torch.randint(0, 256, (7, 3, 5, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = data.channel_statistics(x)
    pixels = x.double() / 255
    assert torch.allclose(mean.double(), pixels.mean((0, 2, 3))) and torch.allclose(std.double(), pixels.std((0, 2, 3)))
