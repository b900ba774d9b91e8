"""Defences against membership inference: closed forms, reductions to ordinary training, and who is trained on which images."""

import copy
import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from opacus.accountants import RDPAccountant
from torch.nn import functional as F

from core import data, nets, rng, subject, train, trial
from core.config import LOSSES, TrialConfig
from core.data import Images
from core.errors import InputError
from core.losses.centre_loss import CentreLoss
from core.losses.confidence_penalty import ConfidencePenalty
from core.losses.crl import CRL, ImpRelaxLoss, relaxed_centre_loss
from core.losses.dmp import DMP
from core.losses.label_smoothing import LabelSmoothing
from core.optimizers.dp_sgd import DPSGD
from core.optimizers.standard import factor
from core.regularizers.advreg import AdvReg, InferenceNet
from core.slots import Context, Step

torch.set_num_threads(1)
CPU = torch.device("cpu")
TINY = {"net.width": 3, "net.hidden": 6, "epochs": 2, "batch_size": 8, "optimizer.lr": 0.05}
B, C, D = 6, 4, 5


def images(n=23, seed=0, shape=(1, 8, 8)) -> Images:
    """The first pixel of an image is its row number."""
    x = torch.randint(0, 256, (n, *shape), generator=torch.Generator().manual_seed(seed))
    x[:, 0, 0, 0] = torch.arange(n)
    return Images(x.to(torch.uint8), torch.arange(n) % 3, 3)


def fit(params, members=None, **options) -> train.Bound:
    return train.train(TrialConfig.of(TINY | params), members or images(), images(9, seed=1), **options)


def weights(net: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1).clone() for p in net.parameters()])


def context(classes: int = C, features: int = D, epochs: int = 2) -> Context:
    net = nets.build(nets.NETS["convnet"](hidden=features), (1, 8, 8), classes)
    return Context(classes, features, (1, 8, 8), epochs, net)


def batch(seed: int = 0, scale: float = 2.0):
    """Logits, features (both leaves) and labels, float64."""
    stream = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(B, C, generator=stream, dtype=torch.float64)
    features = torch.randn(B, D, generator=stream, dtype=torch.float64)
    return logits.requires_grad_(), features.requires_grad_(), torch.tensor([0, 0, 2, 1, 2, 2])  # class 3 is absent


def probabilities(row) -> list[float]:
    total = sum(math.exp(z) for z in row.tolist())
    return [math.exp(z) / total for z in row.tolist()]


def rows_used(monkeypatch) -> list[tuple[int, list[int], float]]:
    """(images of the epoch, row numbers of the batch, learning rate) of every batch that training takes, as it goes on."""
    seen, augmented = [], train._augmented

    def spy(bound, pool, rows, stream):
        seen.append((len(pool.y), pool.x[rows][:, 0, 0, 0].tolist(), bound.optimizer.param_groups[0]["lr"]))
        return augmented(bound, pool, rows, stream)

    monkeypatch.setattr(train, "_augmented", spy)
    return seen


# -- label smoothing and confidence penalty ---------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.9, 1.0])
def test_label_smoothing_is_its_formula(epsilon):
    logits, features, y = batch()
    wanted = 0.0
    for row, label in zip(logits, y, strict=True):
        p = probabilities(row)
        wanted += (1 - epsilon) * -math.log(p[label]) + epsilon * sum(-math.log(q) for q in p) / C
    value = LabelSmoothing(epsilon=epsilon).bind(context())(logits, features, y, 1)
    assert value.item() == pytest.approx(wanted / B, rel=1e-12)
    (slope,) = torch.autograd.grad(value, logits)
    target = (1 - epsilon) * F.one_hot(y, C) + epsilon / C
    torch.testing.assert_close(slope, (logits.softmax(1) - target) / B)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 8.0])
def test_the_confidence_penalty_takes_the_entropy_off_the_cross_entropy(alpha):
    logits, features, y = batch(1)
    wanted = 0.0
    for row, label in zip(logits, y, strict=True):
        p = probabilities(row)
        wanted += -math.log(p[label]) - alpha * -sum(q * math.log(q) for q in p)
    value = ConfidencePenalty(alpha=alpha).bind(context())(logits, features, y, 1)
    assert value.item() == pytest.approx(wanted / B, rel=1e-10)
    (slope,) = torch.autograd.grad(value, logits)
    p = logits.detach().softmax(1)
    entropy = -(p * p.log()).sum(1, keepdim=True)
    torch.testing.assert_close(slope, (p - F.one_hot(y, C) + alpha * p * (p.log() + entropy)) / B)


def test_the_confidence_penalty_of_a_uniform_answer_is_alpha_log_c():
    flat = torch.zeros(B, C, dtype=torch.float64)
    value = ConfidencePenalty(alpha=0.3).bind(context())(flat, flat, batch()[2], 1)
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
def test_a_defence_turned_off_is_ordinary_training_to_the_bit(off, on):
    plain = weights(fit({}).net)
    assert torch.equal(plain, weights(fit(off).net))
    assert not torch.equal(plain, weights(fit(off | on).net))


# -- centre loss ------------------------------------------------------------------------------------------------------


