"""Mixup, random noise, R-FGSM and RSS: what they make of a batch, by hand, and what they reduce to."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from core import nets, rng, train
from core.attacks.gradient import fgsm, rfgsm
from core.augmentations.mixup import Mixup
from core.config import LOSSES, PERTURBATIONS, TrialConfig
from core.data import Images
from core.errors import InputError
from core.losses.cross_entropy import CrossEntropy
from core.perturbations.adversarial import RFGSM, Noise
from core.regularizers.rss import RSS
from core.slots import Context, Part, Step

torch.set_num_threads(1)
TINY = {"net.width": 3, "net.hidden": 6, "epochs": 2, "batch_size": 8, "optimizer.lr": 0.05}


def images(n=23, seed=0) -> Images:
    x = torch.randint(0, 256, (n, 1, 8, 8), generator=torch.Generator().manual_seed(seed))
    return Images(x.to(torch.uint8), torch.arange(n) % 3, 3)


def fit(params) -> torch.Tensor:
    bound = train.train(TrialConfig.of(TINY | params), images(), images(9, seed=1))
    return torch.cat([p.detach().reshape(-1) for p in bound.net.parameters()])


def draw(count: int, seed: int = 0) -> rng.Draw:
    return rng.Draw(torch.Generator().manual_seed(seed), count)


def classifier(seed: int = 0, shape=(1, 4, 4)) -> nets.Net:
    torch.manual_seed(seed)
    return nets.build(nets.NETS["convnet"](width=3, hidden=6), shape, 3).double()


def context(net, classes: int = 3) -> Context:
    return Context(classes, 6, (1, 4, 4), 2, net)


def interior(n: int = 6, shape=(1, 4, 4), seed: int = 0):
    """Images far from black and white, and classes."""
    stream = torch.Generator().manual_seed(seed)
    return 0.4 + 0.2 * torch.rand(n, *shape, generator=stream, dtype=torch.float64), torch.arange(n) % 3


# -- mixup ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("a", [0.2, 1.0, 3.0])
def test_the_share_of_mixup_is_from_beta_a_a(a):
    n, stream = 1500, draw(12)
    mix = Mixup(a=a).bind(context(None, classes=12))
    x, y = torch.zeros(12, 1, 1, 1), torch.arange(12)
    shares = torch.stack([mix(x, y, stream)[1].diag().min() for _ in range(n)]).double()  # who is mixed with another keeps it
    assert shares.min() >= 0 and shares.max() <= 1
    variance = 1 / (4 * (2 * a + 1))
    assert shares.mean().item() == pytest.approx(0.5, abs=4 * math.sqrt(variance / n))
    assert shares.var().item() == pytest.approx(variance, rel=0.15)
    if a == 1.0:  # uniform: each tenth is met equally often
        assert torch.histc(shares, 10, 0, 1).min() > 0.7 * n / 10


@pytest.mark.parametrize("seed", range(4))
def test_images_and_labels_are_mixed_with_one_share_and_one_permutation(seed):
    """Every image has a class of its own, so that its label says who was mixed in, and how much."""
    n = 9
    x = torch.randint(0, 256, (n, 1, 4, 4), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)
    mix = Mixup().bind(context(None, classes=n))
    mixed, labels = mix(x, torch.arange(n), draw(n, seed))
    torch.testing.assert_close(labels.sum(1), torch.ones(n))
    partner = (labels - torch.diag(labels.diag())).argmax(1)
    own = labels.diag() > 0.9999  # their own partners
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


def test_every_batch_has_a_share_and_a_permutation_of_its_own():
    mix, stream = Mixup().bind(context(None, classes=40)), draw(40)
    first, second = (mix(images(40).x, torch.arange(40), stream)[1] for _ in range(2))
    assert first.diag().median() != second.diag().median()
    assert not torch.equal(first.bool(), second.bool())


def test_distributions_are_mixed_like_classes():
    x, y = images(5).x, torch.tensor([0, 1, 2, 0, 1])
    mix = Mixup().bind(context(None))
    for ours, theirs in zip(mix(x, y, draw(5)), mix(x, F.one_hot(y, 3).float(), draw(5)), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("loss", [name for name, cls in LOSSES.items() if getattr(cls, "soft_labels", False)])
def test_the_loss_of_mixed_labels_is_the_mix_of_the_losses(loss):
    stream = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 3, generator=stream, dtype=torch.float64)
    y, other = torch.arange(6) % 3, torch.randint(3, (6,), generator=stream)
    share = 0.3
    soft = share * F.one_hot(y, 3).double() + (1 - share) * F.one_hot(other, 3).double()
    part = LOSSES[loss]().bind(context(classifier()))
    mixed, *ends = (part(logits, logits, labels, 1) for labels in (soft, y, other))
    torch.testing.assert_close(mixed, share * ends[0] + (1 - share) * ends[1])
    log_p = logits.log_softmax(1)
    if loss == "cross_entropy":
        by_hand = -sum(share * log_p[b, y[b]] + (1 - share) * log_p[b, other[b]] for b in range(6)) / 6
        torch.testing.assert_close(mixed, by_hand)


def test_mixup_with_a_zero_is_ordinary_training():
    assert torch.equal(fit({"augmentation": "mixup", "augmentation.a": 0.0}), fit({}))
    assert not torch.allclose(fit({"augmentation": "mixup", "augmentation.a": 0.1}), fit({}))


def test_mixup_with_a_zero_crops_and_flips_as_crop_flip_does():
    crop = {"augmentation.padding": 2, "augmentation.flip": True}
    assert torch.equal(fit({"augmentation": "mixup", "augmentation.a": 0.0, **crop}), fit({"augmentation": "crop_flip", **crop}))


# -- noise ------------------------------------------------------------------------------------------------------------


def test_sign_noise_moves_every_pixel_by_epsilon_and_half_of_them_up():
    x, y = interior(40, (1, 8, 8))
    off = Noise(epsilon=0.1).bind(context(None))(None, x, y, draw(40)) - x
    torch.testing.assert_close(off.abs(), torch.full_like(off, 0.1))
    assert (off > 0).double().mean().item() == pytest.approx(0.5, abs=0.04)
    assert not torch.equal(off[0], off[1])


def test_l2_noise_has_length_epsilon_in_a_random_direction():
    x, y = interior(40, (1, 8, 8))
    off = Noise(epsilon=0.5, norm="l2").bind(context(None))(None, x, y, draw(40)) - x
    torch.testing.assert_close(off.flatten(1).norm(dim=1), torch.full((40,), 0.5, dtype=torch.float64))
    cosines = F.normalize(off.flatten(1)) @ F.normalize(off.flatten(1)).T - torch.eye(40)
    assert cosines.abs().max() < 0.6 and cosines.mean().abs() < 0.02


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_noise_is_clipped_at_black_and_white(norm):
    x = torch.arange(2.0).repeat(8).view(1, 1, 4, 4)
    out = Noise(epsilon=0.5, norm=norm).bind(context(None))(None, x, torch.zeros(1).long(), draw(1))
    assert out.min() == 0 and out.max() == 1
    assert ((out - x).abs() > 0).any() and ((out - x).abs() == 0).any()


def test_the_loss_of_a_step_is_the_mixture_over_clean_and_noisy_images():
    net = classifier()
    x, y = interior()
    noise = Noise(epsilon=0.3, alpha=0.2).bind(context(net))
    noisy = noise(net, x, y, draw(6))
    still = torch.optim.SGD(net.parameters(), lr=0.0)
    silent = PERTURBATIONS["none"]().bind(context(net))
    assert silent(net, x, y, draw(6)) is None
    bound = train.Bound(net, CrossEntropy().bind(context(net)), noise, _Zero(), Part(), still)
    value, _ = train._update(bound, Step(net, x, y, noisy, draw(6), 1), 6)
    losses = [-net(z).log_softmax(1)[torch.arange(6), y].mean() for z in (x, noisy)]
    torch.testing.assert_close(value, 0.2 * losses[0] + 0.8 * losses[1])


class _Zero(Part):
    def forward(self, step):
        return step.x.new_zeros(())


@pytest.mark.parametrize("name", ["noise", "rfgsm"])
def test_a_perturbation_of_length_zero_is_ordinary_training_to_the_bit(name):
    plain = fit({})
    assert torch.equal(plain, fit({"perturbation": name, "perturbation.epsilon": 0.0}))
    assert torch.equal(plain, fit({"perturbation": name, "perturbation.epsilon": 0.1, "perturbation.alpha": 1.0}))
    assert not torch.equal(plain, fit({"perturbation": name, "perturbation.epsilon": 0.1}))


# -- R-FGSM -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.25, 0.75, 1.0])
def test_r_fgsm_stays_within_epsilon_and_between_black_and_white(share):
    net = classifier()
    x = torch.rand(20, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    out = RFGSM(epsilon=0.2, random_share=share).bind(context(net))(net, x, torch.arange(20) % 3, draw(20))
    assert (out - x).abs().max() <= 0.2 + 1e-12 and (out - x).abs().max() > 0.1
    assert out.min() >= 0 and out.max() <= 1


def test_r_fgsm_without_a_random_step_is_fgsm_to_the_bit():
    net, (x, y) = classifier(), interior()
    out = RFGSM(epsilon=0.1, random_share=0.0).bind(context(net))(net, x, y, draw(6))
    assert torch.equal(out, fgsm(net, x, y, epsilon=0.1))


def test_r_fgsm_of_a_random_step_alone_is_sign_noise():
    net, (x, y) = classifier(), interior()
    out = RFGSM(epsilon=0.1, random_share=1.0).bind(context(net))(net, x, y, draw(6))
    torch.testing.assert_close(out, Noise(epsilon=0.1).bind(context(net))(None, x, y, draw(6)))
    torch.testing.assert_close((out - x).abs(), torch.full_like(x, 0.1))


class Bowl(nn.Module):
    """The cross-entropy of class 0 rises away from 0.5 in every pixel, so its gradient is known everywhere but there."""

    def forward(self, x):
        far = (x.flatten(1) - 0.5).square().sum(1)
        return torch.stack([-far, far], 1)


@pytest.mark.parametrize("total, second", [(True, 0.3 - 0.1), (False, 0.3)])
def test_the_gradient_step_is_taken_at_the_random_point_and_goes_on_from_there(total, second):
    x = torch.full((50, 1, 4, 4), 0.5, dtype=torch.float64)  # without the random step there is no gradient
    signs = draw(50).normal(1, 4, 4).sign()
    out = rfgsm(Bowl(), x, torch.zeros(50).long(), epsilon=0.3, start=0.1, draw=draw(50), total=total)
    torch.testing.assert_close(out, x + (0.1 + second) * signs)


# -- RSS --------------------------------------------------------------------------------------------------------------


class Normed(nn.Module):
    """Batch norm before a linear layer, in float64."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.norm = nn.BatchNorm2d(1, momentum=0.1).double()
        self.features, self.head = nn.Sequential(self.norm, nn.Flatten()), nn.Linear(16, 3).double()

    def forward(self, x):
        return self.head(self.features(x))


