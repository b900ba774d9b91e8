"""Networks that hide their gradients raise the flag that says so and reach no front; honest ones raise none."""

import functools

import pytest
import torch
from shared_data import real
from torch import nn

from core import data, pareto, trial
from core.attacks.masking import fgsm_overfitted, is_random, masking_flags
from core.attacks.suite import Verdicts, attacked, quick, right
from core.config import TrialConfig, trilemma
from core.flags import FLAGS, raised
from core.train import as_float, bind

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
    result = trial.run(config, pool())
    bound = bind(config, pool().at(parts().members), torch.device("cpu"))
    bound.load(result.state)
    return bound


def judged(net, config=CONFIG):
    """The whole verdict of a trial on any network, as if it had been trained with `config`."""
    bound = trained()
    whole = bind(config, pool().at(parts().members), torch.device("cpu"))
    whole.net, whole.curve = net, bound.curve
    return trial.judge(config, whole, pool(), parts())


class Behind(nn.Module):
    """A network with something before and something after it."""

    def __init__(self, net, before=lambda x: x, after=lambda z: z):
        super().__init__()
        self.net, self.before, self.after = net, before, after

    def forward(self, x):
        return self.after(self.net(self.before(x)))


class Step(torch.autograd.Function):
    """Rounding whose gradient is taken for that of something else, so that it is neither zero nor of any use."""

    @staticmethod
    def forward(ctx, x):
        return (x * 2).round() / 2

    @staticmethod
    def backward(ctx, gradient):  # pyright: ignore[reportIncompatibleMethodOverride]
        return gradient.flip(2)


MASKED = {
    "saturated logits": ("saturated_logits", lambda net: Behind(net, after=lambda z: z * 1e4)),
    "saturated answers": ("zero_gradients", lambda net: Behind(net, after=lambda z: ((z - z.amax(1, True)) * 1e6).clamp(-1, 0))),
    "quantised input": ("zero_gradients", lambda net: Behind(net, before=lambda x: (x * 3).round() / 3)),
    "random forward pass": ("random_forward", lambda net: Behind(net, before=lambda x: x + 0.3 * torch.randn_like(x))),
    "misleading gradient": ("black_box_beats_white_box", lambda net: Behind(net, before=Step.apply)),
    "cut off": ("zero_gradients", lambda net: Behind(net, before=lambda x: x.detach())),
    "not a number": ("zero_gradients", lambda net: Behind(net, before=lambda x: x + 0 * (0 * x).sqrt())),
}


@pytest.mark.parametrize("name", MASKED)
def test_a_network_that_hides_its_gradient_raises_the_right_flag_and_reaches_no_front(name):
    flag, hide = MASKED[name]
    r = judged(hide(trained().net))
    assert r.metrics["accuracy"] > 0.5 and not r.metrics["flag/at_chance"]
    assert flag in raised(r.metrics.values)
    honest = judged(trained().net)
    assert pareto.front([r.metrics.values], trilemma(10)).tolist() == [False]
    assert pareto.front([r.metrics.values, honest.metrics.values], trilemma(10)).tolist() == [False, True]


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"seed": 1}, {"seed": 2, "epochs": 30}, {"loss": "label_smoothing"}, {"loss": "crl", "loss__alpha_rce": 0.3},
        {"perturbation": "pgd", "perturbation__epsilon": 0.1, "perturbation__steps": 3, "perturbation__alpha": 0.5},
        {"perturbation": "fgsm", "perturbation__epsilon": 0.1}, {"regularizer": "bpfc", "regularizer__growth": 3.0},
        {"judge__norm": "l2", "judge__epsilon": 0.5}, {"judge__epsilon": 0.3}, {"judge__epsilon": 0.01},
    ],
)  # fmt: skip
def test_an_honest_network_raises_no_flag_of_masking(changes):
    bound = trained(**changes)
    config = CONFIG.set({name.replace("__", "."): value for name, value in changes.items()})
    r = trial.judge(config, bound, pool(), parts())
    assert not set(raised(r.metrics.values)) & set(MASKING)
    assert pareto.front([r.metrics.values], trilemma(10)).tolist() == [True] or r.metrics["robust_accuracy"] == 0


class Ray(nn.Module):
    """Two classes told apart by the mean pixel s: the margin of class 0 as a function of s - 1/2."""

    def __init__(self, margin):
        super().__init__()
        self.margin = margin

    def forward(self, x):
        m = self.margin(x.flatten(1).mean(1) - 0.5)
        return torch.stack([m, torch.zeros_like(m)], 1)


