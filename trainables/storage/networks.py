"""The stored networks of a study: those of its trials and those of the confirmation step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.space import Value
from trainables.storage.jobs import replicate_folder, replicate_job, seed_jobs
from trainables.storage.results import ended_trials, replicate_results, seed_results
from trainables.storage.store import Store
from trainables.storage.versions import Version, reevaluated
from trainables.study.plan import Plan
from trainables.study.results import NetworkResult
from trainables.study.trial_state import TrialState


@dataclass(frozen=True)
class StoredNetwork:
    """A stored network at the newest version of its study."""

    name: str
    """Name for messages, such as `trial 7, replicate 1`."""
    folder: str
    """Folder, relative to the study's folder."""
    params: dict[str, Value]
    """Complete configuration in flat form."""
    metrics: Mapping[str, float]
    """Metrics after all re-evaluations."""


def stored_networks(plan: Plan, store: Store, later: Sequence[Version]) -> list[StoredNetwork]:
    """The networks of all trials and replicates that have metrics after the versions `later`."""
    trials = ended_trials(store)
    ended: list[tuple[str, str, dict[str, Value], NetworkResult]] = []
    for trial in trials:
        if trial.state is TrialState.EARLY_STOPPED:
            continue
        results = seed_results(plan, store, trial)
        for i, job in enumerate(seed_jobs(trial.number, trial.params, plan.seeds_per_trial), 1):
            if job.folder in results:
                name = f"trial {trial.number}" + (f", seed {i}" if plan.seeds_per_trial > 1 else "")
                ended.append((name, job.folder, job.params, results[job.folder]))
    by_number = {trial.number: trial for trial in trials}
    for (number, r), result in replicate_results(store).items():
        params = replicate_job(plan, by_number[number], r).params
        ended.append((f"trial {number}, replicate {r}", replicate_folder(number, r), params, result))
    networks = []
    for name, folder, params, result in ended:
        for version in later:
            result = reevaluated(store, folder, version, result)
        if not result.error:
            networks.append(StoredNetwork(name, folder, params, result.metrics))
    return networks
