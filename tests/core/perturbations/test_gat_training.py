"""GAT in training: the parameters that each step trains, reductions to ordinary training, and the flag of an inactive generator."""

import copy
from typing import Any

import pytest
import torch
from tiny_training import TINY, fit, images, weights
from torch import nn

from core import data, rng, train, trial
from core.bound import bind
from core.config import TrialConfig
from core.evaluation.judge import TrialResult, judge
from core.perturbations import gat
from core.perturbations.gat import build_generator
from core.slots import Step

torch.set_num_threads(1)

ACTIVE = {"perturbation": "gat", "perturbation.width": 4, "perturbation.lr_g": 1e-2, "perturbation.delta_scale": "batch_std"}
"""GAT with a generator that makes large perturbations within two epochs."""


# -- the two steps ----------------------------------------------------------------------------------------------------


def test_generator_steps_move_the_generator_alone_and_classifier_steps_the_classifier_alone():
    config, members = TrialConfig.of(TINY | ACTIVE), images()
    bound = bind(config, members, torch.device("cpu"))
    part: Any = bound.perturbation
    x, y = members.x[:8].float() / 255, members.y[:8]

    def now():
        state = copy.deepcopy({"net": bound.net.state_dict(), "generator": part.generator.state_dict()})
        return {name: torch.cat([t.reshape(-1) for t in s.values()]) for name, s in state.items()}

    start = now()
    part.train_step(bound.net, lambda: (x, y))
    between = now()
    assert torch.equal(start["net"], between["net"])
    assert not torch.equal(start["generator"], between["generator"])
    assert all(p.grad is None for p in bound.net.parameters()) and all(p.requires_grad for p in bound.net.parameters())
    perturbed = part(bound.net, x, y, None)
    train._update(bound, Step(bound.net, x, y, perturbed, rng.Draw(torch.Generator(), 8), 1), 8)
    after = now()
    assert torch.equal(between["generator"], after["generator"])
    assert not torch.equal(between["net"], after["net"])


@pytest.mark.parametrize("k", [0, 1, 3])
def test_k_generator_steps_on_extra_batches_precede_each_step_of_the_classifier(k, monkeypatch):
    generator_batches, classifier_batches = [], []
    forward, train_step = gat.Adversary.forward, gat.Adversary.train_step

    def record_forward(self, net, x, classes, draw):
        classifier_batches.append(x)
        return forward(self, net, x, classes, draw)

    def record_train_step(self, net, extra_batches):
        def next_batch():
            generator_batches.append(extra_batches())
            assert len(classifier_batches) == (len(generator_batches) - 1) // k  # k generator steps before each classifier step
            return generator_batches[-1]

        return train_step(self, net, next_batch)

    monkeypatch.setattr(gat.Adversary, "forward", record_forward)
    monkeypatch.setattr(gat.Adversary, "train_step", record_train_step)
    bound = fit(ACTIVE | {"perturbation.k": k, "epochs": 1})
    assert len(classifier_batches) == 3 and len(generator_batches) == 3 * k
    steps = {int(s["step"]) for s in bound.optimizers["perturbation"].state_dict()["state"].values()}
    assert steps == ({3 * k} if k else set())
    for x, _ in generator_batches:
        assert len(x) in (7, 8)
        assert not any(len(x) == len(other) and torch.equal(x, other) for other in classifier_batches)
    if k:  # k passes over the members, each in its own order
        passes = [torch.cat([x for x, _ in generator_batches[3 * i : 3 * i + 3]]).flatten(1) for i in range(k)]
        epoch = torch.cat(classifier_batches).flatten(1)
        for one in passes:
            assert sorted(one.tolist()) == sorted(epoch.tolist())
            assert not torch.equal(one, epoch)


# -- reductions to ordinary training ----------------------------------------------------------------------------------


def test_the_clean_loss_alone_is_bit_identical_to_ordinary_training():
    plain = weights(fit({}).net)
    assert torch.equal(plain, weights(fit(ACTIVE | {"perturbation.alpha": 1.0}).net))
    assert not torch.equal(plain, weights(fit(ACTIVE | {"perturbation.alpha": 0.5}).net))


def zero_generator(channels: int, width: int = 48) -> nn.Sequential:
    generator = build_generator(channels, width)
    for p in generator.parameters():
        nn.init.zeros_(p)
    return generator


@pytest.mark.parametrize("knobs", [{"perturbation.k": 0}, {"perturbation.lr_g": 0.0, "perturbation.k": 2}], ids=["k=0", "lr_g=0"])
def test_a_generator_frozen_at_zero_is_bit_identical_to_ordinary_training(knobs, monkeypatch):
    monkeypatch.setattr(gat, "build_generator", zero_generator)
    bound = fit(ACTIVE | knobs)
    assert torch.equal(weights(bound.net), weights(fit({}).net))
    assert [row["epoch/generator_norm"] for row in bound.curve] == [0.0, 0.0]


# -- the flag ---------------------------------------------------------------------------------------------------------


def run_trial(**params) -> TrialResult:
    quick = {"pool": 200, "epochs": 1, "judge.steps": 1, "judge.images": 20, "net.width": 2, "batch_size": 64}
    return trial.run(TrialConfig.of(quick | params), data.load("digits", pool=200))


def test_a_trial_whose_generator_makes_no_perturbation_is_flagged(monkeypatch):
    active = run_trial(**ACTIVE)
    assert active.metrics["flag/generator_silent"] == 0.0
    assert active.curve[0]["epoch/generator_norm"] > gat.MIN_GENERATOR_NORM
    assert run_trial().metrics["flag/generator_silent"] == 0.0  # without a generator
    monkeypatch.setattr(gat, "build_generator", zero_generator)
    assert run_trial(**ACTIVE | {"perturbation.k": 0}).metrics["flag/generator_silent"] == 1.0


def test_one_epoch_without_perturbation_raises_the_flag():
    config = TrialConfig.of({"pool": 200, "judge.steps": 1, "judge.images": 20, "net.width": 2})
    pool = data.load("digits", pool=200)
    parts = data.split(pool)
    bound = bind(config, pool.at(parts.members), torch.device("cpu"))
    for norms, flag in (([2e-4, 0.9e-4, 1.0], 1.0), ([2e-4, 1.1e-4, 1.0], 0.0)):
        bound.curve = [{"epoch": i, "epoch/generator_norm": norm} for i, norm in enumerate(norms, 1)]
        assert judge(config, bound, pool, parts).metrics["flag/generator_silent"] == flag
