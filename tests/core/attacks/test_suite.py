"""Suites: the worst case equals that of all attacks on all images, in any order and any batches."""

import dataclasses
import functools
import typing

import pytest
import torch
from torch import nn

from core import data, rng, trial
from core.attacks.carlini_wagner import carlini_wagner
from core.attacks.deepfool import deepfool
from core.attacks.gradient import fgsm, ifgsm, pgd
from core.attacks.noise import noise
from core.attacks.spsa import spsa
from core.attacks.suite import SUITES, Attack, accuracy_over_epsilon, correct, run_suite
from core.attacks.transfer import transfer
from core.bound import bind
from core.config import TrialConfig
from core.evaluation.adaptive_bpfc import adaptive_pgd
from core.evaluation.adaptive_gat import generator
from core.judging import Judge
from core.modes import as_float
from core.perturbations.gat import GAT
from core.regularizers.bpfc import BPFC
from core.slots import Context

torch.set_num_threads(1)

CONFIG = TrialConfig.of(
    {"epochs": 8, "net.width": 8, "optimizer.lr": 0.05, "batch_size": 64, "judge.epsilon": 0.12, "judge.steps": 5}
)


@functools.cache
def pool():
    return data.load("digits")


@functools.cache
def parts():
    return data.split(pool())


@functools.cache
def trial_result():
    return trial.run(CONFIG, pool())


@functools.cache
def trained():
    bound = bind(CONFIG, pool().at(parts().members), torch.device("cpu"))
    bound.load(trial_result().state)
    return bound.net


@functools.cache
def source_state():
    return trial.run(CONFIG.set({"seed": 1, "epochs": 4}), pool()).state


def validation_images(n=96):
    rows = parts().val[:n]
    return as_float(pool().x[rows]), pool().y[rows]


def reduced(suite):
    """A suite with reduced effort, so that it can be run many times."""
    limits = {"queries": 30, "steps": 6, "targets": 2, "restarts": 2}
    return {
        name: Attack(a.run, {k: min(v, limits.get(k, v)) if k in limits else v for k, v in a.knobs.items()}, a.random, a.black_box,
                     a.on_all_images, a.images)
        for name, a in SUITES[suite](6, 1).items()
    }  # fmt: skip


def adversary():
    net = trained()
    torch.manual_seed(0)
    return GAT(width=4).bind(Context(10, net.dim, (1, 8, 8), 1, net))


def all_attacks():
    """All attacks by name, as functions (net, x, y, draw) -> images."""
    ball = {"epsilon": 0.12}
    source = bind(CONFIG, pool().at(parts().members), torch.device("cpu"))
    source.load(source_state())
    return {
        "fgsm": lambda net, x, y, draw: fgsm(net, x, y, **ball),
        "ifgsm": lambda net, x, y, draw: ifgsm(net, x, y, steps=4, stop_when_fooled=True, **ball),
        "pgd_cw": lambda net, x, y, draw: pgd(net, x, y, steps=4, loss="cw", restarts=2, stop_when_fooled=True, draw=draw, **ball),
        "pgd_dlr": lambda net, x, y, draw: pgd(net, x, y, steps=3, loss="dlr", stop_when_fooled=True, **ball),
        "noise": lambda net, x, y, draw: noise(net, x, y, tries=3, draw=draw, **ball),
        "spsa": lambda net, x, y, draw: spsa(net, x, y, samples=8, steps=3, draw=draw, **ball),
        "transfer": lambda net, x, y, draw: transfer(
            net, x, y, source=source.net, attack=pgd, steps=4, restarts=1, draw=draw, **ball
        ),
        "generator": lambda net, x, y, draw: generator(net, x, y, adversary=adversary(), **ball),
        "pgd_bpfc": lambda net, x, y, draw: adaptive_pgd(net, x, y, steps=4, defence=BPFC(k=6), passes=2, draw=draw, **ball),
        "deepfool": lambda net, x, y, draw: deepfool(net, x, y, steps=10),
        "carlini_wagner": lambda net, x, y, draw: carlini_wagner(net, x, y, steps=20, search_steps=2, lr=0.05, c=1.0),
    }  # fmt: skip


ATTACKS = [
    "fgsm", "ifgsm", "pgd_cw", "pgd_dlr", "noise", "spsa", "transfer", "generator", "pgd_bpfc", "deepfool", "carlini_wagner",
]  # fmt: skip
WITHOUT_BALL = {"deepfool", "carlini_wagner"}
KEEPS_MISCLASSIFIED_IMAGES = set(ATTACKS) - {"fgsm"}


def draw(n):
    return rng.per_image(3, "test", ids=torch.arange(n))


# ---- the contract of all attacks


@pytest.mark.parametrize("name", ATTACKS)
def test_images_stay_in_the_ball_and_the_network_is_unchanged(name):
    net, (x, y) = trained(), validation_images(24)
    net.train()
    net.body.eval()
    modes, before = [m.training for m in net.modules()], {k: v.clone() for k, v in net.state_dict().items()}
    adv = all_attacks()[name](net, x, y, draw(24))
    assert [m.training for m in net.modules()] == modes and len(set(modes)) == 2
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert adv.shape == x.shape and adv.dtype == x.dtype and not adv.requires_grad
    assert adv.min() >= 0 and adv.max() <= 1
    if name not in WITHOUT_BALL:
        assert ((adv - x).abs() <= 0.12 + 1e-6).all()
    assert not torch.equal(adv, x)
    misclassified = ~correct(net, x, y)
    if name in KEEPS_MISCLASSIFIED_IMAGES:
        assert misclassified.any() and torch.equal(adv[misclassified], x[misclassified])


