"""Black-box attacks by transfer: the accuracy against a direct computation, and the independence of the sources."""

import functools

import pytest
import torch
from torch.nn import functional as F

from core import data
from core.bound import TARGET, Trained
from core.config import TrialConfig
from core.errors import InputError
from core.evaluation.black_box import same_weights, transfer_accuracy
from core.trial import train_network

torch.set_num_threads(1)

CONFIG = TrialConfig.of(
    {"epochs": 12, "net.width": 8, "batch_size": 32, "judge.epsilon": 0.15, "judge.part": "test", "judge.images": 0, "seed": 1}
)


@functools.cache
def pool():
    return data.load("digits")


@functools.cache
def trained(seed, **changes):
    config = CONFIG.set({"seed": seed, **changes})
    return Trained(config, train_network(config, pool()).bound)


def networks():
    return {TARGET: trained(1), "again": trained(2), "other": trained(3, net="allconv")}


def direct(source, target, steps=1):
    """The accuracy of a network on images of (I-)FGSM on a source, computed with autograd alone."""
    rows = data.split(pool()).test
    x, y = pool().x[rows].float() / 255, pool().y[rows]
    for trained_network in (source, target):
        trained_network.bound.net.eval()
    for _ in range(steps):
        x.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(source.bound.net(x), y, reduction="sum"), x)
        x = (x + 0.15 / steps * gradient.sign()).clamp(0, 1).detach()
    with torch.no_grad():
        return (target.bound.net(x).argmax(1) == y).double().mean().item()


@pytest.mark.parametrize("attack, steps", [("fgsm", 1), ("ifgsm:steps=5", 5)])
def test_the_accuracy_on_images_of_each_source_is_that_of_a_direct_computation(attack, steps):
    """Of several steps, each is taken: an attack that stops at the source's boundary would have another accuracy."""
    found = transfer_accuracy(networks(), pool(), attack=attack)
    keys = {"white_box" if name == TARGET else f"black_box/{name}": source for name, source in networks().items()}
    expected = {key: direct(source, trained(1), steps) for key, source in keys.items()}
    assert found == pytest.approx(expected, abs=3.5 / 225)  # gradients of 0 up to rounding have signs of their own
    assert found["white_box"] + 0.05 < min(found["black_box/again"], found["black_box/other"]) < 0.95


def test_sources_differ_from_the_attacked_network_in_seed_and_weights():
    target = trained(1)
    assert same_weights(target.bound, trained(1).bound)
    assert not any(same_weights(target.bound, source.bound) for name, source in networks().items() if name != TARGET)
    copied = Trained(target.config.set({"seed": 5}), target.bound)
    same_seed = trained(1, **{"net.width": 4})
    for source in (target, copied, same_seed):
        with pytest.raises(ValueError, match="the source copy is not independent of the attacked network"):
            transfer_accuracy({TARGET: target, "copy": source}, pool())


def test_part_number_of_images_and_radius_are_those_of_the_judge_settings():
    def measured(**changes):
        target = Trained(CONFIG.set({f"judge.{name}": value for name, value in changes.items()}), trained(1).bound)
        return transfer_accuracy({TARGET: target, "again": trained(2)}, pool())["black_box/again"]

    few = measured(images=10) * 10
    assert few == pytest.approx(round(few)) and measured(part="val") != measured(part="test")
    assert measured(epsilon=0.01) > measured(epsilon=0.15) > measured(epsilon=0.5)


def test_random_attacks_are_reproducible():
    first, second = (transfer_accuracy(networks(), pool(), attack="pgd:steps=3") for _ in range(2))
    assert first == second and first != transfer_accuracy(networks(), pool(), attack="pgd:steps=3:random_start=false")


@pytest.mark.parametrize("attack", ["", "fgsm+ifgsm"])
def test_other_than_one_attack_is_rejected(attack):
    with pytest.raises(ValueError, match="one attack is needed"):
        transfer_accuracy(networks(), pool(), attack=attack)


def test_an_unknown_attack_is_rejected():
    with pytest.raises(InputError, match="attack"):
        transfer_accuracy(networks(), pool(), attack="fgms")
