"""Audits of replicates by their siblings and by shadow models, without a cluster."""

from pathlib import Path

import numpy as np
import pytest
import torch
from in_process import local_executor, workspace

from core import data
from core.config import TrialConfig
from trainables.execution.audits import AuditTarget, audit_all, audit_network, audit_targets, shadows_of, stored_outputs
from trainables.execution.resources import to_shared
from trainables.execution.shadows import ExpectedModels
from trainables.execution.trainable import run_job
from trainables.storage.arrays import of_npz
from trainables.storage.jobs import Job
from trainables.storage.results import replicate_results
from trainables.storage.store import Store
from trainables.study.results import AuditResult, NetworkResult, TrainingResult

TINY = {"epochs": 6, "net.width": 4, "judge.steps": 1, "judge.images": 16, "judge.epsilon": 0.1, "judge.part": "test"}
TINY |= {"judge.audits": "standard"}
IMAGES = to_shared(data.load("digits"))
Key = tuple[int, int]
"""A trial and a replicate of it."""


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A folder above all studies."""
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="module")
def replicates(root) -> tuple[Store, dict[Key, Job], dict[Key, TrainingResult]]:
    """Three trained replicates of trial 7: their study's folder, jobs and results."""
    jobs = {
        (7, r): Job(f"confirm/00007/{r}", TrialConfig.of({**TINY, "seed": r, "replicate": r}).params()) for r in (1, 2, 3)
    }  # fmt: skip
    where = workspace(root, "s-1")
    return where.store, jobs, {key: run_job(job, IMAGES, where) for key, job in jobs.items()}


def audits(root, replicates, shadows: int, only: Key | None = None, expected: int | None = None) -> dict[Key, AuditResult]:
    """Audit the replicates by their siblings and by shadow models.

    Args:
        root: folder above all studies.
        replicates: the fixture.
        shadows: number of shadow models that are trained.
        only: audit only this replicate.
        expected: number of shadow models that should audit each replicate; by default those that are trained.
    """
    executor = local_executor(IMAGES, root, "s-1")
    targets = audit_targets(replicates[1], 2, shadows_of(replicates[1], shadows, executor))
    targets = {key: target for key, target in targets.items() if only in (None, key)}
    return audit_all(targets, ExpectedModels(2, shadows if expected is None else expected), executor)


def targets_of(jobs: dict[Key, Job]) -> dict[Key, AuditTarget]:
    """Audits of replicates by their siblings only."""
    return audit_targets(jobs, 2, {point: [] for point, _ in jobs})


def two_replicates(root: Path) -> tuple[dict[Key, Job], dict[Key, TrainingResult]]:
    """Two replicates of trial 1, trained for one epoch in study s-1: their jobs and results."""
    jobs = {(1, r): Job(f"confirm/00001/{r}", TrialConfig.of({**TINY, "epochs": 1, "replicate": r}).params()) for r in (1, 2)}
    return jobs, {key: run_job(job, IMAGES, workspace(root, "s-1")) for key, job in jobs.items()}


@pytest.mark.thorough
def test_each_replicate_is_audited_by_its_siblings_and_by_shadow_models(root, replicates):
    for key, audit in audits(root, replicates, 2).items():
        metrics = audit.metrics
        assert not audit.error
        assert {
            f"mia_auc/{name}" for name in ("lira", "rmia", "calibrated", "lira_offline", "rmia_offline", "nn")
        } <= metrics.keys()
        assert metrics["mia_control_memorised/auditor"] > 0.9 and metrics["mia_control_memorised/attacker"] > 0.9
        assert metrics["flag/audit_is_blind"] == metrics["flag/audit_is_biased"] == metrics["flag/audit_lacks_models"] == 0
        known = replicates[2][key].metrics
        named = [m[name] for m in (known, metrics) for name in m if name.startswith("mia_auc/")]
        assert metrics["mia_auc"] == max(max(auc, 1 - auc) for auc in named) >= known["mia_auc"]
        merged = NetworkResult.of(replicates[2][key]).audited(audit)
        assert merged.metrics["mia_auc"] == metrics["mia_auc"] and merged.metrics["accuracy"] == known["accuracy"]
        assert audit.curves.keys() == {name.removeprefix("mia_auc/") for name in metrics if name.startswith("mia_auc/")}
        assert sum(audit.histogram["members"]) == 449 and sum(audit.histogram["non_members"]) == 225


@pytest.mark.thorough
def test_siblings_audit_members_and_the_reference_set_and_shadow_models_audit_members_and_unseen_images(root, replicates):
    audits(root, replicates, 2)
    images = data.load("digits")
    for r in (1, 2, 3):
        evidence = of_npz((root / f"s-1/confirm/00007/{r}/audit.npz").read_bytes())
        parts = data.split(images, replicate=r)
        assert set(evidence["auditor/rows"]) == set(parts.members) | set(parts.val)
        assert set(evidence["attacker/rows"]) == set(parts.members) | set(parts.test)
        for protocol in ("auditor", "attacker"):
            rows, member = evidence[f"{protocol}/rows"], evidence[f"{protocol}/member"]
            assert set(rows[member]) == set(parts.members)


