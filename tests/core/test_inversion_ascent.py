"""Gradient ascent on logits against closed forms of linear networks."""

import pytest
import torch
from torch import nn

from core import nets, rng
from core.errors import InputError
from core.inversion.ascent import calibrated_lr, class_logits, constant, gradient_ascent, reached, uniform

torch.set_num_threads(1)

SHAPE = (1, 4, 4)
SMALL = {
    "convnet": ({"width": 4, "hidden": 16}, (1, 8, 8)), "allconv": ({"width": 2}, (3, 8, 8)), "mlenet": ({}, (1, 4, 4)),
    "net_a": ({}, (1, 9, 9)), "wrn": ({"depth": 10, "widen": 1}, (3, 8, 8)), "densenet": ({"depth": 16}, (3, 8, 8)),
    "mobilenet": ({"width": 0.125}, (3, 16, 16)), "googlenet": ({}, (3, 8, 8)), "resnet18": ({}, (3, 16, 16)),
    "vgg11_bn": ({}, (3, 32, 32)),
}  # fmt: skip
"""Networks at their smallest."""


def linear(seed=0, classes=3):
    """z = Wx + b, with a pixel that no class looks at."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, classes)).double()
    with torch.no_grad():
        net[1].weight[:, 5] = 0
    return net


def starts(k=6, seed=0, shape=SHAPE):
    return uniform(shape, rng.per_image(seed, "start", ids=torch.arange(k))).double()


CLASSES = torch.tensor([0, 1, 2, 2, 1, 0])


def test_a_linear_network_is_inverted_to_the_corner_of_its_weights():
    net, x = linear(), starts()
    found = gradient_ascent(net, CLASSES, x, lr=10.0, iterations=300)
    w = net[1].weight.detach()[CLASSES].view_as(x)
    seen = (w != 0).expand_as(x)
    assert torch.equal(found.images[seen], (w > 0).double()[seen])
    assert torch.equal(found.images[~seen], x[~seen])  # what has no weight stays
    highest = w.clamp(min=0).flatten(1).sum(1) + net[1].bias.detach()[CLASSES]
    torch.testing.assert_close(found.logits, highest)


def test_one_step_is_the_papers_equation():
    net, x = linear(), starts()
    found = gradient_ascent(net, CLASSES, x, lr=0.3, iterations=1)
    torch.testing.assert_close(found.images, (x + 0.3 * net[1].weight.detach()[CLASSES].view_as(x)).clamp(0, 1))


@pytest.mark.parametrize("scaling", ["raw", "l2", "mean_abs"])
def test_the_logit_never_falls_at_a_small_lr(scaling):
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    found = gradient_ascent(net, CLASSES, starts(), lr=2e-3, iterations=60, scaling=scaling, every=1)
    assert found.trajectory.shape == (61, 6)
    assert (found.trajectory.diff(dim=0) >= -1e-12).all() and (found.trajectory[-1] > found.trajectory[0] + 1e-4).all()


def test_scaled_gradients_have_the_length_they_say():
    net, x = linear(), torch.full((6, *SHAPE), 0.5).double()
    step = gradient_ascent(net, CLASSES, x, lr=0.01, iterations=1, scaling="mean_abs").images - x
    torch.testing.assert_close(step.abs().flatten(1).mean(1), torch.full((6,), 0.01).double())
    step = gradient_ascent(net, CLASSES, x, lr=0.01, iterations=1, scaling="l2").images - x
    torch.testing.assert_close(step.flatten(1).norm(dim=1), torch.full((6,), 0.01).double())


@pytest.mark.parametrize("scaling", ["raw", "l2", "mean_abs"])
def test_an_image_without_gradient_stays(scaling):
    net, x = linear(), starts()
    with torch.no_grad():
        net[1].weight.zero_()
    assert torch.equal(gradient_ascent(net, CLASSES, x, lr=1.0, iterations=5, scaling=scaling).images, x)


def counter(bias):
    """z = (0, sum(x) + bias, -99) of 16 pixels."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).double()
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([0.0, 1.0, 0.0]).unsqueeze(1).expand(3, 16))
        net[1].bias.copy_(torch.tensor([0.0, bias, -99.0]))
    return net


def test_first_is_the_first_iteration_with_that_answer_and_minus_one_without():
    net, classes = counter(-0.95), torch.tensor([0, 1, 2])
    found = gradient_ascent(net, classes, torch.zeros(3, *SHAPE).double(), lr=1 / 160, iterations=30)  # 0.1 more each time
    assert found.first.tolist() == [0, 10, -1]
    assert reached(found.first, 30).tolist() == [0, 10, 30]
    assert found.logits.tolist() == pytest.approx([0, 30 * 0.1 - 0.95, -99])
    assert gradient_ascent(net, classes, torch.zeros(3, *SHAPE).double(), lr=1 / 160, iterations=9).first.tolist() == [0, -1, -1]


