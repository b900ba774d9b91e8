"""What a study's files say: its ended trials, and the versions of its front that later looks at the stored networks made.

Version 1 is the study as it ended. A later look (new attacks, say) adds the next one and changes no earlier file:

    versions/2/version.json                                     how, by which command, when finished
    versions/2/trials/00007/{predictions.npz,result.json}       what was found on trial 7's network, and nothing else
    versions/2/confirm/00007/1/...                              the same for its first replicate
    versions/2/{front.csv,confirmed.csv,report.html,plots/}     that version; the newest is in the study's folder, too

What a version says of a trial is put together from the trial's own result and every look since.
"""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from core.errors import InputError
from core.space import Value
from trainables.confirm import replicate_folder, verdicts
from trainables.fleet import with_audit
from trainables.outcome import Confirmed, Outcome, Trial, change, merged
from trainables.plan import Plan
from trainables.store import Store
from trainables.trial import averaged, of_npz, seed_jobs, trial_folder


@dataclass(frozen=True)
class Version:
    """A version of a front after the first."""

    number: int
    settings: dict[str, Value]
    """What was looked for: the suite of attacks, say."""
    how: str
    """The same in words."""
    facts: dict[str, str]
    """Command, commit, versions, hardware, start."""
    finished: str = ""
    """When; empty while something is missing."""

    @property
    def folder(self) -> str:
        """Below the study's."""
        return f"versions/{self.number}"


def ended_trials(store: Store) -> list[Trial]:
    """The trials of a study that have a result, by number."""
    found = []
    for folder in store.names("trials"):
        result = store.read_json(f"trials/{folder}/result.json")
        if result is not None:
            found.append(as_trial(store.read_json(f"trials/{folder}/params.json"), result))
    return found


def as_trial(suggestion: Mapping[str, Any], result: Mapping[str, Any]) -> Trial:
    """A suggestion of the searcher and what became of it."""
    return Trial(
        number=suggestion["number"], params=suggestion["params"], baseline=suggestion["baseline"],
        metrics=result["metrics"], curve=result["curve"], error=result["error"], taken_from=result.get("taken_from", ""),
        stopped=result.get("stopped", 0),
    )  # fmt: skip


def own_folder(store: Store, number: int) -> str:
    """Where a trial's network is, or the first of several."""
    folder = trial_folder(number)
    return f"{folder}/seeds/1" if "seeds" in store.names(folder) else folder


def own_results(plan: Plan, store: Store, trial: Trial) -> dict[str, dict[str, Any]]:
    """The results of a trial's networks, one for each of its seeds, by folder."""
    if plan.seeds == 1 or not trial.metrics:
        return {trial_folder(trial.number): {"metrics": trial.metrics, "error": trial.error}}
    missing = {"metrics": {}, "error": "its result is missing"}
    jobs = seed_jobs(trial.number, trial.params, plan.seeds)
    return {job.folder: store.read_json(f"{job.folder}/result.json") or missing for job in jobs}


def replicates(store: Store) -> dict[tuple[int, int], dict[str, Any]]:
    """The results of confirm after their audits, by trial and replicate."""
    found = {}
    for point in store.names("confirm"):
        for replicate in store.names(f"confirm/{point}"):
            result = store.read_json(f"confirm/{point}/{replicate}/result.json")
            if result is not None:
                folder = f"confirm/{point}/{replicate}"
                audit = store.read_json(f"{folder}/audit.json")
                if audit is None and not result["error"] and "answers.npz" in store.names(folder):  # kept for an audit
                    audit = {"error": "its machine was lost"}
                found[int(point), int(replicate)] = with_audit(result, audit)
    return found