def rss_step(net, **knobs):
    """A step with FGSM images at 0.1, its penalty, and the twins made by the definition."""
    x, y = interior()
    made = RSS(**{"lambda_": 2.0, "random_share": 0.5, **knobs}).bind(context(net))
    step = Step(net, x, y, fgsm(net, x, y, epsilon=0.1), draw(6), 1, radius=0.1)
    corner = x + 0.05 * draw(6).normal(1, 4, 4).sign()
    was = net.training
    inputs = corner.clone().requires_grad_()
    (slope,) = torch.autograd.grad(F.cross_entropy(net.eval()(inputs), y, reduction="sum"), inputs)
    net.train(was)
    return step, made, (corner + 0.1 * slope.sign()).clamp(0, 1)


def test_rss_is_lambda_times_the_mean_squared_distance_to_the_logits_of_the_twins():
    net = classifier()
    step, made, twins = rss_step(net)
    gap = net(step.perturbed) - net(twins)
    value = made(step)
    assert value > 0
    torch.testing.assert_close(value, 2.0 * sum(gap[b] @ gap[b] for b in range(6)) / 6)
    for ours, theirs in zip(
        torch.autograd.grad(value, list(net.parameters())),
        torch.autograd.grad(2.0 * gap.square().sum() / 6, list(net.parameters())), strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(ours, theirs)


def test_the_twins_of_rss_may_leave_the_ball_of_fgsm(monkeypatch):
    """Their steps have lengths 0.05 and 0.1, where R-FGSM proper would end within 0.1."""
    net = classifier()
    step, made, twins = rss_step(net)
    seen = []
    forward = Step.beside_adversarial
    monkeypatch.setattr(Step, "beside_adversarial", lambda self, images: seen.append(images) or forward(self, images))
    made(step)
    torch.testing.assert_close(seen[0], twins)
    assert (seen[0] - step.x).abs().max().item() == pytest.approx(0.15)
    assert not seen[0].requires_grad


def test_rss_takes_one_forward_pass_of_fgsm_images_and_twins_together():
    net = Normed().train()
    with torch.no_grad():
        net.norm.running_mean.fill_(0.5)
    step, made, twins = rss_step(net)
    peer = copy.deepcopy(net)
    both = torch.cat([step.perturbed, twins])
    wanted = peer(both)
    still = torch.optim.SGD(net.parameters(), lr=0.0)
    adversary = Part()
    adversary.alpha = 0.0  # pyright: ignore[reportAttributeAccessIssue]
    bound = train.Bound(net, CrossEntropy().bind(context(net)), adversary, made, Part(), still)  # pyright: ignore[reportArgumentType]
    value, _ = train._update(bound, step, 6)
    assert net.norm.num_batches_tracked == 1  # the attack's own passes are in evaluation mode
    torch.testing.assert_close(net.norm.running_mean, 0.9 * torch.full((1,), 0.5).double() + 0.1 * both.mean().view(1))
    gap = wanted[:6] - wanted[6:]
    on_fgsm_images = F.cross_entropy(wanted[:6], step.labels)  # of the same pass, and no clean term
    torch.testing.assert_close(value, on_fgsm_images + 2.0 * gap.square().sum() / 6)


def test_rss_of_weight_zero_is_fgsm_training_to_the_bit():
    at = {"perturbation": "fgsm", "perturbation.epsilon": 0.1, "perturbation.alpha": 0.0}
    assert torch.equal(fit(at), fit(at | {"regularizer": "rss", "regularizer.lambda": 0.0}))
    assert not torch.equal(fit(at), fit(at | {"regularizer": "rss", "regularizer.lambda": 1.0}))
    assert not torch.equal(fit(at | {"regularizer": "rss"}), fit(at | {"regularizer": "rss", "perturbation.epsilon": 0.2}))
    off = {"perturbation": "fgsm", "perturbation.epsilon": 0.0}
    assert torch.equal(fit({}), fit(off | {"regularizer": "rss"}))


@pytest.mark.parametrize(
    "params",
    [{}, {"perturbation": "pgd"}, {"perturbation": "rfgsm"}, {"perturbation": "fgsm", "perturbation.norm": "l2"}],
    ids=["none", "pgd", "rfgsm", "fgsm-l2"],
)
def test_rss_is_refused_without_signed_fgsm(params):
    with pytest.raises(InputError, match=r"regularizer=rss .*perturbation=fgsm, perturbation\.norm=linf") as caught:
        TrialConfig.of({"regularizer": "rss", **params})
    assert "\n" not in str(caught.value)
