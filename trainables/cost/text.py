"""The cost of a plan as lines of text."""

import math

from core import memory, space
from core.space import Switch
from trainables.cost.confirmation import Span
from trainables.cost.estimate import ATTACK_SHARE, Estimate
from trainables.cost.pilots import Cost, Measurements, Pilot
from trainables.study.plan import Plan
from trainables.study.site import Site
from trainables.study.text import counted, listed, plural

LONGER_SECONDS = 300
"""Time for measuring that is suggested, at least, if nothing was measured in less."""


def duration(seconds: float) -> str:
    """Seconds as text, in the unit that suits them."""
    for limit, decimals in ((1, 2), (10, 1), (120, 0)):
        if seconds < limit:
            return f"{seconds:.{decimals}f} s"
    hours = seconds / 3600
    return f"{seconds / 60:.0f} min" if hours < 2 else f"{hours:.1f} h" if hours < 100 else f"{hours:,.0f} h"


def size(count: float) -> str:
    """Bytes as text."""
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:,.1f} GB"


def span(ends: Span, text=lambda value: f"{value:,.0f}") -> str:
    """A range as text; one number if both ends have the same text."""
    low, high = (text(end) for end in ends)
    return low if low == high else f"{low} to {high}"


def counted_span(ends: Span, one: str) -> str:
    """A range of a number with the word that agrees with it, such as `1 network` or `8 to 12 networks`."""
    return f"{span(ends)} {plural(1 if span(ends) == '1' else 0, one)}"


def pilot_line(pilot: Pilot, cost: Cost) -> str:
    """The measured cost of one network of a configuration."""
    name = pilot.name or "a point of the search space"
    parts = [f"training {duration(cost.training.seconds)}", f"evaluation in the sweep {duration(cost.sweep.seconds)}"]
    parts += [f"evaluation in the confirmation step {duration(cost.confirm.seconds)}"] if cost.confirm else []
    is_bound = any(e.share == 0 for e in (cost.sweep, cost.confirm) if e)
    return f"{name}: {', '.join(parts)}" + (" (at most; not all attacks were run)" if is_bound else "")


def unmeasured_line(found: Measurements, planned: int, limit: float) -> str:
    """Say why nothing was measured, and what to do.

    Args:
        found: the measurements, without a cost.
        planned: number of configurations that were to be measured.
        limit: time after which measuring ended, in seconds.
    """
    unknown = "so device time and wall time are not known"
    if found.skipped == planned:
        return f"none of the {planned} configurations can be trained on these images, {unknown}; most trials would fail"
    if found.lost:
        return (
            f"the processes that measure ended without a result, {unknown}; the memory was probably too small: use a smaller "
            "batch_size, judge.images or network, or a larger machine"
        )
    longer = max(LONGER_SECONDS, 100 * math.ceil(limit / 10))
    return (
        f"nothing was measured within {limit:.0f} s, {unknown}: try again when this machine is less busy, or measure for longer "
        f"with --dry-run {longer}"
    )


def measured_lines(found: Measurements, planned: int, seconds: float) -> list[str]:
    """Describe what was measured, and what is assumed where it could not be.

    Args:
        found: the measurements, with at least one cost.
        planned: number of configurations that were to be measured.
        seconds: time that measuring took.
    """
    costs = list(found.costs.values())
    trained = sorted(cost.training.trained for cost in costs)
    share = span(Span(100 * trained[0], 100 * trained[-1]), lambda value: f"{value:.0f} %") + " of their epochs"
    configurations = f"{len(costs)} of {counted(planned, 'configuration')}"
    extent = share if trained[-1] else "a few steps only"
    lines = [f"{configurations} measured in {seconds:.0f} s, with networks that were trained for {extent}"]
    if missing := planned - len(costs) - found.skipped:
        were, they_are = counted(missing, "was", "were"), plural(missing, "it is", "they are")
        lines.append(f"{were} not measured in time; {they_are} assumed to cost as much as the mean of the others")
    if found.skipped:
        lines.append(f"{found.skipped} cannot be trained on these images; such trials fail and cost little")
    steps = {"sweep": [c.sweep for c in costs], "confirmation step": [c.confirm for c in costs if c.confirm]}
    for step, evaluations in steps.items():
        attacks, shares = f"the attacks of the {step}", [e.share for e in evaluations]
        if shares and not any(shares):
            assumed = f"they are assumed to take {100 * ATTACK_SHARE:.0f} % of the time that they would take if none succeeded"
            lines.append(f"no time to run {attacks}: {assumed}")
        elif not all(shares):
            count = f"{shares.count(0)} of {counted(len(shares), 'network')}"
            lines.append(f"{attacks} were not run on {count}; they are assumed to succeed as early as on the others")
        if any(0 < share < 1 for share in shares):
            lines.append(f"{attacks} were run on {100 * min(filter(None, shares)):.0f} % of the images or more")
    return lines


