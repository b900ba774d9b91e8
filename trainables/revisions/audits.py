"""Auditing the networks of a finished study further.

Missing shadow models are trained; the study's own networks are not trained again. The new AUC of a point is the worst over all
audits so far.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from core.audits.evidence import stored_scores
from core.config import TrialConfig
from core.data import Images
from core.errors import InputError
from core.evaluation.privacy import reaudit
from core.metrics import Metrics
from core.space import Value
from trainables.execution.audits import AuditTarget, audit_targets, run_audits, shadows_of
from trainables.execution.resources import Workspace
from trainables.execution.shadows import ExpectedModels
from trainables.execution.tasks import Executor
from trainables.revisions.reevaluation import Finding
from trainables.storage.jobs import Job
from trainables.storage.networks import StoredNetwork
from trainables.storage.results import evidence
from trainables.storage.versions import Version
from trainables.study.plan import Plan
from trainables.study.text import counted, plural


@dataclass(frozen=True)
class Audits:
    """A re-evaluation: gradient norms and adversarial queries for all networks, and shadow models for confirmed points."""

    shadows: int
    """Number of shadow models per confirmed point; 0 is none."""
    targets: dict[str, AuditTarget] = field(default_factory=dict)
    """Replicates with the networks that audit them, by folder; made by `prepare`."""
    expected: ExpectedModels = field(default_factory=lambda: ExpectedModels(0, 0))
    """Number of networks that should audit each replicate; made by `prepare`."""

    @property
    def settings(self) -> dict[str, Value]:
        """The settings, as version.json stores them."""
        return {"shadows": self.shadows}

    @property
    def how(self) -> str:
        """Description that continues "networks ..."."""
        return f"with the standard audits and {counted(self.shadows, 'shadow model')} for each confirmed point"

    @property
    def command(self) -> tuple[str, list[str]]:
        """The script, and the words after the study's name."""
        return "studies/audit.py", ["--shadows", str(self.shadows)]

    @property
    def shown_metric(self) -> str:
        """Metric that is printed for each network."""
        return "mia_auc"

    def covered(self, plan: Plan, later: Sequence[Version]) -> int:
        """The version whose points were audited by at least as many shadow models; 0 if there is none."""
        for version in later:
            if int(version.settings.get("shadows", -1)) >= self.shadows:
                return version.number
        return 0

    def check(self, networks: Sequence[StoredNetwork]) -> None:
        """Check that there are confirmed points for shadow models to audit.

        Raises:
            InputError: there are none.
        """
        if self.shadows and not any(network.folder.startswith("confirm/") for network in networks):
            raise InputError("this study has no confirmed points for shadow models to audit; run one without --no-confirm")

    def prepare(
        self, plan: Plan, later: Sequence[Version], networks: Sequence[StoredNetwork], executor: Executor
    ) -> "Audits":  # fmt: skip
        """Train the missing shadow models; if the study has used more of them before, those are used again."""
        count = max(self.shadows, plan.shadows, *(int(version.settings.get("shadows", 0)) for version in later))
        jobs = {
            (int(point), int(replicate)): Job(network.folder, network.params)
            for network in networks if network.folder.startswith("confirm/")
            for _, point, replicate in [network.folder.split("/")]
        }  # fmt: skip
        targets = audit_targets(jobs, plan.siblings, shadows_of(jobs, count, executor))
        by_point = {point: len(target.shadows) for (point, _), target in targets.items()}
        if lost := sum(count - trained for trained in by_point.values()):
            models, them = counted(lost, "shadow model"), plural(lost, "it", "them")
            executor.report(f"{models} could not be trained; audits continue without {them}; repeat the command to retry")
        by_folder = {target.folder: target for target in targets.values()}
        return Audits(self.shadows, by_folder, ExpectedModels(plan.siblings, count))

    def evaluate(
        self, network: StoredNetwork, images: Images, workspace: Workspace, later: Sequence[Version], device: torch.device
    ) -> Finding:
        """Run the further audits unless the network has had them, and audit a replicate by other networks."""
        config, known, metrics = TrialConfig.of(network.params), dict(network.metrics), {}
        scores, added = evidence(workspace.store, network.folder, [version.folder for version in later]), {}
        if "mia_auc/gradient_norm" not in known:
            modules = workspace.store.read_state(f"{network.folder}/network.pt") or {}
            further = reaudit(config, modules, images, known, stored_scores(scores), device=device)
            metrics, added = dict(further.metrics.values), further.evidence
        if network.folder not in self.targets:
            return Finding(Metrics(metrics), added)
        target = self.targets[network.folder]
        audit, plots = run_audits(target, known | metrics, scores | added, workspace, images, device)
        metrics |= dict(audit.metrics.values) | self.expected.flag(target.siblings, target.shadows)
        incomplete = len(target.shadows) < self.expected.shadows
        return Finding(Metrics(metrics), added | audit.evidence, plots.curves, plots.histogram, incomplete)
