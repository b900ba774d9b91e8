"""The adversarial radius and the summary of attacks without a ball, against affine models."""

import math

import pytest
import torch
from torch import nn

from core.attacks.deepfool import deepfool
from core.attacks.radius import adversarial_radius, length, summarise_perturbations


def affine(w, b=0.0):
    """A network with two classes; the margin of class 0 is w @ x + b."""
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
        distance = length(deepfool(net, x, y, overshoot=0.0) - x, "l2")
        assert ((radius - distance) <= 0.01 + 1e-3).all() and ((radius - distance) >= -1e-3).all()


def test_the_radius_is_zero_for_misclassified_images_and_infinite_if_the_class_never_changes():
    x, w = images(4)
    net = affine(w)
    y = net(x).argmax(1)
    assert (adversarial_radius(net, x, 1 - y) == 0).all()
    assert adversarial_radius(affine(torch.zeros(16), 1.0), x, torch.zeros(4, dtype=torch.long), steps=5).isinf().all()


def test_fooling_rate_and_lengths_are_over_the_images_that_were_classified_correctly():
    x, w = images(40)
    net = affine(w - w.mean())
    y = net(x).argmax(1)
    y[:10] = 1 - y[:10]  # misclassified from the start
    adv = x.clone()
    adv[10:25] = deepfool(net, x, y)[10:25]
    summary = summarise_perturbations(net, x, y, adv)
    moved = length(adv - x, "l2")[10:25]
    assert summary.fooling_rate == pytest.approx(0.5)
    assert summary.mean == pytest.approx(moved.double().mean().item(), rel=1e-6)
    assert summary.median == pytest.approx(moved.median().item())
    assert summary.interval.low < summary.mean < summary.interval.high
    none = summarise_perturbations(net, x, y, x)
    assert none.fooling_rate == 0 and none.mean == 0 and none.interval == (-math.inf, math.inf)
    with pytest.raises(ValueError, match="no image is classified correctly"):
        summarise_perturbations(net, x, 1 - net(x).argmax(1), adv)
