"""The adversarial radius and the summaries of attacks without a ball, against affine models."""

import pytest
import torch
from torch import nn

from core.attacks.deepfool import deepfool
from core.attacks.radius import adversarial_radius, length, shortest


def affine(w, b=0.0):
    """Two classes; the margin of class 0 is w @ x + b."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(w.numel(), 2))
    with torch.no_grad():
        net[1].weight.copy_(torch.stack([w, -w]) / 2)
        net[1].bias.copy_(torch.tensor([b, -b]) / 2)
    return net


def images(n=30):
    stream = torch.Generator().manual_seed(0)
    return 0.4 + 0.2 * torch.rand(n, 1, 4, 4, generator=stream), torch.randn(16, generator=stream)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_radius_on_an_affine_model_is_the_distance_to_the_boundary_up_to_one_step(norm):
    x, w = images()
    w = w - w.mean()
    net = affine(w, -0.1)
    margin = x.flatten(1) @ w - 0.1
    y = (margin < 0).long()
    exact = margin.abs() / (w.norm() if norm == "l2" else w.abs().sum())
    radius = adversarial_radius(net, x, y, norm=norm)
    step = 0.01 if norm == "l2" else 1 / 255
    assert (radius >= exact - 1e-5).all() and (radius <= exact + step + 1e-5).all()
    if norm == "l2":
        found = length(deepfool(net, x, y, overshoot=0.0) - x, "l2")
        assert ((radius - found) <= 0.01 + 1e-3).all() and ((radius - found) >= -1e-3).all()


def test_the_radius_is_zero_for_wrong_images_and_infinite_where_nothing_helps():
    x, w = images(4)
    net = affine(w)
    y = net(x).argmax(1)
    assert (adversarial_radius(net, x, 1 - y) == 0).all()
    assert adversarial_radius(affine(torch.zeros(16), 1.0), x, torch.zeros(4, dtype=torch.long), steps=5).isinf().all()


def test_fooling_rate_and_lengths_count_images_that_were_right_only():
    x, w = images(40)
    net = affine(w - w.mean())
    y = net(x).argmax(1)
    y[:10] = 1 - y[:10]  # wrong from the start
    adv = x.clone()
    adv[10:25] = deepfool(net, x, y)[10:25]
    s = shortest(net, x, y, adv)
    moved = length(adv - x, "l2")[10:25]
    assert s.fooling_rate == pytest.approx(0.5)
    assert s.mean == pytest.approx(moved.double().mean().item(), rel=1e-6)
    assert s.median == pytest.approx(moved.median().item()) and s.interval.low < s.mean < s.interval.high
    none = shortest(net, x, y, x)
    assert none.fooling_rate == 0 and none.mean == 0
    with pytest.raises(ValueError, match="no image is classified right"):
        shortest(net, x, 1 - net(x).argmax(1), adv)
