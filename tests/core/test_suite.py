"""Suites: the worst case is that of every attack on every image, whatever the order, the batches and who has fallen already."""

import dataclasses
import functools
import typing

import numpy as np
import pytest
import torch
from torch import nn

from core import data, rng, trial
from core.attacks.bpfc import adaptive_pgd
from core.attacks.carlini_wagner import carlini_wagner
from core.attacks.deepfool import deepfool
from core.attacks.generator import generator
from core.attacks.gradient import fgsm, ifgsm, pgd
from core.attacks.noise import noise
from core.attacks.spsa import spsa
from core.attacks.suite import SUITES, Attack, accuracy_over_epsilon, attacked, quick, right
from core.attacks.transfer import transfer
from core.config import Judge, TrialConfig
from core.errors import InputError
from core.perturbations.gat import GAT
from core.regularizers.bpfc import BPFC
from core.slots import Context
from core.train import as_float, bind

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
def result():
    return trial.run(CONFIG, pool())


@functools.cache
def trained():
    bound = bind(CONFIG, pool().at(parts().members), torch.device("cpu"))
    bound.load(result().state)
    return bound.net


@functools.cache
def stranger():
    return trial.run(CONFIG.set({"seed": 1, "epochs": 4}), pool()).state


def judged(n=96):
    rows = parts().val[:n]
    return as_float(pool().x[rows]), pool().y[rows]


def small(suite):
    """A suite with its efforts cut down, so that it can be run many times."""
    less = {"queries": 30, "steps": 6, "targets": 2, "restarts": 2}
    return {
        name: Attack(a.run, {k: min(v, less.get(k, v)) if k in less else v for k, v in a.knobs.items()}, a.random, a.black_box,
                     a.everywhere, a.images)
        for name, a in SUITES[suite](6, 1).items()
    }  # fmt: skip


def adversary():
    net = trained()
    torch.manual_seed(0)
    return GAT(width=4).bind(Context(10, net.dim, (1, 8, 8), 1, net))


def every():
    """Every attack that a ball or [0, 1] holds, as (net, x, y, draw) -> images."""
    ball = {"epsilon": 0.12}
    source = bind(CONFIG, pool().at(parts().members), torch.device("cpu"))
    source.load(stranger())
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


UNBOUNDED = {"deepfool", "carlini_wagner"}
LEAVES_WRONG_IMAGES = set(every_name := [
    "fgsm", "ifgsm", "pgd_cw", "pgd_dlr", "noise", "spsa", "transfer", "generator", "pgd_bpfc", "deepfool", "carlini_wagner",
]) - {"fgsm"}  # fmt: skip


def draw(n):
    return rng.per_image(3, "test", ids=torch.arange(n))


# ---- one contract for every attack


@pytest.mark.parametrize("name", every_name)
def test_images_come_back_in_the_ball_and_the_network_as_it_was(name):
    net, (x, y) = trained(), judged(24)
    net.train()
    net.body.eval()
    modes, before = [m.training for m in net.modules()], {k: v.clone() for k, v in net.state_dict().items()}
    adv = every()[name](net, x, y, draw(24))
    assert [m.training for m in net.modules()] == modes and len(set(modes)) == 2
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert adv.shape == x.shape and adv.dtype == x.dtype and not adv.requires_grad
    assert adv.min() >= 0 and adv.max() <= 1
    if name not in UNBOUNDED:
        assert ((adv - x).abs() <= 0.12 + 1e-6).all()
    assert not torch.equal(adv, x)
    wrong = ~right(net, x, y)
    if name in LEAVES_WRONG_IMAGES:
        assert wrong.any() and torch.equal(adv[wrong], x[wrong])


@pytest.mark.parametrize("name", every_name)
def test_an_image_is_attacked_alike_alone_and_in_any_company(name):
    net, (x, y) = trained(), judged(12)
    whole = every()[name](net, x, y, draw(12))
    alone = torch.cat([every()[name](net, x[[i]], y[[i]], draw(12).at(torch.tensor([i]))) for i in range(12)])
    # a sign of a gradient next to zero may differ with the size of the batch, but not the verdict
    assert ((whole - alone).abs() < 1e-4).double().mean() > 0.99
    assert torch.equal(right(net, whole, y), right(net, alone, y))


