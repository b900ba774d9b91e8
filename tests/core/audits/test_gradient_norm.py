"""The gradient-norm audit against a loop over images and a closed form."""

import attack_contract as contract
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from core.audits.gradient_norm import gradient_norm

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


@pytest.mark.parametrize("norm", [1, 2])
@pytest.mark.parametrize("batch_size", [1, 7, 512])
def test_gradient_norm_equals_a_loop_over_images(norm, batch_size):
    net, (x, y) = network(), uint8_images()
    net(x.float())  # changes the running statistics
    net.eval()
    lengths = []
    for image, label in zip(x.float() / 255, y, strict=True):
        image = image[None].requires_grad_()
        F.cross_entropy(net(image), label[None]).backward()
        gradient = image.grad.double().flatten()
        lengths.append(-(gradient.abs().sum() if norm == 1 else gradient.square().sum().sqrt()))
    net.zero_grad()
    net.train()
    scores = gradient_norm(net, x, y, norm=norm, batch_size=batch_size)
    assert scores.dtype == torch.float64
    torch.testing.assert_close(scores, torch.stack(lengths), rtol=1e-4, atol=1e-8)


def test_gradient_norm_of_an_affine_network_equals_its_closed_form():
    net, x, y, *_ = contract.affine_case(3, "l2", 30)
    w = net[1].weight.detach()
    gradients = (net(x).detach().softmax(1) - F.one_hot(y, 3)) @ w
    torch.testing.assert_close(gradient_norm(net, x, y), -gradients.norm(dim=1), rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(gradient_norm(net, x, y, norm=1), -gradients.abs().sum(1), rtol=1e-5, atol=1e-9)


def test_gradient_norm_accepts_uint8_and_float_images_and_uses_l2_by_default():
    net, (x, y) = network(), uint8_images()
    assert torch.equal(gradient_norm(net, x, y), gradient_norm(net, x.float() / 255, y))
    assert torch.equal(gradient_norm(net, x, y), gradient_norm(net, x, y, norm=2))
    assert not torch.allclose(gradient_norm(net, x, y), gradient_norm(net, x, y, norm=1))


def test_gradient_norm_changes_neither_the_network_nor_the_images():
    net, (x, y) = network(), uint8_images()
    net.train()
    net[1].eval()
    net[0].bias.requires_grad_(False)
    images = (x.float() / 255).requires_grad_()
    modes, flags = [m.training for m in net.modules()], [p.requires_grad for p in net.parameters()]
    state = {k: v.clone() for k, v in net.state_dict().items()}
    scores = gradient_norm(net, images, y)
    assert [m.training for m in net.modules()] == modes and [p.requires_grad for p in net.parameters()] == flags
    assert all(p.grad is None for p in net.parameters()) and images.grad is None and not scores.requires_grad
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
