"""Gradient ascent on logits against closed forms of linear networks."""

import pytest
import torch
from torch import nn

from core import nets, rng
from core.errors import InputError
from core.inversion.ascent import calibrated_lr, class_logits, constant, gradient_ascent, reached, recorded_iterations, uniform

torch.set_num_threads(1)

SHAPE = (1, 4, 4)
SMALL = {
    "convnet": ({"width": 4, "hidden": 16}, (1, 8, 8)), "allconv": ({"width": 2}, (3, 8, 8)), "mlenet": ({}, (1, 4, 4)),
    "net_a": ({}, (1, 9, 9)), "wrn": ({"depth": 10, "widen": 1}, (3, 8, 8)), "densenet": ({"depth": 16}, (3, 8, 8)),
    "mobilenet": ({"width": 0.125}, (3, 16, 16)), "googlenet": ({}, (3, 8, 8)), "resnet18": ({}, (3, 16, 16)),
    "vgg11_bn": ({}, (3, 32, 32)), "single_layer": ({}, (3, 8, 8)),
}  # fmt: skip
"""Small networks of every family: knobs and image shape."""


def linear(seed=0, classes=3):
    """A linear network z = Wx + b, with a pixel that no class depends on."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, classes)).double()
    with torch.no_grad():
        net[1].weight[:, 5] = 0
    return net


def starts(k=6, seed=0, shape=SHAPE):
    return uniform(shape, rng.per_image(seed, "start", ids=torch.arange(k))).double()


CLASSES = torch.tensor([0, 1, 2, 2, 1, 0])


def test_the_ascent_on_a_linear_network_ends_in_the_corner_given_by_its_weights():
    net, x = linear(), starts()
    result = gradient_ascent(net, CLASSES, x, lr=10.0, iterations=300)
    w = net[1].weight.detach()[CLASSES].view_as(x)
    weighted = (w != 0).expand_as(x)
    assert torch.equal(result.images[weighted], (w > 0).double()[weighted])
    assert torch.equal(result.images[~weighted], x[~weighted])  # pixels without weight are unchanged
    highest = w.clamp(min=0).flatten(1).sum(1) + net[1].bias.detach()[CLASSES]
    torch.testing.assert_close(result.logits, highest)


def test_one_step_equals_the_equation_of_the_paper():
    net, x = linear(), starts()
    result = gradient_ascent(net, CLASSES, x, lr=0.3, iterations=1)
    torch.testing.assert_close(result.images, (x + 0.3 * net[1].weight.detach()[CLASSES].view_as(x)).clamp(0, 1))


@pytest.mark.parametrize("scaling", ["raw", "l2", "mean_abs"])
def test_the_logit_never_falls_at_a_small_lr(scaling):
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    result = gradient_ascent(net, CLASSES, starts(), lr=2e-3, iterations=60, scaling=scaling, every=1)
    assert result.trajectory.shape == (61, 6)
    assert (result.trajectory.diff(dim=0) >= -1e-12).all() and (result.trajectory[-1] > result.trajectory[0] + 1e-4).all()


def test_the_trajectory_has_the_logits_of_the_recorded_iterations():
    net, x = linear(), starts()
    sparse = gradient_ascent(net, CLASSES, x, lr=2e-3, iterations=250).trajectory
    dense = gradient_ascent(net, CLASSES, x, lr=2e-3, iterations=250, every=1).trajectory
    assert recorded_iterations(250) == [*range(0, 250, 2), 250] and recorded_iterations(7, 3) == [0, 3, 6, 7]
    assert torch.equal(sparse, dense[recorded_iterations(250)])


def test_scaled_gradients_have_the_specified_length():
    net, x = linear(), torch.full((6, *SHAPE), 0.5).double()
    step = gradient_ascent(net, CLASSES, x, lr=0.01, iterations=1, scaling="mean_abs").images - x
    torch.testing.assert_close(step.abs().flatten(1).mean(1), torch.full((6,), 0.01).double())
    step = gradient_ascent(net, CLASSES, x, lr=0.01, iterations=1, scaling="l2").images - x
    torch.testing.assert_close(step.flatten(1).norm(dim=1), torch.full((6,), 0.01).double())


@pytest.mark.parametrize("scaling", ["raw", "l2", "mean_abs"])
def test_an_image_without_a_gradient_is_unchanged(scaling):
    net, x = linear(), starts()
    with torch.no_grad():
        net[1].weight.zero_()
    assert torch.equal(gradient_ascent(net, CLASSES, x, lr=1.0, iterations=5, scaling=scaling).images, x)


def counter(bias):
    """A network with logits (0, sum(x) + bias, -99) for 16 pixels."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).double()
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([0.0, 1.0, 0.0]).unsqueeze(1).expand(3, 16))
        net[1].bias.copy_(torch.tensor([0.0, bias, -99.0]))
    return net


def test_first_is_the_first_iteration_at_which_the_class_is_predicted_or_minus_one():
    net, classes = counter(-0.95), torch.tensor([0, 1, 2])
    result = gradient_ascent(net, classes, torch.zeros(3, *SHAPE).double(), lr=1 / 160, iterations=30)  # adds 0.1 in each step
    assert result.first.tolist() == [0, 10, -1]
    assert reached(result.first, 30).tolist() == [0, 10, 30]
    assert result.logits.tolist() == pytest.approx([0, 30 * 0.1 - 0.95, -99])
    assert gradient_ascent(net, classes, torch.zeros(3, *SHAPE).double(), lr=1 / 160, iterations=9).first.tolist() == [0, -1, -1]


