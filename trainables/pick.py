"""Deciding for a point of a finished study: `python studies/pick.py STUDY --require 'accuracy>=0.9' --minimize mia_auc`.

Points are compared by their means over replicates, on images that the sweep has not seen. What is shipped is one network: the
replicate in the middle, since the best one of several would promise too much.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from core.config import Limit, Objective
from core.errors import InputError, redacted, unknown
from core.stats import Interval, mean_interval
from trainables import cli
from trainables.confirm import point_folder
from trainables.look import Network, stored_networks
from trainables.outcome import Outcome, Trial
from trainables.plan import Plan, Site
from trainables.results import Version, outcomes, versions
from trainables.store import Store
from trainables.trial import trial_folder
from trainables.words import named

BOOKKEEPING = ("flag/", "seconds/", "images_per_second/")
"""Beginnings of metrics that nobody picks by."""


@dataclass(frozen=True)
class Candidate:
    """A point of the front and its networks: its replicates, or the one that the sweep trained."""

    trial: Trial
    networks: tuple[Network, ...]

    def numbers(self, metric: str) -> tuple[float, Interval]:
        """The mean over the networks and its 95 % interval, which is infinite for a single one."""
        return mean_interval([network.metrics[metric] for network in self.networks])


@dataclass(frozen=True)
class Wish:
    """What is asked for."""

    limits: tuple[Limit, ...]
    metric: str
    highest: bool
    """Of those that meet the limits, the one with the highest value of the metric; else the lowest."""

    @property
    def words(self) -> list[str]:
        """As on the command line."""
        limits = [word for limit in self.limits for word in ("--require", str(limit))]
        return [*limits, "--maximize" if self.highest else "--minimize", self.metric]

    def __str__(self) -> str:
        limits = f" with {' and '.join(map(str, self.limits))}" if self.limits else ""
        return f"the {'highest' if self.highest else 'lowest'} {self.metric}{limits}"


@dataclass(frozen=True)
class Pick:
    """The point that was chosen, and its network to be shipped."""

    candidate: Candidate
    network: Network
    wish: Wish
    met: int
    """How many points meet the limits."""
    among: int
    """Of how many."""
    confirmed: bool
    """Whether the numbers are of confirm, not of the sweep."""

    @property
    def which(self) -> str:
        """Which network it is, and why."""
        count, network = len(self.candidate.networks), self.network.name
        if count == 1:
            return network + (", the only one that succeeded" if self.confirmed else ", as the sweep trained it")
        return f"{network}, the {'median' if count % 2 else 'lower of the two in the middle'} of {count}"

    @property
    def doubts(self) -> list[str]:
        """Requirements that are met by the mean and not by all of its interval, or not by the network itself."""
        found = []
        for limit in self.wish.limits:
            low, high = self.candidate.numbers(limit.metric)[1]
            if not math.isfinite(high - low):
                found.append(f"{limit} is met by a single network, so there is no interval that says how surely")
            elif limit.lacks(low) or limit.lacks(high):
                found.append(f"{limit} is met by the mean, but its 95 % interval, {low:.4f} to {high:.4f}, crosses the limit")
            if limit.lacks(own := self.network.metrics[limit.metric]):
                found.append(f"{limit} is met by the mean, but this network itself has {own:.4f}")
        return found


def candidates(plan: Plan, store: Store, outcome: Outcome, later: Sequence[Version], unconfirmed: bool) -> list[Candidate]:
    """The points to choose from; no flag bars any of them.

    Raises:
        InputError: there are none, with what to do about it.
    """
    if not outcome.confirmed and not unconfirmed:
        raise InputError(
            f"no point of {plan.name} was confirmed; start its command once more without --no-confirm (what it has trained is "
            "taken over), or pick by the sweep's own numbers with --unconfirmed"
        )
    networks = stored_networks(plan, store, later)
    trials = {trial.number: trial for trial in outcome.done if not trial.barred}
    if unconfirmed:
        places = {trial.number: f"{trial_folder(trial.number)}/" for trial in outcome.front()}
    else:
        kept = [point.number for point in outcome.confirmed if point.on_front and not point.flags]
        places = {n: f"{point_folder(n)}/" for n in kept if n in trials}
    if not places:
        why = "; ".join(f"trial {p.number}: {', '.join(p.flags)}" for p in outcome.confirmed if p.flags)
        raise InputError(f"no point of {plan.name} is left on the front" + (f" (flags of {why})" if why else ""))
    return [Candidate(trials[n], tuple(x for x in networks if f"{x.folder}/".startswith(place))) for n, place in places.items()]


def choose(among: Sequence[Candidate], wish: Wish, objectives: Sequence[Objective], confirmed: bool) -> Pick:
    """The candidate that the wish asks for, and of its networks the one in the middle by the first objective.

    Of two in the middle it is the worse one.

    Raises:
        InputError: an unknown metric, or nothing meets the limits; the message says how close the nearest comes.
    """
    known = [name for name in among[0].networks[0].metrics if not name.startswith(BOOKKEEPING)]
    known = [name for name in known if all(name in network.metrics for c in among for network in c.networks)]
    for name in (*(limit.metric for limit in wish.limits), wish.metric):
        if name not in known:
            raise unknown("metric", name, sorted(known, key=lambda n: n not in {o.metric for o in objectives}))

    def lacking(candidate: Candidate) -> list[float]:
        short = [limit.lacks(candidate.numbers(limit.metric)[0]) / (abs(limit.value) or 1.0) for limit in wish.limits]
        return [sum(map(bool, short)), sum(short)]  # how many limits, then by which share of each

    able = [candidate for candidate in among if not any(lacking(candidate))]
    if not able:
        nearest = min(among, key=lacking)
        values = ", ".join(f"{limit.metric} {nearest.numbers(limit.metric)[0]:.4f}" for limit in wish.limits)
        raise InputError(
            f"none of the {len(among)} points has {' and '.join(map(str, wish.limits))}; "
            f"the nearest is {named(nearest.trial)} with {values}"
        )
    sign = -1 if wish.highest else 1
    best = min(able, key=lambda c: (sign * c.numbers(wish.metric)[0], c.trial.number))
    first = objectives[0]
    worst_first = sorted(best.networks, key=lambda n: (-first.loss(n.metrics[first.metric]), n.folder))
    return Pick(best, worst_first[(len(worst_first) - 1) // 2], wish, len(able), len(among), confirmed)


def interval_text(interval: Interval) -> str:
    """For people."""
    low, high = interval
    return f"{low:.4f} to {high:.4f}" if math.isfinite(high - low) else "none"


def lines(picked: Pick, plan: Plan, run: str) -> list[str]:
    """What the terminal says of a choice."""
    kind = "confirmed points on the front" if picked.confirmed else "points on the front of the sweep, by its own numbers"
    found = [
        f"picked {named(picked.candidate.trial)} of {plan.name}: {picked.wish}",
        f"among {picked.among} {kind}" + (f", of which {picked.met} meet the limits" if picked.wish.limits else ""),
        f"MLflow run: {run or 'unknown there'}",
    ]  # fmt: skip
    asked = [o.metric for o in plan.objectives] + [limit.metric for limit in picked.wish.limits] + [picked.wish.metric]
    for metric in dict.fromkeys(asked):
        mean, interval = picked.candidate.numbers(metric)
        found.append(
            f"  {metric} {mean:.4f} (95 % interval {interval_text(interval)}; this network {picked.network.metrics[metric]:.4f})"
        )
    return [*found, f"network: {picked.which} by {plan.objectives[0].metric}", *(f"doubt: {doubt}" for doubt in picked.doubts)]


def parser() -> argparse.ArgumentParser:
    """The switches of studies/pick.py."""
    p = cli.Parser(description="Choose a point of a finished study and register its model in MLflow.", allow_abbrev=False)
    p.add_argument("study", metavar="STUDY", help="name of a study's execution: the folder below --storage, as for --resume")
    p.add_argument("--require", action="append", default=[], metavar="LIMIT", help="'METRIC>=VALUE' or 'METRIC<=VALUE', quoted")
    best = p.add_mutually_exclusive_group(required=True)
    best.add_argument("--minimize", metavar="METRIC", help="of the points that are left, take the one with the lowest")
    best.add_argument("--maximize", metavar="METRIC", help="or with the highest")
    p.add_argument("--unconfirmed", action="store_true", help="pick from the sweep's front, by its own numbers")
    p.add_argument("--name", metavar="MODEL", help="of the registered model (default: the study's, without the date)")
    p.add_argument("--no-register", action="store_true", help="only print what would be picked")
    site = Site()
    p.add_argument("--data-dir", default=site.data_dir, metavar="DIR", help=f"for data sets (default: {site.data_dir})")
    p.add_argument("--storage", default=site.storage, metavar="URI", help=f"where the study is (default: {site.storage})")
    p.add_argument("--tracking-uri", default=site.tracking_uri, metavar="URI", help=f"of MLflow (default: {site.tracking_uri})")
    return p


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Do what the command line asks, and leave with its exit code."""
    cli.leave(lambda: _main(parser().parse_args(argv), list(sys.argv if argv is None else ["studies/pick.py", *argv])))


