"""The memory that a trial needs at least: closed form, real tensors, and the choice between training and attacks."""

import numpy as np
import pytest
import torch
from torch import nn

from core import data
from core.bound import bind
from core.config import TrialConfig
from core.data import Images
from core.footprint import footprint, kept_bytes

CPU = torch.device("cpu")


def pool(n=160, side=32) -> Images:
    x = torch.randint(256, (n, 3, side, side), dtype=torch.uint8)
    return Images(x, torch.arange(n) % 2, 2)


@pytest.mark.parametrize("height, width", [(8, 8), (6, 10)])
def test_a_convolution_keeps_its_input_and_a_rectifier_its_output(height, width):
    net = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(5 * height * width, 2))
    # float32: the image for the convolution; the rectifier's output, which the linear layer keeps too
    assert kept_bytes(net, (3, height, width)) == 4 * (3 + 5) * height * width


@pytest.mark.parametrize("name", ["convnet", "allconv", "vgg11_bn", "mobilenet"])
def test_the_bytes_are_those_that_autograd_keeps_of_real_tensors(name):
    net = bind(TrialConfig.of({"net": name}), pool(), CPU).net.train()
    own = {t.untyped_storage().data_ptr() for t in (*net.parameters(), *net.buffers())}
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        net(torch.rand(4, 3, 32, 32))
    real = sum(t.untyped_storage().nbytes() for address, t in kept.items() if address not in own) / 4
    assert kept_bytes(net, (3, 32, 32)) == pytest.approx(real, rel=0.01)


def test_nothing_is_allocated_for_images_of_any_size():
    net = bind(TrialConfig.of({"net": "resnet18"}), pool(), CPU).net
    assert kept_bytes(net, (3, 4096, 4096)) == pytest.approx(kept_bytes(net, (3, 32, 32)) * 128**2, rel=0.01)
    assert kept_bytes(net, (3, 4096, 4096)) > 2**35 and next(net.parameters()).device == CPU and net.training


def test_the_largest_batch_counts_and_two_graphs_if_clean_and_perturbed_images_are_trained_on():
    images, parts = pool(), data.split(pool())
    kept = {}
    for changes, name, count, graphs in (
        ({"batch_size": 16, "judge.images": 4}, "training", 14, 1),  # 40 members in 3 batches
        ({"batch_size": 128, "judge.images": 4}, "training", 40, 1),
        ({"batch_size": 8, "judge.images": 12}, "attacks", 12, 1),
        ({"batch_size": 8, "judge.images": 0}, "attacks", 20, 1),  # all of val
        ({"batch_size": 8, "judge.images": 4, "selection": "accuracy", "selection.images": 12}, "the choice of the epoch", 12, 1),
        ({"batch_size": 16, "judge.images": 4, "perturbation": "pgd", "perturbation.alpha": 0.5}, "training", 14, 2),
        ({"batch_size": 16, "judge.images": 4, "perturbation": "pgd", "perturbation.alpha": 0.0}, "training", 14, 1),
    ):
        config = TrialConfig.of(changes)
        bound = bind(config, images.at(parts.members), CPU)
        phase = footprint(config, bound, images, parts)
        kept = kept_bytes(bound.net, images.shape)
        assert (phase.name, phase.images, phase.per_image) == (name, count, graphs * kept)
        assert phase.total == int(np.prod([count, graphs, kept]))
