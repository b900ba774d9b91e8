"""Results of a study's trials, replicates and networks, read from its files."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from core.errors import InputError, redacted
from trainables.storage.arrays import of_npz
from trainables.storage.jobs import seed_jobs, trial_folder
from trainables.storage.store import Store
from trainables.study.plan import Plan
from trainables.study.results import AuditResult, NetworkResult, TrainingResult
from trainables.study.trial import Trial
from trainables.study.trial_state import TrialState

MAX_PICTURES = 12
"""Number of trials whose pictures a report contains, at most."""
LOST = NetworkResult(error="its machine was lost")
"""Result of a replicate that should exist and does not."""


def training_result(store: Store, folder: str) -> TrainingResult | None:
    """The result of the training in a folder, or None if it has not ended."""
    plain = store.read_json(f"{folder}/result.json")
    return None if plain is None else TrainingResult.of_json(plain)


def audit_result(store: Store, path: str) -> AuditResult | None:
    """The result of an audit or re-evaluation in a file, or None if there is no such file."""
    plain = store.read_json(path)
    return None if plain is None else AuditResult.of_json(plain)


def suggestion(store: Store, number: int) -> dict[str, Any] | None:
    """The stored suggestion of a trial: `number`, `params`, `baseline` and what the searcher needs; None if there is none."""
    return store.read_json(f"{trial_folder(number)}/params.json")


def as_trial(suggestion: Mapping[str, Any], result: TrainingResult) -> Trial:
    """Combine a suggestion of the searcher with its result."""
    return Trial(
        number=suggestion["number"], params=suggestion["params"], baseline=suggestion["baseline"], metrics=result.metrics,
        curve=result.curve, error=result.error, reused_from=result.reused_from, stopped_epoch=result.stopped_epoch,
    )  # fmt: skip


def ended_trials(store: Store) -> list[Trial]:
    """The trials of a study that have a result, by number."""
    trials = []
    for number in trial_numbers(store):
        result = training_result(store, trial_folder(number))
        if result is not None:
            trials.append(as_trial(stored_suggestion(store, number), result))
    return trials


def trial_numbers(store: Store) -> list[int]:
    """Numbers of the trials that have a folder, in order; other files next to the folders are ignored."""
    return sorted(int(name) for name in store.names("trials") if name.isdecimal())


def stored_suggestion(store: Store, number: int) -> dict[str, Any]:
    """The suggestion of a trial that was started.

    Raises:
        InputError: it is missing.
    """
    stored = suggestion(store, number)
    if stored is None:
        raise InputError(f"{trial_folder(number)}/params.json is missing in {redacted(store.root)}")
    return stored


def network_folder(store: Store, number: int) -> str:
    """The folder of a trial's network, or of the first one if it has several seeds."""
    folder = trial_folder(number)
    return f"{folder}/seeds/1" if "seeds" in store.names(folder) else folder


def seed_results(plan: Plan, store: Store, trial: Trial) -> dict[str, NetworkResult]:
    """The results of a trial's networks by folder, one for each seed."""
    if plan.seeds_per_trial == 1 or trial.state is not TrialState.COMPLETED:
        return {trial_folder(trial.number): NetworkResult(metrics=trial.metrics, error=trial.error)}
    results = {}
    for job in seed_jobs(trial.number, trial.params, plan.seeds_per_trial):
        result = training_result(store, job.folder)
        results[job.folder] = NetworkResult.of(result) if result else NetworkResult(error="its result is missing")
    return results


def replicate_results(store: Store) -> dict[tuple[int, int], NetworkResult]:
    """The results of the confirmation step after its audits, by trial and replicate."""
    results = {}
    for point in store.names("confirm"):
        for replicate in store.names(f"confirm/{point}"):
            folder = f"confirm/{point}/{replicate}"
            result = training_result(store, folder)
            if result is not None:
                audit = audit_result(store, f"{folder}/audit.json")
                if audit is None and not result.error and "outputs.npz" in store.names(folder):  # stored for an audit
                    audit = AuditResult(error=LOST.error)
                results[int(point), int(replicate)] = NetworkResult.of(result).audited(audit)
    return results


def evidence(store: Store, folder: str, revisions: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Per-image evidence about a network: its predictions, updated by every re-evaluation.

    Args:
        store: the study's folder.
        folder: folder of the network.
        revisions: folders of the versions that re-evaluated the network, oldest first.

    Raises:
        InputError: a file is missing or cannot be read.
    """
    arrays: dict[str, np.ndarray] = {}
    for place in (folder, *(f"{revision}/{folder}" for revision in revisions)):
        data = store.read(f"{place}/predictions.npz")
        try:
            update = of_npz(data or b"")
        except ValueError as error:
            reason = str(error) if data else "missing"
            raise InputError(f"cannot read {store.root}/{place}/predictions.npz: {reason}") from None
        for name, array in update.items():  # an attack that runs again with other settings keeps its name
            arrays[name] = arrays[name] & array if name.startswith("robust/") and name in arrays else array
    return arrays


def pictures(store: Store, front: Sequence[Trial]) -> dict[int, dict[str, np.ndarray]]:
    """Reconstructions and attribution maps of the trials of a front, by number; unreadable files are skipped."""
    by_trial: dict[int, dict[str, np.ndarray]] = {}
    for trial in front[:MAX_PICTURES]:
        data = store.read(f"{network_folder(store, trial.number)}/pictures.npz")
        with contextlib.suppress(ValueError):
            by_trial |= {trial.number: of_npz(data)} if data else {}
    return by_trial
