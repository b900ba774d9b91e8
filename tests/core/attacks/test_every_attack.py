"""Properties of every attack: any shape, norm, radius, type, batch and mode of autograd, and a network that fails halfway."""

import contextlib
import functools
import importlib
import pkgutil
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import core.attacks
from core import rng
from core.attacks.apgd import apgd, targeted_apgd
from core.attacks.ball import inside
from core.attacks.carlini_wagner import carlini_wagner
from core.attacks.deepfool import deepfool
from core.attacks.gradient import fgsm, ifgsm, pgd, rfgsm
from core.attacks.hop_skip_jump import hop_skip_jump
from core.attacks.noise import noise
from core.attacks.radius import adversarial_radius
from core.attacks.spsa import spsa
from core.attacks.square import square
from core.attacks.suite import SUITES, correct, run_suite
from core.attacks.transfer import transfer
from core.evaluation.adaptive_bpfc import adaptive_pgd
from core.evaluation.adaptive_gat import generator
from core.perturbations import GAT
from core.regularizers.bpfc import BPFC
from core.slots import Context

torch.set_num_threads(1)



def adversary(channels):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GAT(width=2, delta_scale="norm").bind(Context(3, 4, (channels, 4, 4), 1, nn.Linear(1, 1)))  # pyright: ignore


ADVERSARIES = {channels: adversary(channels) for channels in (1, 2, 3)}
BALL = {
    "fgsm": lambda net, x, y, draw, **ball: fgsm(net, x, y, **ball),
    "ifgsm": lambda net, x, y, draw, **ball: ifgsm(net, x, y, steps=3, **ball),
    "pgd": functools.partial(pgd, steps=3, restarts=2, stop_when_fooled=True),
    "pgd training": functools.partial(pgd, steps=2, restarts=1),
    "pgd dlr": functools.partial(pgd, steps=3, restarts=1, loss="dlr", stop_when_fooled=True),
    "apgd": functools.partial(apgd, steps=5),
    "apgd dlr": functools.partial(apgd, steps=4, loss="dlr", restarts=2),
    "targeted apgd": functools.partial(targeted_apgd, steps=4, targets=3),
    "square": functools.partial(square, queries=12),
    "square, schedule of AutoAttack": functools.partial(square, queries=12, rescale=False),
    "spsa": functools.partial(spsa, samples=4, steps=2),
    "noise": functools.partial(noise, tries=3),
    "adaptive pgd": functools.partial(adaptive_pgd, steps=2, defence=BPFC()),
    "transfer": lambda net, x, y, **knobs: transfer(net, x, y, source=net, attack=pgd, steps=2, restarts=1, **knobs),
    "generator": lambda net, x, y, draw, **ball: generator(net, x, y, adversary=ADVERSARIES[x.shape[1]], **ball),
}
"""Attacks in a ball, called as attack(net, x, y, epsilon=, norm=, draw=)."""
FREE = {
    "rfgsm": lambda net, x, y, draw: rfgsm(net, x, y, epsilon=0.1, start=0.03, draw=draw),
    "deepfool": lambda net, x, y, draw: deepfool(net, x, y, steps=4),
    "carlini_wagner": lambda net, x, y, draw: carlini_wagner(net, x, y, steps=4, search_steps=2),
    "hop_skip_jump": lambda net, x, y, draw: hop_skip_jump(net, x, y, draw=draw, steps=2, samples=4),
}
"""Attacks without a norm or a ball, called as attack(net, x, y, draw=)."""
EVERY = BALL | {name: lambda net, x, y, draw, epsilon, norm, run=run: run(net, x, y, draw=draw) for name, run in FREE.items()}
MODES = {"grad": contextlib.nullcontext, "no_grad": torch.no_grad, "inference": torch.inference_mode}


