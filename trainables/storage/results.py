"""Results of a study's trials, replicates and networks, read from its files."""

import contextlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from core.config import TrialConfig
from core.errors import InputError
from core.redaction import redacted
from core.space import Value
from trainables.storage.contents import Damaged, damaged
from trainables.storage.jobs import replicate_folder, seed_jobs, trial_folder
from trainables.storage.store import Store
from trainables.study.plan import Plan
from trainables.study.records import checked, record
from trainables.study.replicates import Replicate
from trainables.study.results import AuditResult, NetworkResult, StoredTraining, TrainingResult
from trainables.study.trial import Trial
from trainables.study.trial_state import TrialState

MAX_PICTURES = 12
"""Number of trials whose pictures a report contains, at most."""
RETRAIN = "--resume of its study trains it again"
"""Advice for a damaged result of a training."""
REPLACE = "delete it to have --resume of its study train the network again"
"""Advice for a damaged file of arrays or weights; --resume recognises only one that is missing or truncated."""
LOST = NetworkResult(error="its machine was lost")
"""Result of a replicate that was started and has none."""


TRAINING_FILES = ("network.pt", "predictions.npz")
"""Files that every training leaves behind, besides its result."""
_SUGGESTION = {"number": int, "baseline": str, "params": dict[str, Value]}
"""Fields that every stored suggestion has, with their types."""


def stored_facts(store: Store) -> dict[str, str] | None:
    """The facts of a study, or None if there are none.

    Raises:
        Damaged: the file contains something else.
    """
    fix = "--resume of its study writes it again"
    return store.read_record("facts.json", lambda plain: checked(dict.fromkeys(plain, str), plain), fix)


def training_result(store: Store, folder: str) -> TrainingResult | None:
    """The result of the training in a folder, or None if it has not ended.

    Raises:
        Damaged: the file is no result.
    """

    def parse(plain: Any) -> TrainingResult:
        result = record(TrainingResult, plain)
        if result.state is TrialState.COMPLETED and not result.metrics:
            raise InputError("it has neither metrics nor an error")
        return result

    return store.read_record(f"{folder}/result.json", parse, RETRAIN)


def stored_training(files: Store, key: str) -> StoredTraining | None:
    """The record of the network in a folder; None if the folder has no intact network of this key."""
    with contextlib.suppress(Damaged):
        training = files.read_record("training.json", partial(record, StoredTraining))
        present = "network.pt" in files.names("") and not files.is_truncated("network.pt")
        return training if training and training.key == key and present else None
    return None


def intact_result(store: Store, folder: str) -> TrainingResult | None:
    """The result of the training in a folder, or None if it has not ended or a file of it is damaged."""
    result, found = _inspected(store, folder)
    return None if found else result


def damage(store: Store, folder: str) -> str:
    """Description of a damaged or missing file of the training in a folder; empty if there is none, or if it has not ended."""
    return _inspected(store, folder)[1]


def _inspected(store: Store, folder: str) -> tuple[TrainingResult | None, str]:
    """The result of the training in a folder if it can be read, and the description of a damaged or missing file."""
    try:
        result = training_result(store, folder)
    except Damaged as error:
        return None, error.what
    if result is None or result.state is not TrialState.COMPLETED:
        return result, ""
    present = store.names(folder)
    for name in TRAINING_FILES:
        place = store.place_of(f"{folder}/{name}")
        if name not in present and result.key:  # a mean over seeds has no key and no files
            return result, f"{place} is missing"
        if store.is_truncated(f"{folder}/{name}"):
            return result, f"{place} is damaged (truncated)"
    return result, ""


def audit_result(store: Store, path: str) -> AuditResult | None:
    """The result of an audit or re-evaluation in a file, or None if there is no such file.

    Raises:
        Damaged: the file is no such result.
    """
    return store.read_record(path, partial(record, AuditResult), "repeat the command that made it")


def intact_audit(store: Store, path: str) -> AuditResult | None:
    """The result of an audit or re-evaluation in a file, or None if there is no such file or it is damaged."""
    with contextlib.suppress(Damaged):
        return audit_result(store, path)


def suggestion(store: Store, number: int) -> dict[str, Any] | None:
    """The stored suggestion of a trial: `number`, `params`, `baseline` and what the searcher needs; None if there is none.

    Raises:
        Damaged: the file is no suggestion, or that of another trial.
    """

    def parse(plain: Any) -> dict[str, Any]:
        checked(_SUGGESTION | {name: dict for name in ("suggested", "notes") if name in plain}, plain)
        if plain["number"] != number:
            raise InputError(f"it is the suggestion of trial {plain['number']}")
        TrialConfig.of(plain["params"])
        return plain

    fix = f"delete the folder to have --resume suggest and train another trial {number}"
    return store.read_record(f"{trial_folder(number)}/params.json", parse, fix)


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


