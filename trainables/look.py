"""Looking at stored networks again: what there is to look at, and the task that looks at one. Nothing is trained.

What is looked for (attacks, audits) is an `Extension`; trainables/rejudge.py has the one for attacks. Everything else is the same
for all, and in trainables/extend.py.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from core.config import Metrics
from core.data import Images
from core.errors import InputError, TrialError
from core.space import Value
from trainables.confirm import Crew, replicate_job
from trainables.fleet import Say
from trainables.outcome import Trial
from trainables.plan import Plan
from trainables.results import Version, ended_trials, looked, own_results, replicate_folder, replicates
from trainables.store import Store
from trainables.trial import Arrays, Share, npz, seed_jobs, unpack


@dataclass(frozen=True)
class Network:
    """A stored network, as the newest version of its study knows it."""

    name: str
    """For people."""
    folder: str
    params: dict[str, Value]
    metrics: Mapping[str, float]


class Found(Protocol):
    """What a look at a network brought."""

    @property
    def metrics(self) -> Metrics:
        """By name; `trainables.outcome.merged` says what they do to those that were known."""
        ...

    @property
    def predictions(self) -> dict[str, np.ndarray]:
        """Per-image evidence; under names `stands/...`, who is right under an attack."""
        ...

    @property
    def drawn(self) -> Mapping[str, Any]:
        """Plain data for pictures, as `trainables.fleet.audit_one` keeps it; with `again`, something was missing, and the same look
        is to be tried once more."""
        ...


class Extension(Protocol):
    """What is to be found out about every network of a study. It is sent to the workers."""

    @property
    def settings(self) -> dict[str, Value]:
        """Everything that decides what is found; the same settings again are the same look."""
        ...

    @property
    def how(self) -> str:
        """In words that go on with "networks ..."."""
        ...

    @property
    def command(self) -> tuple[str, list[str]]:
        """The script, and the words after the study's name, that ask for it."""
        ...

    @property
    def shows(self) -> str:
        """The metric that is shown while it goes on."""
        ...

    def covered(self, plan: Plan, later: Sequence[Version]) -> int:
        """The version that has all of it already, 0 if there is none."""
        ...

    def check(self, networks: Sequence[Network]) -> None:
        """Refuse settings that do not fit the study's networks (`InputError`)."""
        ...

    def prepare(
        self, plan: Plan, later: Sequence[Version], networks: Sequence[Network], arrays: Arrays, crew: Crew, say: Say
    ) -> "Extension":
        """Once, on the driver with the cluster joined: make what looking at these networks takes, and return what is to be sent."""
        ...

    def look(self, network: Network, images: Images, store: Store, later: Sequence[Version], device: torch.device) -> Found:
        """Look at one network, on a worker; `later` are the finished versions so far."""
        ...


def stored_networks(plan: Plan, store: Store, later: Sequence[Version]) -> list[Network]:
    """The networks of all trials and replicates that have numbers after the versions `later`."""
    trials = ended_trials(store)
    ended = [one for trial in trials if not trial.stopped for one in _own(plan, store, trial)]
    by_number: dict[int, Trial] = {t.number: t for t in trials}
    for (number, r), result in replicates(store).items():
        params = replicate_job(plan, by_number[number], r).params
        ended.append((f"trial {number}, replicate {r}", replicate_folder(number, r), params, result))
    found = []
    for name, folder, params, result in ended:
        for version in later:
            result = looked(store, folder, version, result)
        if not result["error"]:
            found.append(Network(name, folder, params, result["metrics"]))
    return found


def _own(plan: Plan, store: Store, trial: Trial) -> list[tuple[str, str, dict[str, Value], dict[str, Any]]]:
    """Name, folder, parameters and result of each of a trial's networks."""
    jobs, results = seed_jobs(trial.number, trial.params, plan.seeds), own_results(plan, store, trial)
    names = [f"trial {trial.number}" + (f", seed {i}" if plan.seeds > 1 else "") for i in range(1, len(jobs) + 1)]
    return [
        (name, job.folder, job.params, results[job.folder]) for name, job in zip(names, jobs, strict=True) if job.folder in results
    ]


def look_at(
    network: Network, extension: Extension, store: Store, later: Sequence[Version], target: str, share: Share, arrays: Arrays
) -> dict[str, Any]:
    """A task: look at a network and keep what was found below `target`, unless that has been done.

    Returns:
        `{"metrics", "error", "seconds"}`; `error` is one line, empty if all went well.
    """
    files = store.below(f"{target}/{network.folder}")
    done = files.read_json("result.json")
    if _complete(done):
        return done
    start = time.perf_counter()
    torch.set_num_threads(max(1, int(share.cpus)))
    device = torch.device("cuda" if share.gpus and torch.cuda.is_available() else "cpu")
    outcome: dict[str, Any] = {"metrics": {}, "error": ""}
    try:
        found = extension.look(network, unpack(arrays), store, later, device)
        files.write("predictions.npz", npz(found.predictions))
        outcome |= {"metrics": dict(found.metrics.values), **found.drawn}
    except (TrialError, InputError) as error:
        outcome["error"] = " ".join(str(error).splitlines())
    except OSError:
        raise  # a full disk may be empty for the next attempt
    except Exception as error:  # one strange network must not keep the others from their new version
        outcome["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
    outcome["seconds"] = time.perf_counter() - start
    files.write_json("result.json", outcome)
    return outcome


def lacking(store: Store, version: Version, networks: Sequence[Network]) -> list[Network]:
    """Those that a version has no numbers of, or failed to get."""
    results = [store.read_json(f"{version.folder}/{network.folder}/result.json") for network in networks]
    return [network for network, result in zip(networks, results, strict=True) if not _complete(result)]


def _complete(result: Mapping[str, Any] | None) -> bool:
    """Whether a look brought all that it was to."""
    return result is not None and not result["error"] and not result.get("again")
