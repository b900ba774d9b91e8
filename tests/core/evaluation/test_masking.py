"""Networks that mask their gradients raise the corresponding flag and are on no front; other networks raise no flag."""

import functools
import math

import pytest
import scipy.stats
import torch
from shared_data import real
from torch import nn

from core import data, pareto, trial
from core.attacks.suite import Attack, SuiteResult, correct, quick, run_suite
from core.bound import bind
from core.config import TrialConfig
from core.evaluation import masking
from core.evaluation.judge import judge
from core.evaluation.masking import _robust_in_grey_radius, fgsm_overfitted, is_random, masking_flags
from core.flags import FLAGS, raised
from core.modes import as_float
from core.study import trilemma

torch.set_num_threads(1)

CONFIG = TrialConfig.of(
    {"epochs": 10, "net.width": 8, "optimizer.lr": 0.05, "batch_size": 64, "judge.epsilon": 0.1, "judge.steps": 10}
)
MASKING = ("zero_gradients", "saturated_logits", "random_forward", "fgsm_beats_pgd", "fgsm_overfitted", "black_box_beats_white_box",
           "large_epsilon_stands", "more_steps_help")  # fmt: skip


@functools.cache
def pool():
    return data.load("digits")


@functools.cache
def parts():
    return data.split(pool())


@functools.cache
def trained(**changes):
    config = CONFIG.set({name.replace("__", "."): value for name, value in changes.items()})
    bound = bind(config, pool().at(parts().members), torch.device("cpu"))
    bound.load(trial.run(config, pool()).state)
    return bound


def judge_network(net, config=CONFIG):
    """The evaluation of any network, as if it had been trained with `config`."""
    bound = bind(config, pool().at(parts().members), torch.device("cpu"))
    bound.net, bound.curve = net, trained().curve
    return judge(config, bound, pool(), parts())


class Wrapped(nn.Module):
    """A network with a function before it and a function after it."""

    def __init__(self, net, before=lambda x: x, after=lambda z: z):
        super().__init__()
        self.net, self.before, self.after = net, before, after

    def forward(self, x):
        return self.after(self.net(self.before(x)))


class Step(torch.autograd.Function):
    """Rounding with the gradient of another function, which is neither zero nor useful."""

    @staticmethod
    def forward(ctx, x):
        return (x * 2).round() / 2

    @staticmethod
    def backward(ctx, gradient):  # pyright: ignore[reportIncompatibleMethodOverride]
        return gradient.flip(2)


MASKED = {
    "saturated logits": ("saturated_logits", lambda net: Wrapped(net, after=lambda z: z * 1e4)),
    "saturated answers": ("zero_gradients", lambda net: Wrapped(net, after=lambda z: ((z - z.amax(1, True)) * 1e6).clamp(-1, 0))),
    "quantised input": ("zero_gradients", lambda net: Wrapped(net, before=lambda x: (x * 3).round() / 3)),
    "random forward pass": ("random_forward", lambda net: Wrapped(net, before=lambda x: x + 0.3 * torch.randn_like(x))),
    "misleading gradient": ("black_box_beats_white_box", lambda net: Wrapped(net, before=Step.apply)),
    "cut off": ("zero_gradients", lambda net: Wrapped(net, before=lambda x: x.detach())),
    "not a number": ("zero_gradients", lambda net: Wrapped(net, before=lambda x: x + 0 * (0 * x).sqrt())),
}


@pytest.mark.parametrize("name", MASKED)
def test_a_network_that_masks_its_gradients_raises_the_corresponding_flag_and_is_on_no_front(name):
    flag, mask = MASKED[name]
    result = judge_network(mask(trained().net))
    assert result.metrics["accuracy"] > 0.5 and not result.metrics["flag/at_chance"]
    assert flag in raised(result.metrics.values)
    unmasked = judge_network(trained().net)
    assert pareto.front([result.metrics.values], trilemma(10)).tolist() == [False]
    assert pareto.front([result.metrics.values, unmasked.metrics.values], trilemma(10)).tolist() == [False, True]


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"seed": 1}, {"seed": 2, "epochs": 30}, {"loss": "label_smoothing"}, {"loss": "crl", "loss__alpha_rce": 0.3},
        {"perturbation": "pgd", "perturbation__epsilon": 0.1, "perturbation__steps": 3, "perturbation__alpha": 0.5},
        {"perturbation": "fgsm", "perturbation__epsilon": 0.1}, {"regularizer": "bpfc", "regularizer__growth": 3.0},
        {"judge__norm": "l2", "judge__epsilon": 0.5}, {"judge__epsilon": 0.3}, {"judge__epsilon": 0.01},
    ],
)  # fmt: skip
def test_a_network_with_useful_gradients_raises_no_flag_of_gradient_masking(changes):
    bound = trained(**changes)
    config = CONFIG.set({name.replace("__", "."): value for name, value in changes.items()})
    result = judge(config, bound, pool(), parts())
    assert not set(raised(result.metrics.values)) & set(MASKING)
    assert pareto.front([result.metrics.values], trilemma(10)).tolist() == [True] or result.metrics["robust_accuracy"] == 0