def centre_loss(seed: int = 0, **knobs) -> Any:
    torch.manual_seed(seed)
    return CentreLoss(**knobs).bind(context()).double()


@pytest.mark.parametrize("epoch", [1, 2])
@pytest.mark.parametrize("update", ["gradient", "class_mean"])
def test_the_centre_loss_is_cross_entropy_and_half_the_mean_squared_distance_to_the_centres(update, epoch):
    logits, features, y = batch()
    part = centre_loss(lambda_=0.7, update=update)
    value = part(logits, features, y, epoch)
    ce = sum(-math.log(probabilities(row)[label]) for row, label in zip(logits, y, strict=True)) / B
    away = features.detach() - part.centres.detach()[y]
    assert value.item() == pytest.approx(ce + 0.7 / 2 * sum((row @ row).item() for row in away) / B)
    on_logits, on_features = torch.autograd.grad(value, [logits, features], retain_graph=True)
    torch.testing.assert_close(on_logits, (logits.softmax(1) - F.one_hot(y, C)).detach() / B)
    torch.testing.assert_close(on_features, 0.7 * away / B)


def test_centres_that_follow_the_gradient_are_weighted_and_averaged():
    logits, features, y = batch()
    part = centre_loss(lambda_=0.7)
    (slope,) = torch.autograd.grad(part(logits, features, y, 1), part.centres)
    wanted = torch.zeros(C, D, dtype=torch.float64)
    for b in range(B):
        wanted[y[b]] += 0.7 * (part.centres[y[b]] - features[b]).detach() / B
    torch.testing.assert_close(slope, wanted)
    (group,) = part.optimizer.param_groups
    assert (group["momentum"], group["weight_decay"]) == (0.9, 5e-4)


@pytest.mark.parametrize("lambda_", [0.003, 1.0])
def test_centres_that_follow_the_class_mean_move_as_in_wen_et_al(lambda_):
    """By lr_c * sum (c - q) / (1 + n), whatever lambda; twice, because momentum would show in the second step."""
    part = centre_loss(lambda_=lambda_, update="class_mean", lr_c=0.5)
    for seed in (0, 1):
        logits, features, y = batch(seed)
        before = part.centres.detach().clone()
        part.optimizer.zero_grad()
        part(logits, features, y, 1).backward()
        part.optimizer.step()
        for k in range(C):
            mine = [features[b].detach() for b in range(B) if y[b] == k]
            move = sum((before[k] - q for q in mine), start=torch.zeros(D).double()) / (1 + len(mine))
            torch.testing.assert_close(part.centres.detach()[k], before[k] - 0.5 * move)
        assert torch.equal(part.centres[3], before[3])  # absent


@pytest.mark.parametrize("epoch", [1, 2])
@pytest.mark.parametrize("alpha_rcl", [0.1, 50.0])
def test_the_centre_loss_with_a_target_is_crl_without_a_target_for_the_cross_entropy(alpha_rcl, epoch):
    logits, features, y = batch()
    ours = centre_loss(lambda_=0.7, alpha_rcl=alpha_rcl, tau_rcl=0.5)
    torch.manual_seed(0)
    theirs: Any = CRL(alpha_rce=0.0, tau_rce=0.0, lambda_=0.7, alpha_rcl=alpha_rcl, tau_rcl=0.5).bind(context()).double()
    assert torch.equal(ours.centres, theirs.centres) and torch.equal(ours.threshold, theirs.threshold)
    a, b = ours(logits, features, y, epoch), theirs(logits, features, y, epoch)
    torch.testing.assert_close(a, b)
    for leaf in ([logits, logits], [features, features], [ours.centres, theirs.centres]):
        torch.testing.assert_close(*(torch.autograd.grad(v, x, retain_graph=True)[0] for v, x in zip((a, b), leaf, strict=True)))
    part = relaxed_centre_loss(logits, features, y, ours.centres, epoch, alpha=float(ours.threshold), tau=0.5)
    torch.testing.assert_close(a, F.cross_entropy(logits, y) + 0.7 * part)


# -- ImpRelaxLoss -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("detach_soft", [False, True])
@pytest.mark.parametrize("alpha_rce", [0.3, 9.0])
@pytest.mark.parametrize("epoch", [1, 2])
def test_imp_relaxloss_is_crl_with_lambda_zero_to_the_bit(epoch, alpha_rce, detach_soft):
    logits, features, y = batch()
    knobs = {"alpha_rce": alpha_rce, "tau_rce": 0.1, "upper": 0.6, "detach_soft": detach_soft}
    ours = ImpRelaxLoss(**knobs).bind(context())(logits, features, y, epoch)
    theirs = CRL(**knobs, lambda_=0.0).bind(context())(logits, features, y, epoch)
    assert torch.equal(ours, theirs)
    assert torch.equal(*(torch.autograd.grad(v, logits)[0] for v in (ours, theirs)))


def test_imp_relaxloss_refuses_a_target_that_cannot_be_reached_as_crl_does():
    for cls in (ImpRelaxLoss, CRL):
        with pytest.raises(InputError, match=r"tau_rce=1 .* never relaxes"):
            cls(alpha_rce=1.4, tau_rce=1.0).bind(context(classes=10))


