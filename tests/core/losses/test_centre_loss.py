"""The centre loss by its formula, with both update rules of the centres, and as a special case of CRL."""

import math
from typing import Any

import pytest
import torch
from loss_oracles import B, C, D, batch_without_class_3, context, probabilities
from torch.nn import functional as F

from core.losses.centre_loss import CentreLoss
from core.losses.crl import CRL, relaxed_centre_loss

torch.set_num_threads(1)


def centre_loss(seed: int = 0, **knobs) -> Any:
    torch.manual_seed(seed)
    return CentreLoss(**knobs).bind(context()).double()


@pytest.mark.parametrize("epoch", [1, 2])
@pytest.mark.parametrize("update", ["gradient", "class_mean"])
def test_the_centre_loss_is_cross_entropy_plus_half_the_mean_squared_distance_to_the_centres(update, epoch):
    logits, features, y = batch_without_class_3()
    part = centre_loss(lambda_=0.7, update=update)
    value = part(logits, features, y, epoch)
    ce = sum(-math.log(probabilities(row)[label]) for row, label in zip(logits, y, strict=True)) / B
    difference = features.detach() - part.centres.detach()[y]
    assert value.item() == pytest.approx(ce + 0.7 / 2 * sum((row @ row).item() for row in difference) / B)
    by_logits, by_features = torch.autograd.grad(value, [logits, features], retain_graph=True)
    torch.testing.assert_close(by_logits, (logits.softmax(1) - F.one_hot(y, C)).detach() / B)
    torch.testing.assert_close(by_features, 0.7 * difference / B)


def test_the_gradient_by_the_centres_is_weighted_by_lambda_and_averaged_over_the_batch():
    logits, features, y = batch_without_class_3()
    part = centre_loss(lambda_=0.7)
    (grad,) = torch.autograd.grad(part(logits, features, y, 1), part.centres)
    expected = torch.zeros(C, D, dtype=torch.float64)
    for b in range(B):
        expected[y[b]] += 0.7 * (part.centres[y[b]] - features[b]).detach() / B
    torch.testing.assert_close(grad, expected)
    (group,) = part.optimizer.param_groups
    assert (group["momentum"], group["weight_decay"]) == (0.9, 5e-4)


@pytest.mark.parametrize("lambda_", [0.003, 1.0])
def test_class_mean_updates_are_those_of_wen_et_al(lambda_):
    """They are lr_c * sum (c - q) / (1 + n) for every lambda; two steps are tested, because momentum would change the second."""
    part = centre_loss(lambda_=lambda_, update="class_mean", lr_c=0.5)
    for seed in (0, 1):
        logits, features, y = batch_without_class_3(seed)
        before = part.centres.detach().clone()
        part.optimizer.zero_grad()
        part(logits, features, y, 1).backward()
        part.optimizer.step()
        for k in range(C):
            own = [features[b].detach() for b in range(B) if y[b] == k]
            update = sum((before[k] - q for q in own), start=torch.zeros(D).double()) / (1 + len(own))
            torch.testing.assert_close(part.centres.detach()[k], before[k] - 0.5 * update)
        assert torch.equal(part.centres[3], before[3])  # class 3 is absent


@pytest.mark.parametrize("epoch", [1, 2])
@pytest.mark.parametrize("alpha_rcl", [0.1, 50.0])
def test_the_relaxed_centre_loss_is_crl_without_a_target_for_the_cross_entropy(alpha_rcl, epoch):
    logits, features, y = batch_without_class_3()
    relaxed = centre_loss(lambda_=0.7, alpha_rcl=alpha_rcl, tau_rcl=0.5)
    torch.manual_seed(0)
    crl: Any = CRL(alpha_rce=0.0, tau_rce=0.0, lambda_=0.7, alpha_rcl=alpha_rcl, tau_rcl=0.5).bind(context()).double()
    assert torch.equal(relaxed.centres, crl.centres) and torch.equal(relaxed.threshold, crl.threshold)
    a, b = relaxed(logits, features, y, epoch), crl(logits, features, y, epoch)
    torch.testing.assert_close(a, b)
    for leaves in ([logits, logits], [features, features], [relaxed.centres, crl.centres]):
        torch.testing.assert_close(*(torch.autograd.grad(v, x, retain_graph=True)[0] for v, x in zip((a, b), leaves, strict=True)))
    part = relaxed_centre_loss(logits, features, y, relaxed.centres, epoch, alpha=float(relaxed.threshold), tau=0.5)
    torch.testing.assert_close(a, F.cross_entropy(logits, y) + 0.7 * part)
