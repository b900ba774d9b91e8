"""The cost of a plan as lines of text."""

from core import memory, space
from core.space import Switch
from trainables.cost.confirmation import Span
from trainables.cost.estimate import Estimate
from trainables.cost.pilots import Cost, Measurements, Pilot
from trainables.study.plan import Plan
from trainables.study.site import Site
from trainables.study.text import counted, plural


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


def span(ends: Span, text=lambda value: f"{value:.0f}") -> str:
    """A range as text; one number if both ends have the same text."""
    low, high = (text(end) for end in ends)
    return low if low == high else f"{low} to {high}"


def counted_span(ends: Span, one: str) -> str:
    """A range of a number with the word that agrees with it."""
    return f"{span(ends)} {plural(1 if span(ends) == '1' else 0, one)}"


def pilot_line(pilot: Pilot, cost: Cost) -> str:
    """The measured cost of one network of a configuration."""
    name = pilot.name or "a point of the search space"
    parts = [f"training {duration(cost.training.seconds)}", f"sweep's evaluation {duration(cost.sweep.seconds)}"]
    parts += [f"confirmation's evaluation {duration(cost.confirm.seconds)}"] if cost.confirm else []
    counted = any(e.share == 0 for e in (cost.sweep, cost.confirm) if e)
    return f"measured {name}: {', '.join(parts)}" + (" (at most)" if counted else "")


def cost_lines(
    plan: Plan, site: Site, cost: Estimate, found: Measurements, planned: int, members: int, seconds: float
) -> list[str]:  # fmt: skip
    """The lines about the cost of a plan.

    Args:
        plan: the plan.
        site: where it would run.
        cost: the estimate.
        found: the measurements that it is from.
        planned: number of configurations that were to be measured.
        members: members of each network.
        seconds: time that measuring took.
    """
    return [*_measured(found, planned, seconds), *_sweep(plan, cost, members), *_confirmation(plan, cost), *_total(site, cost)]


def _measured(found: Measurements, planned: int, seconds: float) -> list[str]:
    """Describe what was measured, and what is assumed where it could not be."""
    costs = list(found.costs.values())
    trained = sorted(cost.training.trained for cost in costs)
    share = span(Span(100 * trained[0], 100 * trained[-1]), lambda value: f"{value:.0f} %")
    lines = [
        f"{len(costs)} of {counted(planned, 'configuration')} measured in {seconds:.0f} s, "
        f"with networks trained for {share} of the epochs"
    ]
    if missing := planned - len(costs) - found.skipped:
        were, they_are = counted(missing, "was", "were"), plural(missing, "it is", "they are")
        lines.append(f"{were} not measured in time; {they_are} assumed to cost as much as the mean of the others")
    if found.skipped:
        lines.append(f"{found.skipped} cannot be trained on these images; such trials fail and cost little")
    for step, evaluations in (("sweep", [c.sweep for c in costs]), ("confirmation", [c.confirm for c in costs if c.confirm])):
        shares = [e.share for e in evaluations]
        if shares and not any(shares):
            lines.append(f"no time for an evaluation as in the {step}: its attacks are assumed to run to their end on each image")
        elif not all(shares):
            count = f"{shares.count(0)} of {counted(len(shares), 'evaluation')}"
            were, their = plural(shares.count(0), "was", "were"), plural(shares.count(0), "its", "their")
            lines.append(f"{count} as in the {step} {were} not run; {their} attacks are assumed to end as early as the others")
        if any(0 < share < 1 for share in shares):
            lines.append(f"evaluations as in the {step} were run on {100 * min(filter(None, shares)):.0f} % of the images or more")
    return lines


def _sweep(plan: Plan, cost: Estimate, members: int) -> list[str]:
    seeds = f" x {plan.seeds_per_trial} seeds" if plan.seeds_per_trial > 1 else ""
    images = cost.networks * plan.config.epochs * members
    per_trial = f"{counted(plan.config.epochs, 'epoch')} x {members} members = {images:,} images"
    lines = [f"sweep: {counted(plan.trials, 'trial')}{seeds} x {per_trial}"]
    if "epochs" in space.flat(plan.space):
        lines[0] += ", with the epochs of the base configuration; they are searched"
    lines.append(
        f"  {counted(cost.networks, 'network')}, each {duration(cost.trial.training)} of training and "
        f"{duration(cost.trial.sweep)} of attacks and audits: {duration(cost.sweep)} of device time"
    )
    if plan.rungs:
        lines.append("  early stopping saves a part of this, which is not counted")
    if switched := [name for name, own in plan.space.items() if isinstance(own, Switch)]:
        lines.append(f"  the mean over the options of {', '.join(switched)} that were measured")
    return lines


def _confirmation(plan: Plan, cost: Estimate) -> list[str]:
    step = cost.confirmation
    if not plan.replicates:
        return ["confirmation: none"]
    each = {
        "training": cost.point.training, "attacks": cost.point.attack, "audits": cost.point.audit,
        "audits by other networks": cost.audits.seconds,
    }  # fmt: skip
    parts = ", ".join(f"{duration(seconds)} of {name}" for name, seconds in each.items() if seconds)
    kinds = f"{len(plan.objectives)} to {len(plan.objectives) + 1} independent objectives"
    lines = [
        f"front: {span(step.front)} of {counted(plan.trials, 'trial')} expected, as for {kinds}",
        f"confirmation: {counted_span(step.points, 'point')} with the baselines, {counted_span(step.replicates, 'replicate')} each",
        f"  {counted_span(step.networks, 'network')}, each {parts}: {span(cost.confirm, duration)} of device time",
    ]
    if plan.shadows:
        parts = f"{duration(cost.point.training)} of training and {duration(cost.point.outputs)} of queries"
        lines += [
            f"shadow models: {plan.shadows} per point",
            f"  {counted_span(cost.shadows, 'network')}, each {parts}: {span(cost.shadow, duration)} of device time",
        ]
    return lines


def _total(site: Site, cost: Estimate) -> list[str]:
    cluster = "; the cluster may run more at a time" if site.address else ""
    at_a_time = f"{counted(cost.at_a_time, 'trial')} at a time"
    phase, needs = cost.memory.phase, f"{memory.gib(cost.memory.trial)} for each of {at_a_time}"
    split = f"; {site.workers_per_trial} workers per trial shorten this" if site.workers_per_trial > 1 else ""
    return [
        f"device time: {span(cost.device, duration)} in total",
        f"wall time: {span(cost.wall, duration)} on an otherwise idle machine, {at_a_time}{cluster}; "
        f"{span(cost.driver, duration)} of it for the start, suggestions and the report{split}",
        f"disk: {span(cost.disk, size)}, for networks, outputs, evidence, the report and MLflow",
        f"memory: at least {memory.gib(cost.memory.total)}, {needs}, mostly for {phase.name} on batches of {phase.images}",
    ]