def test_imp_relaxloss_and_crl_with_lambda_zero_train_the_same_network():
    knobs = {"loss.alpha_rce": 1.0, "epochs": 3}
    crl = fit({"loss": "crl", "loss.lambda": 0.0, **knobs})
    assert torch.equal(weights(fit({"loss": "imp_relaxloss", **knobs}).net), weights(crl.net))


# -- DMP --------------------------------------------------------------------------------------------------------------

DISTIL = {"loss": "dmp", "epochs": 4, "normalize": False}


def dmp(epochs: int = 4, **knobs) -> Any:
    return DMP(**knobs).bind(context(epochs=epochs))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_students_loss_is_the_divergence_of_its_softened_answer_from_the_teachers(temperature):
    """T^2 / B * sum_b sum_i t_i log(t_i / s_i); in the CRL code's form 1 / (B C) and no T^2."""
    student, features, _ = batch(0)
    teacher = batch(1)[0].detach()
    part = dmp(temperature=temperature)
    soft = part.lessons(Images(torch.zeros(B, 1, 2, 2), torch.zeros(B), C), teacher).y
    total = 0.0
    for s_row, t_row in zip(student, teacher, strict=True):
        s, t = probabilities(s_row / temperature), probabilities(t_row / temperature)
        total += sum(ti * math.log(ti / si) for ti, si in zip(t, s, strict=True))
    value = part(student, features, soft, 3)
    assert value.item() == pytest.approx(temperature**2 * total / B, rel=1e-10)
    (slope,) = torch.autograd.grad(value, student)
    torch.testing.assert_close(slope, temperature * ((student / temperature).softmax(1) - soft).detach() / B)
    compat = dmp(temperature=temperature, crl_compat=True)
    assert compat(student, features, soft, 3).item() == pytest.approx(total / (B * C), rel=1e-10)
    assert part(teacher, features, soft, 3).item() == pytest.approx(0, abs=1e-12)


def test_the_teachers_loss_is_cross_entropy():
    logits, features, y = batch()
    for epoch in (1, 2):
        torch.testing.assert_close(dmp(temperature=3.0)(logits, features, y, epoch), F.cross_entropy(logits, y))


@pytest.mark.parametrize("share, epochs, wanted", [(0.5, 4, 2), (0.25, 8, 2), (0.01, 5, 1), (0.99, 5, 4), (0.5, 2, 1)])
def test_teacher_and_student_get_an_epoch_at_least(share, epochs, wanted):
    assert dmp(epochs, teacher=share).teacher_epochs == wanted


