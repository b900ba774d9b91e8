"""The cost of a plan: networks, device time, wall time, disk and memory, from measured configurations."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from core.footprint import Phase
from trainables.cost.confirmation import ConfirmationSize, Span, expected
from trainables.cost.pilots import Audits, Cost, Measurements, Pilot
from trainables.cost.place import Place
from trainables.study.plan import Plan

DRIVER = 9.0
"""Time in which a study trains nothing, in units of the start of the command, as fitted to the three studies of
tests/benchmarks/bench_dry_run.py: the driver's CPU time for its start, MLflow and the report (3.5 to 5.4 units), and waiting for
Ray's own processes and for the slower network of a pair."""
ATTACK_SHARE = 0.5
"""Time of attacks as a share of their longest time, if none were run: they do not run again on images on which an earlier one
succeeded. In the three studies of tests/benchmarks/bench_dry_run.py, the shares were 0.42 to 0.62 on average."""
SUGGESTION_SECONDS = {"gp": (0.4, 0.055), "tpe": (0.01, 0.0002), "nsga2": (0.005, 0.0), "random": (0.001, 0.0)}
"""CPU seconds of a suggestion, (a, b) of a + b * number of known trials; see infra/scale.md."""
TRIAL_SECONDS = 0.1
"""CPU seconds of the driver per trial or replicate: Ray's messages, files and MLflow; see infra/scale.md."""
REPORT_BYTES, POINT_BYTES = 5.3e6, 0.15e6
"""Bytes of the report and the figures, and of each point in them; MLflow stores a copy."""
DATABASE_BYTES, ROW_BYTES, METRICS = 0.9e6, 250, 70
"""Bytes of MLflow's empty database and of a metric's value in it, and values per trial besides its curve."""
RESULT_BYTES, EPOCH_BYTES, COLUMNS = 5e3, 170, 4
"""Bytes of a network's results as text, and of each epoch in them; values of an epoch."""
RAY_BYTES = 0.4e9
"""Memory of Ray's own processes."""
SHARED_TIMES = 2
"""Copies of the pool in memory: the driver's, and the one that all workers share."""


@dataclass(frozen=True)
class Network:
    """The mean cost of one network of some configurations, in seconds and bytes."""

    training: float
    sweep: float
    attack: float
    """Seconds of the attacks in the confirmation step."""
    audit: float
    """Seconds of the audits and inspections in the confirmation step."""
    outputs: float
    """Seconds of the outputs of a shadow model."""
    sweep_bytes: float
    confirm_bytes: float

    @classmethod
    def mean(cls, costs: Sequence[Cost]) -> "Network":
        """The mean over measured configurations."""

        def mean(values: Sequence[float]) -> float:
            return math.fsum(values) / len(values)

        later = [cost.confirm for cost in costs if cost.confirm]
        return cls(
            training=mean([cost.training.seconds for cost in costs]), sweep=mean([cost.sweep.seconds for cost in costs]),
            attack=mean([e.attack for e in later] or [0.0]), audit=mean([e.audit + e.inspection for e in later] or [0.0]),
            outputs=mean([e.outputs for e in later] or [0.0]),
            sweep_bytes=mean([cost.network + cost.sweep.files for cost in costs]),
            confirm_bytes=mean([cost.network + cost.confirm.files for cost in costs if cost.confirm] or [0.0]),
        )  # fmt: skip


class Memory(NamedTuple):
    """The memory of a study on one machine, in bytes."""

    trial: float
    """Memory of the process of one trial, at least."""
    total: float
    """Memory of all processes at a time, at least; libraries that they share count once."""
    phase: Phase
    """The phase of a trial that needs the most."""


@dataclass(frozen=True)
class Estimate:
    """The expected cost of a plan. Spans are from the smallest to the largest expected confirmation step."""

    trial: Network
    """Mean over the trials of the sweep."""
    point: Network
    """Mean over the confirmed points."""
    networks: int
    """Networks that the sweep trains."""
    confirmation: ConfirmationSize
    shadows: Span
    """Shadow models that are trained."""
    audits: Audits
    """Audits of one replicate by other networks."""
    sweep: float
    """Device seconds of the sweep."""
    confirm: Span
    """Device seconds of the confirmation step, with audits by other networks and without shadow models."""
    shadow: Span
    """Device seconds of the shadow models."""
    driver: Span
    """Seconds in which no network is trained: start, suggestions, bookkeeping, waiting and report."""
    starts: Span
    """Worker processes that are started."""
    start: float
    """Device seconds of the start of a worker process: it loads libraries, and more of them at its first training."""
    place: Place
    disk: Span
    """Bytes of files and of MLflow's database."""
    memory: Memory

    @property
    def is_timed(self) -> bool:
        """Whether times are known; without any measurement they are NaN."""
        return not math.isnan(self.sweep)

    @property
    def starting(self) -> Span:
        """Device seconds of the starts of worker processes."""
        return self.starts.times(Span(self.start, self.start))

    @property
    def device(self) -> Span:
        """Device seconds of all networks and of the starts of worker processes."""
        return Span(self.sweep, self.sweep).plus(self.confirm).plus(self.shadow).plus(self.starting)

    @property
    def wall(self) -> Span:
        """Seconds from the command to its end."""
        at_a_time = self.place.at_a_time
        steps = [(Span(self.networks, self.networks), Span(self.sweep, self.sweep), at_a_time)]
        steps += [(self.confirmation.networks, self.confirm, at_a_time), (self.shadows, self.shadow, at_a_time)]
        steps += [(self.starts, self.starting, at_a_time * max(1, self.place.workers))]
        spans = [Span(*(_elapsed(n, s, most) for n, s in zip(jobs, seconds, strict=True))) for jobs, seconds, most in steps]
        return Span(*(sum(ends) for ends in zip(self.driver, *spans, strict=True)))


