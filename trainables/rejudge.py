"""Attacking the networks of a finished study further: `python studies/rejudge.py STUDY --suite strong`.

A trial's new robust accuracy is the worst case per image of everything that it has met, so it never rises.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

import torch
from torch import nn

from core import trial
from core.attacks.gradient import pgd
from core.attacks.suite import SUITES, Attack
from core.attacks.transfer import transfer
from core.config import TrialConfig
from core.data import Images
from core.errors import InputError, unknown
from core.space import Value
from core.subject import stored
from core.trial import Rejudged
from trainables import cli
from trainables.confirm import Crew
from trainables.fleet import Say
from trainables.look import Network
from trainables.plan import Plan
from trainables.results import Version, evidence, own_folder
from trainables.store import Store
from trainables.trial import Arrays, trial_folder


@dataclass(frozen=True)
class Attacks:
    """An `Extension`: a suite, and images made on one of the study's own networks."""

    suite: str
    source: int | None = None
    """The trial whose network images are made on, for every other one to meet; None is no such attack."""

    @property
    def settings(self) -> dict[str, Value]:
        """As version.json has them."""
        source: dict[str, Value] = {} if self.source is None else {"transfer_from": self.source}
        return {"suite": self.suite, **source}

    @property
    def how(self) -> str:
        """In words."""
        made = "" if self.source is None else f" and images made on trial {self.source}"
        return f"with the attacks of suite {self.suite}{made}"

    @property
    def command(self) -> tuple[str, list[str]]:
        """What asks for it."""
        source = [] if self.source is None else ["--transfer-from", str(self.source)]
        return "studies/rejudge.py", ["--suite", self.suite, *source]

    @property
    def shows(self) -> str:
        """What it is about."""
        return "robust_accuracy"

    def covered(self, plan: Plan, later: Sequence[Version]) -> int:
        """The version whose networks have all met this suite and these images."""
        for version in later:
            if version.settings.get("suite") == self.suite and self.source in (None, version.settings.get("transfer_from")):
                return version.number
        judged = {plan.config.judge.suite} | ({plan.config.set(plan.confirm).judge.suite} if plan.replicates else set())
        return 1 if judged == {self.suite} and self.source is None else 0

    def check(self, networks: Sequence[Network]) -> None:
        """Refuse a source that is no trial of the study."""
        if self.source is None:
            return
        numbers = {int(network.folder.split("/")[1]) for network in networks if network.folder.startswith("trials/")}
        if self.source not in numbers:
            raise InputError(f"--transfer-from {self.source}: no trial of that number has a network, expected one of: "
                             + ", ".join(map(str, sorted(numbers))))  # fmt: skip

    def prepare(
        self, plan: Plan, later: Sequence[Version], networks: Sequence[Network], arrays: Arrays, crew: Crew, say: Say
    ) -> "Attacks":
        """Nothing is needed."""
        return self

    def look(self, network: Network, images: Images, store: Store, later: Sequence[Version], device: torch.device) -> Rejudged:
        """What it has not met of the suite, then a new start of PGD that says whether that was enough, then the source's images."""
        config = TrialConfig.of(network.params)
        more = SUITES[config.judge.suite](config.judge.steps, config.judge.restarts)["pgd_more"]
        # It had one start when the network was judged and one at each look since; this one is new (`more_steps_help`).
        others = {"pgd_more": replace(more, knobs={**more.knobs, "restarts": len(later) + 2})}
        if self.source is not None and network.folder != own_folder(store, self.source):
            net = source_net(store, self.source, images, device)
            # Every step is taken: further into the source's wrong class transfers better.
            knobs = {"source": net, "attack": pgd, "steps": config.judge.steps, "restarts": 1, "stop_when_fooled": False}
            others[f"transfer_{self.source}"] = Attack(transfer, knobs, black_box=True)
        # `core.trial.rejudge` leaves out what the trial's own suite had; what a later version had is left out here.
        met = any(version.settings.get("suite") == self.suite for version in later)
        suite = config.judge.suite if met else self.suite
        known = evidence(store, network.folder, later)
        modules = store.read_state(f"{network.folder}/network.pt") or {}
        return trial.rejudge(config, modules, images, suite, known, others=others, device=device)


def source_net(store: Store, number: int, images: Images, device: torch.device) -> nn.Module:
    """The stored network of a trial."""
    config = TrialConfig.of(store.read_json(f"{trial_folder(number)}/params.json")["params"])
    return stored(config, store.read_state(f"{own_folder(store, number)}/network.pt") or {}, images, device).net


def parser() -> argparse.ArgumentParser:
    """The switches of studies/rejudge.py."""
    p = cli.Parser(description="Attack the stored networks of a finished study further; nothing is trained.", allow_abbrev=False)
    p.add_argument("study", metavar="STUDY", help="name of a study's execution: the folder below --storage, as for --resume")
    p.add_argument("--suite", required=True, metavar="S", help=f"one of {', '.join(SUITES)}; strong is AutoAttack's effort")
    p.add_argument(
        "--transfer-from", type=cli.at_least(0), metavar="N", help="also try images made on trial N's network on all others"
    )
    cli.add_where(p, workers=False, shadows=False)
    return p


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Do what the command line asks, and leave with its exit code."""
    cli.leave(lambda: _main(parser().parse_args(argv), list(sys.argv if argv is None else ["studies/rejudge.py", *argv])))


def _main(args: argparse.Namespace, command: list[str]) -> int:
    from trainables.extend import extend

    if args.suite not in SUITES:
        raise unknown("suite", args.suite, SUITES)
    return extend(args.study, Attacks(args.suite, args.transfer_from), cli.site_of(args), command=command)