def test_a_penalty_is_descended():
    net, x = linear(), starts()
    with torch.no_grad():
        net[1].weight.zero_()
    result = gradient_ascent(net, CLASSES, x, lr=0.1, iterations=1, penalty=lambda x: x.square().flatten(1).sum(1))
    torch.testing.assert_close(result.images, x - 0.1 * 2 * x)


def small(name, classes=3):
    knobs, shape = SMALL[name]
    torch.manual_seed(0)
    return nets.build(nets.NETS[name](**knobs), shape, classes), shape


@pytest.mark.parametrize("name", SMALL)
def test_every_family_of_networks_can_be_inverted_and_is_unchanged(name):
    net, shape = small(name)
    net.train()
    net.body.eval()
    next(net.parameters()).requires_grad_(False)
    modes, required = [m.training for m in net.modules()], [p.requires_grad for p in net.parameters()]
    before = {k: v.clone() for k, v in net.state_dict().items()}
    result = gradient_ascent(net, torch.arange(3), starts(3, shape=shape).float(), lr=1e-3, iterations=2, scaling="mean_abs")
    assert (result.trajectory[-1] > result.trajectory[0]).all()
    assert [m.training for m in net.modules()] == modes and [p.requires_grad for p in net.parameters()] == required
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("name", ["convnet", "wrn"])
def test_the_result_for_an_image_does_not_depend_on_the_batch(name):
    net, shape = small(name)
    net, x = net.double(), starts(shape=shape)
    together = gradient_ascent(net, CLASSES, x, lr=0.05, iterations=20)
    in_batches = gradient_ascent(net, CLASSES, x, lr=0.05, iterations=20, batch_size=4)
    alone = gradient_ascent(net, CLASSES[2:3], x[2:3], lr=0.05, iterations=20)
    torch.testing.assert_close(together.images, in_batches.images)
    torch.testing.assert_close(together.trajectory, in_batches.trajectory)
    torch.testing.assert_close(together.images[2:3], alone.images)
    assert torch.equal(together.first, in_batches.first)


def test_starts_depend_on_their_keys_and_are_in_range():
    draw = rng.per_image(0, "start", ids=torch.arange(50))
    noisy = constant(50, (3, 4, 4), level=0.5, noise=0.3, draw=draw.at(torch.arange(50)))
    again = constant(10, (3, 4, 4), level=0.5, noise=0.3, draw=draw.at(torch.arange(20, 30)))
    assert torch.equal(noisy[20:30], again)
    assert noisy.min() == 0 and noisy.max() == 1 and noisy.mean().item() == pytest.approx(0.5, abs=0.03)
    assert torch.equal(constant(2, (1, 2, 2), level=0.25), torch.full((2, 1, 2, 2), 0.25))
    flat = uniform((3, 4, 4), draw)
    assert flat.mean().item() == pytest.approx(0.5, abs=0.03) and flat.std().item() == pytest.approx(12**-0.5, abs=0.03)


@pytest.mark.parametrize("target", [20, 80])
def test_calibration_finds_the_lr_that_takes_the_target_number_of_iterations(target):
    """The sum is 8 for grey and rises by 16 * lr in each step; class 1 needs 12."""
    net, x = counter(-12.0), torch.full((1, *SHAPE), 0.5).double()
    lr = calibrated_lr(net, torch.tensor([1]), x, target=target, rounds=12)
    exact = 4 / 16 / target
    assert exact <= lr * 1.01 and lr <= exact * target / (target - 1) * 1.01
    assert gradient_ascent(net, torch.tensor([1]), x, lr=lr, iterations=100).first.item() == pytest.approx(target, abs=1)


def test_calibration_ends_at_its_limits_if_no_lr_takes_the_target_number_of_iterations():
    x = torch.full((1, *SHAPE), 0.5).double()
    rates = [calibrated_lr(counter(b), torch.tensor([1]), x, target=5, low=0.01, high=1.0, rounds=10) for b in (99.0, -99.0)]
    assert rates == pytest.approx([0.01, 1.0], rel=0.01)  # the class is predicted at once, and never


def test_class_logits_are_the_logits_of_the_classes_under_another_network():
    net, other, x = linear(0), linear(1), starts()
    images = gradient_ascent(net, CLASSES, x, lr=0.3, iterations=3).images
    torch.testing.assert_close(class_logits(other, images, CLASSES, batch_size=4), other(images)[torch.arange(6), CLASSES].detach())


def test_invalid_arguments_are_rejected():
    with pytest.raises(ValueError, match="got 6 classes and 2 images"):
        gradient_ascent(linear(), CLASSES, starts(2), lr=1.0, iterations=1)
    with pytest.raises(InputError, match="unknown scaling 'l3'"):
        gradient_ascent(linear(), CLASSES, starts(), lr=1.0, iterations=1, scaling="l3")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="noise needs a draw"):
        constant(2, SHAPE, noise=0.1)