class Net(nn.Module):
    """A small network with batch norm and dropout; it can fail at a given forward pass."""

    def __init__(self, shape, classes, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.conv, self.norm, self.drop = nn.Conv2d(shape[0], 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5)
            self.head = nn.Linear(4 * shape[1] * shape[2], classes)
            self.norm.running_mean.normal_(0, 0.1)
            self.head.weight.data.mul_(8)
        self.passes, self.fails_at = 0, None

    def forward(self, x):
        self.passes += 1
        if self.passes == self.fails_at:
            raise RuntimeError("the network failed")
        return self.head(self.drop(self.norm(self.conv(x)).tanh()).flatten(1))


def state_of(net):
    return (
        [module.training for module in net.modules()], [p.requires_grad for p in net.parameters()],
        [None if p.grad is None else p.grad.clone() for p in net.parameters()], [t.clone() for t in net.state_dict().values()],
        torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate(),
        torch.is_grad_enabled(), torch.is_inference_mode_enabled(),
    )  # fmt: skip


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    return all(map(same, a, b)) and len(a) == len(b) if isinstance(a, list) else a == b


def unchanged(before, net):
    return all(same(a, b) for a, b in zip(before, state_of(net), strict=True))


def draws(n, seed=0):
    return rng.per_image(seed, "attack", ids=torch.arange(n))


@st.composite
def cases(draw):
    shape = (draw(st.sampled_from([1, 2, 3])), draw(st.integers(1, 7)), draw(st.integers(1, 7)))
    classes, count = draw(st.integers(1, 5)), draw(st.integers(0, 4))
    dtype = draw(st.sampled_from([torch.float32, torch.float32, torch.float64, torch.float16, torch.bfloat16]))
    net = Net(shape, classes, draw(st.integers(0, 99))).to(dtype)
    net.train(draw(st.booleans()))
    net.norm.train(draw(st.booleans()))
    net.conv.bias.requires_grad_(draw(st.booleans()))
    net.head.weight.grad = torch.ones_like(net.head.weight) if draw(st.booleans()) else None
    x = torch.rand(count, *shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 99))))
    x = (x.round() if draw(st.booleans()) else x).to(dtype)
    y = correct_labels(net, x) if draw(st.booleans()) else torch.arange(count) % classes
    epsilon = draw(st.sampled_from([0.0, 1e-3, 8 / 255, 0.5, 1.0, 30.0]))
    return net, x, y, epsilon, draw(st.sampled_from(["linf", "l2"]))


@torch.no_grad()
def correct_labels(net, x):
    modes = [(module, module.training) for module in net.modules()]
    labels = net.eval()(x).argmax(1) if len(x) else torch.zeros(0, dtype=torch.long)
    for module, training in modes:
        module.training = training
    return labels


@pytest.mark.parametrize("name", EVERY)
@given(case=cases(), mode=st.sampled_from(list(MODES)), require=st.booleans(), seed=st.integers(0, 9))
@settings(max_examples=6, deadline=None)
def test_every_attack_stays_in_box_and_ball_and_leaves_everything_else_as_it_was(name, case, mode, require, seed):
    net, x, y, epsilon, norm = case
    if "dlr" in name and net.head.out_features < 3:
        if len(x) and bool((correct_labels(net, x) == y).any()):
            with pytest.raises(ValueError, match="needs 3 classes"):
                EVERY[name](net, x, y, epsilon=epsilon, norm=norm, draw=draws(len(x)))
        return
    before, original = state_of(net), x.clone()
    given_ = x.clone().requires_grad_(require)
    with MODES[mode]():
        if mode == "inference":
            given_, y = given_.clone(), y.clone()  # tensors made in this mode
        adv = EVERY[name](net, given_, y, epsilon=epsilon, norm=norm, draw=draws(len(x), seed))
    assert unchanged(before, net) and torch.equal(x, original)
    assert adv.shape == x.shape and adv.dtype == x.dtype and not adv.requires_grad and not adv.is_inference()
    assert adv.isfinite().all() and (adv >= 0).all() and (adv <= 1).all()
    assert name not in BALL or inside(adv, x, epsilon, norm)
    again = EVERY[name](net, x, y, epsilon=epsilon, norm=norm, draw=draws(len(x), seed))
    assert torch.equal(adv, again)  # also bit by bit the same as outside the mode


