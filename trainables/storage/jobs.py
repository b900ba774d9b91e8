"""Trainings and their folders: the seeds of a trial, the replicates of a confirmed point, and shadow models."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from core.config import TrialConfig
from core.judging import Judge
from core.rng import fold
from core.space import Value
from trainables.storage.content import Content
from trainables.study.plan import Plan
from trainables.study.trial import Trial


@dataclass(frozen=True)
class Job:
    """One training: a complete configuration in flat form, and the folder for its files."""

    folder: str
    params: dict[str, Value]


def trial_folder(number: int) -> str:
    """Folder of a trial, relative to the study's folder."""
    return f"trials/{number:05d}"


def point_folder(number: int) -> str:
    """Folder of the replicates of a confirmed trial, relative to the study's folder."""
    return f"confirm/{number:05d}"


def replicate_folder(number: int, replicate: int) -> str:
    """Folder of one replicate of a confirmed trial, relative to the study's folder."""
    return f"{point_folder(number)}/{replicate}"


def seed_jobs(number: int, params: dict[str, Value], seeds: int) -> list[Job]:
    """The trainings of a trial: one, or one per seed, of which the first has the trial's own seed."""
    if seeds == 1:
        return [Job(trial_folder(number), params)]
    all_seeds = [params["seed"], *(fold(int(params["seed"]), "again", i) for i in range(2, seeds + 1))]
    return [Job(f"{trial_folder(number)}/seeds/{i}", {**params, "seed": seed}) for i, seed in enumerate(all_seeds, 1)]


def replicate_job(plan: Plan, point: Trial, replicate: int) -> Job:
    """The training of a replicate: the point's configuration with another seed, other members and the settings of confirmation."""
    changes = {"replicate": replicate, "seed": fold(plan.seed, "confirm", point.number, replicate)}
    config = plan.config.of(point.params).set({**plan.confirm, **changes})
    return Job(replicate_folder(point.number, replicate), config.params())


def shadow_job(params: Mapping[str, Value], number: int, content: Content) -> Job:
    """The training of a recipe's shadow model, numbered from 1; its folder is relative to `--storage`.

    Judge settings, seed and replicate of the recipe do not count, except for the threat model, which adversarial queries use.

    Args:
        params: the recipe in flat form.
        number: number of the shadow model.
        content: fingerprints of images and code.
    """
    config = TrialConfig.of(params)
    judge = Judge(norm=config.judge.norm, epsilon=config.judge.epsilon, audits="standard")
    whole = replace(config, judge=judge, replicate=0, shadow=number, seed=fold(0, "shadow", number)).params()
    return Job(f"shadows/{content.evaluation_key(whole)}", whole)