def _main(args: argparse.Namespace, command: list[str]) -> int:
    from trainables import launch, registry

    metric = args.minimize if args.maximize is None else args.maximize
    wish = Wish(tuple(Limit.of(text) for text in args.require), metric, highest=args.maximize is not None)
    site = Site(storage=args.storage, tracking_uri=args.tracking_uri, data_dir=args.data_dir)
    plan = launch.stored_plan(args.study, site)
    name = registry.checked_name(plan.study if args.name is None else args.name)
    store = Store.at(site.storage).below(plan.name)
    if "report.html" not in store.names(""):  # the last that a study writes
        raise InputError(f"{plan.name} is not finished; finish it with `{launch.resume_command(plan, site)}`")
    later = [version for version in versions(store) if version.finished]
    outcome = outcomes(plan, store, store.read_json("facts.json") or {}, later)[-1]
    among = candidates(plan, store, outcome, later, args.unconfirmed)
    picked = choose(among, wish, plan.objectives, confirmed=not args.unconfirmed)
    try:
        run = registry.child_run(plan, picked.candidate.trial.number, site.tracking_uri)
    except InputError:
        if not args.no_register:
            raise
        run = ""
    print(*lines(picked, plan, run), sep="\n")
    if args.no_register:
        return 0
    uri, new = registry.register(picked, outcome, plan, store, site, run, name, launch.facts(command))
    again = "" if new else ", as it was before: nothing was registered"
    print(
        f"registered model: {uri}{again}", f"  in {redacted(site.tracking_uri)}", f"  mlflow.pyfunc.load_model({uri!r})", sep="\n"
    )
    return 0
