"""The interface of a re-evaluation, and the task that re-evaluates one stored network.

A `Reevaluation` defines what is measured on every network; `trainables.revisions.attacks` and `trainables.revisions.audits` are
the two that exist. Everything that all re-evaluations share is in `trainables.revisions.revise`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from core.data import Images
from core.metrics import Metrics
from core.space import Value
from trainables.execution.recorded import recorded
from trainables.execution.resources import SharedImages, Workspace, from_shared
from trainables.execution.tasks import Executor
from trainables.storage.arrays import to_npz
from trainables.storage.networks import StoredNetwork
from trainables.storage.results import intact_audit
from trainables.storage.store import Store
from trainables.storage.versions import Version
from trainables.study.plan import Plan
from trainables.study.results import AuditResult


@dataclass(frozen=True)
class Finding:
    """Metrics and evidence from re-evaluating one network."""

    metrics: Metrics
    """New metrics; `trainables.study.results.merged` combines them with the earlier ones."""
    evidence: dict[str, np.ndarray]
    """Per-image evidence; `robust/<attack>` are verdicts under further attacks."""
    curves: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    """ROC curves; see `AuditResult.curves`."""
    histogram: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Histogram of confidence; see `AuditResult.histogram`."""
    incomplete: bool = False
    """Whether networks were missing, so that the re-evaluation is to be repeated."""


class Reevaluation(Protocol):
    """A re-evaluation of every network of a study; it is sent to the workers."""

    @property
    def settings(self) -> dict[str, Value]:
        """Everything that determines the results; equal settings mean the same re-evaluation."""
        ...

    @property
    def how(self) -> str:
        """Description that continues "networks ..."."""
        ...

    @property
    def command(self) -> tuple[str, list[str]]:
        """The script, and the words after the study's name, that request the re-evaluation."""
        ...

    @property
    def shown_metric(self) -> str:
        """Metric that is printed for each network."""
        ...

    def covered(self, plan: Plan, later: Sequence[Version]) -> int:
        """The version that already contains this re-evaluation; 0 if there is none."""
        ...

    def check(self, networks: Sequence[StoredNetwork]) -> None:
        """Check that the settings fit the study's networks.

        Raises:
            InputError: they do not.
        """
        ...

    def prepare(
        self, plan: Plan, later: Sequence[Version], networks: Sequence[StoredNetwork], executor: Executor
    ) -> "Reevaluation":  # fmt: skip
        """Prepare the re-evaluation once on the driver, with the cluster joined; the result is sent to the workers."""
        ...

    def evaluate(
        self, network: StoredNetwork, images: Images, workspace: Workspace, later: Sequence[Version], device: torch.device
    ) -> Finding:
        """Re-evaluate one network on a worker; `later` are the finished versions so far."""
        ...


def reevaluate(
    network: StoredNetwork, reevaluation: Reevaluation, later: Sequence[Version], target: str, images: SharedImages,
    workspace: Workspace,
) -> AuditResult:  # fmt: skip
    """Re-evaluate a network and store the result below the folder `target`, unless that has been done."""
    files = workspace.store.below(f"{target}/{network.folder}")
    earlier = intact_audit(files, "result.json")
    if earlier and earlier.complete:
        return earlier

    def work(device: torch.device) -> AuditResult:
        finding = reevaluation.evaluate(network, from_shared(images), workspace, later, device)
        files.write("predictions.npz", to_npz(finding.evidence))
        return AuditResult(
            metrics=dict(finding.metrics.values), curves=finding.curves, histogram=finding.histogram,
            incomplete=finding.incomplete,
        )  # fmt: skip

    return recorded(work, lambda error: AuditResult(error=error), workspace.share, files, "result.json")


def missing(store: Store, version: Version, networks: Sequence[StoredNetwork]) -> list[StoredNetwork]:
    """The networks without a complete result in a version."""
    results = [intact_audit(store, f"{version.folder}/{network.folder}/result.json") for network in networks]
    return [network for network, result in zip(networks, results, strict=True) if not (result and result.complete)]