@pytest.mark.parametrize("name", EVERY)
@given(case=cases(), mode=st.sampled_from(list(MODES)), at=st.integers(1, 6))
@settings(max_examples=4, deadline=None)
def test_everything_is_as_before_when_the_network_fails_during_an_attack(name, case, mode, at):
    net, x, y, epsilon, norm = case
    if "dlr" in name and net.head.out_features < 3:
        return
    before = state_of(net)
    net.passes, net.fails_at = 0, at
    with contextlib.suppress(RuntimeError), MODES[mode]():
        EVERY[name](net, x, y, epsilon=epsilon, norm=norm, draw=draws(len(x)))
    assert unchanged(before, net)


@pytest.mark.parametrize("name", EVERY)
@given(case=cases())
@settings(max_examples=4, deadline=None)
def test_an_image_has_the_same_verdict_alone_and_in_a_batch(name, case):
    net, x, y, epsilon, norm = case
    if ("dlr" in name and net.head.out_features < 3) or not len(x):
        return
    net, x = net.double(), x.double()  # float32 rounds differently in other batches
    noise_ = draws(len(x))
    together = EVERY[name](net, x, y, epsilon=epsilon, norm=norm, draw=noise_)
    alone = [
        EVERY[name](net, x[rows], y[rows], epsilon=epsilon, norm=norm, draw=noise_.at(rows))
        for rows in torch.arange(len(x)).split(1)
    ]
    assert torch.equal(correct(net, together, y), correct(net, torch.cat(alone), y))


@pytest.mark.parametrize("suite", SUITES)
@given(case=cases(), mode=st.sampled_from(list(MODES)))
@settings(max_examples=2, deadline=None)
def test_suites_give_equal_verdicts_in_every_mode_and_batch(suite, case, mode):
    net, x, y, epsilon, norm = case
    attacks = {name: small(attack) for name, attack in SUITES[suite](2, 1).items()}
    before = state_of(net)
    with MODES[mode]():
        result = run_suite(net, x, y, attacks, epsilon=epsilon, norm=norm)
    assert unchanged(before, net)
    again = run_suite(net, x, y, attacks, epsilon=epsilon, norm=norm)
    assert torch.equal(result.worst, again.worst) and not result.worst.is_inference()
    net, x = net.double(), x.double()
    whole = run_suite(net, x, y, attacks, epsilon=epsilon, norm=norm).worst
    parts = [run_suite(net, x[i], y[i], attacks, epsilon=epsilon, norm=norm, ids=i).worst for i in torch.arange(len(x)).split(1)]
    assert torch.equal(whole, torch.cat(parts) if len(x) else whole)


def small(attack):
    """The attack with few steps, targets and queries."""
    few = {"steps": 3, "targets": 2, "queries": 5, "restarts": 2}
    return core.attacks.suite.Attack(
        attack.run, {name: min(few.get(name, value), value) if name in few else value for name, value in attack.knobs.items()},
        attack.random, attack.black_box, attack.on_all_images, attack.images,
    )  # fmt: skip