def _elapsed(jobs: float, seconds: float, at_a_time: int) -> float:
    """Time of a number of equal jobs, `seconds` in all, of which a few run at a time."""
    return seconds / jobs * math.ceil(jobs / at_a_time) if jobs else 0.0


def estimate(
    plan: Plan, pilots: Sequence[Pilot], found: Measurements, place: Place, confirmation: ConfirmationSize | None = None
) -> Estimate:
    """Estimate the cost of a plan.

    Args:
        plan: the plan.
        pilots: the configurations that were to be measured.
        found: what was measured; at least one configuration.
        place: where the study would run.
        confirmation: numbers in the confirmation step; by default those that are expected.
    """
    step = confirmation or expected(plan)
    by_number = dict(zip(found.costs, _completed(list(found.costs.values())), strict=True))
    costs = list(by_number.values())
    named = {pilots[number].name: cost for number, cost in by_number.items() if pilots[number].name}
    searched = Network.mean([cost for number, cost in by_number.items() if not pilots[number].name] or costs)
    baselines = [Network.mean([named[name]]) if name in named else Network.mean(costs) for name in plan.baselines]
    trial = _weighted(baselines, searched, plan.trials)
    point = _weighted(baselines, searched, step.points.middle) if step.points.high else searched
    networks = plan.trials * plan.seeds_per_trial
    audits = found.audits or Audits()
    each = point.training + point.attack + point.audit + audits.seconds
    shadows = step.points.times(Span(plan.shadows, plan.shadows))
    confirm = Span(*(count * each for count in step.networks))
    jobs = Span(networks, networks).plus(step.networks).plus(shadows)
    first, growth = SUGGESTION_SECONDS[plan.sampler]
    suggested = sum(first + growth * number for number in range(len(plan.baselines), plan.trials))
    driver = Span(*(DRIVER * place.start + suggested + TRIAL_SECONDS * count for count in jobs))
    starts = Span(*(place.processes(networks) + place.processes(count) for count in step.networks))
    text = RESULT_BYTES + EPOCH_BYTES * plan.config.epochs
    replicate_bytes = point.confirm_bytes + audits.files + 2 * text
    files = Span(*(
        networks * (trial.sweep_bytes + text) + replicates * replicate_bytes + shadow * (point.confirm_bytes + text)
        for replicates, shadow in zip(step.networks, shadows, strict=True)
    ))  # fmt: skip
    rows = plan.trials * (COLUMNS * plan.config.epochs + 2 * METRICS)
    database = DATABASE_BYTES + ROW_BYTES * rows
    report = Span(*(2 * (REPORT_BYTES + POINT_BYTES * points) for points in step.points))
    phase = max((cost.phase for cost in costs), key=lambda phase: phase.total)
    process = max(max(cost.peak for cost in costs), float(phase.total))
    own = place.at_a_time * (process - min(process, place.shared_bytes)) + place.driver_bytes
    total = own + RAY_BYTES + SHARED_TIMES * place.pool_bytes
    return Estimate(
        trial, point, networks, step, shadows, audits,
        sweep=networks * (trial.training + trial.sweep), confirm=confirm,
        shadow=Span(*(count * (point.training + point.outputs) for count in shadows)), driver=driver, starts=starts,
        start=place.start + found.warm_up, place=place, disk=files.plus(report).plus(Span(database, database)),
        memory=Memory(process, total, phase),
    )  # fmt: skip


def _completed(costs: Sequence[Cost]) -> list[Cost]:
    """The costs in which attacks that were not run take the same share of their longest time as those of the step that were."""
    for step in ("sweep", "confirm"):
        run = [e for cost in costs if (e := getattr(cost, step)) and e.share]
        share = math.fsum(e.attack for e in run) / math.fsum(e.longest for e in run) if run else ATTACK_SHARE
        costs = [_shortened(cost, step, share) for cost in costs]
    return list(costs)


def _shortened(cost: Cost, step: str, share: float) -> Cost:
    """A cost in which the attacks of a step take a share of their longest time, unless they were run."""
    evaluation = getattr(cost, step)
    if evaluation is None or evaluation.share:
        return cost
    return replace(cost, **{step: replace(evaluation, attack=share * evaluation.longest)})


def _weighted(baselines: Sequence[Network], searched: Network, count: float) -> Network:
    """The mean over a number of networks: one of each baseline, and the others from the search space."""
    others = max(0.0, count - len(baselines))
    weights = [1.0] * len(baselines) + [others]
    every = [*baselines, searched]
    return Network(**{
        name: math.fsum(w * getattr(network, name) for w, network in zip(weights, every, strict=True)) / math.fsum(weights)
        for name in vars(searched)
    })  # fmt: skip
