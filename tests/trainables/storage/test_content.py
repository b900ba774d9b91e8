"""Keys of trainings and evaluations: which of them count as the same."""

import subprocess
import sys
from dataclasses import asdict

import pytest
import torch

from core import data
from core.config import TrialConfig
from core.data import Images
from core.evaluation.black_box import transfer_accuracy
from trainables.storage.content import Content

KEYS = (Content.evaluation_key, Content.training_key, Content.outputs_key)


@pytest.fixture(scope="module")
def content() -> Content:
    return Content.of(data.load("digits"))


def test_the_fingerprints_are_the_same_in_every_process(content):
    code = "from core import data; from trainables.storage.content import Content; print(Content.of(data.load('digits')))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == str(content)


def test_one_changed_pixel_or_label_or_another_order_changes_every_key():
    digits = data.load("digits")
    pools = [digits, digits.at(torch.randperm(len(digits.y)))]
    for part in ("x", "y"):
        x, y = digits.x.clone(), digits.y.clone()
        (x if part == "x" else y).view(-1)[7] += 1
        pools.append(Images(x, y, digits.classes))
    for key in KEYS:
        keys = {key(Content.of(pool), TrialConfig().params()) for pool in pools}
        assert len(keys) == 4 and key(Content.of(data.load("digits")), TrialConfig().params()) in keys


@pytest.mark.parametrize(("change", "trains_again", "asks_again"), [
    ({"loss.lambda": 0.2}, True, True), ({"seed": 1}, True, True), ({"replicate": 1}, True, True), ({"shadow": 1}, True, True),
    ({"split.members": 0.2}, True, True), ({"loss": "relaxloss"}, True, True), ({"net.width": 5}, True, True),
    ({"judge.epsilon": 0.05}, False, True), ({"judge.norm": "l2"}, False, True), ({"judge.steps": 7}, False, False),
    ({"judge.suite": "strong"}, False, False), ({"judge.part": "test"}, False, False), ({"judge.audits": "full"}, False, False),
    ({"judge.inversion": "all"}, False, False), ({"judge.images": 5}, False, False), ({"judge.restarts": 2}, False, False),
])  # fmt: skip
def test_settings_of_the_evaluation_are_no_part_of_the_key_of_a_training(content, change, trains_again, asks_again):
    before, after = (TrialConfig.of({"loss": "crl"}).set(c).params() for c in ({}, change))
    changed = [key(content, before) != key(content, after) for key in KEYS]
    assert changed == [True, trains_again, asks_again]


def test_every_setting_of_the_evaluation_is_part_of_the_key_of_an_evaluation(content):
    config = TrialConfig()
    other = {
        "part": "both", "norm": "l2", "epsilon": 0.5, "suite": "strong", "steps": 3, "restarts": 3, "images": 3, "audits": "full",
        "attacks": "noise", "inversion": "all", "inversion_iterations": 7, "inversion_lr": 0.7, "inversion_start": "grey",
        "inversion_restarts": 2, "gan_weight": 0.1, "gan_width": 3, "gan_epochs": 3, "nn_lr": 0.01, "attribution": 2,
    }  # fmt: skip
    assert other.keys() == asdict(config.judge).keys()
    changed = [config.params(), *(config.set({f"judge.{name}": value}).params() for name, value in other.items())]
    assert len({content.evaluation_key(params) for params in changed}) == len(other) + 1
    assert len({content.training_key(params) for params in changed}) == 1


@pytest.mark.parametrize("change", [{"judge.epsilon": 0.2}, {"judge.part": "test"}, {"judge.images": 7}, {"epochs": 7}])
def test_a_measurement_is_repeated_for_other_settings_of_a_network_or_of_its_evaluation(content, change):
    """The same networks under another radius had the numbers of the first radius that was measured."""
    plain, changed = TrialConfig().params(), TrialConfig.of(change).params()

    def key(target, source, attack="fgsm"):
        return content.measurement_key(transfer_accuracy, {"target": target, "source": source}, {"attack": attack})

    keys = {key(plain, plain), key(changed, plain), key(plain, changed), key(changed, changed), key(plain, plain, "ifgsm")}
    assert len(keys) == 5 and key(dict(reversed(plain.items())), plain) in keys


def test_the_order_of_settings_is_no_part_of_a_key(content):
    params = TrialConfig.of({"loss": "crl"}).params()
    for key in KEYS:
        assert key(content, params) == key(content, dict(reversed(params.items())))


def test_components_that_differ_have_different_fingerprints(content):
    assert len(set(content.components.values())) > 0.9 * len(content.components)
    assert content.components["loss=crl"] != content.components["loss=relaxloss"]
