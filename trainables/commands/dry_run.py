"""The `--dry-run` of a study: its configuration, search space and baselines, its cost, and what its samples can resolve."""

import os
import resource
import time
from pathlib import Path

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from core import data, space
from core.data import Images
from core.space import Switch
from trainables.cost import resolution
from trainables.cost.configurations import pilots_of
from trainables.cost.estimate import estimate
from trainables.cost.passes import Sizes
from trainables.cost.pilots import Cost, Measurements, Pilot, Setting, measured
from trainables.cost.place import Place, file_bytes
from trainables.cost.text import cost_lines, measured_lines, pilot_line, unmeasured_line
from trainables.cost.unmeasured import unmeasured
from trainables.execution import cluster
from trainables.execution.resources import Share
from trainables.runs import preflight
from trainables.study.plan import Plan
from trainables.study.site import Site
from trainables.study.text import counted
from trainables.terminal.console import Terminal

SECONDS, MIN_SECONDS = 40, 15
"""Time after which measuring ends: less if the start of the command took long, but not less than the second number."""
COMMAND_SECONDS = 54
"""Time after which measuring ends, from the start of the command."""


def dry_run(plan: Plan, site: Site, *, objectives: preflight.Objectives, seconds: int = 0) -> int:
    """Print the configuration, the search space, the baselines and the cost of a plan; returns the exit code.

    Args:
        plan: the plan.
        site: where it would run.
        objectives: makes its objectives.
        seconds: time after which measuring ends; 0 for what is left of a minute.

    Raises:
        InputError: the plan cannot run here.
    """
    start = time.process_time()
    plan, images = preflight.check_new(plan, site, objectives)
    terminal = Terminal(site.output)
    info = terminal.info
    info(plan.question)
    for line in plan.left_out:
        info(f"--recipe {plan.recipe} leaves out {line}")
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
    for line in _cost(plan, site, images, terminal, start, seconds or seconds_left(process_age())):
        info(f"  {line}")
    info("resolution")
    for line in resolution.sentences(plan, images):
        info(f"  {line}")
    return 0


def _cost(plan: Plan, site: Site, images: Images, terminal: Terminal, start: float, seconds: int) -> list[str]:
    """Measure the configurations of a plan for a limited time, printing each, and return the lines about its cost.

    Args:
        plan: the plan.
        site: where it would run.
        images: the pool.
        terminal: terminal to print to.
        start: CPU seconds of the start of the command.
        seconds: time after which measuring ends.
    """
    share, at_a_time = resources(site)
    pilots, pool_bytes = pilots_of(plan), images.x.numel()
    place = Place(
        at_a_time=at_a_time, workers=site.workers_per_trial, start=start, pool_bytes=pool_bytes, shared_bytes=file_bytes(),
        driver_bytes=(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - pool_bytes,
    )  # fmt: skip
    terminal.info(f"  measuring {counted(len(pilots), 'configuration')}, {at_a_time} at a time, for at most {seconds} s")
    begun = time.monotonic()
    sizes = sizes_of(plan, images)
    found = measure(plan, images, sizes, pilots, share, at_a_time, terminal, seconds)
    if found.costs:
        lines = measured_lines(found, len(pilots), time.monotonic() - begun)
    else:
        lines = [unmeasured_line(found, len(pilots), seconds)]
        found.costs |= unmeasured(pilots, images, sizes, place.driver_bytes)
    return lines + cost_lines(plan, site, estimate(plan, pilots, found, place), sizes[plan.config.judge.part].members)


def seconds_left(age: float) -> int:
    """Time for measuring in a command that started `age` seconds ago."""
    return max(MIN_SECONDS, min(SECONDS, int(COMMAND_SECONDS - age)))


def process_age() -> float:
    """Seconds since this process started; 0 on other systems than Linux."""
    try:
        started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        return float(Path("/proc/uptime").read_text().split()[0]) - started
    except OSError:
        return 0.0


def resources(site: Site) -> tuple[Share, int]:
    """The resources of a trial and the number of trials at a time, if the study ran on this machine.

    Raises:
        InputError: this machine does not have the resources of a trial.
    """
    if site.address:  # this machine need not be able to run a trial
        return Share(0, 1, float(torch.cuda.is_available())), site.concurrency or 1
    capacity = {"CPU": float(os.cpu_count() or 1), "GPU": float(torch.cuda.device_count())}
    share = cluster.share_of(site, capacity)
    return share, cluster.concurrency(share, capacity, site.concurrency)


def measure(
    plan: Plan, images: Images, sizes: dict[str, Sizes], pilots: list[Pilot], share: Share, at_a_time: int, terminal: Terminal,
    seconds: float,
) -> Measurements:  # fmt: skip
    """Measure configurations for a limited time, as many at a time as the study would have trials, printing each that ends."""
    setting = Setting(
        sizes=sizes,
        siblings=plan.siblings * has_outputs(pilots), shadows=plan.shadows * has_outputs(pilots),
        threads=max(1, int(share.cpus)), use_gpu=share.device().type == "cuda",
    )  # fmt: skip
    count = TextColumn("{task.completed} of {task.total} configurations measured")
    columns = count, BarColumn(), TimeElapsedColumn(), TextColumn(f"of at most {seconds} s")
    with Progress(*columns, console=terminal.console, transient=True, disable=not terminal.console.is_terminal) as progress:
        task = progress.add_task("", total=len(pilots))

        def ended(pilot: Pilot, cost: Cost) -> None:
            progress.advance(task)
            terminal.info(f"  {pilot_line(pilot, cost)}")

        return measured(pilots, images, setting, seconds=seconds, processes=at_a_time, on_cost=ended)


def sizes_of(plan: Plan, images: Images) -> dict[str, Sizes]:
    """The sizes of evaluations on the whole pool, by `judge.part`."""
    parts = plan.config.parts(images)
    return {part: Sizes.of(images, parts, part) for part in ("val", "test", "both")}


def has_outputs(pilots: list[Pilot]) -> bool:
    """Whether the networks of the confirmation step store the outputs that audits by other networks need."""
    return any(pilot.confirm is not None and pilot.confirm.judge.audits != "scores" for pilot in pilots)