@pytest.mark.parametrize("keep", [0.01, 0.25, 0.5, 1.0])
def test_the_lessons_are_the_reference_images_of_which_the_teacher_is_surest(keep):
    logits = torch.randn(12, C, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    reference = Images(torch.arange(12).view(12, 1, 1, 1), torch.full((12,), 99), C)
    entropy = [-sum(q * math.log(q) for q in probabilities(row)) for row in logits]
    surest = sorted(sorted(range(12), key=lambda i: entropy[i])[: max(1, round(keep * 12))])
    lessons = dmp(keep=keep, temperature=2.0).lessons(reference, logits)
    assert lessons.x.flatten().tolist() == surest
    for row, i in zip(lessons.y, surest, strict=True):
        assert row.tolist() == pytest.approx(probabilities(logits[i] / 2.0))


def test_the_teacher_sees_private_images_alone_and_the_student_reference_images_alone(monkeypatch):
    seen = rows_used(monkeypatch)
    members = images()
    fit(DISTIL | {"loss.reference": 0.4}, members)
    private, reference = (set(rows.tolist()) for rows in data.set_aside(members.y, 0.4, 0))
    assert private | reference == set(range(23)) and not private & reference and len(reference) == 9
    epochs = [[], [], [], []]
    for count, rows, _ in seen:
        epochs[next(i for i, e in enumerate(epochs) if len(e) < count)] += rows
    for e, rows in enumerate(epochs):
        assert sorted(rows) == sorted(private if e < 2 else reference)


def changed(members: Images, rows) -> Images:
    """The same members with other pixels and labels in some rows."""
    x, y = members.x.clone(), members.y.clone()
    x[rows] = 255 - x[rows]
    return Images(x, y, members.classes)


def test_the_teacher_does_not_depend_on_the_reference_images():
    members = images()
    private, reference = data.set_aside(members.y, 0.5, 0)
    teacher = weights(fit(DISTIL, members).loss.teacher)  # pyright: ignore[reportAttributeAccessIssue]
    assert torch.equal(teacher, weights(fit(DISTIL, changed(members, reference)).loss.teacher))  # pyright: ignore[reportAttributeAccessIssue]
    assert not torch.equal(teacher, weights(fit(DISTIL, changed(members, private)).loss.teacher))  # pyright: ignore[reportAttributeAccessIssue]


def test_the_student_depends_on_private_images_only_through_what_the_teacher_says(monkeypatch):
    """With the teacher's answers held fixed, nothing of the private images or of the teacher's training is left in it."""
    from core.losses.dmp import _DMP

    lessons = _DMP.lessons
    monkeypatch.setattr(_DMP, "lessons", lambda self, reference, logits: lessons(self, reference, torch.zeros_like(logits)))
    members = images()
    private, reference = data.set_aside(members.y, 0.5, 0)
    whole, other = fit(DISTIL, members), fit(DISTIL, changed(members, private))
    assert torch.equal(weights(whole.net), weights(other.net))
    a, b = (bound.optimizer.state_dict()["state"] for bound in (whole, other))
    assert all(torch.equal(a[i]["momentum_buffer"], b[i]["momentum_buffer"]) for i in a)
    assert not torch.equal(weights(whole.net), weights(fit(DISTIL, changed(members, reference)).net))


def test_the_student_starts_as_a_fresh_network_and_the_teacher_is_the_one_before():
    members = images()
    bound = fit(DISTIL | {"optimizer.lr": 0.0}, members)
    config = TrialConfig.of(TINY | DISTIL)
    first, second = (weights(train._born(config, members, CPU, stream)) for stream in ("weights", "student"))
    assert torch.equal(weights(bound.loss.teacher), first)  # pyright: ignore[reportAttributeAccessIssue]
    assert torch.equal(weights(bound.net), second) and not torch.equal(first, second)


@pytest.mark.parametrize("share, split", [(0.5, (4, 4)), (0.25, (2, 6))])
def test_each_phase_has_a_whole_schedule(share, split, monkeypatch):
    seen = rows_used(monkeypatch)
    fit(DISTIL | {"epochs": 8, "loss.teacher": share, "optimizer.schedule": "cosine", "batch_size": 16})
    wanted = [0.05 * factor("cosine", e, length) for length in split for e in range(length)]
    assert [rate for _, _, rate in seen][::1] == pytest.approx(np.repeat(wanted, len(seen) // 8).tolist())
    assert wanted[split[0]] == 0.05


def test_a_run_resumed_in_either_phase_ends_at_the_same_bits():
    files = []

    def keep(row, bound):
        files.append(io.BytesIO())
        torch.save(bound.state(), files[-1])

    params = DISTIL | {"epochs": 5, "loss.teacher": 0.4, "loss.keep": 0.7, "loss.temperature": 2.0}
    whole = fit(params, on_epoch=keep)
    assert whole.loss.teacher_epochs == 2  # pyright: ignore[reportAttributeAccessIssue]
    for file in files[:-1]:
        file.seek(0)
        again = fit(params, resume=torch.load(file, weights_only=True))
        assert torch.equal(weights(again.net), weights(whole.net))
        assert torch.equal(weights(again.loss), weights(whole.loss))


@pytest.mark.parametrize(
    "params", [{"epochs": 1}, {"epochs": 10, "optimizer.stop_at": 0.5}, {"epochs": 10, "optimizer.stop_at": 0.0}]
)
def test_a_run_that_ends_before_there_is_a_student_is_refused(params):
    with pytest.raises(InputError, match="hands out the teacher") as caught:
        TrialConfig.of({"loss": "dmp", **params})
    assert "\n" not in str(caught.value)
    TrialConfig.of({"loss": "dmp", "epochs": 2})
    TrialConfig.of({"loss": "dmp", "epochs": 10, "optimizer.stop_at": 0.51})


# -- AdvReg -----------------------------------------------------------------------------------------------------------


class Answers:
    """A network whose logits are given, as a step sees it."""

    def __init__(self, logits):
        self.logits = logits
        self.head = lambda features: features

    def features(self, x):
        return self.logits


def price(part, logits, y) -> torch.Tensor:
    return part(Step(Answers(logits), torch.zeros(len(y), 1, 2, 2), y, None, None, 1))  # pyright: ignore[reportArgumentType]


def advreg(**knobs) -> Any:
    torch.manual_seed(0)
    return AdvReg(**knobs).bind(context()).double()


def test_the_price_is_alpha_times_the_mean_belief_above_one_half():
    part = advreg(alpha=3.0)
    logits, _, y = batch()
    h = [1 / (1 + math.exp(-part.inference(logits[b : b + 1], y[b : b + 1]).item())) for b in range(B)]
    value = price(part, logits, y)
    assert value.item() == pytest.approx(3.0 * (sum(h) / B - 0.5))
    (slope,) = torch.autograd.grad(value, logits)
    assert (slope.abs().sum(1) > 0).all()


@pytest.mark.parametrize(
    "log_odds, gain", [(0.0, 0.0), (50.0, 6.0 * 0.5), (-50.0, -6.0 * 0.5)], ids=["chance", "perfect", "fooled"]
)
def test_the_price_is_zero_at_chance_and_half_of_alpha_before_a_perfect_judge(log_odds, gain):
    part = advreg(alpha=6.0)
    with torch.no_grad():
        part.inference.both.weight.zero_()
        part.inference.both.bias.fill_(log_odds)
    logits, _, y = batch()
    assert price(part, logits, y).item() == pytest.approx(gain, abs=1e-12)


def test_the_inference_network_sees_sorted_logits_and_a_label_code_of_plus_and_minus_one():
    torch.manual_seed(0)
    net = InferenceNet(C).double()
    logits, _, y = batch()
    heard = {}
    for name in ("outputs", "labels"):
        getattr(net, name).register_forward_hook(lambda _, given, out, name=name: heard.update({name: (given[0], out)}))
    value = net(logits, y)
    assert heard["outputs"][0].tolist() == [sorted(row, reverse=True) for row in logits.tolist()]
    assert heard["labels"][0].tolist() == [[1.0 if i == label else -1.0 for i in range(C)] for label in y]
    both = torch.cat([heard["outputs"][1], heard["labels"][1]], 1)
    torch.testing.assert_close(value, (both @ net.both.weight.T + net.both.bias).squeeze(1))
    assert torch.equal(value, net(logits.flip(1), y))
    widths = [tuple(p.shape) for p in net.parameters() if p.ndim == 2]
    wanted = [(100, C), (1024, 100), (512, 1024), (64, 512), (100, C), (512, 100), (64, 512), (1, 128)]
    assert widths == wanted


def test_alpha_zero_is_cross_entropy_training_on_the_private_members_to_the_bit():
    members, params = images(), {"normalize": False}
    defended = fit(params | {"regularizer": "advreg", "regularizer.alpha": 0.0, "regularizer.reference": 0.3}, members)
    private, _ = data.set_aside(members.y, 0.3, 0)
    assert torch.equal(weights(defended.net), weights(fit(params, members.at(private)).net))
    assert not torch.equal(
        weights(defended.net), weights(fit(params | {"regularizer": "advreg", "regularizer.reference": 0.3}).net)
    )


def test_reference_images_are_never_trained_on(monkeypatch):
    seen, members = rows_used(monkeypatch), images()
    fit({"regularizer": "advreg", "regularizer.reference": 0.3}, members)
    private, reference = data.set_aside(members.y, 0.3, 0)
    assert len(reference) == 7
    assert sorted(row for _, rows, _ in seen for row in rows) == sorted(2 * private.tolist())


def test_the_classifiers_steps_leave_the_inference_network_alone():
    members, config = images(), TrialConfig.of(TINY | {"regularizer": "advreg"})
    bound = train.bind(config, members, CPU)
    before = weights(bound.regularizer), weights(bound.net)
    x, y = members.x[:8].float() / 255, members.y[:8]
    for _ in range(2):
        train._update(bound, Step(bound.net, x, y, None, rng.Draw(torch.Generator(), 8), 1), 8)
    assert torch.equal(before[0], weights(bound.regularizer))
    assert not torch.equal(before[1], weights(bound.net))


def test_the_inference_networks_pass_trains_all_of_it_and_leaves_the_classifier_alone():
    quiet = {"regularizer": "advreg", "optimizer.lr": 0.0, "epochs": 1}
    config = TrialConfig.of(TINY | quiet)
    start, end = train.bind(config, images(), CPU), fit(quiet)
    assert torch.equal(weights(start.net), weights(end.net))
    for (name, p), q in zip(start.regularizer.named_parameters(), end.regularizer.parameters(), strict=True):
        assert not torch.equal(p, q), name
    assert all(not p.requires_grad for p in end.regularizer.parameters())


def test_the_inference_networks_pass_is_binary_cross_entropy_on_halves():
    """One batch of 5 members and 5 reference images: Adam's first step, from the gradient of the formula."""
    part = advreg(lr_h=1e-3)
    peer = copy.deepcopy(part.inference).requires_grad_(True)
    stream = torch.Generator().manual_seed(0)
    logits = torch.randn(10, C, generator=stream, dtype=torch.float64)
    y = torch.arange(10) % C
    part.after_epoch((logits[:5], y[:5]), (logits[5:], y[5:]), torch.Generator().manual_seed(1))
    belief = torch.sigmoid(peer(logits, y))
    (-(belief[:5].log().sum() + (1 - belief[5:]).log().sum()) / 10).backward()
    torch.optim.Adam(peer.parameters(), lr=1e-3).step()
    for ours, theirs in zip(part.inference.parameters(), peer.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    right = ((belief[:5] > 0.5).sum() + (belief[5:] <= 0.5).sum()).item() / 10
    assert part.report() == {"inference_accuracy": pytest.approx(right)}


def test_the_inference_network_learns_to_tell_sure_answers_from_unsure_ones():
    part = advreg(alpha=2.0).float()
    stream = torch.Generator().manual_seed(0)
    y = torch.randint(C, (300,), generator=stream)
    sure = 8.0 * F.one_hot(y, C) + torch.randn(300, C, generator=stream)
    unsure = torch.randn(300, C, generator=stream)
    for _ in range(4):
        part.after_epoch((sure[:200], y[:200]), (unsure[:100], y[200:]), stream)
    assert part.report()["inference_accuracy"] > 0.99
    assert price(part, sure[200:], y[200:]).item() > 0.9  # of at most 1, on images it has not seen
    assert price(part, unsure[200:], y[200:]).item() < -0.9


@pytest.mark.parametrize("others, reason", [({"loss": "dmp"}, "loss=dmp"), ({"augmentation": "mixup"}, "mixup")])
def test_advreg_is_refused_beside_what_takes_its_reference_set_or_its_classes(others, reason):
    with pytest.raises(InputError, match=f"regularizer=advreg.*{reason}"):
        TrialConfig.of({"regularizer": "advreg", **others})


# -- reference sets in a trial ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("params", [{"loss": "dmp", "epochs": 2}, {"regularizer": "advreg", "epochs": 1}], ids=["dmp", "advreg"])
def test_a_trial_audits_the_reference_set_apart_and_counts_it_among_the_leaks(params):
    quick = {"pool": 320, "judge.steps": 1, "judge.images": 10, "net.width": 2, "batch_size": 32, **params}
    config, pool = TrialConfig.of(quick), data.load("digits", pool=320)
    parts = data.split(pool)
    result = trial.run(config, pool)
    private, reference = subject.member_rows(config, pool, parts)
    assert len(reference) and sorted([*private, *reference]) == sorted(parts.members)
    assert (result.predictions["member_rows"] == private).all()
    found = [name for name in result.metrics.values if name.startswith("mia_auc/")]
    ours = [name for name in found if "/reference_" in name]
    assert len(ours) == len(found) / 2 > 0
    assert result.metrics["mia_auc"] == max(max(result.metrics[n], 1 - result.metrics[n]) for n in found)


# -- DP-SGD -----------------------------------------------------------------------------------------------------------

PRIVATE = {"optimizer": "dp_sgd", "normalize": False}
NOISELESS = PRIVATE | {"optimizer.noise_multiplier": 0.0}
COMBINATIONS = {
    "convnet": {},
    "allconv": {"net": "allconv", "net.width": 3},
    "mlenet": {"net": "mlenet"},
    "net_a": {"net": "net_a"},
    "confidence_penalty": {"loss": "confidence_penalty", "loss.alpha": 0.5},
    "fgsm": {"perturbation": "fgsm", "perturbation.alpha": 0.3},
    "bpfc": {"regularizer": "bpfc", "regularizer.noise": 0.0, "regularizer.lambda": 5.0},
    "bpfc-stopped": {"regularizer": "bpfc", "regularizer.noise": 0.0, "regularizer.stop_gradient": "quantised"},
    "bpfc-fgsm": {"regularizer": "bpfc", "regularizer.noise": 0.0, "perturbation": "fgsm", "perturbation.alpha": 0.0},
    "sparse": {"regularizer": "activation_sparsity", "regularizer.lambda": 1e-2},
    "sparse-fgsm": {"regularizer": "activation_sparsity", "regularizer.lambda": 1e-2, "perturbation": "fgsm",
                    "perturbation.alpha": 0.0},
}  # fmt: skip


def by_loop(bound: train.Bound, net, x, y, perturbed) -> list[torch.Tensor]:
    """The gradient of each image's own loss, one image at a time, on a network that Opacus has not touched."""
    found = []
    alpha = float(bound.perturbation.alpha) if perturbed is not None else 1.0  # pyright: ignore[reportArgumentType]
    for i in range(len(y)):
        one = slice(i, i + 1)
        step = Step(net, x[one], y[one], None if perturbed is None else perturbed[one], None, 1)  # pyright: ignore[reportArgumentType]
        loss = bound.regularizer(step) + alpha * bound.loss(*step.clean, y[one], 1)
        if perturbed is not None:
            loss = loss + (1 - alpha) * bound.loss(*step.adversarial, y[one], 1)
        found.append(torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(net.parameters()))]))
    return found


@pytest.mark.parametrize("name", COMBINATIONS)
def test_a_private_step_is_the_sum_of_clipped_gradients_of_single_images(name):
    members = images(12, shape=(3, 28, 28) if name in ("mlenet", "net_a") else (3, 8, 8))
    base = {k: v for k, v in TINY.items() if not (k.startswith("net.") and "net" in COMBINATIONS[name])}
    config = TrialConfig.of(base | NOISELESS | COMBINATIONS[name] | {"optimizer.momentum": 0.0, "optimizer.lr": 1.0})
    untouched = train._born(config, members, CPU, "weights")
    bound = train.bind(config, members, CPU)  # 12 members in 2 steps: 6 expected
    for net in (untouched, bound.net):
        net.train()
        for layer in net.modules():
            if isinstance(layer, torch.nn.Dropout):
                layer.p = 0.0
    before = weights(bound.net)
    assert torch.equal(before, weights(untouched))
    with torch.no_grad():
        for net in (untouched, bound.net):
            for p in net.parameters():
                p *= 1.5
    before = weights(bound.net)
    for count in (4, 1, 3):  # forgotten leftovers of one step would show in the next
        x = members.x[:count].to(memory_format=torch.channels_last).float() / 255
        y = members.y[:count]
        perturbed = bound.perturbation(bound.net, x, y, rng.Draw(torch.Generator(), count))
        grads = by_loop(bound, untouched, x, y, perturbed)
        norms = torch.stack(grads).norm(dim=1)
        clip = norms.median().item()  # some are clipped, some are not
        bound.optimizer.max_grad_norm = clip  # pyright: ignore[reportAttributeAccessIssue]
        wanted = sum(g * min(1.0, clip / n.item()) for g, n in zip(grads, norms, strict=True)) / 6
        step = Step(bound.net, x, y, perturbed, rng.Draw(torch.Generator(), count), 1)
        value, _ = train._update(bound, step, count)
        moved = before - weights(bound.net)
        torch.testing.assert_close(moved, wanted, rtol=1e-3, atol=2e-6)
        assert wanted.abs().max() > 1e-3 and math.isfinite(value.item())
        with torch.no_grad():
            for ours, theirs in zip(bound.net.parameters(), untouched.parameters(), strict=True):
                ours.copy_(theirs)


def test_without_noise_and_clipping_a_full_batch_step_is_that_of_sgd():
    alike = {"batch_size": 23, "epochs": 3, "optimizer.momentum": 0.9, "normalize": False}
    private = fit(NOISELESS | alike | {"optimizer.max_grad_norm": 1e6})
    torch.testing.assert_close(
        weights(private.net), weights(fit(alike | {"optimizer.weight_decay": 0.0}).net), rtol=1e-4, atol=1e-6
    )
    assert [row["epoch/loss"] for row in private.curve] == pytest.approx(
        [row["epoch/loss"] for row in fit(alike | {"optimizer.weight_decay": 0.0}).curve], rel=1e-4
    )


def test_no_image_moves_the_weights_by_more_than_lr_times_the_clip_over_the_expected_batch():
    members = images(12)
    config = TrialConfig.of(TINY | NOISELESS | {"optimizer.max_grad_norm": 0.01, "optimizer.momentum": 0.0, "optimizer.lr": 1.0})
    bound = train.bind(config, members, CPU)
    start = copy.deepcopy(bound.net.state_dict())
    x, y = members.x.float() / 255, members.y
    ends = []
    for rows in (slice(0, 7), slice(0, 6)):  # with and without the last image
        bound.net.load_state_dict(start)
        train._update(bound, Step(bound.net, x[rows], y[rows], None, None, 1), rows.stop)  # pyright: ignore[reportArgumentType]
        ends.append(weights(bound.net))
    assert (ends[0] - ends[1]).norm().item() == pytest.approx(0.01 / 6, rel=1e-2)  # reached: its gradient is longer than that


def test_the_noise_has_the_deviation_that_the_accountant_assumes_also_in_an_empty_batch():
    members = images(12)
    knobs = {"optimizer.noise_multiplier": 3.0, "optimizer.max_grad_norm": 0.5, "optimizer.momentum": 0.0, "optimizer.lr": 1.0}
    bound = train.bind(TrialConfig.of(TINY | PRIVATE | knobs | {"net.width": 8, "net.hidden": 20}), members, CPU)
    noises = []
    for seed in (0, 0, 1):
        bound.optimizer.generator = torch.Generator().manual_seed(seed)  # pyright: ignore[reportAttributeAccessIssue]
        before = weights(bound.net)
        nobody = Step(bound.net, torch.zeros(0, 1, 8, 8), torch.zeros(0).long(), None, None, 1)  # pyright: ignore[reportArgumentType]
        loss, correct = train._update(bound, nobody, 0)
        assert loss == 0 and correct == 0
        noises.append(before - weights(bound.net))
    assert len(noises[0]) > 8000
    assert noises[0].std().item() == pytest.approx(3.0 * 0.5 / 6, rel=0.03)
    assert noises[0].mean().abs() < 0.01
    torch.testing.assert_close(noises[0], noises[1], rtol=1e-3, atol=1e-5)
    assert (noises[0] - noises[2]).std() > 0.2


def test_batches_that_nobody_is_drawn_into_do_no_harm():
    config = TrialConfig.of(TINY | PRIVATE | {"batch_size": 2, "epochs": 6})
    sizes = [len(batch_) for epoch in range(1, 7) for batch_ in train._batches(9, config, epoch)]
    assert 0 in sizes and 1 in sizes
    assert all(math.isfinite(row["epoch/loss"]) for row in fit(PRIVATE | {"batch_size": 2, "epochs": 6}, images(9)).curve)


def test_poisson_batches_have_binomial_sizes_and_take_every_image_equally_often():
    config = TrialConfig.of(TINY | PRIVATE | {"batch_size": 16})
    n, steps, epochs = 60, 4, 300
    batches = [rows for epoch in range(1, epochs + 1) for rows in train._batches(n, config, epoch)]
    assert len(batches) == steps * epochs == 1200
    q = 1 / steps
    sizes = torch.tensor([float(len(rows)) for rows in batches])
    assert sizes.mean().item() == pytest.approx(n * q, abs=4 * math.sqrt(n * q * (1 - q) / 1200))
    assert sizes.var().item() == pytest.approx(n * q * (1 - q), rel=0.15)
    assert all(len(set(rows.tolist())) == len(rows) for rows in batches)
    drawn = torch.zeros(1200, n)
    for i, rows in enumerate(batches):
        drawn[i, rows] = 1
    assert (drawn.mean(0) - q).abs().max() < 4.5 * math.sqrt(q * (1 - q) / 1200)
    together = (drawn.T @ drawn / 1200 - q * q).fill_diagonal_(0)  # pairs are independent
    assert together.abs().max() < 5.5 * math.sqrt(q * q * (1 - q * q) / 1200)
    consecutive = (drawn[:-1] * drawn[1:]).mean()  # and so are batches
    assert consecutive.item() == pytest.approx(q * q, rel=0.05)


@pytest.mark.parametrize("noise", [0.6, 1.0, 4.0])
def test_epsilon_is_what_opacus_accountant_says_step_by_step(noise):
    accountant = RDPAccountant()
    for _ in range(5 * 7):
        accountant.step(noise_multiplier=noise, sample_rate=1 / 7)
    spent = DPSGD(noise_multiplier=noise, delta=1e-4).spent(members=800, steps_per_epoch=7, epochs=5)
    assert spent == pytest.approx(accountant.get_epsilon(1e-4), rel=1e-9)


def test_epsilon_falls_with_noise_and_grows_with_epochs_and_with_certainty():
    spent = [DPSGD(noise_multiplier=noise).spent(800, 7, 5) for noise in (0.5, 1.0, 2.0, 8.0)]
    assert spent == sorted(spent, reverse=True) and spent[0] > 2 * spent[1] > 2 * spent[2] > 0
    assert DPSGD().spent(800, 7, 10) > DPSGD().spent(800, 7, 5)
    assert DPSGD(delta=1e-7).spent(800, 7, 5) > DPSGD(delta=1e-4).spent(800, 7, 5)
    assert DPSGD(noise_multiplier=0.0).spent(800, 7, 5) == math.inf


def test_a_trial_reports_the_epsilon_of_the_epochs_that_were_trained():
    pool = data.load("digits", pool=200)
    config = TrialConfig.of(
        PRIVATE | {"pool": 200, "epochs": 3, "judge.steps": 1, "judge.images": 10, "net.width": 2, "batch_size": 16}
    ).set({"optimizer.stop_at": 0.5})
    result = trial.run(config, pool)
    assert len(result.curve) == 2
    members = len(data.split(pool).members)
    accountant = RDPAccountant()
    for _ in range(2 * math.ceil(members / 16)):
        accountant.step(noise_multiplier=1.0, sample_rate=1 / math.ceil(members / 16))
    assert result.metrics["dp_epsilon"] == pytest.approx(accountant.get_epsilon(1e-5))
    assert trial.guarantee(config.set({"optimizer.noise_multiplier": 0.0}), members) == {"dp_epsilon": trial.NO_GUARANTEE}
    assert trial.guarantee(TrialConfig(), members) == {}


def test_a_delta_that_promises_nothing_is_refused_before_the_training():
    pool = data.load("digits", pool=200)
    with pytest.raises(InputError, match=r"optimizer\.delta=0\.1 must be below 1 / 50 members") as caught:
        trial.run(TrialConfig.of(PRIVATE | {"optimizer.delta": 0.1}), pool, on_epoch=lambda *_: pytest.fail("trained"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"normalize": True}, "channel statistics; use normalize=false"),
        ({"net": "resnet18"}, "batch norm"),
        *(({"loss": name}, f"loss={name}") for name, cls in LOSSES.items() if not getattr(cls, "per_image", False)),
        ({"perturbation": "gat"}, "perturbation=gat"),
        ({"augmentation": "mixup"}, "augmentation=mixup"),
        ({"regularizer": "advreg"}, "regularizer=advreg"),
        ({"regularizer": "l2"}, "regularizer=l2"),
        ({"regularizer": "rss", "perturbation": "fgsm"}, "regularizer=rss"),  # an image and its twin would be clipped apart
        ({"regularizer": "bpfc", "regularizer.stop_gradient": "clean"}, "regularizer=bpfc"),
    ],
    ids=str,
)
def test_dp_sgd_refuses_what_voids_its_guarantee_with_the_reason(changes, reason):
    with pytest.raises(InputError, match=f"optimizer=dp_sgd .*{reason}") as caught:
        TrialConfig.of(PRIVATE | changes)
    assert "\n" not in str(caught.value)


