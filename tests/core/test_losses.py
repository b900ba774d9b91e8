"""Losses against the formulas of their papers, their reductions to each other, and closed-form gradients."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from core import nets
from core.errors import InputError
from core.losses.crl import CRL, cross_entropy_floor, improved_relax_loss, normalise, relaxed_centre_loss
from core.losses.cross_entropy import CrossEntropy
from core.losses.relaxloss import RelaxLoss, soft_label_cross_entropy
from core.slots import Context

torch.set_num_threads(1)
B, C, D = 6, 4, 5
BELOW, ABOVE = 0.3, 3.0  # factors on the mean cross-entropy that put the target below or above it


def context(classes: int = C, features: int = D) -> Context:
    return Context(classes, features, (1, 8, 8), 2, nets.build(nets.NETS["convnet"](hidden=features), (1, 8, 8), classes))


def batch(seed: int = 0, classes: int = C, scale: float = 2.0):
    """Logits, features (both leaves) and labels, float64; some predictions right, some wrong."""
    stream = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(B, classes, generator=stream, dtype=torch.float64)
    features = torch.randn(B, D, generator=stream, dtype=torch.float64)
    labels = torch.randint(classes, (B,), generator=stream)
    labels[0], labels[1] = logits[0].argmax(), logits[1].argmin()
    return logits.requires_grad_(), features.requires_grad_(), labels


def gradient(value, leaf):
    (slope,) = torch.autograd.grad(value, leaf, retain_graph=True, allow_unused=True)
    return torch.zeros_like(leaf) if slope is None else slope


def plain_ce(logits, labels):
    """-log(exp(z_y) / sum exp(z)), one number per image."""
    return torch.log(torch.exp(logits).sum(1)) - logits[torch.arange(len(labels)), labels]


def soft_ce(logits, labels, upper=1.0, detach=False, scored=None):
    """-sum_i t_i log p_i in a loop over images and classes."""
    rows = []
    for row, z in enumerate(logits):
        p = torch.exp(z) / torch.exp(z).sum()
        p_y = torch.clamp(p[labels[row]], max=upper)
        if detach:
            p_y = p_y.detach()
        s = z if scored is None else scored[row]
        log_q = s - torch.log(torch.exp(s).sum())
        terms = [(p_y if i == labels[row] else (1 - p_y) / (len(z) - 1)) * log_q[i] for i in range(len(z))]
        rows.append(-sum(terms))
    return torch.stack(rows)


def expect(value, oracle, *leaves):
    """Equal value and equal gradients on every leaf."""
    torch.testing.assert_close(value, oracle, rtol=1e-12, atol=1e-12)
    for leaf in leaves:
        torch.testing.assert_close(gradient(value, leaf), gradient(oracle, leaf), rtol=1e-10, atol=1e-12)


# -- cross-entropy ----------------------------------------------------------------------------------------------------


def test_cross_entropy_is_the_mean_of_minus_log_p_y():
    logits, features, y = batch()
    loss = CrossEntropy().bind(context())
    expect(loss(logits, features, y, 1), plain_ce(logits, y).mean(), logits)


# -- soft labels ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("upper", [1.0, 0.3])
def test_soft_labels_sum_to_one_and_equal_the_formula(upper):
    logits, _, y = batch(1)
    blank = torch.zeros(B, C, dtype=torch.float64, requires_grad=True)
    value = soft_label_cross_entropy(logits, y, upper=upper, detach=True, scored=blank)
    torch.testing.assert_close(value, torch.full_like(value, math.log(C)))  # log C times the sum of the soft label
    soft = torch.full_like(blank, 1 / C) - gradient(value.sum(), blank)  # d SCE / d scored = softmax(scored) - t
    p = torch.exp(logits) / torch.exp(logits).sum(1, keepdim=True)
    for row in range(B):
        p_y = min(p[row, y[row]].item(), upper)
        for i in range(C):
            want = p_y if i == y[row] else (1 - p_y) / (C - 1)
            assert soft[row, i].item() == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("upper", [1.0, 0.3])
def test_soft_label_cross_entropy_equals_a_loop(upper, detach):
    logits, _, y = batch(2)
    expect(
        soft_label_cross_entropy(logits, y, upper=upper, detach=detach).sum(),
        soft_ce(logits, y, upper, detach).sum(),
        logits,
    )


def test_a_detached_soft_label_leaves_the_true_class_logit_alone():
    logits, _, y = batch(3)
    slope = gradient(soft_label_cross_entropy(logits, y, upper=1.0, detach=True).sum(), logits)
    assert slope.gather(1, y[:, None]).abs().max() < 1e-14
    assert slope.abs().max() > 1e-2  # while the wrong classes are equalised
    kept = gradient(soft_label_cross_entropy(logits, y, upper=1.0, detach=False).sum(), logits)
    assert kept.gather(1, y[:, None]).abs().max() > 1e-2


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
    ce = plain_ce(logits, y)
    mean = ce.mean()
    alpha = where * mean.item()
    counted = epoch if variant == "crl_baseline" else epoch - 1  # the official codes count epochs from 0
    if counted % 2 == 0:
        oracle = mean - alpha if mean.item() > alpha else alpha - mean
    elif mean.item() > alpha:
        oracle = mean
    elif variant == "official":
        wrong = torch.tensor([float(z.argmax() != label) for z, label in zip(logits, y, strict=True)])
        oracle = (wrong.double() * soft_ce(logits, y, upper, detach) - ce).mean()
    else:
        oracle = soft_ce(logits, y, upper, detach).mean()
    loss = RelaxLoss(alpha=alpha, variant=variant, upper=upper, detach_soft=detach).bind(context())
    expect(loss(logits, features, y, epoch), oracle, logits)


def test_the_official_variant_floods_in_its_first_epoch_and_climbs_in_its_second():
    logits, features, y = batch(6)
    mean = plain_ce(logits, y).mean()
    loss = RelaxLoss(alpha=10.0).bind(context())  # everything is below this target
    torch.testing.assert_close(loss(logits, features, y, 1), 10.0 - mean)
    assert loss(logits, features, y, 2).item() < 0  # minus the cross-entropy: ascent


def test_the_official_variant_climbs_on_every_image_and_flattens_only_misclassified_ones():
    logits, features, y = batch(7)
    right = logits.argmax(1) == y
    assert right.any() and not right.all()
    slope = gradient(RelaxLoss(alpha=10.0).bind(context())(logits, features, y, 2), logits)
    up = -gradient(plain_ce(logits, y).mean(), logits)
    torch.testing.assert_close(slope[right], up[right])
    flat = gradient(soft_ce(logits, y).mean(), logits)
    torch.testing.assert_close(slope[~right], (up + flat)[~right])


def test_the_tabular_variant_never_climbs():
    logits, features, y = batch(7)
    value = RelaxLoss(alpha=10.0, variant="official_tabular").bind(context())(logits, features, y, 2)
    expect(value, soft_ce(logits, y).mean(), logits)


@pytest.mark.parametrize(
    "knobs, epoch",
    [
        (lambda a: RelaxLoss(alpha=a, variant="crl_baseline"), 2),
        (lambda a: RelaxLoss(alpha=a, variant="official"), 1),
        (lambda a: RelaxLoss(alpha=a, variant="official_tabular"), 3),
        (lambda a: CRL(alpha_rce=a, tau_rce=0.0, lambda_=0.0), 4),
    ],
    ids=["crl_baseline", "official", "official_tabular", "crl"],
)
def test_flooding_gradient_is_the_sign_of_loss_minus_target(knobs, epoch):
    logits, features, y = batch(8)
    mean = plain_ce(logits, y).mean()
    down = gradient(mean, logits)
    for shift in (-1.0, -1e-9, 1e-9, 1.0):  # the target lies `shift` above the loss
        value = knobs(mean.item() + shift).bind(context())(logits, features, y, epoch)
        torch.testing.assert_close(gradient(value, logits), -math.copysign(1, shift) * down)


# -- CRL: reductions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("where", [BELOW, ABOVE])
@pytest.mark.parametrize("epoch", [1, 2])
def test_crl_without_centres_and_normalisation_is_the_relaxloss_baseline(epoch, where, detach):
    logits, features, y = batch(9)
    alpha = where * plain_ce(logits, y).mean().item()
    crl = CRL(alpha_rce=alpha, tau_rce=0.0, lambda_=0.0, upper=1.0, detach_soft=detach).bind(context())
    relax = RelaxLoss(alpha=alpha, variant="crl_baseline", upper=1.0, detach_soft=detach).bind(context())
    ours, theirs = crl(logits, features, y, epoch), relax(logits, features, y, epoch)
    assert torch.equal(ours, theirs)
    assert torch.equal(gradient(ours, logits), gradient(theirs, logits))


@pytest.mark.parametrize("epoch", [1, 2, 3, 4])
def test_crl_with_target_zero_is_plain_cross_entropy_on_every_epoch(epoch):
    logits, features, y = batch(10)
    loss = CRL(alpha_rce=0.0, tau_rce=0.0, lambda_=0.0).bind(context())
    expect(loss(logits, features, y, epoch), plain_ce(logits, y).mean(), logits)


@pytest.mark.parametrize("epoch", [1, 2])
def test_crl_with_centre_target_zero_is_the_standard_centre_loss(epoch):
    logits, features, y = batch(11)
    loss = CRL(alpha_rce=0.0, tau_rce=0.0, lambda_=0.7, alpha_rcl=0.0, tau_rcl=0.0).bind(context()).double()
    value = loss(logits, features, y, epoch)
    centres = loss.centres.detach()
    pull = sum(((features[b] - centres[y[b]]) ** 2).sum() for b in range(B)) / (2 * B)
    torch.testing.assert_close(value, plain_ce(logits, y).mean() + 0.7 * pull)
    torch.testing.assert_close(gradient(value, features), 0.7 * (features.detach() - centres[y]) / B)
    on_centres = torch.zeros_like(centres)
    for b in range(B):
        on_centres[y[b]] += 0.7 * (centres[y[b]] - features[b].detach()) / B
    torch.testing.assert_close(gradient(value, loss.centres), on_centres)


# -- CRL: normalised logits -------------------------------------------------------------------------------------------


def by_hand_normalised(v, tau):
    return torch.stack([row / (1 + tau * torch.sqrt((row**2).sum())) for row in v])


@pytest.mark.parametrize("where", [BELOW, ABOVE])
@pytest.mark.parametrize("epoch", [1, 2])
def test_improved_relaxloss_scores_normalised_logits_under_soft_labels_of_raw_ones(epoch, where):
    logits, _, y = batch(12)
    scored = by_hand_normalised(logits, 0.2)
    mean = plain_ce(scored, y).mean()
    alpha = where * mean.item()
    relaxed = soft_ce(logits, y, 0.8, scored=scored).mean()
    oracle = (mean - alpha).abs() if epoch == 2 else mean if where == BELOW else relaxed
    expect(improved_relax_loss(logits, y, epoch, alpha=alpha, tau=0.2, upper=0.8), oracle, logits)


rows = st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=8)


@settings(deadline=None)
@given(rows, st.floats(1e-3, 10))
def test_normalise_keeps_the_ordering_and_bounds_the_norm(row, tau):
    v = torch.tensor([row], dtype=torch.float64)
    out = normalise(v, tau)
    assert out.norm() < 1 / tau
    order = v[0].argsort(stable=True)
    assert (out[0][order].diff() >= 0).all()
    torch.testing.assert_close(out, by_hand_normalised(v, tau), rtol=1e-6, atol=1e-9)


def test_normalise_has_a_finite_gradient_at_zero():
    v = torch.zeros(3, C, requires_grad=True)
    (slope,) = torch.autograd.grad(normalise(v, 1.0).sum(), v)
    torch.testing.assert_close(slope, torch.ones_like(slope), rtol=1e-5, atol=1e-5)


def test_normalise_at_temperature_zero_is_the_identity():
    logits, _, _ = batch(13)
    assert torch.equal(normalise(logits, 0.0), logits)


# -- CRL: relaxed centre loss -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [BELOW, ABOVE])
@pytest.mark.parametrize("epoch", [1, 2])
@pytest.mark.parametrize("detach", [True, False])
def test_relaxed_centre_loss_equals_a_loop(epoch, where, detach):
    logits, features, y = batch(14)
    centres = torch.randn(C, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    tau, upper = 0.5, 0.6
    q, c = by_hand_normalised(features, tau), by_hand_normalised(centres, tau)
    near = sum(((q[b] - c[y[b]]) ** 2).sum() for b in range(B)) / (2 * B)
    alpha = where * near.item()
    if epoch == 2:
        oracle = (near - alpha).abs()
    elif near.item() > alpha:
        oracle = near
    else:
        p = torch.softmax(logits, 1)[torch.arange(B), y].clamp(max=upper)
        p = p.detach() if detach else p
        terms = [p[b] * ((q[b] - c[y[b]]) ** 2).sum() + (1 - p[b]) * (q[b] ** 2).sum() for b in range(B)]
        oracle = sum(terms) / (2 * B)
    value = relaxed_centre_loss(
        logits, features, y, centres, epoch, alpha=alpha, tau=tau, upper=upper, detach=detach
    )  # fmt: skip
    expect(value, oracle, features, centres, logits)


def test_the_relaxing_centre_loss_has_its_only_minimum_at_p_times_the_centre():
    logits, features, y = batch(15)
    centres = torch.randn(C, D, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    p = torch.softmax(logits.detach(), 1)[torch.arange(B), y]
    wanted = p[:, None] * centres[y]
    for scale in (0.0, 1.0, 30.0):
        start = (scale * features.detach()).requires_grad_()
        value = relaxed_centre_loss(logits, start, y, centres, 1, alpha=1e9, tau=0.0, detach=True)
        # its Hessian is 1/B, so one Newton step from anywhere lands on the minimum if and only if there is one there
        torch.testing.assert_close(start.detach() - B * gradient(value, start), wanted)
        assert gradient(value, logits).abs().max() == 0


def test_centres_of_absent_classes_get_no_gradient():
    logits, features, _ = batch(16)
    y = torch.tensor([0, 0, 2, 2, 0, 2])
    loss = CRL(tau_rce=0.0).bind(context()).double()
    for epoch in (1, 2):
        slope = gradient(loss(logits, features, y, epoch), loss.centres)
        assert (slope[[1, 3]] == 0).all()
        assert (slope[[0, 2]].abs().sum(1) > 0).all()


@pytest.mark.parametrize("tau", [0.0, 1.0])
def test_centre_threshold_is_a_share_of_the_centre_loss_at_the_origin(tau):
    loss = CRL(alpha_rcl=0.6, tau_rcl=tau, tau_rce=0.0).bind(context(features=64))
    c = by_hand_normalised(loss.centres.detach(), tau)
    assert float(loss.threshold) == pytest.approx(0.6 * 0.5 * float((c**2).sum(1).mean()), rel=1e-5)


def test_a_share_of_one_puts_the_threshold_at_the_loss_of_zero_features():
    loss = CRL(alpha_rcl=1.0, tau_rcl=1.0, tau_rce=0.0).bind(context())
    zeros, everyone = torch.zeros(C, D), torch.arange(C)
    at_origin = relaxed_centre_loss(torch.zeros(C, C), zeros, everyone, loss.centres, 1, alpha=0.0, tau=1.0)
    assert float(loss.threshold) == pytest.approx(at_origin.item(), rel=1e-5)


def test_the_two_parts_of_crl_are_decided_independently():
    logits, features, y = batch(17)
    parts = CRL(alpha_rce=9.0, tau_rce=0.0, lambda_=0.5, alpha_rcl=0.0, tau_rcl=1.0).bind(context()).double()
    centre = relaxed_centre_loss(logits, features, y, parts.centres, 1, alpha=0.0, tau=1.0)
    expect(parts(logits, features, y, 1), soft_ce(logits, y).mean() + 0.5 * centre, logits, features)


def test_crl_centres_are_drawn_from_a_standard_normal():
    torch.manual_seed(0)
    centres = CRL().bind(context(classes=100, features=200)).centres
    assert centres.shape == (100, 200)
    assert abs(centres.mean().item()) < 0.03 and abs(centres.std().item() - 1) < 0.03


def test_centres_have_an_sgd_of_their_own_with_momentum_and_decay():
    (group,) = (loss := CRL(lr_c=0.02).bind(context())).optimizer.param_groups
    assert [id(p) for p in group["params"]] == [id(p) for p in loss.parameters()] == [id(loss.centres)]
    assert isinstance(loss.optimizer, torch.optim.SGD)
    assert (group["lr"], group["momentum"], group["weight_decay"], group["nesterov"]) == (0.02, 0.9, 5e-4, False)


# -- CRL: the floor of the cross-entropy ------------------------------------------------------------------------------


@pytest.mark.parametrize("tau, classes, floor", [(1.0, 10, 1.420), (1.0, 100, 3.617), (0.1, 10, 2.4e-4), (0.1, 100, 4.3e-3)])
def test_cross_entropy_floor_has_the_known_values(tau, classes, floor):
    digits = 3 if floor > 1 else 1
    assert f"{cross_entropy_floor(tau, classes):.{digits}{'f' if floor > 1 else 'e'}}" == (
        f"{floor:.{digits}{'f' if floor > 1 else 'e'}}"
    )


@pytest.mark.parametrize("tau, classes", [(1.0, 10), (0.5, 3), (0.2, 2), (0.4, 100)])
def test_cross_entropy_floor_is_what_minimising_over_the_ball_finds(tau, classes):
    stream = torch.Generator().manual_seed(classes)
    point = torch.randn(classes, generator=stream, dtype=torch.float64).requires_grad_()
    optimizer = torch.optim.LBFGS([point], lr=1, max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def on_the_sphere():
        return plain_ce((point / point.norm() / tau)[None], torch.tensor([0])).sum()

    def closure():
        optimizer.zero_grad()
        value = on_the_sphere()
        value.backward()
        return value

    optimizer.step(closure)
    assert on_the_sphere().item() == pytest.approx(cross_entropy_floor(tau, classes), rel=1e-6)


@settings(deadline=None)
@given(st.integers(2, 20).flatmap(lambda n: st.lists(st.floats(-50, 50), min_size=n, max_size=n)), st.floats(0.05, 5))
def test_no_logits_come_below_the_cross_entropy_floor(row, tau):
    scored = normalise(torch.tensor([row], dtype=torch.float64), tau)
    assert F.cross_entropy(scored, torch.tensor([0])).item() > cross_entropy_floor(tau, len(row)) * (1 - 1e-9)


def test_without_normalisation_there_is_no_floor():
    assert cross_entropy_floor(0.0, 10) == 0.0


def test_crl_refuses_a_target_that_normalised_logits_cannot_reach():
    with pytest.raises(InputError, match=r"loss\.tau_rce=1 .* 10 classes above 1\.42.*loss\.alpha_rce=1\.4 ") as caught:
        CRL(alpha_rce=1.4, tau_rce=1.0).bind(context(classes=10))
    assert "\n" not in str(caught.value)
    CRL(alpha_rce=1.43, tau_rce=1.0).bind(context(classes=10))
    CRL(alpha_rce=0.0, tau_rce=1.0).bind(context(classes=10))  # 0 never relaxes, by definition
    with pytest.raises(InputError):
        CRL(alpha_rce=1.43, tau_rce=1.0).bind(context(classes=100))
