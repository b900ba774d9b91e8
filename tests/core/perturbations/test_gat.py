"""GAT: identities of Delta, the generator's loss and optimum in closed form, and the images that the classifier is trained on."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from core import nets
from core.attacks.gradient import fgsm
from core.perturbations.gat import GAT, build_generator, probability_gradient
from core.slots import Context

torch.set_num_threads(1)

SHAPE = (1, 4, 4)


def classifier(classes: int = 3, seed: int = 0) -> nets.Net:
    """A small float64 network with gradients of moderate size."""
    torch.manual_seed(seed)
    net = nets.build(nets.NETS["convnet"](width=3, hidden=6), SHAPE, classes).double()
    with torch.no_grad():
        for p in net.parameters():
            p *= 2
    return net


def bound_to(net, **knobs) -> Any:
    torch.manual_seed(1)
    return GAT(**knobs).bind(Context(3, 6, SHAPE, 2, net)).double()


def batch(n: int = 6, seed: int = 0):
    stream = torch.Generator().manual_seed(seed)
    x = 0.3 + 0.4 * torch.rand(n, *SHAPE, generator=stream, dtype=torch.float64)
    return x, torch.randint(3, (n,), generator=stream)


class Ramp(nn.Module):
    """Two classes, the second with probability 0.5 + w . (x - 0.5), which is linear, so that Delta is w or -w."""

    def __init__(self, length: float = 0.2):
        super().__init__()
        w = torch.randn(16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        self.w = length * w / w.norm()

    def forward(self, x):
        p = 0.5 + (x.flatten(1) - 0.5) @ self.w
        return torch.stack([1 - p, p], 1).log()


class LinearGenerator(nn.Module):
    """The generator G(Delta) = a Delta."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(0.1, dtype=torch.float64))

    def forward(self, delta):
        return self.a * delta


# -- the generator ----------------------------------------------------------------------------------------------------


def test_the_generator_of_the_paper_has_107763_weights():
    assert sum(p.numel() for p in build_generator(3).parameters()) == 107_763
    kernels = [tuple(p.shape) for p in build_generator(3).parameters() if p.ndim == 4]
    assert kernels == [(48, 3, 3, 3), *[(48, 48, 3, 3)] * 5, (48, 48, 1, 1), (3, 48, 1, 1)]


@pytest.mark.parametrize("channels, size", [(3, 32), (1, 7)])
def test_the_generator_keeps_the_shape_is_zero_at_zero_and_stays_below_one(channels, size):
    generator = build_generator(channels, 6)
    zero = torch.zeros(2, channels, size, size)
    assert torch.equal(generator(zero), zero)
    out = generator(1e3 * torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0)))
    assert out.shape == zero.shape and 0.5 < out.abs().max() <= 1


# -- Delta ------------------------------------------------------------------------------------------------------------


def test_delta_is_the_gradient_of_the_probability_of_the_true_class():
    """Compared with central differences, pixel by pixel."""
    net, (x, y) = classifier(), batch(2)
    delta, predicted = probability_gradient(net, x, y)
    for b in range(2):
        for pixel in range(16):
            up, down = x[b].clone(), x[b].clone()
            up.view(-1)[pixel] += 1e-5
            down.view(-1)[pixel] -= 1e-5
            p = [net(image[None]).softmax(1)[0, y[b]].item() for image in (up, down)]
            assert delta[b].flatten()[pixel].item() == pytest.approx((p[0] - p[1]) / 2e-5, abs=1e-8)
    assert torch.equal(predicted, net(x).argmax(1)) and not delta.requires_grad


def test_the_gradient_of_the_cross_entropy_is_minus_delta_over_p():
    net, (x, y) = classifier(), batch()
    inputs = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(nn.functional.cross_entropy(net(inputs), y, reduction="sum"), inputs)
    p = net(x).softmax(1)[torch.arange(6), y].view(-1, 1, 1, 1)
    torch.testing.assert_close(grad, -probability_gradient(net, x, y)[0] / p)


def test_minus_the_sign_of_delta_makes_fgsm_images():
    net, (x, y) = classifier(), batch()
    delta = probability_gradient(net, x, y)[0]
    torch.testing.assert_close(x - 0.1 * delta.sign(), fgsm(net, x, y, epsilon=0.1), rtol=0, atol=1e-14)


def test_minus_the_unit_vector_of_delta_makes_fast_gradient_images_in_l2():
    net, (x, y) = classifier(), batch()
    delta = probability_gradient(net, x, y)[0]
    unit = delta / delta.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    torch.testing.assert_close(x - 0.2 * unit, fgsm(net, x, y, epsilon=0.2, norm="l2"), rtol=0, atol=1e-9)


@pytest.mark.parametrize("scale", ["none", "batch_std", "norm"])
def test_delta_is_divided_according_to_delta_scale(scale):
    part = bound_to(classifier(), delta_scale=scale)
    delta = 1e-3 * torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    out = part.scaled(delta)
    if scale == "none":
        assert torch.equal(out, delta)
        return
    torch.testing.assert_close(part.scaled(50 * delta), out)  # independent of the steepness of the classifier ...
    if scale == "batch_std":
        assert out.square().mean().item() == pytest.approx(1)
        ratio = out / delta  # ... but not of the differences between images
        torch.testing.assert_close(ratio, ratio[:1, :1, :1, :1].expand_as(out))
    else:
        torch.testing.assert_close(out.flatten(1).norm(dim=1), torch.ones(5, dtype=torch.float64))


