"""Audits of confirmed points by other networks: shadow models as tasks of their own, then the audits, one task per replicate.

Shadow models lie beside the studies, in shadows/<content>/: the same recipe asks for the same ones, whichever study it is in.
"""

import hashlib
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch

from core.audit import Audited, answers_of, by_others
from core.audits.answers import Answers
from core.audits.roc import Roc
from core.config import Judge, TrialConfig
from core.data import Images, split
from core.errors import InputError, TrialError
from core.rng import fold
from core.space import Value
from core.subject import stored
from trainables import content
from trainables.outcome import merged
from trainables.store import Store
from trainables.trial import Arrays, AtATime, Job, Share, npz, of_npz, perform, unpack

Say = Callable[[str], None]
GRID = tuple(float(rate) for rate in np.logspace(-4, 0, 81))
"""False-positive rates at which curves are kept."""
BINS = 50
"""Of the histograms of confidence."""


@dataclass(frozen=True)
class Subject:
    """A network to audit: one replicate of a recipe."""

    folder: str
    """In its study."""
    params: dict[str, Value]
    sisters: tuple[Job, ...]
    """The other replicates."""


class Asked(NamedTuple):
    """How many networks were to audit one; fewer raise `flag/audit_lacks_models`."""

    sisters: int
    shadows: int

    def flag(self, sisters: Sequence[Job], shadows: Sequence[Job]) -> dict[str, float]:
        """The flag, given those that there are."""
        return {"flag/audit_lacks_models": float(len(sisters) < self.sisters or len(shadows) < self.shadows)}


def shadow_job(params: Mapping[str, Value], number: int, arrays: Arrays) -> Job:
    """The training of a recipe's shadow model, from 1 on. Of the judge only the ball counts, for adversarial queries."""
    config = TrialConfig.of(params)
    judge = Judge(norm=config.judge.norm, epsilon=config.judge.epsilon, audits="standard")
    whole = replace(config, judge=judge, replicate=0, shadow=number, seed=fold(0, "shadow", number)).params()
    return Job(f"shadows/{content.key(whole, arrays.content)}", whole)


def train_shadows(
    recipes: Sequence[Mapping[str, Value]], count: int, arrays: Arrays, root: Store, share: Share, concurrency: AtATime, say: Say
) -> list[list[Job]]:
    """Train what is missing of `count` shadow models for each recipe, as independent tasks.

    Args:
        recipes: configurations, of which judge, seed and replicate do not count. count: models per recipe.
        arrays: the images. root: above the studies. share: of one shadow model. concurrency: at a time. say: told of each.

    Returns:
        For each recipe, its shadow models that could be trained.
    """
    from trainables.tasks import spread

    wanted = [[shadow_job(params, number, arrays) for number in range(1, count + 1)] for params in recipes]
    jobs = {job.folder: job for own in wanted for job in own}
    results = {folder: root.read_json(f"{folder}/result.json") for folder in jobs}
    missing = {folder: job for folder, job in jobs.items() if results[folder] is None or results[folder]["error"]}
    for folder in missing:
        root.discard(f"{folder}/result.json")  # what failed may have lacked memory only
    if jobs:
        say(f"{len(jobs)} shadow models, {len(jobs) - len(missing)} of them trained before")
    done = itertools.count(1)

    def ended(folder: str, result: Mapping[str, Any]) -> None:
        say(f"[{next(done)}/{len(missing)}] shadow model" + (f" failed: {result['error']}" if result["error"] else ""))

    calls = {folder: {"job": job, "store": root, "share": share} for folder, job in missing.items()}
    results |= spread(perform, calls, arrays, share, concurrency, ended) if calls else {}
    return [[job for job in own if not results[job.folder]["error"]] for own in wanted]


def audit_all(
    subjects: Mapping[Any, Subject], shadows: Mapping[Any, Sequence[Job]], asked: Asked, arrays: Arrays, store: Store,
    share: Share, concurrency: AtATime, say: Say,
) -> dict[Any, dict[str, Any]]:  # fmt: skip
    """Audit networks by their sisters and shadow models, one task each.

    Args:
        subjects: by any name. shadows: each one's shadow models. asked: how many networks there were to be.
        arrays: the images. store: of the study. share, concurrency: as in a sweep. say: told of failures.

    Returns:
        What `audit_one` gives for each.
    """
    from trainables.tasks import spread

    def ended(name: Any, result: Mapping[str, Any]) -> None:
        if result["error"]:
            say(f"audit of {subjects[name].folder} failed: {result['error']}")

    same = {"asked": asked, "store": store, "share": share}
    calls = {name: {"subject": subject, "shadows": tuple(shadows.get(name, ())), **same} for name, subject in subjects.items()}
    return spread(audit_one, calls, arrays, share, concurrency, ended) if calls else {}


