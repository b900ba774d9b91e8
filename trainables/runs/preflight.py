"""Checks before a study starts: what cannot work is refused within seconds, before anything is created."""

import itertools
import os
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from core import nets
from core.bound import NO_SYNC, bind
from core.config import TrialConfig
from core.data import Images
from core.data.protocols import ALL_PARTS
from core.errors import InputError, unknown
from core.evaluation.interim import INTERIM_METRICS
from core.evaluation.judge import judge
from core.evaluation.privacy import needs_non_members
from core.search_space import option_configs
from core.study import Objective
from trainables.runs.memory_check import check_memory
from trainables.storage.store import Store
from trainables.storage.study_images import study_images
from trainables.study.data_identity import DataIdentity
from trainables.study.plan import Plan
from trainables.study.site import Site
from trainables.study.text import counted, plural
from trainables.tracking.addresses import answers, parts_of
from trainables.tracking.artifacts import check_artifacts
from trainables.tracking.client import check_tracking

TIMEOUT_SECONDS = 3.0
"""Time that a Ray cluster may take to answer."""
Objectives = Callable[[int], tuple[Objective, ...]]
"""Makes the objectives of a study for a number of classes."""


def check_new(plan: Plan, site: Site, objectives: Objectives) -> tuple[Plan, Images]:
    """Check a new plan completely.

    Returns:
        The plan with its objectives, and the images.

    Raises:
        InputError: the message says what to change.
    """
    images = check(plan, site)
    plan = replace(plan, objectives=objectives(images.classes), data=DataIdentity.of(images))
    check_audited(plan, images)
    check_required(plan, images)
    plan.check_rungs()
    return plan, images


def check(plan: Plan, site: Site) -> Images:
    """Check that a plan can run at a site.

    Returns:
        The images; they are loaded last, so that nothing is downloaded for a plan that is refused.

    Raises:
        InputError: the message says what to change; for a stored plan, also if the images are others than when it started.
    """
    if plan.trials < len(plan.baselines) + 1:
        first = f"{counted(len(plan.baselines), 'baseline')} {plural(len(plan.baselines), 'runs', 'run')} first"
        raise InputError(f"--trials {plan.trials} is too few: {first}, so at least {len(plan.baselines) + 1}")
    if plan.rungs and site.workers_per_trial:
        raise InputError("--early-stopping cannot stop a trial of several Ray Train workers; use --workers-per-trial 0")
    check_hardware(site)
    check_address(site.address)
    check_tracking(site.tracking_uri, plan.study)
    root = Store.at(site.storage)
    check_artifacts(site.tracking_uri, plan.study, root)
    root.check_writable()
    images = study_images(plan, site)
    check_parts(plan, images)
    named = (plan.configured(changes) for changes in ({}, *plan.baselines.values()))
    for config in itertools.chain(named, option_configs(plan.config, plan.space)):
        check_config(config, images, site)
    return images


def check_parts(plan: Plan, images: Images) -> None:
    """Check that every network of a plan will have members of every class: trials, replicates and shadow models.

    Raises:
        InputError: the message names the class.
    """
    for replicate in range(plan.replicates + 1):
        plan.configured({"replicate": replicate}).parts(images)
    for shadow in range(1, plan.shadows + 1):
        plan.configured({"shadow": shadow}).parts(images)


def check_audited(plan: Plan, images: Images) -> None:
    """Check that the split has the images that the plan's objectives, constraints and inversion compare members with.

    Raises:
        InputError: the message names the first of them that has none, and the setting to change.
    """
    wanted = {f"the objective {o.metric}": o.metric for o in plan.objectives} | {f"--require {c}": c.metric for c in plan.require}
    for changes in ({}, plan.confirm) if plan.replicates else ({},):
        check_non_members(plan.configured(changes), images, wanted)


def check_non_members(config: TrialConfig, images: Images, wanted: Mapping[str, str]) -> None:
    """Check that the split has non-members that are drawn like the members, if anything needs them.

    Args:
        config: a configuration, with the judge settings that select the non-members.
        images: the pool.
        wanted: metrics, by what asks for them; `judge.inversion` asks for the inversion leak.

    Raises:
        InputError: there are none; the message says what to change.
    """
    if config.judge.inversion != "none":
        wanted = {**wanted, f"judge.inversion={config.judge.inversion}": "inversion_leak"}
    needing = [what for what, metric in wanted.items() if needs_non_members(metric)]
    if needing and not len(config.parts(images).non_members(config.judge.part)):
        raise InputError(
            f"{needing[0]} compares members with images that are drawn like them and not trained on, and this split has none; "
            "use --set split.val=0.1, or --set split=stratified"
        )


