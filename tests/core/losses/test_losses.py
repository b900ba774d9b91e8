"""Cross-entropy, label smoothing and confidence penalty by their formulas, and every loss that can be turned off."""

import math

import pytest
import torch
from loss_oracles import (
    B,
    C,
    assert_equal_with_gradients,
    batch,
    batch_without_class_3,
    context,
    cross_entropies,
    probabilities,
)
from tiny_training import fit_numbered, weights
from torch.nn import functional as F

from core.losses.confidence_penalty import ConfidencePenalty
from core.losses.cross_entropy import CrossEntropy
from core.losses.label_smoothing import LabelSmoothing

torch.set_num_threads(1)


def test_cross_entropy_is_the_mean_of_minus_log_p_y():
    logits, features, y = batch()
    loss = CrossEntropy().bind(context())
    assert_equal_with_gradients(loss(logits, features, y, 1), cross_entropies(logits, y).mean(), logits)


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.9, 1.0])
def test_label_smoothing_equals_its_formula(epsilon):
    logits, features, y = batch_without_class_3()
    total = 0.0
    for row, label in zip(logits, y, strict=True):
        p = probabilities(row)
        total += (1 - epsilon) * -math.log(p[label]) + epsilon * sum(-math.log(q) for q in p) / C
    value = LabelSmoothing(epsilon=epsilon).bind(context())(logits, features, y, 1)
    assert value.item() == pytest.approx(total / B, rel=1e-12)
    (grad,) = torch.autograd.grad(value, logits)
    target = (1 - epsilon) * F.one_hot(y, C) + epsilon / C
    torch.testing.assert_close(grad, (logits.softmax(1) - target) / B)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 8.0])
def test_the_confidence_penalty_subtracts_the_entropy_from_the_cross_entropy(alpha):
    logits, features, y = batch_without_class_3(1)
    total = 0.0
    for row, label in zip(logits, y, strict=True):
        p = probabilities(row)
        total += -math.log(p[label]) - alpha * -sum(q * math.log(q) for q in p)
    value = ConfidencePenalty(alpha=alpha).bind(context())(logits, features, y, 1)
    assert value.item() == pytest.approx(total / B, rel=1e-10)
    (grad,) = torch.autograd.grad(value, logits)
    p = logits.detach().softmax(1)
    entropy = -(p * p.log()).sum(1, keepdim=True)
    torch.testing.assert_close(grad, (p - F.one_hot(y, C) + alpha * p * (p.log() + entropy)) / B)


def test_the_confidence_penalty_of_uniform_predictions_is_alpha_log_c():
    flat = torch.zeros(B, C, dtype=torch.float64)
    value = ConfidencePenalty(alpha=0.3).bind(context())(flat, flat, batch_without_class_3()[2], 1)
    assert value.item() == pytest.approx((1 - 0.3) * math.log(C))


@pytest.mark.parametrize(
    "off, on",
    [
        ({"loss": "label_smoothing", "loss.epsilon": 0.0}, {"loss.epsilon": 0.1}),
        ({"loss": "confidence_penalty", "loss.alpha": 0.0}, {"loss.alpha": 0.1}),
        ({"loss": "centre_loss", "loss.lambda": 0.0}, {"loss.lambda": 0.1}),
        ({"loss": "imp_relaxloss", "loss.alpha_rce": 0.0, "loss.tau_rce": 0.0}, {"loss.alpha_rce": 2.0}),
    ],
    ids=lambda params: params.get("loss", "") if isinstance(params, dict) else "",
)
def test_a_loss_that_is_turned_off_is_bit_identical_to_ordinary_training(off, on):
    plain = weights(fit_numbered({}).net)
    assert torch.equal(plain, weights(fit_numbered(off).net))
    assert not torch.equal(plain, weights(fit_numbered(off | on).net))