def test_a_penalty_is_climbed_down():
    net, x = linear(), starts()
    with torch.no_grad():
        net[1].weight.zero_()
    found = gradient_ascent(net, CLASSES, x, lr=0.1, iterations=1, penalty=lambda x: x.square().flatten(1).sum(1))
    torch.testing.assert_close(found.images, x - 0.1 * 2 * x)


def small(name, classes=3):
    knobs, shape = SMALL[name]
    torch.manual_seed(0)
    return nets.build(nets.NETS[name](**knobs), shape, classes), shape


@pytest.mark.parametrize("name", SMALL)
def test_every_family_climbs_and_is_handed_back_as_it_came(name):
    net, shape = small(name)
    net.train()
    net.body.eval()
    next(net.parameters()).requires_grad_(False)
    modes, asking = [m.training for m in net.modules()], [p.requires_grad for p in net.parameters()]
    before = {k: v.clone() for k, v in net.state_dict().items()}
    found = gradient_ascent(net, torch.arange(3), starts(3, shape=shape).float(), lr=1e-3, iterations=2, scaling="mean_abs")
    assert (found.trajectory[-1] > found.trajectory[0]).all()
    assert [m.training for m in net.modules()] == modes and [p.requires_grad for p in net.parameters()] == asking
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("name", ["convnet", "wrn"])
def test_an_image_does_not_depend_on_its_batch(name):
    net, shape = small(name)
    net, x = net.double(), starts(shape=shape)
    together = gradient_ascent(net, CLASSES, x, lr=0.05, iterations=20)
    apart = gradient_ascent(net, CLASSES, x, lr=0.05, iterations=20, batch_size=4)
    alone = gradient_ascent(net, CLASSES[2:3], x[2:3], lr=0.05, iterations=20)
    torch.testing.assert_close(together.images, apart.images)
    torch.testing.assert_close(together.trajectory, apart.trajectory)
    torch.testing.assert_close(together.images[2:3], alone.images)
    assert torch.equal(together.first, apart.first)


def test_starts_belong_to_their_keys_and_stay_in_range():
    draw = rng.per_image(0, "start", ids=torch.arange(50))
    noisy = constant(50, (3, 4, 4), level=0.5, noise=0.3, draw=draw.at(torch.arange(50)))
    again = constant(10, (3, 4, 4), level=0.5, noise=0.3, draw=draw.at(torch.arange(20, 30)))
    assert torch.equal(noisy[20:30], again)
    assert noisy.min() == 0 and noisy.max() == 1 and noisy.mean().item() == pytest.approx(0.5, abs=0.03)
    assert torch.equal(constant(2, (1, 2, 2), level=0.25), torch.full((2, 1, 2, 2), 0.25))
    flat = uniform((3, 4, 4), draw)
    assert flat.mean().item() == pytest.approx(0.5, abs=0.03) and flat.std().item() == pytest.approx(12**-0.5, abs=0.03)


@pytest.mark.parametrize("wanted", [20, 80])
def test_calibration_finds_the_lr_that_takes_as_long_as_wanted(wanted):
    """From grey the sum is 8, and 16 * lr more each time; class 1 needs 12."""
    net, x = counter(-12.0), torch.full((1, *SHAPE), 0.5).double()
    lr = calibrated_lr(net, torch.tensor([1]), x, wanted=wanted, rounds=12)
    exact = 4 / 16 / wanted
    assert exact <= lr * 1.01 and lr <= exact * wanted / (wanted - 1) * 1.01
    assert gradient_ascent(net, torch.tensor([1]), x, lr=lr, iterations=100).first.item() == pytest.approx(wanted, abs=1)


def test_calibration_ends_at_its_limits_where_no_lr_takes_as_long():
    x = torch.full((1, *SHAPE), 0.5).double()
    at = [calibrated_lr(counter(b), torch.tensor([1]), x, wanted=5, low=0.01, high=1.0, rounds=10) for b in (99.0, -99.0)]
    assert at == pytest.approx([0.01, 1.0], rel=0.01)  # the answer at once, and never


def test_the_cross_logit_is_another_networks_logit_of_the_class():
    net, other, x = linear(0), linear(1), starts()
    images = gradient_ascent(net, CLASSES, x, lr=0.3, iterations=3).images
    torch.testing.assert_close(class_logits(other, images, CLASSES, batch_size=4), other(images)[torch.arange(6), CLASSES].detach())


def test_what_cannot_be_climbed_is_refused():
    with pytest.raises(ValueError, match="got 6 classes and 2 images"):
        gradient_ascent(linear(), CLASSES, starts(2), lr=1.0, iterations=1)
    with pytest.raises(InputError, match="unknown scaling 'l3'"):
        gradient_ascent(linear(), CLASSES, starts(), lr=1.0, iterations=1, scaling="l3")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="noise needs a draw"):
        constant(2, SHAPE, noise=0.1)