@pytest.mark.parametrize("name", every_name)
def test_no_image_at_all_is_fine_and_gradients_may_be_switched_off(name):
    net, (x, y) = trained(), judged(8)
    assert every()[name](net, x[:0], y[:0], draw(0)).shape == (0, 1, 8, 8)
    with torch.no_grad():
        inside = every()[name](net, x, y, draw(8))
    assert torch.equal(inside, every()[name](net, x, y, draw(8)))


# ---- the worst case


@pytest.mark.parametrize("suite", SUITES)
def test_attacks_on_survivors_find_what_all_attacks_on_all_images_find(suite):
    net, (x, y) = trained(), judged()
    attacks = small(suite)
    found = attacked(net, x, y, attacks, epsilon=0.12, seed=5)
    apart = {name: attacked(net, x, y, {name: a}, epsilon=0.12, seed=5).stands[name] for name, a in attacks.items()}
    assert torch.equal(found.worst, torch.stack([right(net, x, y), *apart.values()]).all(0))
    assert 0.02 < found.worst.double().mean() < right(net, x, y).double().mean() - 0.2
    assert found.took.keys() == attacks.keys()


def test_batches_order_and_company_change_no_verdict(monkeypatch):
    net, (x, y) = trained(), judged(64)
    attacks = {name: dataclasses.replace(a, images=0) for name, a in small("standard").items()}  # a probe sees the first only
    whole = attacked(net, x, y, attacks, epsilon=0.12, seed=5).worst
    monkeypatch.setattr("core.attacks.suite.BATCH", 7)
    assert torch.equal(attacked(net, x, y, dict(reversed(attacks.items())), epsilon=0.12, seed=5).worst, whole)
    half = attacked(net, x[32:], y[32:], attacks, epsilon=0.12, seed=5, ids=torch.arange(32, 64)).worst
    assert torch.equal(half, whole[32:])


def test_what_fell_before_is_not_tried_again_and_stays_fallen():
    net, (x, y) = trained(), judged()
    known = torch.arange(len(x)) % 2 == 0
    seen = []

    def spy(net, x, y, *, epsilon, norm, draw):
        seen.append(len(x))
        return x

    found = attacked(net, x, y, {"spy": Attack(spy)}, epsilon=0.1, known=known)
    assert sum(seen) == int((right(net, x, y) & known).sum())
    assert torch.equal(found.worst, right(net, x, y) & known)


def test_an_attack_that_leaves_the_ball_is_found_out():
    net, (x, y) = trained(), judged(8)
    for cheat in (lambda net, x, y, epsilon, norm: x.clamp(max=0.5), lambda net, x, y, epsilon, norm: x * torch.nan):
        with pytest.raises(AssertionError, match="cheat left the ball"):
            attacked(net, x, y, {"cheat": Attack(cheat, random=False)}, epsilon=0.1)


def test_the_same_seed_gives_the_same_verdicts():
    net, (x, y) = trained(), judged()
    one, two, other = (attacked(net, x, y, {"noise": Attack(noise, {"tries": 1})}, epsilon=0.5, seed=s).worst for s in (0, 0, 1))
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_every_suite_is_at_least_as_strong_as_the_one_before():
    net, (x, y) = trained(), judged(48)
    accuracy = [attacked(net, x, y, SUITES[s](5, 1), epsilon=0.1, seed=1).worst.double().mean() for s in ("quick", "standard")]
    assert accuracy[1] <= accuracy[0]
    for suite in SUITES:
        names = list(SUITES[suite](5, 1))
        black = [name for name, a in SUITES[suite](5, 1).items() if a.black_box]
        assert names[-len(black) :] == black  # so that what they take is what the white-box attacks could not
    assert typing.get_args(typing.get_type_hints(Judge)["suite"]) == tuple(SUITES)


def test_a_network_that_cuts_its_input_off_stops_no_attack():
    net, (x, y) = trained(), judged(12)

    class Cut(nn.Module):
        def forward(self, x):
            return net(x.detach())

    for name, attack in every().items():
        assert attack(Cut(), x, y, draw(12)).isfinite().all(), name
    found = attacked(Cut(), x, y, small("standard"), epsilon=0.12)
    assert found.worst.sum() > 0


def test_accuracy_over_epsilon_never_rises_and_begins_at_the_clean_one():
    net, (x, y) = trained(), judged()
    curve = accuracy_over_epsilon(net, x, y, [0.3, 0.0, 0.1, 0.05, 0.6], steps=10)
    assert list(curve) == sorted(curve) and list(curve.values()) == sorted(curve.values(), reverse=True)
    assert curve[0.0] == right(net, x, y).double().mean() and curve[0.6] < 0.05


