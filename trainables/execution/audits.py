"""Audits of networks by other networks: by their sibling replicates and by shadow models, one task per network."""

import contextlib
import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from core.audits.evidence import stored_scores
from core.audits.outputs import ModelOutputs
from core.config import TrialConfig
from core.data import Images
from core.errors import InputError
from core.evaluation.privacy import FurtherAudits, audit_by_others, outputs_of
from core.evaluation.stored import member_rows, stored_model
from core.space import Value
from trainables.execution.recorded import recorded
from trainables.execution.resources import SharedImages, Workspace, from_shared
from trainables.execution.shadows import ExpectedModels, train_shadows
from trainables.execution.tasks import Executor
from trainables.storage.arrays import to_npz
from trainables.storage.contents import Damaged
from trainables.storage.jobs import Job
from trainables.storage.results import REPLACE, intact_audit, training_result
from trainables.storage.store import Store
from trainables.study.results import AuditResult
from trainables.study.verdicts import ROC_GRID

BINS = 50
"""Number of bins of the histograms of confidence."""
Point = TypeVar("Point", bound=Hashable)


@dataclass(frozen=True)
class AuditTarget:
    """A network to audit, with the networks that audit it."""

    folder: str
    """Folder of the network, relative to the study's folder."""
    params: dict[str, Value]
    """Complete configuration in flat form."""
    siblings: tuple[Job, ...]
    """The other replicates of the same point."""
    shadows: tuple[Job, ...] = ()
    """Shadow models of the recipe."""


def shadows_of(jobs: Mapping[tuple[Point, int], Job], count: int, executor: Executor) -> dict[Point, list[Job]]:
    """Shadow models of the points of these replicates, which are trained if they are missing.

    Args:
        jobs: trainings of the replicates, by point and number.
        count: number of shadow models per point; 0 is none.
        executor: executor of the study.
    """
    recipes = {point: job.params for (point, _), job in jobs.items()}
    trained = train_shadows(list(recipes.values()), count, executor) if count else [[] for _ in recipes]
    return dict(zip(recipes, trained, strict=True))


def audit_targets(
    jobs: Mapping[tuple[Point, int], Job], siblings: int, shadows: Mapping[Point, Sequence[Job]]
) -> dict[tuple[Point, int], AuditTarget]:
    """Replicates by point and number, each with its siblings and its shadow models.

    Args:
        jobs: trainings of the replicates.
        siblings: number of siblings of each replicate, at most: the other replicates with the lowest numbers.
        shadows: shadow models by point.
    """
    return {
        (point, r): AuditTarget(
            job.folder, job.params, shadows=tuple(shadows[point]),
            siblings=tuple(own for (other, q), own in sorted(jobs.items()) if other == point and q != r)[:siblings],
        )
        for (point, r), job in jobs.items()
    }  # fmt: skip


def audit_all(
    targets: Mapping[tuple[Point, int], AuditTarget], expected: ExpectedModels, executor: Executor
) -> dict[tuple[Point, int], AuditResult]:
    """Audit networks by their siblings and shadow models, one task each.

    Args:
        targets: the networks.
        expected: number of networks that should audit each of them.
        executor: executor of the study; it reports failures.
    """

    def ended(name: tuple[Point, int], result: AuditResult) -> None:
        if result.error:
            executor.report(f"audit of {targets[name].folder} failed: {result.error}")

    calls = {name: {"target": target, "expected": expected} for name, target in targets.items()}
    return executor.map(audit_network, calls, AuditResult, ended)


def audit_network(
    target: AuditTarget, expected: ExpectedModels, images: SharedImages, workspace: Workspace
) -> AuditResult:  # fmt: skip
    """Audit a network and store the result next to it, unless the same networks have audited it before."""
    store, files = workspace.store, workspace.store.below(target.folder)
    fingerprint = _fingerprint(target, workspace, images)
    earlier = intact_audit(files, "audit.json")
    if earlier and not earlier.error and earlier.fingerprint == fingerprint:
        return earlier

    def work(device: torch.device) -> AuditResult:
        known = training_result(store, target.folder)
        scores = store.read_arrays(f"{target.folder}/predictions.npz", REPLACE) or {}
        audit, plots = run_audits(target, known.metrics if known else {}, scores, workspace, from_shared(images), device)
        files.write("audit.npz", to_npz(audit.evidence))
        metrics = {**audit.metrics.values, **expected.flag(target.siblings, target.shadows)}
        return AuditResult(metrics=metrics, fingerprint=fingerprint, curves=plots.curves, histogram=plots.histogram)

    def failure(error: str) -> AuditResult:
        return AuditResult(error=error, fingerprint=fingerprint)

    return recorded(work, failure, workspace.share, files, "audit.json")


