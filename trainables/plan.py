"""What a study will do (`Plan`, kept with its results) and where it will do it (`Site`, which may change on resume)."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core import space
from core.config import Limit, Objective, TrialConfig, checked_space
from core.errors import InputError
from core.space import Range, Value, flat
from core.trial import GLANCED
from trainables.terminal import Output


@dataclass(frozen=True)
class Plan:
    """Everything that decides a study's numbers."""

    name: str
    """Of this execution."""
    study: str
    question: str
    config: TrialConfig
    space: dict[str, Range]
    objectives: tuple[Objective, ...]
    baselines: dict[str, dict[str, Value]]
    trials: int
    """Baselines included."""
    sampler: str
    seed: int
    confirm: dict[str, Value]
    """What confirm changes in a configuration."""
    replicates: int
    """Per front point; 0 is no confirm."""
    shadows: int = 0
    """Shadow models per front point; with 0, only the replicates audit each other."""
    require: tuple[Limit, ...] = ()
    """What every point of the front must meet."""
    seeds: int = 1
    """Trainings of each configuration, whose means are its numbers."""
    rungs: tuple[int, ...] = ()
    """Epochs after which a trial that is dominated may be given up."""

    def configured(self, changes: Mapping[str, Value]) -> TrialConfig:
        """The configuration of a trial."""
        return self.config.set(changes)

    def check_rungs(self) -> None:
        """Make sure that what unfinished trials are compared by is known then, and says something about the front.

        Raises:
            InputError: with what to change.
        """
        if not self.rungs:
            return
        asked = {"objective": [o.metric for o in self.objectives], "limit on": [limit.metric for limit in self.require]}
        for what, names in asked.items():
            if late := [name for name in names if name not in GLANCED]:
                raise InputError(
                    f"--early-stopping compares unfinished trials by {', '.join(GLANCED)}; "
                    f"this study's {what} {', '.join(late)} is measured only at the end"
                )
        if "epochs" in flat(self.space):
            raise InputError("--early-stopping compares trials after equal shares of equal trainings; do not search epochs")
        if wrong := [rung for rung in self.rungs if not 0 < rung < self.config.epochs]:
            raise InputError(f"--early-stopping {wrong[0]}: expected epochs between 1 and {self.config.epochs - 1}")

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        plain = dataclasses.asdict(dataclasses.replace(self, config=TrialConfig()))
        return plain | {
            "config": self.config.params(),
            "space": {name: space.plain(span) for name, span in self.space.items()},
            "require": [str(limit) for limit in self.require],
        }

    @classmethod
    def of_json(cls, plain: Mapping[str, Any]) -> "Plan":
        """The inverse of `to_json`."""
        config = TrialConfig.of(plain["config"])
        return cls(**{
            **plain,
            "config": config,
            "space": checked_space(config, {name: space.of_plain(span) for name, span in plain["space"].items()}),
            "objectives": tuple(Objective(**objective) for objective in plain["objectives"]),
            "require": tuple(Limit.of(text) for text in plain.get("require", ())),
            "rungs": tuple(plain.get("rungs", ())),
        })  # fmt: skip


@dataclass(frozen=True)
class Site:
    """Machines and addresses."""

    address: str = ""
    """Of a running Ray cluster; empty starts one on this machine."""
    workers: int = 0
    """Per trial; 0 trains in the trial's own process."""
    cpus: float = 1.0
    """Per worker."""
    gpus: float | None = None
    """Per worker; None is one, or what there is for each, where there are any."""
    shadow_gpus: float | None = None
    """Per shadow model; None is as much as a worker has."""
    concurrency: int = 0
    """Trials at a time; 0 is as many as fit."""
    storage: str = "runs"
    tracking_uri: str = "sqlite:///mlflow.db"
    data_dir: str = "data"
    output: Output = "text"
    """What is said of it, and to whom."""