class Ray(nn.Module):
    """A network with two classes; the margin of class 0 is a function of s - 1/2, with s the mean pixel."""

    def __init__(self, margin):
        super().__init__()
        self.margin = margin

    def forward(self, x):
        m = self.margin(x.flatten(1).mean(1) - 0.5)
        return torch.stack([m, torch.zeros_like(m)], 1)


def test_a_network_that_is_overfitted_to_fgsm_is_detected_by_shorter_steps():
    """Correct at the image and at the full step, but misclassified in between, where PGD steps and FGSM does not."""
    x, y = torch.full((60, 1, 4, 4), 0.5), torch.zeros(60, dtype=torch.long)
    overfitted = Ray(lambda s: (s + 0.03) * (s + 0.08) * 100)
    regular = Ray(lambda s: s + 0.05)
    assert correct(overfitted, x, y).all() and fgsm_overfitted(overfitted, x, y, 0.1)
    assert not fgsm_overfitted(regular, x, y, 0.1)
    for net, expected in ((overfitted, True), (regular, False)):
        attacks = quick(10, 1)
        result = run_suite(net, x, y, attacks, epsilon=0.1)
        flags = masking_flags(net, x, y, result, attacks, epsilon=0.1)
        assert flags["fgsm_overfitted"] is expected and not result.worst.any()
    assert FLAGS["fgsm_overfitted"].excludes


def test_shorter_steps_are_tested_together_at_the_level_of_one_test():
    """12 discordant images against 3 have p = 0.0176 in McNemar's test: significant at 2.5 % alone, but not as the best of four."""
    only_one, only_other = torch.arange(100) < 12, (torch.arange(100) >= 12) & (torch.arange(100) < 15)
    one, other = ~only_one, ~only_other  # correct in each
    p = scipy.stats.binomtest(12, 15, alternative="greater").pvalue
    assert 0.025 / 4 < p < 0.025
    assert masking._beats(one, other) and not masking._beats(one, other, 4) and masking._beats(torch.arange(100) >= 15, other, 4)


def test_fgsm_is_called_overfitted_by_chance_on_at_most_a_fortieth_of_the_networks(monkeypatch):
    """Correctness at the image and at each step differs by noise only; without a correction, 5 % are flagged."""
    stream, networks, n = torch.Generator().manual_seed(0), 300, 448
    base = [torch.rand(n, generator=stream) < 0.5 for _ in range(networks)]
    flagged = 0
    x, y = torch.full((n, 1, 2, 2), 0.5), torch.zeros(n, dtype=torch.long)
    for full in base:
        steps = iter([full.where(torch.rand(n, generator=stream) > 0.2, torch.rand(n, generator=stream) < 0.5) for _ in range(5)])
        monkeypatch.setattr(masking, "correct", lambda *_, steps=steps: next(steps))
        flagged += masking.fgsm_overfitted(Ray(lambda s: s + 0.05), x, y, 0.1)
    assert flagged / networks <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / networks)


@pytest.mark.parametrize(("one", "many", "expected"), [(90, 5, True), (90, 60, False), (45, 5, False), (90, 50, False)])
def test_robustness_to_one_step_but_not_to_many_is_overfitting(one, many, expected):
    """`one` of 100 images are robust to FGSM, and `many` of these to PGD."""
    n = torch.arange(100)
    result = SuiteResult(n >= 0, n >= 0, {"fgsm": n < one, "pgd": n < many}, {"fgsm": (0, 100), "pgd": (0, 100)})
    x, y = torch.full((100, 1, 4, 4), 0.5), torch.zeros(100, dtype=torch.long)
    flags = masking_flags(Ray(lambda s: s + 0.05), x, y, result, quick(1, 1), epsilon=0.1)
    assert flags["fgsm_overfitted"] is expected


