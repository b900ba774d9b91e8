"""CRL against the formulas of its paper, its reductions to other losses, and closed-form gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_oracles import (
    ABOVE,
    BELOW,
    B,
    C,
    D,
    assert_equal_with_gradients,
    batch,
    batch_without_class_3,
    context,
    cross_entropies,
    gradient,
    soft_label_cross_entropies,
)
from tiny_training import fit_numbered, weights
from torch.nn import functional as F

from core.errors import InputError
from core.losses.crl import CRL, ImpRelaxLoss, cross_entropy_floor, improved_relax_loss, normalise, relaxed_centre_loss
from core.losses.relaxloss import RelaxLoss

torch.set_num_threads(1)


def normalised_by_loop(v, tau):
    return torch.stack([row / (1 + tau * torch.sqrt((row**2).sum())) for row in v])


# -- reductions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("where", [BELOW, ABOVE])
@pytest.mark.parametrize("epoch", [1, 2])
def test_crl_without_centres_and_normalisation_is_the_relaxloss_baseline(epoch, where, detach):
    logits, features, y = batch(9)
    alpha = where * cross_entropies(logits, y).mean().item()
    crl = CRL(alpha_rce=alpha, tau_rce=0.0, lambda_=0.0, upper=1.0, detach_soft=detach).bind(context())
    relaxloss = RelaxLoss(alpha=alpha, variant="crl_baseline", upper=1.0, detach_soft=detach).bind(context())
    value, expected = crl(logits, features, y, epoch), relaxloss(logits, features, y, epoch)
    assert torch.equal(value, expected)
    assert torch.equal(gradient(value, logits), gradient(expected, logits))


@pytest.mark.parametrize("where_rcl", [BELOW, ABOVE])
@pytest.mark.parametrize("where", [BELOW, ABOVE])
@pytest.mark.parametrize("epoch", [1, 2])
def test_crl_without_normalisation_is_the_relaxloss_baseline_plus_relaxed_centres(epoch, where, where_rcl):
    """The arm "Relaxed Center Loss" of the paper's Table 2 and Figure 7, with both thresholds."""
    logits, features, y = batch(12)
    alpha = where * cross_entropies(logits, y).mean().item()
    crl = CRL(alpha_rce=alpha, tau_rce=0.0, lambda_=0.3, alpha_rcl=0.5, tau_rcl=0.0).bind(context())
    to_centre = (features - crl.centres[y]).square().sum(1)
    crl.threshold.fill_(where_rcl * to_centre.mean().item() / 2)
    relaxloss = RelaxLoss(alpha=alpha, variant="crl_baseline").bind(context())(logits, features, y, epoch)
    p_true = torch.stack([torch.exp(z)[label] / torch.exp(z).sum() for z, label in zip(logits, y, strict=True)])
    if epoch == 2:
        centres = (to_centre.mean() / 2 - float(crl.threshold)).abs()
    elif where_rcl == BELOW:
        centres = to_centre.mean() / 2
    else:
        centres = (p_true * to_centre + (1 - p_true) * features.square().sum(1)).mean() / 2
    expected = relaxloss + 0.3 * centres
    assert_equal_with_gradients(crl(logits, features, y, epoch), expected, logits, features, crl.centres)


@pytest.mark.parametrize("epoch", [1, 2, 3, 4])
def test_crl_with_target_zero_is_plain_cross_entropy_in_every_epoch(epoch):
    logits, features, y = batch(10)
    loss = CRL(alpha_rce=0.0, tau_rce=0.0, lambda_=0.0).bind(context())
    assert_equal_with_gradients(loss(logits, features, y, epoch), cross_entropies(logits, y).mean(), logits)