# -- the generator's loss and its optimum -----------------------------------------------------------------------------


def test_a_generator_step_is_an_adam_step_on_the_papers_loss():
    net = classifier()
    part = bound_to(net, c_g=0.3, lr_g=1e-3, width=5, delta_scale="none")
    with torch.no_grad():  # Delta is small, and so is the output of an untrained generator
        part.generator[0].weight *= 1e3
    reference = copy.deepcopy(part.generator)
    x, y = batch()
    part.train_step(net, lambda: (x, y))

    delta = probability_gradient(net, x, y)[0]
    offset = reference(delta)
    p = (net(x + offset).exp() / net(x + offset).exp().sum(1, keepdim=True))[torch.arange(6), y]
    loss = sum(p[b] + 0.3 * (offset[b] ** 2).sum() for b in range(6)) / 6
    loss.backward()
    adam = torch.optim.Adam(reference.parameters(), lr=1e-3)
    before = copy.deepcopy(reference)
    for trained, expected in zip(part.generator.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(trained.grad, expected.grad)
    adam.step()
    for trained, expected, old in zip(part.generator.parameters(), reference.parameters(), before.parameters(), strict=True):
        torch.testing.assert_close(trained, expected)
        assert not torch.equal(trained, old)


@pytest.mark.parametrize("c_g", [0.5, 2.0])
def test_a_linear_generator_finds_the_optimum_at_minus_one_over_two_c(c_g):
    net = Ramp()
    part = bound_to(net, c_g=c_g, k=1)
    part.generator = LinearGenerator()
    part.adam = torch.optim.Adam(part.generator.parameters(), lr=0.05)
    x, y = batch()[0], torch.tensor([0, 1, 1, 0, 1, 0])
    for _ in range(300):
        part.train_step(net, lambda: (x, y))
    assert part.generator.a.item() == pytest.approx(-1 / (2 * c_g), rel=1e-3)


class BoundedRamp(Ramp):
    """The ramp passed through a softmax, so that probabilities stay between 0 and 1 everywhere."""

    def forward(self, x):
        z = 4 * (x.flatten(1) - 0.5) @ self.w
        return torch.stack([torch.zeros_like(z), z], 1)


def train_generator(net, c_g: float, steps: int = 60):
    """Norms of the perturbations of a trained generator, and the amount by which they improve the objective."""
    part = bound_to(net, c_g=c_g, k=steps, lr_g=1e-2, width=6)
    x, y = batch()[0], torch.tensor([0, 1, 1, 0, 1, 0])
    part.train_step(net, lambda: (x, y))
    offset = part(net, x, y, None) - x
    p_true = [net(z).softmax(1)[torch.arange(6), y] for z in (x, x + offset)]
    power = offset.flatten(1).square().sum(1)
    return power.sqrt(), p_true[0] - p_true[1] - c_g * power


def test_a_perturbation_that_improves_the_objective_has_a_norm_below_one_over_the_root_of_c():
    norms, gain = train_generator(Ramp(0.5), 4.0)
    assert (gain > 0).all()
    assert (norms <= 1 / math.sqrt(4.0)).all()
    assert 0.3 < norms.mean() / (0.5 / (2 * 4.0)) < 1.1  # close to the linear optimum, |w| / 2c


def test_a_large_c_g_suppresses_the_perturbation_and_c_g_zero_saturates_the_generator():
    free, moderate, strong = (train_generator(BoundedRamp(0.5), c_g)[0].mean().item() for c_g in (0.0, 1.0, 1e4))
    assert strong < 1e-3 < moderate < free
    assert free > 0.7 * math.sqrt(16)  # a tanh that is saturated in every pixel would give 4


# -- the images that the classifier is trained on ---------------------------------------------------------------------


@pytest.mark.parametrize("clip", [False, True])
def test_the_classifier_is_trained_on_x_plus_g_of_delta(clip):
    net = classifier()
    part = bound_to(net, clip_train=clip, delta_scale="norm")
    x, y = batch()
    with torch.no_grad():
        part.generator[-2].bias += 2.0  # enough to leave [0, 1]
    offset = part.generator(part.scaled(probability_gradient(net, x, y)[0]))
    expected = x + offset
    assert expected.max() > 1
    out = part(net, x, y, None)
    torch.testing.assert_close(out, expected.clamp(0, 1) if clip else expected)
    assert not out.requires_grad


def test_the_report_has_norm_probability_and_flips_and_resets_them():
    net = classifier()
    part = bound_to(net, k=2, lr_g=0.0, delta_scale="batch_std")
    x, y = batch()
    part.train_step(net, lambda: (x, y))
    out = part(net, x, y, None)
    p = net(out).softmax(1)[torch.arange(6), y].mean().item()
    flips = (net(out).argmax(1) != net(x).argmax(1)).double().mean().item()
    norm = (out - x).flatten(1).norm(dim=1).mean().item()
    assert part.report() == pytest.approx({"generator_norm": norm, "generator_p_true": p, "generator_flipped": flips})
    part(net, x, y, None)
    assert part.report() == pytest.approx({"generator_norm": norm})
    assert part.report() == {}  # an epoch without images is not one of a silent generator
