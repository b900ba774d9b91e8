"""Activation sparsity against sums over the units of a network, and ordinary training at weight zero."""

import pytest
import torch
from tiny_training import fit, weights
from torch import nn

from core import nets
from core.regularizers.activation_sparsity import ActivationSparsity
from core.slots import Context, Step

torch.set_num_threads(1)


def test_activation_sparsity_sums_over_the_units_of_an_image_and_averages_over_images():
    torch.manual_seed(0)
    net = nets.build(nets.NETS["convnet"](width=3, hidden=6), (1, 8, 8), 3).double()
    x = torch.rand(5, 1, 8, 8, dtype=torch.float64)
    step = Step(net, x, torch.zeros(5).long(), None, None, 1)  # pyright: ignore[reportArgumentType]
    value = ActivationSparsity(lambda_=0.01).bind(Context(3, 6, (1, 8, 8), 2, net))(step)
    convs = [layer for layer in net.body if isinstance(layer, nn.Conv2d)]
    (hidden,) = [layer for layer in net.body if isinstance(layer, nn.Linear)]
    total = torch.zeros((), dtype=torch.float64)
    for image in x:
        a = image[None]
        for conv in convs:
            a = torch.clamp(nn.functional.conv2d(a, conv.weight, conv.bias, conv.stride, conv.padding), min=0)
            total = total + a.sum()
        total = total + torch.clamp(nn.functional.adaptive_avg_pool2d(a, 4).flatten(1) @ hidden.weight.T + hidden.bias, min=0).sum()
    expected = 0.01 * total / 5
    torch.testing.assert_close(value, expected)
    inner = list(net.body.parameters())
    gradients = (torch.autograd.grad(scalar, inner) for scalar in (value, expected))
    for grad, expected_grad in zip(*gradients, strict=True):
        torch.testing.assert_close(grad, expected_grad)


class Leaky(nn.Module):
    """A leaky rectifier on the pixels, so that activations may be negative."""

    def __init__(self):
        super().__init__()
        self.calls = 0
        self.rectifier, self.head = nn.LeakyReLU(0.5), nn.Linear(4, 3)

    def features(self, x):
        self.calls += 1
        return self.rectifier(x.flatten(1))


def test_absolute_values_are_penalised_in_the_same_forward_pass_that_the_loss_uses():
    net = Leaky()
    x = torch.tensor([[-2.0, 3.0, 0.0, -4.0], [1.0, 1.0, 1.0, 1.0]]).view(2, 1, 2, 2)
    step = Step(net, x, torch.zeros(2).long(), None, None, 1)  # pyright: ignore[reportArgumentType]
    context = Context(3, 4, (1, 2, 2), 2, net)  # pyright: ignore[reportArgumentType]
    assert ActivationSparsity(lambda_=0.1).bind(context)(step).item() == pytest.approx(0.1 * ((1 + 3 + 2) + 4) / 2)
    assert step.clean.logits.shape == (2, 3) and net.calls == 1
    assert not net.rectifier._forward_hooks  # the hook is removed


def test_activation_sparsity_of_weight_zero_is_bit_identical_to_ordinary_training():
    off = {"regularizer": "activation_sparsity", "regularizer.lambda": 0.0}
    assert torch.equal(weights(fit({}).net), weights(fit(off).net))
    assert not torch.equal(weights(fit({}).net), weights(fit(off | {"regularizer.lambda": 1e-3}).net))