# ---- a trial, and again later


def test_a_trial_runs_the_suite_that_it_names_and_what_its_own_defence_calls_for():
    names = lambda changes: list(trial.suite_of(c := CONFIG.set(changes), bind(c, pool().at(parts().members), torch.device("cpu"))))  # noqa: E731
    assert names({}) == list(quick(5, 1))
    assert names({"judge.suite": "strong"}) == list(SUITES["strong"](5, 1))
    assert "pgd_bpfc" in names({"regularizer": "bpfc"}) and "generator" in names({"perturbation": "gat"})
    assert names({"regularizer": "bpfc"})[-1] == "square_probe"


def test_standard_measures_distances_too():
    r = trial.judge(CONFIG.set({"judge.suite": "standard", "judge.images": 60}), bound(), pool(), parts())
    m = r.metrics.values
    assert 0 < m["deepfool_l2"] <= m["adversarial_radius"] * 1.05 and m["deepfool_fooling_rate"] > 0.95
    curve = [m[f"robust_accuracy_at/{scale}"] for scale in ("0.25", "0.5", "1", "2", "4")]
    assert curve == sorted(curve, reverse=True) and curve[0] > curve[-1]


def bound():
    b = bind(CONFIG, pool().at(parts().members), torch.device("cpu"))
    b.load(result().state)
    return b


def test_rejudging_a_stored_network_only_ever_adds_to_what_is_known():
    before = {k: v for k, v in result().predictions.items()}
    again = trial.rejudge(CONFIG, result().state["modules"], pool(), "standard", before)
    worst = np.all([v for k, v in before.items() if k.startswith("stands/")], axis=0)
    new = np.all([v for k, v in again.predictions.items() if k.startswith("stands/")], axis=0)
    assert again.metrics["robust_accuracy"] == pytest.approx((worst & new).mean())
    assert again.metrics["robust_accuracy"] <= result().metrics["robust_accuracy"]
    assert {k.removeprefix("stands/") for k in again.predictions} == SUITES["standard"](5, 1).keys() - SUITES["quick"](5, 1).keys()
    assert all(not (v & ~worst).any() for v in again.predictions.values())
    direct = trial.judge(CONFIG.set({"judge.suite": "standard"}), bound(), pool(), parts())
    assert again.metrics["robust_accuracy"] <= direct.metrics["robust_accuracy"] + 1e-9  # it knows the probe's finds as well


def test_rejudging_with_somebody_elses_predictions_is_refused():
    stale = {k: v[:10] if k.startswith("stands/") else v for k, v in result().predictions.items()}
    other = result().predictions | {"rows": result().predictions["rows"][::-1]}
    for known in (stale, other, {"rows": result().predictions["rows"]}):
        with pytest.raises(InputError, match="not of these images"):
            trial.rejudge(CONFIG, result().state["modules"], pool(), "standard", known)


class Straight(nn.Module):
    """One logit difference, linear in the pixels; the gradient of the quantiser must pass through for the attack to move."""

    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, x):
        z = x.flatten(1) @ self.w
        return torch.stack([z, -z], 1)


def test_the_adaptive_attack_on_bpfc_climbs_its_regularizer_straight_through():
    """With g linear, d/dx |g(x) - g(q(x))|^2 vanishes straight-through; in general the gradient is that of q as identity."""
    from core.attacks.bpfc import bpfc_loss

    w = torch.randn(64, generator=torch.Generator().manual_seed(0))
    net = nn.Sequential(Straight(w), nn.Tanh())
    x = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    y = torch.zeros(5, dtype=torch.long)
    loss, plain = bpfc_loss(BPFC(k=5, noise=0.0), 3.0), bpfc_loss(BPFC(k=5, noise=0.0), 0.0)
    logits = net(x)
    (with_, without) = (torch.autograd.grad(f(net, x, logits, y).sum(), x, retain_graph=True)[0] for f in (loss, plain))
    from core.regularizers.bpfc import quantise

    q = quantise(x, 5, 0.0)
    a = (x.flatten(1) @ w).detach()
    b = (q.flatten(1) @ w).detach()
    # d = (tanh a - tanh b)^2 * 2 columns; derivative by x with dq/dx = 1
    slope = 4 * (a.tanh() - b.tanh()) * ((1 - a.tanh() ** 2) - (1 - b.tanh() ** 2))
    torch.testing.assert_close(with_ - without, 3 * (slope[:, None] * w).view(5, 1, 8, 8), rtol=1e-3, atol=1e-5)