def cost_lines(plan: Plan, site: Site, cost: Estimate, members: int) -> list[str]:
    """The lines about the cost of a plan; without those about times if these are not known.

    Args:
        plan: the plan.
        site: where it would run.
        cost: the estimate.
        members: members of each network.
    """
    return [*_sweep(plan, cost, members), *_confirmation(plan, cost), *_total(site, cost)]


def _sweep(plan: Plan, cost: Estimate, members: int) -> list[str]:
    seeds = f" x {plan.seeds_per_trial} seeds" if plan.seeds_per_trial > 1 else ""
    images = cost.networks * plan.config.epochs * members
    size = f"{counted(plan.config.epochs, 'epoch')} x {members:,} members = {images:,} training images"
    lines = [f"sweep: {counted(plan.trials, 'trial')}{seeds} x {size}"]
    if "epochs" in space.flat(plan.space):
        lines[0] += ", with the epochs of the base configuration; they are searched"
    parts = {"training": cost.trial.training, "attacks and audits": cost.trial.sweep}
    lines.append(_networks(cost, Span(cost.networks, cost.networks), parts, Span(cost.sweep, cost.sweep)))
    if plan.rungs:
        lines.append("  early stopping saves a part of this, which is not counted")
    if cost.is_timed and (switched := [name for name, own in plan.space.items() if isinstance(own, Switch)]):
        lines.append(f"  these are means over the options of {listed(switched)} that were measured")
    return lines


def _confirmation(plan: Plan, cost: Estimate) -> list[str]:
    step = cost.confirmation
    if not plan.replicates:
        return ["confirmation: none"]
    audited = plan.config.set(plan.confirm).judge.audits != "scores" and plan.siblings + plan.shadows > 0
    parts = {
        "training": cost.point.training, "attacks": cost.point.attack, "audits": cost.point.audit,
        "audits by other networks": cost.audits.seconds,
    }  # fmt: skip
    kinds = f"{len(plan.objectives)} to {len(plan.objectives) + 1} independent objectives"
    lines = [
        f"front: {span(step.front)} of {plan.trials} trials are expected on it, as for {kinds}",
        f"confirmation: {counted_span(step.points, 'point')} (front and all baselines), "
        f"{counted_span(step.replicates, 'replicate')} each",
        _networks(cost, step.networks, parts, cost.confirm),
    ]
    if audited:
        others = [counted(plan.siblings, "other replicate") + " of its point"] if plan.siblings else []
        others += [counted(plan.shadows, "shadow model")] if plan.shadows else []
        lines.append(f"  each of them is audited on its own, and then by {listed(others)}")
    if plan.shadows:
        parts = {"training": cost.point.training, "queries": cost.point.outputs}
        lines += [f"shadow models: {plan.shadows} per point", _networks(cost, cost.shadows, parts, cost.shadow)]
    return lines


def _networks(cost: Estimate, count: Span, parts: dict[str, float], seconds: Span) -> str:
    """The line about the networks of a step, with their times if these are known."""
    networks = f"  {counted_span(count, 'network')}"
    if not cost.is_timed:
        return networks
    each = listed([f"{duration(part)} of {name}" for name, part in parts.items() if part])
    return f"{networks}, each {each}: {span(seconds, duration)} of device time"


def _total(site: Site, cost: Estimate) -> list[str]:
    phase, trials = cost.memory.phase, f"{counted(cost.place.at_a_time, 'trial')} at a time"
    is_large = phase.total > cost.memory.trial / 2
    bound = "at least" if is_large or not cost.is_timed else "about"  # batches are computed, and processes measured
    use = f"{phase.name} on batches of {counted(phase.images, 'image')}" if is_large else "libraries"
    lines = [
        f"disk: {span(cost.disk, size)}, for networks, their outputs, the report and MLflow",
        f"memory: {bound} {memory.gib(cost.memory.total)} in total; {memory.gib(cost.memory.trial)} for each of {trials}, "
        f"mostly for {use}",
    ]
    if not cost.is_timed:
        return lines
    cluster = "; the cluster may run more at a time, on other hardware than this machine's" if site.address else ""
    split = f"; {site.workers_per_trial} workers per trial shorten this" if site.workers_per_trial > 1 else ""
    return [
        f"{counted_span(cost.starts, 'start')} of worker processes, {duration(cost.start)} each: "
        f"{span(cost.starting, duration)} of device time",
        f"device time: {span(cost.device, duration)} in total, as if one network were trained and evaluated at a time",
        f"wall time: {span(cost.wall, duration)} on an otherwise idle machine, {trials}{cluster}; "
        f"{span(cost.driver, duration)} of it for the start, the suggestions, waiting and the report{split}",
        *lines,
    ]