def started_replicates(store: Store) -> list[tuple[int, int]]:
    """Trial and number of each replicate of the confirmation step that was started, in order."""
    points = [point for point in store.names("confirm") if point.isdecimal()]
    return sorted((int(point), int(r)) for point in points for r in store.names(f"confirm/{point}") if r.isdecimal())


def replicate_results(store: Store) -> dict[tuple[int, int], NetworkResult]:
    """The results of the replicates that were started, after their audits, by trial and replicate."""
    return {key: replicate_result(store, *key) for key in started_replicates(store)}


def replicate_result(store: Store, number: int, replicate: int) -> NetworkResult:
    """The result of one replicate after its audits."""
    folder = replicate_folder(number, replicate)
    result = training_result(store, folder)
    if result is None:
        return LOST
    audit = audit_result(store, f"{folder}/audit.json")
    if audit is None and not result.error and "outputs.npz" in store.names(folder):  # stored for an audit
        audit = AuditResult(error=LOST.error)
    return NetworkResult.of(result).audited(audit)


def stored_replicate(store: Store, number: int, replicate: int, result: NetworkResult, revisions: Sequence[str] = ()) -> Replicate:
    """A replicate with its per-image evidence; one whose evidence is missing or incomplete counts as failed.

    Args:
        store: the study's folder.
        number: number of the trial.
        replicate: number of the replicate.
        result: its result after the re-evaluations `revisions`.
        revisions: folders of the versions that re-evaluated it, oldest first.

    Raises:
        Damaged: a file of its evidence cannot be read.
    """
    if result.error:
        return Replicate(result)
    try:
        return Replicate.of(result, evidence(store, replicate_folder(number, replicate), revisions))
    except Damaged:
        raise
    except (ValueError, IndexError) as error:  # the latter from arrays whose lengths do not fit
        return Replicate(NetworkResult(error=" ".join(str(error).splitlines())))


def evidence(store: Store, folder: str, revisions: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Per-image evidence about a network: its predictions and its audits by other networks, updated by every re-evaluation.

    Args:
        store: the study's folder.
        folder: folder of the network.
        revisions: folders of the versions that re-evaluated the network, oldest first.

    Raises:
        InputError: a file is missing or cannot be read.
    """
    arrays: dict[str, np.ndarray] = {}
    for place in (folder, *(f"{revision}/{folder}" for revision in revisions)):
        file = f"{place}/predictions.npz"
        update = store.read_arrays(file, REPLACE if place == folder else "")
        if update is None:
            raise InputError(f"cannot read {store.place_of(file)}: missing")
        lacking = [name for name in ("rows", "labels") if place == folder and update.get(name, np.empty(())).ndim != 1]
        if lacking:
            raise damaged(store.place_of(file), f"no {' and no '.join(lacking)}", REPLACE)
        if place == folder:
            update |= store.read_arrays(f"{place}/audit.npz", "delete audit.json there to audit the network again") or {}
        _update(arrays, update)
    return arrays


def _update(arrays: dict[str, np.ndarray], update: Mapping[str, np.ndarray]) -> None:
    """Add newer arrays to the evidence about a network.

    An attack that runs again with other settings keeps its name, so an image is robust if it has resisted both times. Membership
    scores of other images replace all scores of their group.
    """
    for name, rows in update.items():
        group = name.removesuffix("/rows")
        if group != name and name in arrays and not np.array_equal(arrays[name], rows):
            for stale in [known for known in arrays if known.startswith(f"{group}/")]:
                del arrays[stale]
    for name, array in update.items():
        arrays[name] = arrays[name] & array if name.startswith("robust/") and name in arrays else array


def pictures(store: Store, front: Sequence[Trial]) -> dict[int, dict[str, np.ndarray]]:
    """Reconstructions and attribution maps of the trials of a front, by number; unreadable files are skipped."""
    by_trial: dict[int, dict[str, np.ndarray]] = {}
    for trial in front[:MAX_PICTURES]:
        with contextlib.suppress(Damaged):
            arrays = store.read_arrays(f"{network_folder(store, trial.number)}/pictures.npz")
            by_trial |= {trial.number: arrays} if arrays else {}
    return by_trial
