"""AdvReg: the penalty and the inference network by their definitions, and the parameters that each step trains."""

import copy
import math
from typing import Any

import pytest
import torch
from loss_oracles import B, C, batch_without_class_3, context
from tiny_training import TINY, fit_numbered, numbered_images, record_batches, weights
from torch.nn import functional as F

from core import data, rng, train
from core.bound import bind
from core.config import TrialConfig
from core.errors import InputError
from core.regularizers.advreg import AdvReg, InferenceNet
from core.slots import Step

torch.set_num_threads(1)


class FixedOutputs:
    """A network with given logits."""

    def __init__(self, logits):
        self.logits = logits
        self.head = lambda features: features

    def features(self, x):
        return self.logits


def penalty(part, logits, y) -> torch.Tensor:
    return part(Step(FixedOutputs(logits), torch.zeros(len(y), 1, 2, 2), y, None, None, 1))  # pyright: ignore[reportArgumentType]


def advreg(**knobs) -> Any:
    torch.manual_seed(0)
    return AdvReg(**knobs).bind(context()).double()


# -- the penalty ------------------------------------------------------------------------------------------------------


def test_the_penalty_is_alpha_times_the_mean_membership_probability_above_one_half():
    part = advreg(alpha=3.0)
    logits, _, y = batch_without_class_3()
    p_member = [1 / (1 + math.exp(-part.inference(logits[b : b + 1], y[b : b + 1]).item())) for b in range(B)]
    value = penalty(part, logits, y)
    assert value.item() == pytest.approx(3.0 * (sum(p_member) / B - 0.5))
    (grad,) = torch.autograd.grad(value, logits)
    assert (grad.abs().sum(1) > 0).all()


@pytest.mark.parametrize(
    "log_odds, expected", [(0.0, 0.0), (50.0, 6.0 * 0.5), (-50.0, -6.0 * 0.5)], ids=["chance", "perfect", "fooled"]
)
def test_the_penalty_is_zero_at_chance_and_half_of_alpha_for_perfect_inference(log_odds, expected):
    part = advreg(alpha=6.0)
    with torch.no_grad():
        part.inference.both.weight.zero_()
        part.inference.both.bias.fill_(log_odds)
    logits, _, y = batch_without_class_3()
    assert penalty(part, logits, y).item() == pytest.approx(expected, abs=1e-12)


# -- the inference network --------------------------------------------------------------------------------------------


def test_the_inference_network_receives_sorted_logits_and_a_label_code_of_plus_and_minus_one():
    torch.manual_seed(0)
    net = InferenceNet(C).double()
    logits, _, y = batch_without_class_3()
    recorded = {}
    for name in ("outputs", "labels"):
        getattr(net, name).register_forward_hook(lambda _, inputs, out, name=name: recorded.update({name: (inputs[0], out)}))
    value = net(logits, y)
    assert recorded["outputs"][0].tolist() == [sorted(row, reverse=True) for row in logits.tolist()]
    assert recorded["labels"][0].tolist() == [[1.0 if i == label else -1.0 for i in range(C)] for label in y]
    both = torch.cat([recorded["outputs"][1], recorded["labels"][1]], 1)
    torch.testing.assert_close(value, (both @ net.both.weight.T + net.both.bias).squeeze(1))
    assert torch.equal(value, net(logits.flip(1), y))
    widths = [tuple(p.shape) for p in net.parameters() if p.ndim == 2]
    expected = [(100, C), (1024, 100), (512, 1024), (64, 512), (100, C), (512, 100), (64, 512), (1, 128)]
    assert widths == expected