@pytest.mark.parametrize("epoch", [1, 2])
def test_crl_with_centre_target_zero_is_the_standard_centre_loss(epoch):
    logits, features, y = batch(11)
    loss = CRL(alpha_rce=0.0, tau_rce=0.0, lambda_=0.7, alpha_rcl=0.0, tau_rcl=0.0).bind(context()).double()
    value = loss(logits, features, y, epoch)
    centres = loss.centres.detach()
    centre_loss = sum(((features[b] - centres[y[b]]) ** 2).sum() for b in range(B)) / (2 * B)
    torch.testing.assert_close(value, cross_entropies(logits, y).mean() + 0.7 * centre_loss)
    torch.testing.assert_close(gradient(value, features), 0.7 * (features.detach() - centres[y]) / B)
    by_centres = torch.zeros_like(centres)
    for b in range(B):
        by_centres[y[b]] += 0.7 * (centres[y[b]] - features[b].detach()) / B
    torch.testing.assert_close(gradient(value, loss.centres), by_centres)


# -- normalised logits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [BELOW, ABOVE])
@pytest.mark.parametrize("epoch", [1, 2])
def test_improved_relaxloss_combines_normalised_logits_with_soft_labels_of_raw_ones(epoch, where):
    logits, _, y = batch(12)
    scored = normalised_by_loop(logits, 0.2)
    mean = cross_entropies(scored, y).mean()
    alpha = where * mean.item()
    relaxed = soft_label_cross_entropies(logits, y, 0.8, scored=scored).mean()
    expected = (mean - alpha).abs() if epoch == 2 else mean if where == BELOW else relaxed
    assert_equal_with_gradients(improved_relax_loss(logits, y, epoch, alpha=alpha, tau=0.2, upper=0.8), expected, logits)


@settings(deadline=None)
@given(st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=8), st.floats(1e-3, 10))
def test_normalise_keeps_the_ordering_and_bounds_the_norm(row, tau):
    v = torch.tensor([row], dtype=torch.float64)
    out = normalise(v, tau)
    assert out.norm() < 1 / tau
    order = v[0].argsort(stable=True)
    assert (out[0][order].diff() >= 0).all()
    torch.testing.assert_close(out, normalised_by_loop(v, tau), rtol=1e-6, atol=1e-9)


def test_normalise_has_a_finite_gradient_at_zero():
    v = torch.zeros(3, C, requires_grad=True)
    (grad,) = torch.autograd.grad(normalise(v, 1.0).sum(), v)
    torch.testing.assert_close(grad, torch.ones_like(grad), rtol=1e-5, atol=1e-5)


def test_normalise_at_temperature_zero_is_the_identity():
    logits, _, _ = batch(13)
    assert torch.equal(normalise(logits, 0.0), logits)


