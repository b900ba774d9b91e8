"""The choice of one point of a finished study, and of one network to ship.

Points are compared by their means over replicates, on images that the sweep has not seen. The network to ship is the median
replicate, because the numbers of the best of several replicates would be biased upward.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from core.errors import InputError, unknown
from core.stats import Interval, mean_interval
from core.study import Constraint, Objective
from trainables.storage.jobs import point_folder, trial_folder
from trainables.storage.networks import StoredNetwork
from trainables.study.outcome import Outcome
from trainables.study.text import interval_text, named
from trainables.study.trial import Trial

BOOKKEEPING = ("flag/", "seconds/", "images_per_second/")
"""Prefixes of metrics that do not measure the quality of a network."""


@dataclass(frozen=True)
class Candidate:
    """A point of the front with its networks: its replicates, or the network of the sweep."""

    trial: Trial
    networks: tuple[StoredNetwork, ...]

    def estimate(self, metric: str) -> tuple[float, Interval]:
        """Mean over the networks and its 95 % interval, which is infinite for a single network."""
        return mean_interval([network.metrics[metric] for network in self.networks])


@dataclass(frozen=True)
class Preference:
    """The user's preference: constraints, and a metric to minimise or maximise."""

    constraints: tuple[Constraint, ...]
    metric: str
    maximize: bool
    """Whether to choose the highest value of the metric among the points that meet the constraints, rather than the lowest."""

    @property
    def words(self) -> list[str]:
        """The preference as words of a command line."""
        constraints = [word for constraint in self.constraints for word in ("--require", str(constraint))]
        return [*constraints, "--maximize" if self.maximize else "--minimize", self.metric]

    def __str__(self) -> str:
        constraints = f" with {' and '.join(map(str, self.constraints))}" if self.constraints else ""
        return f"the {'highest' if self.maximize else 'lowest'} {self.metric}{constraints}"


@dataclass(frozen=True)
class Pick:
    """The chosen point, and its network to ship."""

    candidate: Candidate
    network: StoredNetwork
    preference: Preference
    feasible: int
    """Number of points that meet the constraints."""
    among: int
    """Number of points to choose from."""
    confirmed: bool
    """Whether the numbers are those of the confirmation step rather than the sweep's."""

    @property
    def which(self) -> str:
        """The network, and its place among the networks of the point."""
        count, network = len(self.candidate.networks), self.network.name
        if count == 1:
            return network + (", the only replicate that succeeded" if self.confirmed else ", as the sweep trained it")
        return f"{network}, the {'median' if count % 2 else 'lower of the two middle ones'} of {count}"

    @property
    def caveats(self) -> list[str]:
        """Constraints that the mean meets, but not its whole interval, or not the network itself."""
        caveats = []
        for constraint in self.preference.constraints:
            interval = self.candidate.estimate(constraint.metric)[1]
            if not math.isfinite(interval.high - interval.low):
                caveats.append(f"{constraint} is met by a single network, so there is no interval for it")
            elif constraint.violation(interval.low) or constraint.violation(interval.high):
                text = interval_text(interval)
                caveats.append(f"{constraint} is met by the mean, but its 95 % interval, {text}, crosses the bound")
            if constraint.violation(own := self.network.metrics[constraint.metric]):
                caveats.append(f"{constraint} is met by the mean, but this network itself has {own:.4f}")
        return caveats


def candidates(study: str, outcome: Outcome, networks: Sequence[StoredNetwork], unconfirmed: bool) -> list[Candidate]:
    """The points to choose from; no flag excludes any of them.

    Args:
        study: name of the study's run.
        outcome: the outcome at the newest version.
        networks: the stored networks at that version.
        unconfirmed: choose from the front of the sweep, by its own numbers.

    Raises:
        InputError: there are no points; the message says what to do.
    """
    if not outcome.confirmed and not unconfirmed:
        raise InputError(
            f"no point of {study} was confirmed; run its command again without --no-confirm (cached results are reused), "
            "or choose by the sweep's own numbers with --unconfirmed"
        )
    trials = {trial.number: trial for trial in outcome.completed if not trial.excluded}
    if unconfirmed:
        folders = {trial.number: f"{trial_folder(trial.number)}/" for trial in outcome.front()}
    else:
        kept = [point.number for point in outcome.confirmed if point.on_front and not point.flags]
        folders = {n: f"{point_folder(n)}/" for n in kept if n in trials}
    if not folders:
        flags = "; ".join(f"trial {p.number}: {', '.join(p.flags)}" for p in outcome.confirmed if p.flags)
        raise InputError(f"no point of {study} is left on the front" + (f" (excluding flags: {flags})" if flags else ""))
    return [
        Candidate(trials[number], tuple(network for network in networks if f"{network.folder}/".startswith(folder)))
        for number, folder in folders.items()
    ]


def choose(among: Sequence[Candidate], preference: Preference, objectives: Sequence[Objective], confirmed: bool) -> Pick:
    """Choose the best candidate by a preference, and its median network by the first objective.

    Of two middle networks, the worse one is chosen.

    Raises:
        InputError: a metric is unknown, or no candidate meets the constraints; the message names the nearest one.
    """
    known = [name for name in among[0].networks[0].metrics if not name.startswith(BOOKKEEPING)]
    known = [name for name in known if all(name in network.metrics for c in among for network in c.networks)]
    for name in (*(constraint.metric for constraint in preference.constraints), preference.metric):
        if name not in known:
            raise unknown("metric", name, sorted(known, key=lambda n: n not in {o.metric for o in objectives}))

    def distance(candidate: Candidate) -> list[float]:
        """Number of violated constraints, then the sum of relative violations."""
        amounts = [c.violation(candidate.estimate(c.metric)[0]) / (abs(c.value) or 1.0) for c in preference.constraints]
        return [sum(map(bool, amounts)), sum(amounts)]

    feasible = [candidate for candidate in among if not any(distance(candidate))]
    if not feasible:
        nearest = min(among, key=distance)
        values = ", ".join(f"{c.metric} {nearest.estimate(c.metric)[0]:.4f}" for c in preference.constraints)
        raise InputError(
            f"none of the {len(among)} points has {' and '.join(map(str, preference.constraints))}; "
            f"the nearest is {named(nearest.trial)} with {values}"
        )
    sign = -1 if preference.maximize else 1
    best = min(feasible, key=lambda c: (sign * c.estimate(preference.metric)[0], c.trial.number))
    first = objectives[0]
    worst_first = sorted(best.networks, key=lambda n: (-first.loss(n.metrics[first.metric]), n.folder))
    return Pick(best, worst_first[(len(worst_first) - 1) // 2], preference, len(feasible), len(among), confirmed)
