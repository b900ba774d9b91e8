"""Trials that cannot fit into memory are refused before it is allocated, with the setting to lower."""

import dataclasses

import pytest
import torch

from core import data, memory
from core.bound import bind
from core.config import TrialConfig
from core.data import Images
from core.errors import InputError
from core.footprint import kept_bytes
from trainables.runs.memory_check import check_memory, largest_phase
from trainables.study.site import Site

CPU = torch.device("cpu")
SITE = Site(gpus_per_worker=0.0, concurrency=1)


def large(n: int, side: int) -> Images:
    """Images without content, so that they need no memory themselves."""
    x = torch.zeros((), dtype=torch.uint8).expand(n, 3, side, side)
    return Images(x, torch.arange(n) % 2, 2, ids=torch.arange(n))


def check(config: TrialConfig, images: Images, site: Site = SITE) -> None:
    parts = data.split(images)
    check_memory(config, bind(config, images.at(parts.members[:2]), CPU), images, parts, site)


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"batch_size": 128}, "training on batches of 100 images of 1000x1000 with net=resnet18 needs .*use --set batch_size="),
        ({"batch_size": 2, "judge.images": 45}, "attacks on batches of 45 images of .*use --set judge.images="),
    ],
)
def test_a_trial_that_does_not_fit_is_refused_with_the_setting_to_lower(changes, text):
    if memory.available() > 150 << 30:
        pytest.skip("this machine has memory for any batch here")
    changes = {"batch_size": 128, "net": "resnet18"} | changes
    with pytest.raises(InputError, match=f"^{text}\\d+, or smaller images$") as caught:
        check(TrialConfig.of(changes), large(400, 1000))
    assert f"{memory.gib(memory.available())[:2]}" in str(caught.value) and "\n" not in str(caught.value)


def test_trials_that_fit_alone_but_not_together_are_refused_with_the_number_that_fits():
    config = TrialConfig.of({"net": "resnet18", "batch_size": 4096, "judge.images": 1})
    net = bind(config, large(16, 32), CPU).net
    members = int(0.7 * memory.available() / kept_bytes(net, (3, 500, 500)))
    images = large(4 * members, 500)
    check(config, images)
    site = dataclasses.replace(SITE, concurrency=0, cpus_per_worker=0.001)
    with pytest.raises(InputError, match=r"^.* trials at a time need at least .* use --concurrency 1, or a smaller batch_size$"):
        check(config, images, site)
    check(config, images, dataclasses.replace(site, concurrency=1))
    check(config, images, dataclasses.replace(site, address="auto"))  # the memory of a cluster is not known here


def test_small_images_need_no_estimate():
    config, images = TrialConfig.of({"net.width": 4}), data.load("digits", pool=200)
    parts = data.split(images)
    assert largest_phase(config, bind(config, images.at(parts.members), CPU), images, parts) is None
