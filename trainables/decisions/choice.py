"""The choice of one point of a finished study, and of one network to ship.

Points are compared by their shrunken means over replicates, on images that the sweep has not seen (`trainables.study.choosing`).
The network to ship is the median replicate in the metric that was optimised, because the numbers of the best of several replicates
would be biased upward.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from core.errors import InputError, unknown
from core.study import Constraint, Objective
from trainables.decisions.metrics import Networks, sweep_confirmation, with_further_metrics
from trainables.storage.jobs import point_folder, trial_folder
from trainables.storage.networks import StoredNetwork
from trainables.storage.store import Store
from trainables.study.choosing import CERTAIN, Chosen, Preference, choose_point
from trainables.study.conclusions import front_caveat, probability_text, without_excluded
from trainables.study.outcome import Confirmed, Outcome
from trainables.study.text import counted, decimal, difference_text, interval_text, listed, plural
from trainables.study.trial import Trial
from trainables.study.verdicts import MIA_AUC

BOOKKEEPING = ("flag/", "seconds/", "images_per_second/")
"""Prefixes of metrics that do not measure the quality of a network."""


@dataclass(frozen=True)
class Pick:
    """The chosen point, and its network to ship."""

    trial: Trial
    chosen: Chosen
    """The point, its numbers, and the points that cannot be distinguished from it."""
    networks: tuple[StoredNetwork, ...]
    """Networks of the point: its replicates, or those of the sweep."""
    network: StoredNetwork
    """The network to ship."""
    confirmed: bool
    """Whether the numbers are those of the confirmation step rather than the sweep's."""

    @property
    def request(self) -> str:
        """The preference and the constraints in words."""
        constraints = self.chosen.constraints
        return f"{self.chosen.preference}" + (f" with {' and '.join(map(str, constraints))}" if constraints else "")

    @property
    def which(self) -> str:
        """The network, and its place among the networks of the point."""
        count, name = len(self.networks), self.network.name
        if count == 1:
            return name + (", the only replicate that succeeded" if self.confirmed else ", as the sweep trained it")
        kind = f"{count} {'replicates' if self.confirmed else 'seeds'}"
        if count % 2:
            return f"{name}, the median of the {kind} by {criterion(self.chosen)}"
        ranked = f"the {kind}" if count == 2 else f"the two in the middle of the {kind}"
        return f"{name}, the worse of {ranked} by {criterion(self.chosen)}"

    @property
    def candidates(self) -> str:
        """The number of points to choose from."""
        chosen = self.chosen
        points = plural(chosen.among, "point")
        kind = f"confirmed {points} on the front" if self.confirmed else f"{points} on the front of the sweep, by its own numbers"
        met = f", of which {counted(chosen.feasible, 'meets', 'meet')} the constraints" if chosen.constraints else ""
        return f"among {chosen.among} {kind}{met}"

    def own(self, metric: str) -> float:
        """A metric of the network."""
        return own_value(self.network, metric, self.chosen.point)

    def value_text(self, metric: str) -> str:
        """A metric of the point with its interval, its mean as measured, its chance level, and the network's own value."""
        value = self.chosen.values[metric]
        parts = [f"95 % interval {interval_text(value.shrunk_interval)}"]
        parts += [f"mean as measured {decimal(value.mean, 4)}"] if value.is_certain else []
        if math.isfinite(value.chance):
            parts.append(f"chance level {value.chance:.4f}" + ("" if value.resolved else ", not resolved"))
        return f"{metric} {decimal(value.shrunk, 4)} ({'; '.join([*parts, f'this network {decimal(self.own(metric), 4)}'])})"

    @property
    def certainty(self) -> str:
        """The probability that the point is the best one, and the number of points that cannot be distinguished from it."""
        chosen, count = self.chosen, len(self.runners_up)
        best = f"its probability of being the best choice is {probability_text(chosen.probability)}; "
        if not count:
            return f"{best}every other point can be distinguished from it"
        return f"{best}{counted(count, 'other point')} cannot be distinguished from it"

    @property
    def runners_up(self) -> list[str]:
        """The points that cannot be distinguished from the chosen one, one line each."""
        lines = []
        for other in self.chosen.runners_up if self.confirmed else ():
            metrics = [self.chosen.preference.metric] if self.chosen.preference.metric else list(other.differences)
            differences = listed([f"{name} {difference_text(other.differences[name], decimals=4)}" for name in metrics])
            lines.append(
                f"trial {other.point.number}; its probability of being the best choice is {probability_text(other.probability)}; "
                f"compared with trial {self.trial.number}, with 95 % intervals: {differences}"
            )
        return lines

    @property
    def caveats(self) -> list[str]:
        """Reservations about the choice, such as constraints that may not be met, or a place on the front that is undecided."""
        point, caveats = self.chosen.point, []
        for constraint, probability in self.chosen.meets.items():
            interval = self.chosen.values[constraint.metric].shrunk_interval
            if math.isnan(probability):
                caveats.append(f"{constraint} is met by a single network, so there is no interval for it")
            elif probability < CERTAIN:
                text = f"is met with probability {probability:.2f}; the 95 % interval is {interval_text(interval)}"
                caveats.append(f"{constraint} {text}")
            if constraint.violation(own := self.own(constraint.metric)):
                caveats.append(f"{constraint} is met by the point, but this network itself has {decimal(own, 4)}")
        if MIA_AUC in self.chosen.values and not self.chosen.values[MIA_AUC].resolved:
            caveats.append(f"{MIA_AUC} is not resolved: it does not exceed its chance level, so the leak may be smaller or none")
        if self.confirmed and (caveat := front_caveat(point)):
            caveats.append(caveat)
        return caveats