def _fingerprint(target: AuditTarget, workspace: Workspace, images: SharedImages) -> str:
    """Fingerprint of the audited network, of those that audit it (their current results), and of images and code."""
    places = [(workspace.store, target.folder), *((workspace.store, job.folder) for job in target.siblings)]
    places += [(workspace.root, job.folder) for job in target.shadows]
    digest = hashlib.sha256(f"{images.content.images} {images.content.code}".encode())
    for store, folder in places:
        digest.update(f"\n{folder}\n".encode() + (store.read(f"{folder}/result.json") or b""))
    return digest.hexdigest()[:32]


@dataclass(frozen=True)
class AuditPlots:
    """Data for the plots of a network's audits."""

    curves: dict[str, list[float | None]]
    """True-positive rates at `ROC_GRID` by audit; None where there are too few non-members for the rate."""
    histogram: dict[str, list[int]]
    """Counts of `members` and `non_members` by confidence."""


def run_audits(
    target: AuditTarget, known: Mapping[str, float], scores: Mapping[str, np.ndarray], workspace: Workspace, images: Images,
    device: torch.device,
) -> tuple[FurtherAudits, AuditPlots]:  # fmt: skip
    """Audit a network by its siblings and shadow models, given its metrics and its evidence so far."""
    config = TrialConfig.of(target.params)
    jobs = [(workspace.store, job) for job in (Job(target.folder, target.params), *target.siblings)]
    jobs += [(workspace.root, job) for job in target.shadows]
    outputs, *others = [stored_outputs(store.below(job.folder), TrialConfig.of(job.params), images, device) for store, job in jobs]
    count = len(target.siblings)
    audit = audit_by_others(config, outputs, others[:count], others[count:], images, known, stored_scores(scores))
    rocs = {name: roc for group in stored_scores(audit.evidence) for name, roc in group.rocs().items()}
    curves = {
        name: [roc.tpr_at(rate) if rate * len(roc.non_members) >= 1 else None for rate in ROC_GRID] for name, roc in rocs.items()
    }  # fmt: skip
    return audit, AuditPlots(curves, _histogram(config, outputs, images))


def stored_outputs(files: Store, config: TrialConfig, images: Images, device: torch.device) -> ModelOutputs:
    """Outputs of a stored network for every image; they are computed again if they were not stored.

    Raises:
        InputError: the file or the network cannot be used.
    """
    arrays = None
    with contextlib.suppress(Damaged):  # then the network is queried again
        arrays = files.read_arrays("outputs.npz")
    try:
        if arrays is not None:
            return ModelOutputs.of(arrays, images.y.numpy())
    except (ValueError, KeyError) as error:
        raise InputError(f"cannot use {files.root}/outputs.npz: {error}; delete it to query the network again") from None
    modules = files.read_state("network.pt", REPLACE)
    if modules is None:
        raise InputError(f"no network.pt in {files.root}; delete result.json there to train it again")
    return outputs_of(config, stored_model(config, modules, images, device).net, images, device=device)


def _histogram(config: TrialConfig, outputs: ModelOutputs, images: Images) -> dict[str, list[int]]:
    """Counts of members and non-members by confidence, in `BINS` equal parts of [0, 1]."""
    parts = config.parts(images)
    groups = {"members": member_rows(config, images, parts)[0], "non_members": parts.non_members(config.judge.part)}
    return {
        name: np.histogram(outputs.score("confidence", rows), bins=BINS, range=(0, 1))[0].tolist() for name, rows in groups.items()
    }
