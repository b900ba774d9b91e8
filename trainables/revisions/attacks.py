"""Attacking the networks of a finished study further.

The new robust accuracy of a trial is the worst case per image over all attacks so far, so it never increases.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from core.attacks.gradient import pgd
from core.attacks.suite import Attack, quick
from core.attacks.transfer import transfer
from core.config import TrialConfig
from core.data import Images
from core.errors import InputError
from core.evaluation.robustness import attack_further
from core.evaluation.stored import stored_model
from core.space import Value
from trainables.execution.resources import Workspace
from trainables.execution.tasks import Executor
from trainables.revisions.reevaluation import Finding
from trainables.storage.networks import StoredNetwork
from trainables.storage.results import evidence, network_folder, suggestion
from trainables.storage.store import Store
from trainables.storage.versions import Version
from trainables.study.plan import Plan
from trainables.study.text import numbers


@dataclass(frozen=True)
class Attacks:
    """A re-evaluation: an attack suite, and adversarial images made on one of the study's own networks."""

    suite: str
    """Name of the suite in `core.attacks.suite.SUITES`."""
    source: int | None = None
    """Number of the trial on whose network images are made to attack all others; None for no such attack."""

    @property
    def settings(self) -> dict[str, Value]:
        """The settings, as version.json stores them."""
        source: dict[str, Value] = {} if self.source is None else {"transfer_from": self.source}
        return {"suite": self.suite, **source}

    @property
    def how(self) -> str:
        """Description that continues "networks ..."."""
        made = "" if self.source is None else f" and images made on trial {self.source}"
        return f"with the attacks of suite {self.suite}{made}"

    @property
    def command(self) -> tuple[str, list[str]]:
        """The script, and the words after the study's name."""
        source = [] if self.source is None else ["--transfer-from", str(self.source)]
        return "studies/rejudge.py", ["--suite", self.suite, *source]

    @property
    def shown_metric(self) -> str:
        """Metric that is printed for each network."""
        return "robust_accuracy"

    def covered(self, plan: Plan, later: Sequence[Version]) -> int:
        """The version whose networks have met this suite and these images already; 0 if there is none."""
        for version in later:
            if version.settings.get("suite") == self.suite and self.source in (None, version.settings.get("transfer_from")):
                return version.number
        suites = {plan.config.judge.suite} | ({plan.config.set(plan.confirm).judge.suite} if plan.replicates else set())
        return 1 if suites == {self.suite} and self.source is None else 0

    def check(self, networks: Sequence[StoredNetwork]) -> None:
        """Check that the source is a trial with a network.

        Raises:
            InputError: it is not.
        """
        if self.source is None:
            return
        known = {int(network.folder.split("/")[1]) for network in networks if network.folder.startswith("trials/")}
        if self.source not in known:
            raise InputError(
                f"--transfer-from {self.source}: no trial of that number has a network, expected one of: {numbers(known)}"
            )

    def prepare(
        self, plan: Plan, later: Sequence[Version], networks: Sequence[StoredNetwork], executor: Executor
    ) -> "Attacks":  # fmt: skip
        """Return the re-evaluation unchanged; attacks need no preparation."""
        return self

    def evaluate(
        self, network: StoredNetwork, images: Images, workspace: Workspace, later: Sequence[Version], device: torch.device
    ) -> Finding:
        """Run the attacks of the suite that the network has not met, PGD from a new start, then the images of the source.

        The new start of PGD decides `flag/more_steps_help`: whether the attacks have converged.
        """
        store, config = workspace.store, TrialConfig.of(network.params)
        more = quick(config.judge.steps, config.judge.restarts)["pgd_more"]
        # The network met one start when it was trained and one in each version since; this one is new.
        others = {"pgd_more": replace(more, knobs={**more.knobs, "restarts": len(later) + 2})}
        if self.source is not None and network.folder != network_folder(store, self.source):
            net = source_network(store, self.source, images, device)
            # All steps are taken: images further inside the source's wrong class transfer better.
            knobs = {"source": net, "attack": pgd, "steps": config.judge.steps, "restarts": 1, "stop_when_fooled": False}
            others[f"transfer_{self.source}"] = Attack(transfer, knobs, black_box=True)
        # `attack_further` skips the trial's own suite; the suite of a later version is skipped here.
        met = any(version.settings.get("suite") == self.suite for version in later)
        suite = config.judge.suite if met else self.suite
        known = evidence(store, network.folder, [version.folder for version in later])
        modules = store.read_state(f"{network.folder}/network.pt") or {}
        result = attack_further(config, modules, images, suite, known, others=others, device=device)
        return Finding(result.metrics, result.predictions)


def source_network(store: Store, number: int, images: Images, device: torch.device) -> nn.Module:
    """The stored network of a trial."""
    config = TrialConfig.of((suggestion(store, number) or {})["params"])
    return stored_model(config, store.read_state(f"{network_folder(store, number)}/network.pt") or {}, images, device).net
