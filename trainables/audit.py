"""Auditing the networks of a finished study further: `python studies/audit.py STUDY --shadows 8`.

Shadow models are trained, as many as are still missing; the study's own networks are not trained again. A point's new AUC is the
worst of all audits so far.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import torch

from core.audit import reaudit
from core.config import Metrics, TrialConfig
from core.data import Images
from core.errors import InputError
from core.space import Value
from trainables import cli
from trainables.confirm import Crew, subjects_of
from trainables.fleet import Asked, Say, Subject, audited, train_shadows
from trainables.look import Network
from trainables.plan import Plan
from trainables.results import Version
from trainables.store import Store
from trainables.trial import Arrays, Job


@dataclass(frozen=True)
class Found:
    """What audits brought."""

    metrics: Metrics
    predictions: dict[str, np.ndarray]
    drawn: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Audits:
    """An `Extension`: gradient norms and adversarial queries for every network, shadow models for those that confirm trained."""

    shadows: int
    """Per confirmed point; 0 is none."""
    fleets: dict[str, tuple[list[Job], list[Job]]] = field(default_factory=dict)
    """By folder, the sisters and the shadow models of a replicate; made by `prepare`."""
    asked: Asked = field(default_factory=lambda: Asked(0, 0))
    """How many these were to be, likewise."""

    @property
    def settings(self) -> dict[str, Value]:
        """As version.json has them."""
        return {"shadows": self.shadows}

    @property
    def how(self) -> str:
        """In words."""
        return f"with the standard audits and {self.shadows} shadow models for each confirmed point"

    @property
    def command(self) -> tuple[str, list[str]]:
        """What asks for it."""
        return "studies/audit.py", ["--shadows", str(self.shadows)]

    @property
    def shows(self) -> str:
        """What it is about."""
        return "mia_auc"

    def covered(self, plan: Plan, later: Sequence[Version]) -> int:
        """The version whose points have had as many shadow models."""
        for version in later:
            if int(version.settings.get("shadows", -1)) >= self.shadows:
                return version.number
        return 0

    def check(self, networks: Sequence[Network]) -> None:
        """Refuse shadow models for a study without confirmed points."""
        if self.shadows and not any(network.folder.startswith("confirm/") for network in networks):
            raise InputError("this study has no confirmed points for shadow models to audit; run one without --no-confirm")

    def prepare(
        self, plan: Plan, later: Sequence[Version], networks: Sequence[Network], arrays: Arrays, crew: Crew, say: Say
    ) -> "Audits":
        """Train the shadow models that are missing; where the study has had more of them, these stay."""
        count = max(self.shadows, plan.shadows, *(int(version.settings.get("shadows", 0)) for version in later))
        jobs = {
            (int(point), int(replicate)): Job(network.folder, network.params)
            for network in networks if network.folder.startswith("confirm/")
            for _, point, replicate in [network.folder.split("/")]
        }  # fmt: skip
        recipes = {number: job.params for (number, _), job in jobs.items()}
        trained = train_shadows(list(recipes.values()), count, arrays, crew.root, crew.share, crew.concurrency, say)
        shadows = dict(zip(recipes, trained, strict=True))
        if lost := sum(count - len(own) for own in shadows.values()):
            say(f"{lost} shadow models could not be trained; the audits go on without them, the same command tries them again")
        fleets = {
            subject.folder: (list(subject.sisters), shadows[number]) for (number, _), subject in subjects_of(jobs).items()
        }  # fmt: skip
        return Audits(self.shadows, fleets, Asked(plan.replicates - 1, count))

    def look(self, network: Network, images: Images, store: Store, later: Sequence[Version], device: torch.device) -> Found:
        """A network is asked for its gradients and adversarial images unless it has been; a replicate is audited by others, too."""
        config, known, found = TrialConfig.of(network.params), dict(network.metrics), {}
        if "mia_auc/gradient_norm" not in known:
            modules = store.read_state(f"{network.folder}/network.pt") or {}
            found = dict(reaudit(config, modules, images, known, device=device).values)
        if network.folder not in self.fleets:
            return Found(Metrics(found), {})
        sisters, shadows = self.fleets[network.folder]
        subject = Subject(network.folder, network.params, tuple(sisters))
        by_others, drawn = audited(subject, shadows, known | found, store, store.above, images, device)
        drawn |= {"again": len(shadows) < self.asked.shadows}
        return Found(Metrics(found | dict(by_others.metrics.values) | self.asked.flag(sisters, shadows)), by_others.evidence, drawn)


def parser() -> argparse.ArgumentParser:
    """The switches of studies/audit.py."""
    p = cli.Parser(
        description="Audit the stored networks of a finished study further; only shadow models are trained.", allow_abbrev=False
    )
    p.add_argument("study", metavar="STUDY", help="name of a study's execution: the folder below --storage, as for --resume")
    p.add_argument("--shadows", type=cli.at_least(0), required=True, metavar="N", help="shadow models for each confirmed point")
    cli.add_where(p, workers=False)
    return p


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Do what the command line asks, and leave with its exit code."""
    cli.leave(lambda: _main(parser().parse_args(argv), list(sys.argv if argv is None else ["studies/audit.py", *argv])))


def _main(args: argparse.Namespace, command: list[str]) -> int:
    from trainables.extend import extend

    return extend(args.study, Audits(args.shadows), cli.site_of(args), command=command)