def test_every_attack_of_the_package_is_tested_here():
    """An attack is a function of `core.attacks` or `core.evaluation` that returns images, made by the decorator `attack`."""
    tested = {fgsm, ifgsm, rfgsm, pgd, apgd, targeted_apgd, square, spsa, noise, adaptive_pgd, transfer, generator}
    tested |= {deepfool, carlini_wagner, hop_skip_jump}
    found = set()
    for package in (core.attacks, importlib.import_module("core.evaluation")):
        for info in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            module = importlib.import_module(info.name)
            found |= {
                value for name, value in vars(module).items()
                if not name.startswith("_") and callable(value) and getattr(value, "__module__", "") == info.name
                and list(getattr(value, "__annotations__", {}))[:3] == ["net", "x", "y"]
                and value.__annotations__.get("return") in (torch.Tensor, "Tensor")
            }  # fmt: skip
    others = {"adversarial_radius", "correct", "fast_gradient"}  # they return no images
    assert {function.__name__ for function in found - tested} <= others
    assert len(found & tested) >= 15
    in_suites = {attack.run for suite in SUITES.values() for attack in suite(1, 1).values()}
    assert in_suites <= tested


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("mode", MODES)
def test_the_radius_is_measured_in_every_type_and_mode(dtype, mode):
    net, x = Net((1, 5, 3), 3).eval(), torch.rand(6, 1, 5, 3, generator=torch.Generator().manual_seed(0))
    y = correct_labels(net, x)
    exact = adversarial_radius(net.double(), x.double(), y, steps=300)
    narrow = net.to(dtype)
    with MODES[mode]():
        radius = adversarial_radius(narrow, x.to(dtype), y, steps=300)
    assert radius.dtype == (torch.float64 if dtype == torch.float64 else torch.float32) and not radius.is_inference()
    assert exact.isfinite().sum() >= 4
    torch.testing.assert_close(radius.double(), exact, rtol=0.1, atol=0.03)


def test_a_network_made_in_inference_mode_is_refused_and_its_copy_is_attacked():
    with torch.inference_mode():
        net = Net((1, 4, 4), 3)
    x, y = torch.rand(2, 1, 4, 4), torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"made under torch.inference_mode.*copy.deepcopy"):
        pgd(net, x, y, epsilon=0.1, steps=1)


def test_integer_images_are_refused():
    with pytest.raises(ValueError, match="floating-point images"):
        fgsm(Net((1, 4, 4), 3), torch.zeros(1, 1, 4, 4, dtype=torch.uint8), torch.tensor([0]), epsilon=0.1)


class Extreme(nn.Module):
    """A network whose logits are replaced by other values where a pixel is bright."""

    def __init__(self, net, value):
        super().__init__()
        self.net, self.value = net, value

    def forward(self, x):
        logits = self.net(x)
        return torch.where((x[:, :1, 0, 0] > 0.5) & (torch.arange(logits.shape[1]) % 2 == 0), self.value, logits)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 3e38])
@pytest.mark.parametrize("name", EVERY)
def test_logits_that_are_not_finite_lead_to_no_image_outside_the_ball(name, value):
    net = Extreme(Net((1, 4, 3), 4).eval(), value)
    x, y = torch.rand(8, 1, 4, 3, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 4
    for norm in ("linf", "l2"):
        adv = EVERY[name](net, x, y, epsilon=0.3, norm=norm, draw=draws(8))
        assert adv.isfinite().all() and (adv >= 0).all() and (adv <= 1).all()
        assert name not in BALL or inside(adv, x, 0.3, norm)


def test_without_a_step_the_result_is_the_image_or_its_random_start():
    net, x = Net((1, 4, 3), 3).eval(), torch.rand(4, 1, 4, 3, generator=torch.Generator().manual_seed(0))
    from_image = ((ifgsm, {"steps": 0}), (pgd, {"steps": 0}), (square, {"queries": 0}), (spsa, {"steps": 0}), (noise, {"tries": 0}))
    from_start = ((pgd, {"steps": 0, "restarts": 1}), (apgd, {"steps": 0}), (targeted_apgd, {"steps": 0}))
    for attack, knobs in (*from_image, *from_start):
        stream = {} if attack is ifgsm else {"draw": draws(4)}
        adv = attack(net, x, correct_labels(net, x), epsilon=0.01, **knobs, **stream)
        assert inside(adv, x, 0.01, "linf") and torch.equal(adv, x) == ((attack, knobs) in from_image)
