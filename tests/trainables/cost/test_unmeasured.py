"""The cost of a study of which nothing was measured."""

import math
from dataclasses import replace

import pytest
from command_lines import plan

from core import data, nets
from core.config import TrialConfig
from core.data import Images
from core.study import trilemma
from trainables.cost.configurations import pilots_of
from trainables.cost.estimate import Estimate, estimate
from trainables.cost.passes import Sizes
from trainables.cost.pilots import Measurements
from trainables.cost.place import Place
from trainables.cost.unmeasured import unmeasured
from trainables.study.plan import Plan


def hard_digits() -> Images:
    return data.load("hard_digits")


def planned(*argv: str) -> Plan:
    return replace(plan(*argv), objectives=trilemma(10))


def estimated(of: Plan) -> Estimate:
    """The estimate of a plan without any measurement."""
    images, pilots = hard_digits(), pilots_of(of)
    parts = data.split(images, of.config.split)
    sizes = {part: Sizes.of(images, parts, part) for part in ("val", "test", "both")}
    costs = unmeasured(pilots, images, sizes, 1e9)
    place = Place(at_a_time=2, start=3.0, driver_bytes=1e9, pool_bytes=0)
    return estimate(of, pilots, Measurements(costs), place)


def test_disk_and_memory_are_known_and_times_are_not():
    small, large = estimated(planned("--set", "net.width=4")), estimated(planned("--set", "net.width=64"))
    for found in (small, large):
        assert not found.is_timed and math.isnan(found.device.low) and math.isnan(found.wall.high) and found.networks == 20
    assert 1e6 < small.disk.low < large.disk.low
    assert 1e9 < small.memory.trial < large.memory.trial


def test_the_bytes_of_a_network_in_the_sweep_are_those_of_its_weights_and_of_the_logits_of_its_images():
    found = estimated(planned("--set", "net.width=64"))
    network = nets.build(TrialConfig.of({"net": "convnet", "net.width": 64}).net, hard_digits().shape, 10)
    weights = sum(parameter.numel() for parameter in network.parameters())
    logits = 10 * (503 + 1006)
    assert found.trial.sweep_bytes == pytest.approx(4 * (weights + logits), rel=0.05)
    assert estimated(planned("--set", "net.width=64", "--no-confirm")).disk.high < found.disk.low < found.disk.high


def test_one_configuration_is_computed_for_each_network():
    pilots = pilots_of(planned())
    images = hard_digits()
    parts = data.split(images)
    sizes = {part: Sizes.of(images, parts, part) for part in ("val", "test", "both")}
    assert list(unmeasured(pilots, images, sizes, 0.0)) == [0]
    wide = replace(pilots[2], sweep=pilots[2].sweep.set({"net.width": 99}))
    assert list(unmeasured([*pilots[:2], wide, wide], images, sizes, 0.0)) == [0, 2]