def test_a_network_that_learned_the_one_step_of_fgsm_is_caught_on_the_way():
    """Right at the image and again at the full step, wrong in between: PGD sees it, FGSM sees nothing."""
    x, y = torch.full((60, 1, 4, 4), 0.5), torch.zeros(60, dtype=torch.long)
    overfitted = Ray(lambda s: (s + 0.03) * (s + 0.08) * 100)
    honest = Ray(lambda s: s + 0.05)
    assert right(overfitted, x, y).all() and fgsm_overfitted(overfitted, x, y, 0.1)
    assert not fgsm_overfitted(honest, x, y, 0.1)
    for net, expected in ((overfitted, True), (honest, False)):
        attacks = quick(10, 1)
        found = attacked(net, x, y, attacks, epsilon=0.1)
        flags = masking_flags(net, x, y, found, attacks, epsilon=0.1)
        assert flags["fgsm_overfitted"] is expected and not found.worst.any()
    assert FLAGS["fgsm_overfitted"].bars


@pytest.mark.parametrize(("one", "many", "expected"), [(90, 5, True), (90, 60, False), (45, 5, False), (90, 50, False)])
def test_standing_one_step_and_falling_to_many_is_overfitting(one, many, expected):
    """Of 100 images: `one` stand FGSM, `many` of them stand PGD."""
    n = torch.arange(100)
    found = Verdicts(n >= 0, n >= 0, {"fgsm": n < one, "pgd": n < many}, {"fgsm": (0, 100), "pgd": (0, 100)})
    x, y = torch.full((100, 1, 4, 4), 0.5), torch.zeros(100, dtype=torch.long)
    flags = masking_flags(Ray(lambda s: s + 0.05), x, y, found, quick(1, 1), epsilon=0.1)
    assert flags["fgsm_overfitted"] is expected


@pytest.mark.parametrize(("took", "expected"), [(0, False), (3, False), (16, True)])
def test_an_attack_has_to_take_more_than_a_few_beyond_chance(took, expected):
    n = torch.arange(128)
    everybody = n >= 0
    found = Verdicts(everybody, everybody, {"pgd_more": everybody, "square_probe": everybody},
                     {"pgd_more": (took, 128), "square_probe": (took, 128)})  # fmt: skip
    x, y = torch.full((128, 1, 4, 4), 0.5), torch.zeros(128, dtype=torch.long)
    flags = masking_flags(Ray(lambda s: s + 0.05), x, y, found, quick(1, 1), epsilon=0.1)
    assert flags["more_steps_help"] is expected and flags["black_box_beats_white_box"] is expected


def test_too_few_steps_are_noticed():
    """With one short step PGD has hardly moved; twice as many take more."""
    net = trained().net
    rows = parts().val
    x, y = as_float(pool().x[rows]), pool().y[rows]
    attacks = quick(1, 1)
    attacks["pgd"] = type(attacks["pgd"])(attacks["pgd"].run, attacks["pgd"].knobs | {"step_size": 0.02}, everywhere=True)
    found = attacked(net, x, y, attacks, epsilon=0.15)
    assert masking_flags(net, x, y, found, attacks, epsilon=0.15)["more_steps_help"]
    assert not FLAGS["more_steps_help"].bars  # it enters with what the further steps left


def test_dropout_is_off_and_noise_below_rounding_is_not_random():
    net = trained().net
    x = as_float(pool().x[:20])
    assert not is_random(nn.Sequential(nn.Dropout(0.5), net), x)
    assert not is_random(Behind(net, after=lambda z: z + 1e-6 * torch.randn_like(z)), x)
    assert is_random(Behind(net, after=lambda z: z + 0.1 * torch.randn_like(z)), x)


def test_every_flag_of_a_trial_is_explained():
    r = trial.judge(CONFIG, trained(), pool(), parts())
    names = {name.removeprefix("flag/") for name in r.metrics.values if name.startswith("flag/")}
    assert names | {"audit_is_blind", "audit_is_biased", "audit_lacks_models"} == set(FLAGS)  # those are of audits by others
    assert all(flag.means and flag.advice for flag in FLAGS.values())


@pytest.mark.real
def test_a_network_that_fell_for_fgsm_training_on_real_digits_is_flagged():
    """Catastrophic overfitting as it happens: FGSM training in a wide ball on MNIST."""
    mnist = real("mnist")
    images = data.load(mnist, "data", 3000)
    config = TrialConfig.of({
        "dataset": mnist, "pool": 3000, "epochs": 30, "batch_size": 64, "optimizer.lr": 0.1, "judge.epsilon": 0.3,
        "perturbation": "fgsm", "perturbation.epsilon": 0.3, "perturbation.alpha": 0.5, "judge.images": 150,
    })  # fmt: skip
    r = trial.run(config, images)
    assert r.metrics["accuracy"] > 0.85 and r.metrics["robust_accuracy/fgsm"] > 0.5 and r.metrics["robust_accuracy"] < 0.2
    assert "fgsm_overfitted" in raised(r.metrics.values)
    assert pareto.front([r.metrics.values], trilemma(10)).tolist() == [False]
