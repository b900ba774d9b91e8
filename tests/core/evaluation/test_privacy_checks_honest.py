"""A hundred networks that hide nothing, of all components, raise no flag of concealed membership."""

import functools
import random

import pytest
import torch

from core import data
from core.config import SLOTS, TrialConfig
from core.data import Images
from core.errors import InputError
from core.evaluation.privacy_checks import privacy_flags
from core.evaluation.stored import member_rows
from core.modes import predict
from core.space import Value
from core.train import train

torch.set_num_threads(1)

TRIALS = 100
POOLS = (120, 200, 400)
"""Sizes of the pool; a quarter are members, an eighth are non-members."""
LARGER = ("mlenet", "net_a", "mobilenet", "resnet18")
"""Networks that are trained for one or two epochs on the smallest pool, as they are slow."""
COMPONENTS = [slot for slot in SLOTS if slot != "net"]


@functools.cache
def pool(size: int, scale: int = 1) -> Images:
    """Digits, with every pixel repeated `scale` times in both directions."""
    images = data.load("digits", pool=size)
    return Images(images.x.repeat_interleave(scale, 2).repeat_interleave(scale, 3), images.y, images.classes)


@functools.cache
def honest_trial(number: int) -> tuple[TrialConfig, Images]:
    """A configuration and its images, both drawn at random; every fifth network is trained for long."""
    stream, overfitted, private = random.Random(number), number % 5 == 0, number % 10 == 7
    while True:
        net = stream.choice(["convnet", "allconv"] if overfitted else ["convnet"] * 6 + ["allconv"] * 3 + list(LARGER))
        changes: dict[str, Value] = {"net": net, "seed": number, "batch_size": stream.choice([16, 32, 64])}
        changes["normalize"] = not private and stream.random() < 0.8
        if net not in LARGER:
            changes["net.width"] = stream.choice([4, 8, 16])
        if net == "mobilenet":
            changes["net.width"] = 0.125
        for slot in COMPONENTS:
            default = TrialConfig().params()[slot]
            changes[slot] = stream.choice(list(SLOTS[slot])) if stream.random() < 0.6 else default
        if private:
            changes["optimizer"] = "dp_sgd"
        rates = [0.03, 0.1] if overfitted else [0.003, 0.03, 0.1, 0.3]
        changes["optimizer.lr"] = stream.choice([1e-3, 1e-2] if changes["optimizer"] == "adam" else rates)
        changes["epochs"] = stream.choice([40, 80] if overfitted else [1, 2] if net in LARGER else [1, 2, 3, 3, 5, 10])
        try:
            config = TrialConfig.of(changes)
            config.check()
        except InputError:  # components that cannot be combined
            continue
        size = stream.choice(POOLS[:2] if overfitted else POOLS)
        return config, pool(POOLS[0], 2) if net in LARGER else pool(size)


def flags_of(number: int) -> dict[str, bool]:
    config, images = honest_trial(number)
    parts = data.split(images)
    net = train(config, images.at(parts.members), images.at(parts.val)).net
    members, others = images.at(member_rows(config, images, parts)[0]), images.at(parts.val)
    return privacy_flags(net, members, others, predict(net, members.x), predict(net, others.x), seed=config.seed)


def test_the_hundred_trials_have_every_component_and_from_thirty_to_a_hundred_members():
    trials = [honest_trial(number) for number in range(TRIALS)]
    for slot in COMPONENTS:
        assert {config.params()[slot] for config, _ in trials} == SLOTS[slot].keys()
    assert {config.params()["net"] for config, _ in trials} == {"convnet", "allconv", *LARGER}
    assert {len(data.split(images).members) for _, images in trials} == {30, 50, 100}
    assert {1, 80} <= {config.epochs for config, _ in trials}


QUICK = [number for number in range(TRIALS) if honest_trial(number)[0].params()["net"] not in LARGER and number % 4 == 0]
"""Trials that are trained in every run of the tests: a quarter of those without the larger networks."""


@pytest.mark.parametrize("number", QUICK)
def test_a_network_that_hides_nothing_raises_no_flag(number):
    assert not any(flags_of(number).values()), honest_trial(number)[0].params()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_networks_that_hide_nothing_raise_no_flag():
    raised = {number: flags for number in range(TRIALS) if any((flags := flags_of(number)).values())}
    assert raised == {}