@pytest.mark.thorough
def test_an_audit_is_repeated_only_with_more_shadow_models(root, replicates):
    audits(root, replicates, 2, only=(7, 1))
    path = root / "s-1/confirm/00007/1/audit.json"
    before = path.stat().st_mtime_ns
    audits(root, replicates, 2, only=(7, 1))
    assert path.stat().st_mtime_ns == before
    audits(root, replicates, 3, only=(7, 1))
    assert path.stat().st_mtime_ns > before


def test_an_audit_is_repeated_after_the_network_or_its_sibling_was_trained_again(tmp_path):
    jobs, _ = two_replicates(tmp_path)
    where = workspace(tmp_path, "s-1")
    audit = lambda: audit_network(targets_of(jobs)[1, 1], ExpectedModels(1, 0), IMAGES, where)  # noqa: E731
    first = audit()
    assert audit() == first
    for r in (1, 2):  # the audited network, then its sibling
        where.store.discard(f"confirm/00001/{r}/result.json")
        run_job(Job(f"confirm/00001/{r}", {**jobs[1, r].params, "seed": 99}), IMAGES, where)
        again = audit()
        assert again.fingerprint != first.fingerprint and again.metrics != first.metrics


def test_the_controls_of_an_audit_by_one_sibling_are_sound_and_a_missing_sibling_is_flagged(root, replicates):
    two = {key: job for key, job in replicates[1].items() if key[1] < 3}
    for target in targets_of(two).values():
        metrics = audit_network(target, ExpectedModels(2, 0), IMAGES, workspace(root, "s-1")).metrics
        assert metrics["mia_control_memorised/auditor"] > 0.99 and metrics["flag/audit_is_blind"] == 0
        assert metrics["flag/audit_lacks_models"] == 1


def test_a_replicate_without_its_audit_counts_as_failed(root, replicates):
    (root / "s-1/confirm/00007/3/audit.json").unlink(missing_ok=True)
    assert "audit: its machine was lost" in replicate_results(replicates[0])[7, 3].error


def test_fewer_shadow_models_than_expected_are_flagged(root, replicates):
    results = audits(root, replicates, 1, expected=4, only=(7, 2))
    assert results[7, 2].metrics["flag/audit_lacks_models"] == 1


@pytest.mark.parametrize("remains", [None, b"", b"PK and half of them"])
def test_a_network_whose_outputs_were_not_stored_or_are_damaged_is_queried_again(root, replicates, remains):
    store, jobs, _ = replicates
    files, job = store.below("confirm/00007/1"), jobs[7, 1]
    content = files.read("outputs.npz")
    images, config, cpu = data.load("digits"), TrialConfig.of(job.params), torch.device("cpu")
    before = stored_outputs(files, config, images, cpu)
    files.discard("outputs.npz")
    if remains is not None:
        files.write("outputs.npz", remains)
    after = stored_outputs(files, config, images, cpu)
    files.write("outputs.npz", content)
    assert np.array_equal(before.state, after.state) and np.abs(before.logits - after.logits).max() < 1e-5


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda files: files.write_all(dict.fromkeys(("outputs.npz", "network.pt"), b"nonsense")), "network.pt is damaged"),
        (lambda files: [files.discard("outputs.npz"), files.discard("network.pt")], "no network.pt"),
    ],
)
def test_a_replicate_that_cannot_be_audited_counts_as_failed(tmp_path, spoil, reason):
    jobs, results = two_replicates(tmp_path)
    where = workspace(tmp_path, "s-1")
    spoil(where.store.below("confirm/00001/2"))
    audit = audit_network(targets_of(jobs)[1, 2], ExpectedModels(1, 0), IMAGES, where)
    assert reason in audit.error
    merged = NetworkResult.of(results[1, 2]).audited(audit)
    assert merged.error == f"audit: {audit.error}" and not merged.metrics


def test_outputs_of_a_network_with_other_members_are_rejected(tmp_path):
    jobs, _ = two_replicates(tmp_path)
    where = workspace(tmp_path, "s-1")
    where.store.write("confirm/00001/1/outputs.npz", where.store.read("confirm/00001/2/outputs.npz") or b"")
    audit = audit_network(targets_of(jobs)[1, 1], ExpectedModels(1, 0), IMAGES, where)
    assert "other members" in audit.error


def test_every_replicate_is_audited_by_the_same_number_of_siblings():
    """Those with the lowest numbers, so that later replicates change no earlier audit."""
    jobs = {(7, r): Job(f"confirm/00007/{r}", {}) for r in (1, 2, 3, 5)}
    siblings = {r: [job.folder for job in target.siblings] for (_, r), target in audit_targets(jobs, 1, {7: []}).items()}
    assert siblings == {1: ["confirm/00007/2"], 2: ["confirm/00007/1"], 3: ["confirm/00007/1"], 5: ["confirm/00007/1"]}
    assert not any(target.siblings for target in audit_targets(jobs, 0, {7: []}).values())