# -- relaxed centre loss ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [BELOW, ABOVE])
@pytest.mark.parametrize("epoch", [1, 2])
@pytest.mark.parametrize("detach", [True, False])
def test_relaxed_centre_loss_equals_a_loop(epoch, where, detach):
    logits, features, y = batch(14)
    centres = torch.randn(C, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    tau, upper = 0.5, 0.6
    q, c = normalised_by_loop(features, tau), normalised_by_loop(centres, tau)
    centre_loss = sum(((q[b] - c[y[b]]) ** 2).sum() for b in range(B)) / (2 * B)
    alpha = where * centre_loss.item()
    if epoch == 2:
        expected = (centre_loss - alpha).abs()
    elif centre_loss.item() > alpha:
        expected = centre_loss
    else:
        p = torch.softmax(logits, 1)[torch.arange(B), y].clamp(max=upper)
        p = p.detach() if detach else p
        terms = [p[b] * ((q[b] - c[y[b]]) ** 2).sum() + (1 - p[b]) * (q[b] ** 2).sum() for b in range(B)]
        expected = sum(terms) / (2 * B)
    value = relaxed_centre_loss(
        logits, features, y, centres, epoch, alpha=alpha, tau=tau, upper=upper, detach=detach
    )  # fmt: skip
    assert_equal_with_gradients(value, expected, features, centres, logits)


def test_the_relaxing_centre_loss_has_its_only_minimum_at_p_times_the_centre():
    logits, features, y = batch(15)
    centres = torch.randn(C, D, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    p = torch.softmax(logits.detach(), 1)[torch.arange(B), y]
    minimum = p[:, None] * centres[y]
    for scale in (0.0, 1.0, 30.0):
        start = (scale * features.detach()).requires_grad_()
        value = relaxed_centre_loss(logits, start, y, centres, 1, alpha=1e9, tau=0.0, detach=True)
        # the Hessian is 1/B, so one Newton step from any start ends at the only minimum
        torch.testing.assert_close(start.detach() - B * gradient(value, start), minimum)
        assert gradient(value, logits).abs().max() == 0


def test_centres_of_absent_classes_get_no_gradient():
    logits, features, _ = batch(16)
    y = torch.tensor([0, 0, 2, 2, 0, 2])
    loss = CRL(tau_rce=0.0).bind(context()).double()
    for epoch in (1, 2):
        grad = gradient(loss(logits, features, y, epoch), loss.centres)
        assert (grad[[1, 3]] == 0).all()
        assert (grad[[0, 2]].abs().sum(1) > 0).all()


@pytest.mark.parametrize("tau", [0.0, 1.0])
def test_centre_threshold_is_a_share_of_the_centre_loss_at_the_origin(tau):
    loss = CRL(alpha_rcl=0.6, tau_rcl=tau, tau_rce=0.0).bind(context(features=64))
    c = normalised_by_loop(loss.centres.detach(), tau)
    assert float(loss.threshold) == pytest.approx(0.6 * 0.5 * float((c**2).sum(1).mean()), rel=1e-5)


def test_a_share_of_one_puts_the_threshold_at_the_loss_of_zero_features():
    loss = CRL(alpha_rcl=1.0, tau_rcl=1.0, tau_rce=0.0).bind(context())
    zeros, labels = torch.zeros(C, D), torch.arange(C)
    at_origin = relaxed_centre_loss(torch.zeros(C, C), zeros, labels, loss.centres, 1, alpha=0.0, tau=1.0)
    assert float(loss.threshold) == pytest.approx(at_origin.item(), rel=1e-5)


def test_the_two_parts_of_crl_relax_independently():
    logits, features, y = batch(17)
    loss = CRL(alpha_rce=9.0, tau_rce=0.0, lambda_=0.5, alpha_rcl=0.0, tau_rcl=1.0).bind(context()).double()
    centre = relaxed_centre_loss(logits, features, y, loss.centres, 1, alpha=0.0, tau=1.0)
    expected = soft_label_cross_entropies(logits, y).mean() + 0.5 * centre
    assert_equal_with_gradients(loss(logits, features, y, 1), expected, logits, features)


def test_crl_centres_are_drawn_from_a_standard_normal():
    torch.manual_seed(0)
    centres = CRL().bind(context(classes=100, features=200)).centres
    assert centres.shape == (100, 200)
    assert abs(centres.mean().item()) < 0.03 and abs(centres.std().item() - 1) < 0.03


def test_centres_are_trained_by_a_separate_sgd_with_momentum_and_weight_decay():
    loss = CRL(lr_c=0.02).bind(context())
    (group,) = loss.optimizer.param_groups
    assert [id(p) for p in group["params"]] == [id(p) for p in loss.parameters()] == [id(loss.centres)]
    assert isinstance(loss.optimizer, torch.optim.SGD)
    assert (group["lr"], group["momentum"], group["weight_decay"], group["nesterov"]) == (0.02, 0.9, 5e-4, False)


# -- the floor of the cross-entropy -----------------------------------------------------------------------------------


@pytest.mark.parametrize("tau, classes, floor", [(1.0, 10, 1.420), (1.0, 100, 3.617), (0.1, 10, 2.4e-4), (0.1, 100, 4.3e-3)])
def test_cross_entropy_floor_has_the_known_values(tau, classes, floor):
    digits = 3 if floor > 1 else 1
    assert f"{cross_entropy_floor(tau, classes):.{digits}{'f' if floor > 1 else 'e'}}" == (
        f"{floor:.{digits}{'f' if floor > 1 else 'e'}}"
    )


@pytest.mark.parametrize("tau, classes", [(1.0, 10), (0.5, 3), (0.2, 2), (0.4, 100)])
def test_cross_entropy_floor_is_the_minimum_over_the_ball(tau, classes):
    stream = torch.Generator().manual_seed(classes)
    point = torch.randn(classes, generator=stream, dtype=torch.float64).requires_grad_()
    optimizer = torch.optim.LBFGS([point], lr=1, max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def on_the_sphere():
        return cross_entropies((point / point.norm() / tau)[None], torch.tensor([0])).sum()

    def closure():
        optimizer.zero_grad()
        value = on_the_sphere()
        value.backward()
        return value

    optimizer.step(closure)
    assert on_the_sphere().item() == pytest.approx(cross_entropy_floor(tau, classes), rel=1e-6)


@settings(deadline=None)
@given(st.integers(2, 20).flatmap(lambda n: st.lists(st.floats(-50, 50), min_size=n, max_size=n)), st.floats(0.05, 5))
def test_no_logits_have_a_cross_entropy_below_the_floor(row, tau):
    scored = normalise(torch.tensor([row], dtype=torch.float64), tau)
    assert F.cross_entropy(scored, torch.tensor([0])).item() > cross_entropy_floor(tau, len(row)) * (1 - 1e-9)


def test_without_normalisation_there_is_no_floor():
    assert cross_entropy_floor(0.0, 10) == 0.0


def test_crl_rejects_a_target_that_normalised_logits_cannot_reach():
    with pytest.raises(InputError, match=r"loss\.tau_rce=1 .* 10 classes above 1\.42.*loss\.alpha_rce=1\.4 ") as caught:
        CRL(alpha_rce=1.4, tau_rce=1.0).bind(context(classes=10))
    assert "\n" not in str(caught.value)
    CRL(alpha_rce=1.43, tau_rce=1.0).bind(context(classes=10))
    CRL(alpha_rce=0.0, tau_rce=1.0).bind(context(classes=10))  # 0 means that the loss never relaxes
    with pytest.raises(InputError):
        CRL(alpha_rce=1.43, tau_rce=1.0).bind(context(classes=100))


# -- ImpRelaxLoss -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("detach_soft", [False, True])
@pytest.mark.parametrize("alpha_rce", [0.3, 9.0])
@pytest.mark.parametrize("epoch", [1, 2])
def test_imp_relaxloss_is_bit_identical_to_crl_with_lambda_zero(epoch, alpha_rce, detach_soft):
    logits, features, y = batch_without_class_3()
    knobs = {"alpha_rce": alpha_rce, "tau_rce": 0.1, "upper": 0.6, "detach_soft": detach_soft}
    value = ImpRelaxLoss(**knobs).bind(context())(logits, features, y, epoch)
    expected = CRL(**knobs, lambda_=0.0).bind(context())(logits, features, y, epoch)
    assert torch.equal(value, expected)
    assert torch.equal(*(torch.autograd.grad(v, logits)[0] for v in (value, expected)))


def test_imp_relaxloss_rejects_a_target_that_cannot_be_reached_as_crl_does():
    for cls in (ImpRelaxLoss, CRL):
        with pytest.raises(InputError, match=r"tau_rce=1 .* never relaxes"):
            cls(alpha_rce=1.4, tau_rce=1.0).bind(context(classes=10))


def test_imp_relaxloss_and_crl_with_lambda_zero_train_the_same_network():
    knobs = {"loss.alpha_rce": 1.0, "epochs": 3}
    crl = fit_numbered({"loss": "crl", "loss.lambda": 0.0, **knobs})
    assert torch.equal(weights(fit_numbered({"loss": "imp_relaxloss", **knobs}).net), weights(crl.net))