def versions(store: Store) -> list[Version]:
    """The versions after the first, by number; the last one may be unfinished.

    Raises:
        InputError: a version.json that cannot be read.
    """
    found = []
    for number in sorted(int(name) for name in store.names("versions") if name.isdecimal() and int(name) > 1):
        try:
            plain = store.read_json(f"versions/{number}/version.json")
            if plain is not None:
                found.append(Version(**plain))
        except (ValueError, TypeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise InputError(f"{store.root}/versions/{number}/version.json is not of this program ({reason})") from None
    return found


def write_version(store: Store, version: Version) -> None:
    """Note that a version is begun, or finished."""
    store.write_json(f"{version.folder}/version.json", dataclasses.asdict(version))


def evidence(store: Store, folder: str, later: Sequence[Version]) -> dict[str, np.ndarray]:
    """What is known of a network per image: its own predictions, and who still stands after every look since.

    Raises:
        InputError: a file is missing or cannot be read.
    """
    found: dict[str, np.ndarray] = {}
    for place in (folder, *(f"{version.folder}/{folder}" for version in later)):
        data = store.read(f"{place}/predictions.npz")
        try:
            arrays = of_npz(data or b"")
        except ValueError as error:
            reason = str(error) if data else "missing"
            raise InputError(f"cannot read {store.root}/{place}/predictions.npz: {reason}") from None
        for name, array in arrays.items():  # an attack that is met again with other settings keeps its name
            found[name] = found[name] & array if name.startswith("stands/") and name in found else array
    return found


SHOWN = 12
"""Trials whose pictures are in a report, at most."""


def pictures(store: Store, outcome: Outcome) -> dict[int, dict[str, np.ndarray]]:
    """Reconstructions and heat maps of the front's trials that have some; what cannot be read is left out."""
    found: dict[int, dict[str, np.ndarray]] = {}
    for trial in outcome.front()[:SHOWN]:
        data = store.read(f"{own_folder(store, trial.number)}/pictures.npz")
        with contextlib.suppress(ValueError):
            found |= {trial.number: of_npz(data)} if data else {}
    return found


def outcomes(plan: Plan, store: Store, facts: Mapping[str, str], later: Sequence[Version]) -> list[Outcome]:
    """A finished study at each version of its front, oldest first: as it ended, then after each of `later`."""
    first = Outcome(
        name=plan.name, study=plan.study, question=plan.question, objectives=plan.objectives, space=plan.space,
        planned=plan.trials, facts=dict(facts), trials=ended_trials(store), require=plan.require,
    )  # fmt: skip
    first.pictures = pictures(store, first)
    results = replicates(store)
    for number in sorted({number for number, _ in results}):
        for replicate in range(1, plan.replicates + 1):
            results.setdefault((number, replicate), {"metrics": {}, "error": "its machine was lost"})
    first.confirmed = _confirmed(first, first, results, plan)
    found = [first]
    own = {trial.number: own_results(plan, store, trial) for trial in first.trials if not trial.stopped}
    for version in later:
        own = {
            number: {folder: looked(store, folder, version, result) for folder, result in networks.items()}
            for number, networks in own.items()
        }
        results = {key: looked(store, replicate_folder(*key), version, result) for key, result in results.items()}
        found.append(_next(plan, found[-1], first, version, own, results))
    return found


Results = Mapping[tuple[int, int], Mapping[str, Any]]
"""Of confirm, by trial and replicate."""


def _next(
    plan: Plan, before: Outcome, first: Outcome, version: Version, own: Mapping[int, Mapping[str, Any]], results: Results
) -> Outcome:
    trials, measured = [], {}
    for trial in before.trials:
        if trial.stopped:
            trials.append(trial)
            continue
        result = averaged(list(own[trial.number].values()))
        trials.append(replace(trial, metrics=result["metrics"], error=result["error"]))
        measured[trial.number] = tuple(result.get("measured", ()))
    facts = before.facts | {
        f"version {version.number}": f"{version.how}; {version.facts['started']}, commit {version.facts['commit']}; "
        f"{version.facts['command']}"
    }
    after = replace(before, trials=trials, facts=facts, confirmed=[])
    after.confirmed = _confirmed(after, first, results, plan)
    made = change(before, after, version.how, version.finished or version.facts["started"], measured)
    after.changes = [*before.changes, made]
    return after


def looked(store: Store, folder: str, version: Version, known: Mapping[str, Any]) -> dict[str, Any]:
    """A result after a later look: `metrics`, `error`, and the names of what was `measured` in it.

    What failed before is not looked at; what could not be looked at counts as failed from there on, since its numbers are not
    to be compared with those of networks that met more.
    """
    if known["error"]:
        return {**known, "measured": ()}
    result = store.read_json(f"{version.folder}/{folder}/result.json") or {"metrics": {}, "error": "not looked at"}
    if result["error"]:
        return {"metrics": {}, "error": f"in version {version.number}: {result['error']}", "measured": ()}
    drawn = {
        name: {**known.get(name, {}), **result.get(name, {})} for name in ("curves", "histogram") if name in {**known, **result}
    }
    return {"metrics": merged(known["metrics"], result["metrics"]), "error": "", "measured": tuple(result["metrics"]), **drawn}


def _confirmed(outcome: Outcome, first: Outcome, results: Results, plan: Plan) -> list[Confirmed]:
    """Verdicts on the points that confirm has trained again, in the order of the front that it was given."""
    trained = {number for number, _ in results}
    order = [t.number for t in first.front()]
    points = [t for t in outcome.done if t.number in trained]
    points.sort(key=lambda t: (order.index(t.number) if t.number in order else len(order), t.number))
    return verdicts(points, results, plan.objectives, plan.require)
