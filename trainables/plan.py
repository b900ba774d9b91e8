"""What a study will do (`Plan`, kept with its results) and where it will do it (`Site`, which may change on resume)."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core import space
from core.config import Objective, TrialConfig, checked_space
from core.space import Range, Value


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

    def configured(self, changes: Mapping[str, Value]) -> TrialConfig:
        """The configuration of a trial."""
        return self.config.set(changes)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        plain = dataclasses.asdict(dataclasses.replace(self, config=TrialConfig()))
        return plain | {
            "config": self.config.params(),
            "space": {name: space.plain(span) for name, span in self.space.items()},
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
