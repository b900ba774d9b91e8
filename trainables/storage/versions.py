"""The versions of a study's front, and the outcome of a study at each of them.

Version 1 is the study as it ended. Each re-evaluation of the stored networks adds a version and changes no earlier file:

    versions/2/version.json                                     what was done, by which command, and when it finished
    versions/2/trials/00007/{predictions.npz,result.json}       results of the re-evaluation of trial 7's network
    versions/2/confirm/00007/1/...                              the same for its first replicate
    versions/2/{front.csv,confirmed.csv,report.html,plots/}     files of that version; the study's folder has the newest ones

The outcome at a version combines each trial's own result with every re-evaluation up to that version.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from core.errors import InputError
from core.space import Value
from trainables.storage.jobs import replicate_folder
from trainables.storage.results import audit_result, ended_trials, pictures, replicate_results, seed_results, stored_replicate
from trainables.storage.store import Store
from trainables.study.outcome import Confirmation, Outcome, front_revision
from trainables.study.plan import Plan
from trainables.study.records import record
from trainables.study.results import NetworkResult, mean_metrics, seed_errors
from trainables.study.trial import Trial
from trainables.study.trial_state import TrialState
from trainables.study.verdicts import confirmation


@dataclass(frozen=True)
class Version:
    """A version of a front after the first."""

    number: int
    settings: dict[str, Value]
    """Settings of the re-evaluation, such as the attack suite."""
    how: str
    """Description of the re-evaluation, which continues "networks ..."."""
    facts: dict[str, str]
    """Command, commit, versions, hardware and start time."""
    finished: str = ""
    """Time at which it was finished; empty while it is not."""

    @property
    def folder(self) -> str:
        """Folder of the version, relative to the study's folder."""
        return f"versions/{self.number}"


def versions(store: Store) -> list[Version]:
    """The versions after the first, by number; the last one may be unfinished.

    Raises:
        Damaged: a version.json cannot be read, or is that of another version.
    """
    numbers = sorted(int(name) for name in store.names("versions") if name.isdecimal() and int(name) > 1)
    stored = (store.read_record(f"versions/{number}/version.json", partial(_version, number)) for number in numbers)
    return [version for version in stored if version]


def _version(number: int, plain: Any) -> Version:
    version = record(Version, plain)
    if version.number != number:
        raise InputError(f"it is that of version {version.number}")
    if lacking := [name for name in ("command", "commit", "started") if name not in version.facts]:
        raise InputError(f"no fact {lacking[0]}")
    return version


def write_version(store: Store, version: Version) -> None:
    """Record that a version was started, or finished."""
    store.write_json(f"{version.folder}/version.json", dataclasses.asdict(version))


def reevaluated(store: Store, folder: str, version: Version, known: NetworkResult) -> NetworkResult:
    """A network's result after the re-evaluation for a version."""
    return known.reevaluated(audit_result(store, f"{version.folder}/{folder}/result.json"), version.number)


def outcomes(plan: Plan, store: Store, facts: Mapping[str, str], later: Sequence[Version]) -> list[Outcome]:
    """The outcome of a finished study at each version of its front, oldest first: as it ended, then after each of `later`."""
    first = Outcome.of_plan(plan, facts, ended_trials(store))
    first.pictures = pictures(store, first.front())
    replicates = replicate_results(store)
    front = [trial.number for trial in first.front()]
    first.confirmation = _confirmation(plan, store, first.trials, front, replicates)
    by_version = [first]
    networks = {
        trial.number: seed_results(plan, store, trial) for trial in first.trials if trial.state is not TrialState.EARLY_STOPPED
    }
    for i, version in enumerate(later, 1):
        networks = {
            number: {folder: reevaluated(store, folder, version, result) for folder, result in own.items()}
            for number, own in networks.items()
        }
        replicates = {key: reevaluated(store, replicate_folder(*key), version, result) for key, result in replicates.items()}
        after = _next(by_version[-1], version, networks)
        after.confirmation = _confirmation(plan, store, after.trials, front, replicates, [v.folder for v in later[:i]])
        by_version.append(after)
    return by_version


def _next(before: Outcome, version: Version, networks: Mapping[int, Mapping[str, NetworkResult]]) -> Outcome:
    """The outcome at a version without its confirmation, given the outcome before it and the results of the trials' networks."""
    trials, measured = [], {}
    for trial in before.trials:
        if trial.number not in networks:
            trials.append(trial)
            continue
        own = list(networks[trial.number].values())
        error = seed_errors([result.error for result in own])
        metrics = {} if error else mean_metrics([result.metrics for result in own])
        trials.append(replace(trial, metrics=metrics, error=error))
        names = dict.fromkeys(name for result in own for name in result.measured)
        measured[trial.number] = tuple(name for name in names if name in metrics)
    facts = before.facts | {
        f"version {version.number}": f"{version.how}; {version.facts['started']}, commit {version.facts['commit']}; "
        f"{version.facts['command']}"
    }
    after = replace(before, trials=trials, facts=facts, confirmation=None)
    revision = front_revision(before, after, version.how, version.finished or version.facts["started"], measured)
    after.revisions = [*before.revisions, revision]
    return after


def _confirmation(
    plan: Plan, store: Store, trials: Sequence[Trial], front: Sequence[int], results: Mapping[tuple[int, int], NetworkResult],
    revisions: Sequence[str] = (),
) -> Confirmation | None:  # fmt: skip
    """The confirmation after some re-evaluations, given the results of all replicates then."""
    replicates = {key: stored_replicate(store, *key, result, revisions) for key, result in results.items()}
    return confirmation(plan, trials, front, replicates)
