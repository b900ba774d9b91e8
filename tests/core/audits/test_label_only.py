"""The label-only audit: distances to the decision boundary by HopSkipJump."""

import attack_contract as contract
import scipy.stats
import torch
from attack_contract import Constant, distance, draw, mlp
from torch import nn

from core.attacks.hop_skip_jump import hop_skip_jump
from core.audits.label_only import boundary_distance

torch.set_num_threads(1)


def network(shape=(3, 4, 4)):
    """A network with batch norm and dropout, in training mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(shape[0], 6, 3), nn.BatchNorm2d(6), nn.Tanh(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(24, 4)
        )  # fmt: skip


def uint8_images(n=23, shape=(3, 4, 4), seed=0):
    s = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, *shape), generator=s, dtype=torch.uint8), torch.randint(4, (n,), generator=s)


def test_boundary_distance_is_the_length_of_the_hop_skip_jump_perturbation():
    net, x, y = contract.trained()
    x, y = x[:30], y[:30]
    adv = hop_skip_jump(net, x, y, draw=draw(30), steps=3, samples=10)
    distances = boundary_distance(net, x, y, draw=draw(30), steps=3, samples=10)
    assert distances.dtype == torch.float64
    torch.testing.assert_close(distances, distance(adv, x, "l2"), rtol=1e-6, atol=0)
    assert (distances > 0).sum() > 20


def test_distances_require_no_gradient_also_for_images_that_do():
    x, y = contract.labelled_by(mlp(), 4)
    assert not boundary_distance(mlp(), x.requires_grad_(), y, draw=draw(4), steps=1, samples=4).requires_grad


def test_boundary_distance_is_zero_for_misclassified_images_and_largest_if_no_other_class_is_found():
    x, _ = contract.images()
    y = torch.arange(32) % 2  # the network always predicts 0
    distances = boundary_distance(Constant(), x, y, draw=draw(32), steps=1, samples=2)
    assert (distances[y == 1] == 0).all() and (distances[y == 0] == 4).all()  # 16 pixels


def test_boundary_distance_ranks_images_of_an_affine_network_by_their_true_distance():
    net, x, y, *_ = contract.affine_case(2, "l2", 60)
    with torch.no_grad():
        logits = net(x)
    w = net[1].weight.detach()
    truth = (logits[:, 0] - logits[:, 1]).abs() / (w[0] - w[1]).norm()
    assert scipy.stats.spearmanr(boundary_distance(net, x, y, draw=draw(60)), truth).statistic > 0.99


def test_boundary_distance_does_not_depend_on_the_batches():
    net = mlp(3, dtype=torch.float64)
    x, y = contract.labelled_by(net, 13, dtype=torch.float64)
    together = boundary_distance(net, x, y, draw=draw(13), steps=3, samples=8)
    in_batches = boundary_distance(net, x, y, draw=draw(13), steps=3, samples=8, batch_size=5)
    torch.testing.assert_close(in_batches, together, rtol=0, atol=1e-9)


def test_boundary_distance_accepts_uint8_images_and_does_not_change_the_network():
    net, (x, y) = network(), uint8_images()
    net.train()
    distances = boundary_distance(net, x, y, draw=draw(23), steps=2, samples=4)
    assert all(m.training for m in net.modules()) and all(p.requires_grad for p in net.parameters())
    assert torch.equal(distances, boundary_distance(net, x.float() / 255, y, draw=draw(23), steps=2, samples=4))
