"""Audits that ask a network for more than one forward pass: lengths of input gradients, and of walks to the boundary."""

import attack_contract as contract
import pytest
import scipy.stats
import torch
from attack_contract import Constant, distance, draw, mlp
from torch import nn
from torch.nn import functional as F

from core.attacks.hop_skip_jump import hop_skip_jump
from core.audits.gradient_norm import gradient_norm
from core.audits.label_only import boundary_distance

torch.set_num_threads(1)


def bumpy(shape=(3, 4, 4)):
    """A network in which images of a batch see each other in training mode, and units drop out."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(shape[0], 6, 3), nn.BatchNorm2d(6), nn.Tanh(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(24, 4)
        )  # fmt: skip


def bytes_(n=23, shape=(3, 4, 4), seed=0):
    s = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, *shape), generator=s, dtype=torch.uint8), torch.randint(4, (n,), generator=s)


# ---- gradient norm


@pytest.mark.parametrize("norm", [1, 2])
@pytest.mark.parametrize("batch_size", [1, 7, 512])
def test_gradient_norm_is_a_loop_over_images(norm, batch_size):
    net, (x, y) = bumpy(), bytes_()
    net(x.float())  # moves the running statistics
    net.eval()
    lengths = []
    for image, label in zip(x.float() / 255, y, strict=True):
        image = image[None].requires_grad_()
        F.cross_entropy(net(image), label[None]).backward()
        gradient = image.grad.double().flatten()
        lengths.append(-(gradient.abs().sum() if norm == 1 else gradient.square().sum().sqrt()))
    net.zero_grad()
    net.train()
    found = gradient_norm(net, x, y, norm=norm, batch_size=batch_size)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, torch.stack(lengths), rtol=1e-4, atol=1e-8)


def test_gradient_norm_of_an_affine_network_has_its_closed_form():
    net, x, y, *_ = contract.affine_case(3, "l2", 30)
    w = net[1].weight.detach()
    gradients = (net(x).detach().softmax(1) - F.one_hot(y, 3)) @ w
    torch.testing.assert_close(gradient_norm(net, x, y), -gradients.norm(dim=1), rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(gradient_norm(net, x, y, norm=1), -gradients.abs().sum(1), rtol=1e-5, atol=1e-9)


def test_gradient_norm_takes_bytes_and_floats_alike_and_l2_by_default():
    net, (x, y) = bumpy(), bytes_()
    assert torch.equal(gradient_norm(net, x, y), gradient_norm(net, x.float() / 255, y))
    assert torch.equal(gradient_norm(net, x, y), gradient_norm(net, x, y, norm=2))
    assert not torch.allclose(gradient_norm(net, x, y), gradient_norm(net, x, y, norm=1))


def test_gradient_norm_hands_the_network_back_as_it_came_and_leaves_the_images():
    net, (x, y) = bumpy(), bytes_()
    net.train()
    net[1].eval()
    net[0].bias.requires_grad_(False)
    images = (x.float() / 255).requires_grad_()
    modes, flags = [m.training for m in net.modules()], [p.requires_grad for p in net.parameters()]
    state = {k: v.clone() for k, v in net.state_dict().items()}
    found = gradient_norm(net, images, y)
    assert [m.training for m in net.modules()] == modes and [p.requires_grad for p in net.parameters()] == flags
    assert all(p.grad is None for p in net.parameters()) and images.grad is None and not found.requires_grad
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())


# ---- distance to the boundary


def test_boundary_distance_is_the_length_of_what_hop_skip_jump_found():
    net, x, y = contract.trained()
    x, y = x[:30], y[:30]
    adv = hop_skip_jump(net, x, y, draw=draw(30), steps=3, samples=10)
    found = boundary_distance(net, x, y, draw=draw(30), steps=3, samples=10)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, distance(adv, x, "l2"), rtol=1e-6, atol=0)
    assert (found > 0).sum() > 20


def test_boundary_distance_of_a_misread_image_is_zero_and_of_one_that_nothing_misleads_the_longest():
    x, _ = contract.images()
    y = torch.arange(32) % 2  # it always says 0
    found = boundary_distance(Constant(), x, y, draw=draw(32), steps=1, samples=2)
    assert (found[y == 1] == 0).all() and (found[y == 0] == 4).all()  # 16 pixels


def test_boundary_distance_ranks_images_of_an_affine_network_by_their_true_distance():
    net, x, y, *_ = contract.affine_case(2, "l2", 60)
    with torch.no_grad():
        logits = net(x)
    w = net[1].weight.detach()
    truth = (logits[:, 0] - logits[:, 1]).abs() / (w[0] - w[1]).norm()
    assert scipy.stats.spearmanr(boundary_distance(net, x, y, draw=draw(60)), truth).statistic > 0.99


def test_boundary_distance_does_not_depend_on_the_batches():
    net = mlp(3, dtype=torch.float64)
    x, y = contract.seen_right(net, 13, dtype=torch.float64)
    together = boundary_distance(net, x, y, draw=draw(13), steps=3, samples=8)
    apart = boundary_distance(net, x, y, draw=draw(13), steps=3, samples=8, batch_size=5)
    torch.testing.assert_close(apart, together, rtol=0, atol=1e-9)


def test_boundary_distance_takes_bytes_and_hands_the_network_back():
    net, (x, y) = bumpy(), bytes_()
    net.train()
    found = boundary_distance(net, x, y, draw=draw(23), steps=2, samples=4)
    assert all(m.training for m in net.modules()) and all(p.requires_grad for p in net.parameters())
    assert torch.equal(found, boundary_distance(net, x.float() / 255, y, draw=draw(23), steps=2, samples=4))
