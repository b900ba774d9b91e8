"""The `--dry-run` of a study: its configuration, search space, baselines and cost."""

import torch

from core import data, memory, space, train
from core.data import Images
from core.space import Switch
from trainables.runs import preflight
from trainables.runs.memory_check import largest_phase
from trainables.study.plan import Plan
from trainables.study.site import Site
from trainables.terminal.console import Terminal

MAX_MEMBERS = 1024
"""Largest number of members on which the speed of training is measured."""
MAX_BYTES = 1 << 30
"""Memory that measuring the speed may keep for a backward pass."""


def dry_run(plan: Plan, site: Site, *, objectives: preflight.Objectives) -> int:
    """Print the configuration, the search space, the baselines and the cost of a plan; returns the exit code.

    Raises:
        InputError: the plan cannot run here.
    """
    plan, images = preflight.check_new(plan, site, objectives)
    info = Terminal(site.output).info
    info(plan.question)
    info("\nconfiguration")
    searched = space.searched_names(plan.space)
    for name, value in plan.config.params().items():
        info(f"  {name} = {value}{'   (searched)' if name in searched else ''}")
    info("data")
    for line in data.description(images, plan.config.split):
        info(f"  {line}")
    info("space")
    for name, span in plan.space.items():
        info(f"  {name} = {'one of' if isinstance(span, Switch) else space.range_text(span)}")
        for option, knobs in span.options.items() if isinstance(span, Switch) else ():
            info(f"    {option}")
            for knob, inner in knobs.items():
                info(f"      {knob} = {space.range_text(inner)}")
    info("baselines")
    for name, changes in plan.baselines.items():
        info(f"  {name}: {', '.join(f'{k}={v}' for k, v in changes.items())}")
    info("cost")
    for line in estimate(plan, images):
        info(f"  {line}")
    return 0


def estimate(plan: Plan, images: Images) -> list[str]:
    """The cost of a plan, from one measured epoch of its configuration."""
    parts = data.split(images, plan.config.split)
    members = images.at(parts.members)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(1)
    bound = train.bind(plan.config, members.at(torch.arange(min(64, len(members.y)))), torch.device("cpu"))
    phase = largest_phase(plan.config, bound, images, parts)
    batch = plan.config.batch_size if phase is None else min(plan.config.batch_size, max(2, int(MAX_BYTES / phase.per_image)))
    measured = MAX_MEMBERS if batch == plan.config.batch_size else 2 * batch
    rate = images_per_second(plan, members.at(torch.arange(min(measured, len(members.y)))), device, batch)
    count, epochs = len(members.y), plan.config.epochs
    per_network = epochs * count / rate
    networks, seeds = plan.trials * plan.seeds_per_trial, f" x {plan.seeds_per_trial} seeds" if plan.seeds_per_trial > 1 else ""
    hours = networks * per_network / 3600
    lines = [
        f"{plan.trials} trials{seeds} x {epochs} epochs x {count} members = {networks * epochs * count:,} images",
        f"{rate:,.0f} images/s measured on one {device.type}: {per_network:.0f} s per network, {hours:.2f} device hours in total",
    ]
    if phase is not None:
        lines.append(f"memory: at least {memory.gib(phase.total)} per trial, for {phase.name} on batches of {phase.images}")
    if batch < plan.config.batch_size:
        lines.append(f"the speed was measured on batches of {batch}, to save memory")
    params = plan.config.params()
    if switched := ", ".join(f"{name}={params[name]}" for name, span in plan.space.items() if isinstance(span, Switch)):
        lines.append(f"measured with {switched}; other components cost more or less")
    if trainings := plan.replicates + plan.shadows:
        shadows = f", {plan.shadows} of them shadow models" if plan.shadows else ""
        hours = trainings * per_network / 3600
        lines.append(f"confirmation: {trainings} trainings per front point{shadows}, {hours:.3f} device hours each")
    return lines


def images_per_second(plan: Plan, members: Images, device: torch.device, batch: int) -> float:
    """The speed of training on these members in batches of a size, without the first epoch, which includes warming up."""
    seconds: list[float] = []
    config = plan.config.set({"epochs": 2, "batch_size": batch})
    train.train(config, members, members, device=device, on_epoch=lambda row, bound: seconds.append(row["epoch/seconds"]))
    return len(members.y) / seconds[-1]
