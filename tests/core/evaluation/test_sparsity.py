"""The density of activations and the share of small weights against counts."""

import math

import pytest
import scipy.stats
import torch
from sparse_net import NetWithZeros
from tiny_training import fit, images
from torch import nn

from core.evaluation.sparsity import activation_density, share_near_zero
from core.nets.activations import activations

torch.set_num_threads(1)


@pytest.mark.parametrize("pixel, density", [(1.0, 1.0), (-1.0, 0.0), (0.0, 0.0)])
def test_density_is_one_if_all_units_are_active_and_zero_if_none_is(pixel, density):
    net = nn.Sequential(nn.ReLU(), nn.Flatten())
    assert activation_density(net, torch.full((3, 1, 4, 4), pixel)) == density


def test_random_filters_on_zero_mean_images_are_active_half_of_the_time():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 50, 5, bias=False), nn.ReLU(), nn.Flatten())
    x = torch.randn(40, 3, 32, 32)
    with activations(net) as outputs:
        net(x[:1])
    assert outputs[0].numel() == 39_200  # units of the paper's toy network
    assert activation_density(net, x) == pytest.approx(0.5, abs=0.01)


def test_density_is_the_share_of_active_units_for_every_batch_size():
    net = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(4, 12), nn.ReLU())
    x = torch.randn(7, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    first = x.flatten(1).clamp(min=0)
    second = (first @ net[2].weight.T + net[2].bias).clamp(min=0)
    active = int((first > 0).sum() + (second > 0).sum())
    for batch_size in (1, 3, 7, 256):
        assert activation_density(net, x, batch_size) == active / (7 * 16)


def test_density_is_measured_in_evaluation_mode_and_is_one_without_rectifiers():
    net = nn.Sequential(nn.Dropout(0.9), nn.ReLU(), nn.Flatten()).train()
    assert activation_density(net, torch.ones(2, 1, 4, 4)) == 1.0
    assert net.training and net[0].training
    assert activation_density(nn.Flatten(), torch.zeros(2, 1, 4, 4)) == 1.0


def test_density_falls_as_the_penalty_on_activations_rises():
    members = images(60)
    grid = [0.0, 1e-4, 1e-3, 1e-2, 3e-2]
    densities = []
    for lambda_ in grid:
        params = {"regularizer": "activation_sparsity", "regularizer.lambda": lambda_, "epochs": 6, "net.hidden": 16}
        net = fit(params, members).net
        densities.append(activation_density(net, members.x.float() / 255))
    assert all(0 <= d <= 1 for d in densities)
    assert float(scipy.stats.spearmanr(grid, densities).statistic) < -0.8  # pyright: ignore[reportAttributeAccessIssue]
    assert densities[-1] < densities[0] - 0.1


def test_the_share_of_weights_near_zero_counts_kernels_only():
    net = NetWithZeros()
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(1.0)
        net.body[0].weight.view(-1)[:5] = torch.tensor([0.0, 9e-4, -9e-4, 1.1e-3, -1.1e-3])
        net.head.bias.zero_()
    assert share_near_zero(net) == 3 / (18 + 32 + 12)
    assert math.isclose(share_near_zero(net, below=2.0), 1.0)