@pytest.mark.parametrize(("fooled", "expected"), [(0, False), (3, False), (16, True)])
def test_a_further_attack_must_fool_significantly_more_than_a_few_images(fooled, expected):
    everything = torch.ones(128, dtype=torch.bool)
    result = SuiteResult(everything, everything, {"pgd_more": everything, "square_probe": everything},
                         {"pgd_more": (fooled, 128), "square_probe": (fooled, 128)})  # fmt: skip
    x, y = torch.full((128, 1, 4, 4), 0.5), torch.zeros(128, dtype=torch.long)
    flags = masking_flags(Ray(lambda s: s + 0.05), x, y, result, quick(1, 1), epsilon=0.1)
    assert flags["more_steps_help"] is expected and flags["black_box_beats_white_box"] is expected


def test_too_few_steps_are_detected():
    """With one short step PGD hardly moves; twice as many steps fool more images."""
    net = trained().net
    rows = parts().val
    x, y = as_float(pool().x[rows]), pool().y[rows]
    attacks = quick(1, 1)
    attacks["pgd"] = Attack(attacks["pgd"].run, attacks["pgd"].knobs | {"step_size": 0.02}, on_all_images=True)
    result = run_suite(net, x, y, attacks, epsilon=0.15)
    assert masking_flags(net, x, y, result, attacks, epsilon=0.15)["more_steps_help"]
    assert not FLAGS["more_steps_help"].excludes  # the worst case includes the further steps


def test_dropout_is_inactive_and_noise_below_rounding_does_not_count_as_random():
    net = trained().net
    x = as_float(pool().x[:20])
    assert not is_random(nn.Sequential(nn.Dropout(0.5), net), x)
    assert not is_random(Wrapped(net, after=lambda z: z + 1e-6 * torch.randn_like(z)), x)
    assert is_random(Wrapped(net, after=lambda z: z + 0.1 * torch.randn_like(z)), x)
    assert is_random(Wrapped(net, after=lambda z: 1e-15 * (z + 0.1 * torch.randn_like(z))), x)  # relative to the logits
    assert not is_random(Wrapped(net, after=lambda z: 0 * z), x)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_large_images_are_attacked_in_the_grey_radius(norm):
    """In L2 it is 55 for 3x64x64 and 194 for 3x224x224, where float32 rounds a length by more than 1e-5."""
    for side in (64, 224):
        net = nn.Sequential(nn.AvgPool2d(side // 4), nn.Flatten(), nn.Linear(48, 3))
        x = torch.rand(4, 3, side, side, generator=torch.Generator().manual_seed(0))
        assert not _robust_in_grey_radius(net, x, net(x).argmax(1), norm, 0)


def test_every_flag_of_a_trial_is_documented():
    result = judge(CONFIG, trained(), pool(), parts())
    names = {name.removeprefix("flag/") for name in result.metrics.values if name.startswith("flag/")}
    by_others = {"audit_is_blind", "audit_is_biased", "audit_lacks_models"}  # flags of audits by other networks
    assert names | by_others == set(FLAGS)
    assert all(flag.means and flag.advice for flag in FLAGS.values())


@pytest.mark.thorough
@pytest.mark.real
def test_a_network_that_is_overfitted_to_fgsm_on_real_digits_is_flagged():
    """Real catastrophic overfitting: FGSM training in a large ball on MNIST."""
    mnist = real("mnist")
    images = data.load(mnist, "data", 3000)
    config = TrialConfig.of({
        "dataset": mnist, "pool": 3000, "epochs": 30, "batch_size": 64, "optimizer.lr": 0.1, "judge.epsilon": 0.3,
        "perturbation": "fgsm", "perturbation.epsilon": 0.3, "perturbation.alpha": 0.5, "judge.images": 150,
    })  # fmt: skip
    result = trial.run(config, images)
    assert result.metrics["accuracy"] > 0.85
    assert result.metrics["robust_accuracy/fgsm"] > 0.5 and result.metrics["robust_accuracy"] < 0.2
    assert "fgsm_overfitted" in raised(result.metrics.values)
    assert pareto.front([result.metrics.values], trilemma(10)).tolist() == [False]