def audit_one(
    subject: Subject, shadows: tuple[Job, ...], asked: Asked, store: Store, share: Share, arrays: Arrays
) -> dict[str, Any]:
    """Audit a network and keep what was found beside it, unless that has been done with the same sisters and shadow models.

    Returns:
        `{"metrics", "error", "curves", "histogram", ...}`; `error` is one line, empty if all went well.
    """
    files = store.below(subject.folder)
    by = {"by": _identity(subject, shadows, store, share.known or store, arrays)}
    done = files.read_json("audit.json")
    if done is not None and not done["error"] and done["by"] == by["by"]:
        return done
    start = time.perf_counter()
    torch.set_num_threads(max(1, int(share.cpus)))
    device = torch.device("cuda" if share.gpus and torch.cuda.is_available() else "cpu")
    outcome: dict[str, Any] = {"metrics": {}, "error": "", **by}
    try:
        known = (files.read_json("result.json") or {})["metrics"]
        found, kept = audited(subject, shadows, known, store, share.known or store, unpack(arrays), device)
        outcome["metrics"] = {**found.metrics.values, **asked.flag(subject.sisters, shadows)}
        outcome |= kept
        files.write("audit.npz", npz(found.evidence))
    except (TrialError, InputError) as error:
        outcome["error"] = " ".join(str(error).splitlines())
    except OSError:
        raise  # a full disk may be empty for the next attempt
    except Exception as error:  # one strange network must not keep the others from their audits
        outcome["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
    outcome["seconds"] = time.perf_counter() - start
    files.write_json("audit.json", outcome)
    return outcome


def _identity(subject: Subject, shadows: Sequence[Job], store: Store, root: Store, arrays: Arrays) -> str:
    """Of the audited network, of those that audit it, and of the code: their results as they are now."""
    own = [(store, subject.folder), *((store, job.folder) for job in subject.sisters), *((root, job.folder) for job in shadows)]
    digest = hashlib.sha256(arrays.content.encode())
    for place, folder in own:
        digest.update(f"\n{folder}\n".encode() + (place.read(f"{folder}/result.json") or b""))
    return digest.hexdigest()[:32]


def audited(
    subject: Subject, shadows: Sequence[Job], known: Mapping[str, float], store: Store, root: Store, images: Images,
    device: torch.device,
) -> tuple[Audited, dict[str, Any]]:  # fmt: skip
    """A network's audits, and the curves and the histogram that are drawn of them."""
    config = TrialConfig.of(subject.params)
    own = [Job(subject.folder, subject.params), *subject.sisters]
    everyone = [(store, job) for job in own] + [(root, job) for job in shadows]
    target, *others = [
        stored_answers(place.below(job.folder), TrialConfig.of(job.params), images, device) for place, job in everyone
    ]
    found = by_others(config, target, others[: len(subject.sisters)], others[len(subject.sisters) :], images, known)
    curves = {}
    for protocol in {name.partition("/")[0] for name in found.evidence}:
        member = found.evidence[f"{protocol}/member"]
        for name, score in found.evidence.items():
            audit = name.removeprefix(f"{protocol}/")
            if name.startswith(f"{protocol}/") and audit not in ("rows", "member"):
                roc = Roc.of(score[member], score[~member])
                curves[audit] = [roc.tpr_at(rate) if rate * len(roc.non_members) >= 1 else None for rate in GRID]
    return found, {"curves": curves, "histogram": _histogram(config, target, images)}


def stored_answers(files: Store, config: TrialConfig, images: Images, device: torch.device) -> Answers:
    """What a stored network says of every image; it is asked anew where that was not kept.

    Raises:
        InputError: the file or the network cannot be used.
    """
    data = files.read("answers.npz")
    try:
        if data is not None:
            return Answers.of(of_npz(data), images.y.numpy())
    except (ValueError, KeyError) as error:
        raise InputError(f"cannot use {files.root}/answers.npz: {error}; delete it, and the network is asked again") from None
    modules = files.read_state("network.pt")
    if modules is None:
        raise InputError(f"no network.pt in {files.root}; delete result.json there to train it again")
    return answers_of(config, stored(config, modules, images, device).net, images, device=device)


def _histogram(config: TrialConfig, target: Answers, images: Images) -> dict[str, list[int]]:
    """How many members and non-members have a confidence in each of `BINS` equal parts of [0, 1]."""
    parts = split(images, config.split, config.replicate)
    groups = {"members": np.flatnonzero(target.state > 0), "non_members": parts.judged(config.judge.part)}
    return {
        name: np.histogram(target.score("confidence", rows), bins=BINS, range=(0, 1))[0].tolist() for name, rows in groups.items()
    }


def with_audit(result: Mapping[str, Any], audit: Mapping[str, Any] | None) -> dict[str, Any]:
    """A replicate's result after its audit. One that could not be audited has failed: the others' AUCs are not comparable."""
    if audit is None or result["error"]:
        return dict(result)
    if audit["error"]:
        return {**result, "metrics": {}, "error": f"audit: {audit['error']}"}
    drawn = {name: audit[name] for name in ("curves", "histogram")}
    return {**result, "metrics": merged(result["metrics"], audit["metrics"]), **drawn}
