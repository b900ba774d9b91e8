"""The neural attack: its published architecture and recipe, its power, and its random numbers."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from core.audits import nn_attack
from core.audits.nn_attack import NNAttack, train_attack
from core.audits.roc import Roc

torch.set_num_threads(1)


def outputs(n, sharpness, classes=5, seed=0):
    """Probabilities, labels and memberships; the logit of the label is larger by `sharpness` for members."""
    s = torch.Generator().manual_seed(seed)
    y, member = torch.randint(classes, (n,), generator=s), torch.rand(n, generator=s) < 0.5
    logits = torch.randn(n, classes, generator=s)
    logits[torch.arange(n), y] += 1 + sharpness * member
    return logits.softmax(1), y, member


def auc(attack, probabilities, y, member):
    scores = attack.score(probabilities, y)
    return Roc.of(scores[member], scores[~member]).auc


def best_auc(probabilities, y, member, sharpness, classes=5):
    """AUC of the exact log-likelihood ratio of `outputs`, which depends on the label's logit less the others' mean, and its shift.

    Softmax removes the common level of the logits. The difference between the label's logit and the mean of the others is normal,
    and membership shifts it by `sharpness`.
    """
    log_p = probabilities.log()
    label = log_p.gather(1, y[:, None]).squeeze(1)
    rest = (log_p.sum(1) - label) / (classes - 1)
    scores = label - rest
    return Roc.of(scores[member], scores[~member]).auc, 1 / math.sqrt(classes / (classes - 1)) * sharpness


def test_the_attack_is_as_powerful_as_the_likelihood_ratio():
    attack = train_attack(*outputs(3000, 3.0), seed=0, epochs=30)
    held_out = outputs(3000, 3.0, seed=1)
    best, shift = best_auc(*held_out, 3.0)
    assert best == pytest.approx(0.5 * (1 + math.erf(shift / 2)), abs=0.015)  # Phi(shift / sqrt 2)
    assert auc(attack, *held_out) > best - 0.015


def test_the_attack_learns_a_rule_that_needs_both_label_and_probabilities():
    def xor(n, seed):
        s = torch.Generator().manual_seed(seed)
        y, p = torch.randint(2, (n,), generator=s), torch.rand(n, generator=s)
        return torch.stack([p, 1 - p], 1), y, (p > 0.5) == (y == 0)

    attack = train_attack(*xor(2000, 0), seed=0, epochs=30)
    probabilities, y, member = xor(1000, 1)
    assert auc(attack, probabilities, y, member) > 0.97
    assert 0.4 < Roc.of(probabilities[member, 0], probabilities[~member, 0]).auc < 0.6  # one of them is not enough
    assert 0.4 < Roc.of(y[member], y[~member]).auc < 0.6


def test_the_attack_is_at_chance_if_membership_changes_nothing():
    attack = train_attack(*outputs(1500, 0.0), seed=0, epochs=20)
    n = 4000
    assert abs(auc(attack, *outputs(n, 0.0, seed=1)) - 0.5) < 3 * math.sqrt((n + 1) / (3 * n * n))  # n / 2 of each


def test_the_score_is_the_log_odds_of_the_softmax_without_dropout():
    torch.manual_seed(0)
    attack, (probabilities, y, _) = NNAttack(5), outputs(50, 1.0)
    attack.train()
    scores, again = attack.score(probabilities, y), attack.score(probabilities, y)
    assert torch.equal(scores, again) and scores.dtype == torch.float64 and not scores.requires_grad
    p = attack.eval()(probabilities, y).double().softmax(1)[:, 1]
    torch.testing.assert_close(scores, (p / (1 - p)).log(), rtol=1e-6, atol=1e-9)


def test_the_layers_are_those_of_the_paper():
    attack = NNAttack(10)
    linear = [(m.in_features, m.out_features) for m in attack.layers if isinstance(m, nn.Linear)]
    assert linear == [(20, 128), (128, 64), (64, 64), (64, 2)]
    kinds = [type(m) for m in attack.layers]
    hidden = [nn.Linear, nn.ReLU, nn.Dropout]
    assert kinds == [*hidden, *hidden, nn.Linear, nn.Linear]  # no activation before the last layer
    assert {m.p for m in attack.layers if isinstance(m, nn.Dropout)} == {0.2}
    inputs = []
    attack.layers.register_forward_hook(lambda module, args, out: inputs.append(args[0]))
    probabilities, y = torch.rand(3, 10).softmax(1), torch.tensor([0, 9, 4])
    attack(probabilities, y)
    assert torch.equal(inputs[0][:, :10], probabilities) and torch.equal(inputs[0][:, 10:], F.one_hot(y, 10).float())


def test_the_learning_rate_falls_at_30_60_and_90_percent_of_the_epochs(monkeypatch):
    rates, knobs = [], {}

    class Recorded(torch.optim.SGD):
        def __init__(self, params, **given):
            knobs.update(given)
            super().__init__(params, **given)

        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    monkeypatch.setattr(nn_attack.torch.optim, "SGD", Recorded)
    train_attack(*outputs(300, 1.0), seed=0, epochs=20, lr=0.1)
    assert len(rates) == 20 * 2  # 300 images in batches of 256
    assert rates[::2] == pytest.approx([0.1] * 6 + [0.01] * 6 + [0.001] * 6 + [1e-4] * 2)
    assert (knobs["momentum"], knobs["weight_decay"]) == (0.9, 5e-4)


def test_the_seed_determines_every_weight():
    given = outputs(300, 1.0)
    one, same, other = (train_attack(*given, seed=seed, epochs=3) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.layers[0].weight, other.layers[0].weight)


def test_global_random_state_is_neither_changed_nor_used():
    given = outputs(300, 1.0)
    torch.manual_seed(5)
    np.random.seed(5)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    one = train_attack(*given, seed=1, epochs=2)
    assert torch.equal(torch.get_rng_state(), before) and np.array_equal(np.random.get_state()[1], numpy_before)
    torch.manual_seed(6)
    again = train_attack(*given, seed=1, epochs=2)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), again.parameters(), strict=True))


def test_outputs_that_are_not_finite_are_left_out_of_the_training():
    stream = torch.Generator().manual_seed(0)
    probabilities, y = torch.rand(60, 3, generator=stream).softmax(1), torch.arange(60) % 3
    member = torch.arange(60) % 2 == 0
    planted = torch.cat([probabilities, torch.full((2, 3), math.nan)])
    arguments = {"seed": 1, "epochs": 2}
    attack = train_attack(planted, torch.cat([y, y[:2]]), torch.cat([member, member[:2]]), **arguments)
    assert torch.equal(attack.score(probabilities, y), train_attack(probabilities, y, member, **arguments).score(probabilities, y))
    for none in (planted[60:], planted[:0]):
        with pytest.raises(ValueError, match="needs finite outputs"):
            train_attack(none, y[: len(none)], member[: len(none)], **arguments)