# -- early stopping ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "share, epochs, last", [(0.3, 7, 3), (0.3, 10, 3), (0.1, 30, 3), (0.07, 100, 7), (0.0, 5, 1), (0.02, 30, 1), (1.0, 4, 4)]
)
def test_training_stops_after_the_share_of_the_epochs_rounded_up(share, epochs, last):
    assert TrialConfig.of({"optimizer.stop_at": share}).optimizer.last_epoch(epochs) == last


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "dp_sgd"])
def test_a_stopped_run_is_the_beginning_of_the_long_run_to_the_bit(optimizer):
    params = {"optimizer": optimizer, "optimizer.schedule": "cosine", "epochs": 7, "normalize": False}
    states = []
    fit(params, on_epoch=lambda row, bound: states.append(copy.deepcopy(bound.state())))
    short = fit(params | {"optimizer.stop_at": 0.3})
    assert [row["epoch"] for row in short.curve] == [1, 2, 3]
    for name, value in states[2]["modules"]["net"].items():
        assert torch.equal(short.net.state_dict()[name], value)
    again = fit(params | {"optimizer.stop_at": 0.3}, resume=short.state(), on_epoch=lambda *_: pytest.fail("trained on"))
    assert torch.equal(weights(again.net), weights(short.net))
    longer = fit(params, resume=short.state())  # the schedule is that of the whole run, so it can be taken up
    assert all(torch.equal(longer.net.state_dict()[k], v) for k, v in states[-1]["modules"]["net"].items())