def test_the_inference_network_is_trained_with_binary_cross_entropy_on_half_members():
    """One batch of 5 members and 5 reference images; the first step of Adam is computed from the gradient of the formula."""
    part = advreg(lr_h=1e-3)
    reference = copy.deepcopy(part.inference).requires_grad_(True)
    stream = torch.Generator().manual_seed(0)
    logits = torch.randn(10, C, generator=stream, dtype=torch.float64)
    y = torch.arange(10) % C
    part.after_epoch((logits[:5], y[:5]), (logits[5:], y[5:]), torch.Generator().manual_seed(1))
    p_member = torch.sigmoid(reference(logits, y))
    (-(p_member[:5].log().sum() + (1 - p_member[5:]).log().sum()) / 10).backward()
    torch.optim.Adam(reference.parameters(), lr=1e-3).step()
    for trained, expected in zip(part.inference.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(trained, expected, rtol=1e-9, atol=1e-9)
    accuracy = ((p_member[:5] > 0.5).sum() + (p_member[5:] <= 0.5).sum()).item() / 10
    assert part.report() == {"inference_accuracy": pytest.approx(accuracy)}


@pytest.mark.parametrize(
    "knobs, expected",
    [
        ({}, 4), ({"passes": 3}, 12), ({"pass_over": "smaller"}, 2), ({"pass_over": "smaller", "passes": 2}, 4),
        ({"batch_size_h": 8}, 10), ({"batch_size_h": 512}, 3), ({"batch_size_h": 512, "pass_over": "smaller"}, 1),
    ],
)  # fmt: skip
def test_the_steps_of_the_inference_network_cover_a_set_once_per_pass(knobs, expected):
    """40 members and 18 reference images, by default 10 of each per step; a step has at most as many as the smaller set."""
    part = advreg(**({"batch_size_h": 20} | knobs)).float()
    sizes, step = [], part.adam.step
    part.adam.step = lambda: (sizes.append(1), step())
    logits, y = torch.randn(58, C, generator=torch.Generator().manual_seed(0)), torch.arange(58) % C
    part.after_epoch((logits[:40], y[:40]), (logits[40:], y[40:]), torch.Generator().manual_seed(1))
    assert len(sizes) == expected


def test_the_reported_accuracy_is_that_of_the_last_pass():
    """At a learning rate of 0, every pass has the accuracy of a single one, if each has all images of equal sets."""
    logits, y = torch.randn(32, C, generator=torch.Generator().manual_seed(0)), torch.arange(32) % C
    accuracies = set()
    for passes in (1, 3):
        part = advreg(lr_h=0.0, passes=passes, batch_size_h=8).float()
        part.after_epoch((logits[:16], y[:16]), (logits[16:], y[16:]), torch.Generator().manual_seed(1))
        accuracies.add(round(part.report()["inference_accuracy"], 6))
    with torch.no_grad():
        inferred = part.inference(logits, y) > 0
    assert accuracies == {round((inferred[:16].sum() + (~inferred[16:]).sum()).item() / 32, 6)}


def test_the_inference_network_learns_to_distinguish_confident_from_uncertain_predictions():
    part = advreg(alpha=2.0).float()
    stream = torch.Generator().manual_seed(0)
    y = torch.randint(C, (300,), generator=stream)
    confident = 8.0 * F.one_hot(y, C) + torch.randn(300, C, generator=stream)
    uncertain = torch.randn(300, C, generator=stream)
    for _ in range(4):
        part.after_epoch((confident[:200], y[:200]), (uncertain[:100], y[200:]), stream)
    assert part.report()["inference_accuracy"] > 0.99
    assert penalty(part, confident[200:], y[200:]).item() > 0.9  # the maximum is 1; these images were not trained on
    assert penalty(part, uncertain[200:], y[200:]).item() < -0.9


# -- in training ------------------------------------------------------------------------------------------------------


def test_alpha_zero_is_bit_identical_to_cross_entropy_training_on_the_private_members():
    members, plain = numbered_images(), {"normalize": False}
    advreg = plain | {"regularizer": "advreg", "regularizer.reference": 0.3}
    without_penalty = weights(fit_numbered(advreg | {"regularizer.alpha": 0.0}, members).net)
    private, _ = data.hold_out(members.y, members.ids, 0.3, 0)
    assert torch.equal(without_penalty, weights(fit_numbered(plain, members.at(private)).net))
    assert not torch.equal(without_penalty, weights(fit_numbered(advreg).net))


def test_reference_images_are_never_trained_on(monkeypatch):
    batches, members = record_batches(monkeypatch), numbered_images()
    fit_numbered({"regularizer": "advreg", "regularizer.reference": 0.3}, members)
    private, reference = data.hold_out(members.y, members.ids, 0.3, 0)
    assert len(reference) == 7
    assert sorted(row for _, rows, _ in batches for row in rows) == sorted(2 * private.tolist())


def test_steps_of_the_classifier_do_not_change_the_inference_network():
    members, config = numbered_images(), TrialConfig.of(TINY | {"regularizer": "advreg"})
    bound = bind(config, members, torch.device("cpu"))
    before = weights(bound.regularizer), weights(bound.net)
    x, y = members.x[:8].float() / 255, members.y[:8]
    for _ in range(2):
        train._update(bound, Step(bound.net, x, y, None, rng.Draw(torch.Generator(), 8), 1), 8)
    assert torch.equal(before[0], weights(bound.regularizer))
    assert not torch.equal(before[1], weights(bound.net))


def test_the_pass_of_the_inference_network_trains_all_its_layers_and_not_the_classifier():
    no_update = {"regularizer": "advreg", "optimizer.lr": 0.0, "epochs": 1}
    config = TrialConfig.of(TINY | no_update)
    start, end = bind(config, numbered_images(), torch.device("cpu")), fit_numbered(no_update)
    assert torch.equal(weights(start.net), weights(end.net))
    for (name, p), q in zip(start.regularizer.named_parameters(), end.regularizer.parameters(), strict=True):
        assert not torch.equal(p, q), name
    assert all(not p.requires_grad for p in end.regularizer.parameters())


@pytest.mark.parametrize("others, reason", [({"loss": "dmp"}, "loss=dmp"), ({"augmentation": "mixup"}, "mixup")])
def test_advreg_is_rejected_with_a_loss_that_holds_out_images_and_with_soft_labels(others, reason):
    with pytest.raises(InputError, match=f"regularizer=advreg.*{reason}"):
        TrialConfig.of({"regularizer": "advreg", **others})
