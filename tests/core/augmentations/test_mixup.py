"""Mixup: the distribution of its share, mixed images and labels, and reductions to other augmentations."""

import math

import pytest
import torch
from small_batches import classifier, context
from tiny_training import draw, fit, images, weights
from torch.nn import functional as F

from core.augmentations.mixup import Mixup
from core.config import LOSSES

torch.set_num_threads(1)


@pytest.mark.parametrize("a", [0.2, 1.0, 3.0])
def test_the_share_of_mixup_is_drawn_from_beta_a_a(a):
    n, stream = 1500, draw(12)
    mix = Mixup(a=a).bind(context(None, classes=12))
    x, y = torch.zeros(12, 1, 1, 1), torch.arange(12)
    shares = torch.stack([mix(x, y, stream)[1].diag().min() for _ in range(n)]).double()  # that of images with another partner
    assert shares.min() >= 0 and shares.max() <= 1
    variance = 1 / (4 * (2 * a + 1))
    assert shares.mean().item() == pytest.approx(0.5, abs=4 * math.sqrt(variance / n))
    assert shares.var().item() == pytest.approx(variance, rel=0.15)
    if a == 1.0:  # a uniform distribution, so each tenth is equally frequent
        assert torch.histc(shares, 10, 0, 1).min() > 0.7 * n / 10


@pytest.mark.parametrize("seed", range(4))
def test_images_and_labels_are_mixed_with_one_share_and_one_permutation(seed):
    """Every image has a different class, so that a mixed label determines the partner and the share."""
    n = 9
    x = torch.randint(0, 256, (n, 1, 4, 4), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)
    mix = Mixup().bind(context(None, classes=n))
    mixed, labels = mix(x, torch.arange(n), draw(n, seed))
    torch.testing.assert_close(labels.sum(1), torch.ones(n))
    partner = (labels - torch.diag(labels.diag())).argmax(1)
    own = labels.diag() > 0.9999  # images that are mixed with themselves
    partner[own] = torch.arange(n)[own]
    assert sorted(partner.tolist()) == list(range(n))
    share = labels.diag()[~own]
    assert (share == share[0]).all()
    s = share[0]
    for i in range(n):
        j = partner[i]
        torch.testing.assert_close(mixed[i], s * x[i] + (1 - s) * x[j], rtol=1e-5, atol=1e-3)
        if i != j:
            assert labels[i, j].item() == pytest.approx(1 - s.item(), abs=1e-6)


def test_every_batch_has_a_different_share_and_permutation():
    mix, stream = Mixup().bind(context(None, classes=40)), draw(40)
    first, second = (mix(images(40).x, torch.arange(40), stream)[1] for _ in range(2))
    assert first.diag().median() != second.diag().median()
    assert not torch.equal(first.bool(), second.bool())


def test_distributions_are_mixed_like_classes():
    x, y = images(5).x, torch.tensor([0, 1, 2, 0, 1])
    mix = Mixup().bind(context(None))
    for of_classes, of_distributions in zip(mix(x, y, draw(5)), mix(x, F.one_hot(y, 3).float(), draw(5)), strict=True):
        assert torch.equal(of_classes, of_distributions)


@pytest.mark.parametrize("loss", [name for name, cls in LOSSES.items() if getattr(cls, "soft_labels", False)])
def test_the_loss_of_mixed_labels_is_the_mixture_of_the_losses(loss):
    stream = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 3, generator=stream, dtype=torch.float64)
    y, other = torch.arange(6) % 3, torch.randint(3, (6,), generator=stream)
    share = 0.3
    soft = share * F.one_hot(y, 3).double() + (1 - share) * F.one_hot(other, 3).double()
    part = LOSSES[loss]().bind(context(classifier()))
    mixed, *losses = (part(logits, logits, labels, 1) for labels in (soft, y, other))
    torch.testing.assert_close(mixed, share * losses[0] + (1 - share) * losses[1])
    log_p = logits.log_softmax(1)
    if loss == "cross_entropy":
        expected = -sum(share * log_p[b, y[b]] + (1 - share) * log_p[b, other[b]] for b in range(6)) / 6
        torch.testing.assert_close(mixed, expected)


def test_mixup_with_a_zero_is_bit_identical_to_ordinary_training():
    plain = weights(fit({}).net)
    assert torch.equal(weights(fit({"augmentation": "mixup", "augmentation.a": 0.0}).net), plain)
    assert not torch.allclose(weights(fit({"augmentation": "mixup", "augmentation.a": 0.1}).net), plain)


def test_mixup_with_a_zero_crops_and_flips_as_crop_flip_does():
    crop = {"augmentation.padding": 2, "augmentation.flip": True}
    mixup = fit({"augmentation": "mixup", "augmentation.a": 0.0, **crop})
    assert torch.equal(weights(mixup.net), weights(fit({"augmentation": "crop_flip", **crop}).net))