def criterion(chosen: Chosen) -> str:
    """The criterion in which the network to ship is the median, in words."""
    preference, audits = chosen.preference, chosen.point.audits
    if not preference.metric:
        return "distance to the ideal"
    return preference.metric + (f" (audit {audits[0]})" if preference.metric == MIA_AUC and audits else "")


def own_value(network: StoredNetwork, metric: str, point: Confirmed) -> float:
    """A metric of one network; `mia_auc` is that of the audit that was chosen for the point.

    The largest AUC of a single network would be too large, and not comparable with the point's.
    """
    audit = f"{MIA_AUC}/{point.audits[0]}" if metric == MIA_AUC and point.audits else metric
    return network.metrics.get(audit, network.metrics[metric])


def pick(
    study: str, outcome: Outcome, networks: Sequence[StoredNetwork], store: Store, revisions: Sequence[str],
    constraints: Sequence[Constraint], preference: Preference, unconfirmed: bool,
) -> Pick:  # fmt: skip
    """Choose a point by a preference, and its median network in the metric that is optimised.

    Args:
        study: name of the study's run.
        outcome: the outcome at the newest version.
        networks: the stored networks at that version.
        store: the study's folder.
        revisions: folders of the versions that re-evaluated the networks, oldest first.
        constraints: constraints that the point must meet.
        preference: the criterion to optimise.
        unconfirmed: choose from the front of the sweep, by its own numbers.

    Raises:
        InputError: there is no point to choose from, a metric is unknown, or no point meets the constraints.
    """
    if not outcome.confirmed and not unconfirmed:
        raise InputError(
            f"no point of {study} was confirmed; run its command again without --no-confirm (stored trainings are not repeated), "
            "or choose by the sweep's own numbers with --unconfirmed"
        )
    confirmation = None if unconfirmed else without_excluded(outcome)
    numbers = [t.number for t in outcome.front()] if confirmation is None else [p.number for p in confirmation.points if p.on_front]
    if not numbers:
        flags = "; ".join(f"trial {p.number}: {', '.join(p.flags)}" for p in outcome.confirmed if p.flags)
        raise InputError(f"no point of {study} is left on the front" + (f" (excluding flags: {flags})" if flags else ""))
    folder_of = trial_folder if unconfirmed else point_folder
    by_point = {n: tuple(own for own in networks if f"{own.folder}/".startswith(f"{folder_of(n)}/")) for n in numbers}
    wanted = [constraint.metric for constraint in constraints] + ([preference.metric] if preference.metric else [])
    _check_metrics(wanted, by_point, outcome.objectives)
    if confirmation is None:
        confirmation, other = sweep_confirmation(outcome, by_point, wanted), None
    else:
        confirmation, other = with_further_metrics(confirmation, networks, store, revisions, wanted)
    chosen = choose_point(confirmation, outcome.objectives, constraints, preference, other)
    number = chosen.point.number
    trial = next(t for t in outcome.completed if t.number == number)
    return Pick(trial, chosen, by_point[number], median_network(by_point[number], chosen), not unconfirmed)


def median_network(networks: Sequence[StoredNetwork], chosen: Chosen) -> StoredNetwork:
    """The median network in the criterion of the preference; of two middle ones the worse one, and of equal ones the first."""

    def loss(network: StoredNetwork) -> float:
        if not chosen.preference.metric:
            objectives = chosen.distance.objectives
            return chosen.distance.of_one({o.metric: own_value(network, o.metric, chosen.point) for o in objectives})
        return (-1 if chosen.preference.maximize else 1) * own_value(network, chosen.preference.metric, chosen.point)

    worst_first = sorted(networks, key=lambda network: (-loss(network), network.folder))
    return worst_first[(len(worst_first) - 1) // 2]


def _check_metrics(wanted: Sequence[str], by_point: Networks, objectives: Sequence[Objective]) -> None:
    """Raise an error if a metric is not one that all networks have."""
    every = [network.metrics for own in by_point.values() for network in own]
    known = [name for name in every[0] if not name.startswith(BOOKKEEPING) and all(name in metrics for metrics in every)]
    for name in wanted:
        if name not in known:
            raise unknown("metric", name, sorted(known, key=lambda n: n not in {o.metric for o in objectives}))