@pytest.mark.parametrize("name", ATTACKS)
def test_the_result_for_an_image_does_not_depend_on_the_batch(name):
    net, (x, y) = trained(), validation_images(12)
    whole = all_attacks()[name](net, x, y, draw(12))
    alone = torch.cat([all_attacks()[name](net, x[[i]], y[[i]], draw(12).at(torch.tensor([i]))) for i in range(12)])
    # the sign of a gradient close to zero may depend on the size of the batch, but the verdict does not
    assert ((whole - alone).abs() < 1e-4).double().mean() > 0.99
    assert torch.equal(correct(net, whole, y), correct(net, alone, y))


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_work_on_no_images_and_under_no_grad(name):
    net, (x, y) = trained(), validation_images(8)
    assert all_attacks()[name](net, x[:0], y[:0], draw(0)).shape == (0, 1, 8, 8)
    with torch.no_grad():
        without_grad = all_attacks()[name](net, x, y, draw(8))
    assert torch.equal(without_grad, all_attacks()[name](net, x, y, draw(8)))


# ---- the worst case


@pytest.mark.parametrize("suite", SUITES)
def test_the_worst_case_equals_that_of_all_attacks_on_all_images(suite):
    net, (x, y) = trained(), validation_images()
    attacks = reduced(suite)
    result = run_suite(net, x, y, attacks, epsilon=0.12, seed=5)
    separate = {name: run_suite(net, x, y, {name: a}, epsilon=0.12, seed=5).robust[name] for name, a in attacks.items()}
    assert torch.equal(result.worst, torch.stack([correct(net, x, y), *separate.values()]).all(0))
    assert 0.02 < result.worst.double().mean() < correct(net, x, y).double().mean() - 0.2
    assert result.newly_fooled.keys() == attacks.keys()


def test_verdicts_do_not_depend_on_batches_order_or_other_images(monkeypatch):
    net, (x, y) = trained(), validation_images(64)
    attacks = {name: dataclasses.replace(a, images=0) for name, a in reduced("standard").items()}  # no probes
    whole = run_suite(net, x, y, attacks, epsilon=0.12, seed=5).worst
    monkeypatch.setattr("core.attacks.suite.EVAL_BATCH", 7)
    assert torch.equal(run_suite(net, x, y, dict(reversed(attacks.items())), epsilon=0.12, seed=5).worst, whole)
    half = run_suite(net, x[32:], y[32:], attacks, epsilon=0.12, seed=5, ids=torch.arange(32, 64)).worst
    assert torch.equal(half, whole[32:])


def test_images_that_were_fooled_earlier_are_not_attacked_again_and_count_as_fooled():
    net, (x, y) = trained(), validation_images()
    known = torch.arange(len(x)) % 2 == 0
    sizes = []

    def spy(net, x, y, *, epsilon, norm, draw):
        sizes.append(len(x))
        return x

    result = run_suite(net, x, y, {"spy": Attack(spy)}, epsilon=0.1, known=known)
    assert sum(sizes) == int((correct(net, x, y) & known).sum())
    assert torch.equal(result.worst, correct(net, x, y) & known)


def test_an_attack_that_leaves_the_ball_raises():
    net, (x, y) = trained(), validation_images(8)
    for escape in (lambda net, x, y, epsilon, norm: x.clamp(max=0.5), lambda net, x, y, epsilon, norm: x * torch.nan):
        with pytest.raises(AssertionError, match="escape left the ball"):
            run_suite(net, x, y, {"escape": Attack(escape, random=False)}, epsilon=0.1)


def test_equal_seeds_give_equal_verdicts():
    net, (x, y) = trained(), validation_images()
    one, two, other = (run_suite(net, x, y, {"noise": Attack(noise, {"tries": 1})}, epsilon=0.5, seed=s).worst for s in (0, 0, 1))
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_each_suite_is_at_least_as_strong_as_the_previous_one():
    net, (x, y) = trained(), validation_images(48)
    accuracy = [run_suite(net, x, y, SUITES[s](5, 1), epsilon=0.1, seed=1).worst.double().mean() for s in ("quick", "standard")]
    assert accuracy[1] <= accuracy[0]
    for suite in SUITES:
        names = list(SUITES[suite](5, 1))
        black_box = [name for name, a in SUITES[suite](5, 1).items() if a.black_box]
        assert names[-len(black_box) :] == black_box  # so that they newly fool only images that are robust to the white-box attacks
    assert typing.get_args(typing.get_type_hints(Judge)["suite"]) == ("none", *SUITES)


def test_attacks_work_on_a_network_that_detaches_its_input():
    net, (x, y) = trained(), validation_images(12)

    class Detached(nn.Module):
        def forward(self, x):
            return net(x.detach())

    for name, attack in all_attacks().items():
        assert attack(Detached(), x, y, draw(12)).isfinite().all(), name
    result = run_suite(Detached(), x, y, reduced("standard"), epsilon=0.12)
    assert result.worst.sum() > 0


def test_accuracy_over_epsilon_never_rises_and_begins_with_the_clean_accuracy():
    net, (x, y) = trained(), validation_images()
    curve = accuracy_over_epsilon(net, x, y, [0.3, 0.0, 0.1, 0.05, 0.6], steps=10)
    assert list(curve) == sorted(curve) and list(curve.values()) == sorted(curve.values(), reverse=True)
    assert curve[0.0] == correct(net, x, y).double().mean() and curve[0.6] < 0.05
