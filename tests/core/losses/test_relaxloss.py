"""RelaxLoss and its soft labels against the published formulas, and closed-form gradients."""

import math

import pytest
import torch
from loss_oracles import (
    ABOVE,
    BELOW,
    B,
    C,
    assert_equal_with_gradients,
    batch,
    context,
    cross_entropies,
    gradient,
    soft_label_cross_entropies,
)

from core.losses.crl import CRL
from core.losses.relaxloss import RelaxLoss, soft_label_cross_entropy

torch.set_num_threads(1)


# -- soft labels ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("upper", [1.0, 0.3])
def test_soft_labels_sum_to_one_and_equal_the_formula(upper):
    logits, _, y = batch(1)
    zeros = torch.zeros(B, C, dtype=torch.float64, requires_grad=True)
    value = soft_label_cross_entropy(logits, y, upper=upper, detach=True, scored=zeros)
    torch.testing.assert_close(value, torch.full_like(value, math.log(C)))  # log C times the sum of the soft label
    soft = torch.full_like(zeros, 1 / C) - gradient(value.sum(), zeros)  # d SCE / d scored = softmax(scored) - t
    p = torch.exp(logits) / torch.exp(logits).sum(1, keepdim=True)
    for row in range(B):
        p_y = min(p[row, y[row]].item(), upper)
        for i in range(C):
            expected = p_y if i == y[row] else (1 - p_y) / (C - 1)
            assert soft[row, i].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("upper", [1.0, 0.3])
def test_soft_label_cross_entropy_equals_a_loop(upper, detach):
    logits, _, y = batch(2)
    assert_equal_with_gradients(
        soft_label_cross_entropy(logits, y, upper=upper, detach=detach).sum(),
        soft_label_cross_entropies(logits, y, upper, detach).sum(),
        logits,
    )


def test_a_detached_soft_label_gives_the_logit_of_the_true_class_no_gradient():
    logits, _, y = batch(3)
    detached = gradient(soft_label_cross_entropy(logits, y, upper=1.0, detach=True).sum(), logits)
    assert detached.gather(1, y[:, None]).abs().max() < 1e-14
    assert detached.abs().max() > 1e-2  # the other classes are equalised
    attached = gradient(soft_label_cross_entropy(logits, y, upper=1.0, detach=False).sum(), logits)
    assert attached.gather(1, y[:, None]).abs().max() > 1e-2


def test_with_two_classes_a_detached_soft_label_gives_no_gradient_at_all():
    logits, _, y = batch(4, classes=2)
    assert gradient(soft_label_cross_entropy(logits, y, upper=1.0, detach=True).sum(), logits).abs().max() < 1e-14


# -- RelaxLoss --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("upper", [1.0, 0.3])
@pytest.mark.parametrize("where", [BELOW, ABOVE])
@pytest.mark.parametrize("epoch", [1, 2, 3, 4])
@pytest.mark.parametrize("variant", ["official", "official_tabular", "crl_baseline"])
def test_relaxloss_variants_equal_their_published_formulas(variant, epoch, where, upper, detach):
    logits, features, y = batch(5)
    ce = cross_entropies(logits, y)
    mean = ce.mean()
    alpha = where * mean.item()
    published_epoch = epoch if variant == "crl_baseline" else epoch - 1  # the official implementations count epochs from 0
    if published_epoch % 2 == 0:
        expected = mean - alpha if mean.item() > alpha else alpha - mean
    elif mean.item() > alpha:
        expected = mean
    elif variant == "official":
        misclassified = torch.tensor([float(z.argmax() != label) for z, label in zip(logits, y, strict=True)])
        expected = (misclassified.double() * soft_label_cross_entropies(logits, y, upper, detach) - ce).mean()
    else:
        expected = soft_label_cross_entropies(logits, y, upper, detach).mean()
    loss = RelaxLoss(alpha=alpha, variant=variant, upper=upper, detach_soft=detach).bind(context())
    assert_equal_with_gradients(loss(logits, features, y, epoch), expected, logits)


def test_the_official_variant_floods_in_its_first_epoch_and_ascends_in_its_second():
    logits, features, y = batch(6)
    mean = cross_entropies(logits, y).mean()
    loss = RelaxLoss(alpha=10.0).bind(context())  # everything is below this target
    torch.testing.assert_close(loss(logits, features, y, 1), 10.0 - mean)
    assert loss(logits, features, y, 2).item() < 0  # minus the cross-entropy: gradient ascent


def test_the_official_variant_ascends_on_every_image_and_flattens_only_misclassified_ones():
    logits, features, y = batch(7)
    correct = logits.argmax(1) == y
    assert correct.any() and not correct.all()
    grad = gradient(RelaxLoss(alpha=10.0).bind(context())(logits, features, y, 2), logits)
    ascent = -gradient(cross_entropies(logits, y).mean(), logits)
    torch.testing.assert_close(grad[correct], ascent[correct])
    flattening = gradient(soft_label_cross_entropies(logits, y).mean(), logits)
    torch.testing.assert_close(grad[~correct], (ascent + flattening)[~correct])


def test_the_tabular_variant_does_not_ascend():
    logits, features, y = batch(7)
    value = RelaxLoss(alpha=10.0, variant="official_tabular").bind(context())(logits, features, y, 2)
    assert_equal_with_gradients(value, soft_label_cross_entropies(logits, y).mean(), logits)


@pytest.mark.parametrize(
    "make, epoch",
    [
        (lambda a: RelaxLoss(alpha=a, variant="crl_baseline"), 2),
        (lambda a: RelaxLoss(alpha=a, variant="official"), 1),
        (lambda a: RelaxLoss(alpha=a, variant="official_tabular"), 3),
        (lambda a: CRL(alpha_rce=a, tau_rce=0.0, lambda_=0.0), 4),
    ],
    ids=["crl_baseline", "official", "official_tabular", "crl"],
)
def test_the_flooding_gradient_has_the_sign_of_loss_minus_target(make, epoch):
    logits, features, y = batch(8)
    mean = cross_entropies(logits, y).mean()
    descent = gradient(mean, logits)
    for shift in (-1.0, -1e-9, 1e-9, 1.0):  # target minus loss
        value = make(mean.item() + shift).bind(context())(logits, features, y, epoch)
        torch.testing.assert_close(gradient(value, logits), -math.copysign(1, shift) * descent)