def check_required(plan: Plan, images: Images) -> None:
    """Check that every constrained metric will be measured; a small evaluation shows which metrics there are.

    Raises:
        InputError: the message lists the metrics that are measured.
    """
    known = {o.metric for o in plan.objectives} | set(INTERIM_METRICS)
    required = [constraint.metric for constraint in plan.require if constraint.metric not in known]
    for config in itertools.chain([plan.config], option_configs(plan.config, plan.space)) if required else ():
        known |= _measured(config, images)
    for name in required:
        if name not in known:
            raise unknown("metric of --require", name, sorted(name for name in known if not name.startswith("flag/")))


def _measured(config: TrialConfig, images: Images) -> set[str]:
    """Names of the metrics of an untrained network's evaluation, on few images."""
    few = config.set({
        "judge.steps": 1, "judge.images": 8, "judge.inversion_iterations": 1,
        "judge.attribution": min(2, config.judge.attribution),
    })  # fmt: skip
    parts = config.parts(images)
    parts = replace(parts, **{name: getattr(parts, name)[:64] for name in ALL_PARTS})
    bound = bind(few, images.at(parts.members), torch.device("cpu"))
    # The untrained network may classify no image correctly; then it has no radii.
    radii = () if few.judge.suite == "quick" else ("adversarial_radius", "deepfool_l2", "deepfool_fooling_rate")
    return {*judge(few, bound, images, parts).metrics.values, *radii}


def check_config(config: TrialConfig, images: Images, site: Site) -> None:
    """Check a configuration by binding every slot to the real images once.

    Raises:
        InputError: a component does not fit the images or the site, or a trial does not fit into memory.
    """
    parts = config.parts(images)
    bound = bind(config, images.at(parts.members[:64]), torch.device("cpu"))
    check_memory(config, bound, images, parts, site)
    on_cpus = site.gpus_per_worker == 0 or (not site.address and not torch.cuda.is_available())
    if site.workers_per_trial > 1 and on_cpus and nets.has_batch_norm(bound.net):
        raise InputError(NO_SYNC)


def check_hardware(site: Site) -> None:
    """Check that this machine has the requested resources; those of a cluster are known only when it is joined.

    Raises:
        InputError: the message states what is available.
    """
    if site.address:
        return
    workers = max(1, site.workers_per_trial)
    gpus, cpus = torch.cuda.device_count(), os.cpu_count() or 1
    present = f"the {counted(gpus, 'GPU')} of this machine"
    if site.gpus_per_worker and site.gpus_per_worker * workers > gpus:
        raise InputError(f"{workers} x --gpus-per-worker {site.gpus_per_worker:g} is more than {present}")
    if site.gpus_per_shadow and site.gpus_per_shadow > gpus:
        raise InputError(f"--gpus-per-shadow {site.gpus_per_shadow:g} is more than {present}")
    if site.cpus_per_worker * workers > cpus:
        wanted = f"{workers} x --cpus-per-worker {site.cpus_per_worker:g}"
        raise InputError(f"{wanted} is more than the {cpus} CPU cores of this machine")


def check_address(address: str) -> None:
    """Check that a Ray cluster answers at an address; for auto, at the one in RAY_ADDRESS, if any.

    Raises:
        InputError: the address is malformed, or nothing listens there.
    """
    named = f"--address {address}"
    if address == "auto" and (address := os.environ.get("RAY_ADDRESS", "")):
        named = f"RAY_ADDRESS={address}"
    if address in ("", "auto"):
        return
    if address.startswith("ray://"):
        raise InputError(f"{named}: Ray Client is not supported; run on the head node with --address auto")
    _, host, port = parts_of(f"ray://{address}")
    if "://" in address or not host or not port:
        flag, separator, _ = named.partition(" " if named.startswith("--") else "=")
        raise InputError(f"{flag}{separator}{address!r} is not HOST:PORT or auto")
    if not answers(host, port, TIMEOUT_SECONDS):
        raise InputError(f"no Ray cluster answers at {named}; is `ray start --head` running there?")
