"""The check that trials fit into this machine's memory, before any of it is allocated."""

import os

import numpy as np
import torch

from core import memory
from core.bound import Bound
from core.config import TrialConfig
from core.data import Images, Parts
from core.errors import InputError
from core.footprint import Phase, footprint
from trainables.study.site import Site

MAX_KEPT = 20_000
"""Bytes that a network keeps per byte of an image, at most; DenseNet, which keeps most, has 3,700 at its default width."""


def largest_phase(config: TrialConfig, bound: Bound, images: Images, parts: Parts) -> Phase | None:
    """The phase of a trial that needs the most memory; None if the images are too small to matter."""
    largest_batch = max(config.batch_size, 256) * 4 * int(np.prod(images.shape))
    return footprint(config, bound, images, parts) if largest_batch * MAX_KEPT > memory.available() else None


def check_memory(config: TrialConfig, bound: Bound, images: Images, parts: Parts, site: Site) -> None:
    """Check that the trials that run at a time fit into the memory of this machine; a cluster's is not known here.

    Raises:
        InputError: the message names the setting to lower.
    """
    phase = None if site.address else largest_phase(config, bound, images, parts)
    if phase is None:
        return
    workers = max(1, site.workers_per_trial)
    if torch.cuda.is_available() and site.gpus_per_worker != 0:
        limit, device, share = torch.cuda.get_device_properties(0).total_memory, "a GPU", site.gpus_per_worker or 1.0
        at_a_time, need = max(1, int(1 / share)), phase.total / workers
    else:
        limit, device = memory.available(), "this machine"
        fitting = (os.cpu_count() or 1) / (site.cpus_per_worker * workers)
        at_a_time, need = max(1, int(fitting)), phase.total
    at_a_time = min(at_a_time, site.concurrency or at_a_time)
    size, net = f"{images.shape[2]}x{images.shape[1]}", config.params()["net"]
    where = f"{phase.name} on batches of {phase.images} images of {size} with net={net}"
    if need > limit:
        fits = int(0.75 * limit / (need / phase.images))  # a quarter for what is not counted
        remedy = f"use --set {phase.setting}={fits}, or smaller images" if fits > 1 else "use a smaller network or smaller images"
        raise InputError(f"{where} needs at least {memory.gib(need)}, {device} has {memory.gib(limit)} free; {remedy}")
    if at_a_time * need > limit:
        raise InputError(
            f"{at_a_time} trials at a time need at least {memory.gib(at_a_time * need)}, {device} has {memory.gib(limit)} free "
            f"({where}); use --concurrency {int(limit / need)}, or a smaller {phase.setting}"
        )
