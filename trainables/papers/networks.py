"""The networks of a table or figure, as configurations and as trainings."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from core.config import TrialConfig
from core.errors import InputError, unknown
from core.rng import fold
from core.space import Value
from trainables.papers.item import Item, Preset
from trainables.storage.content import Content
from trainables.storage.jobs import Job

UNJUDGED: dict[str, Value] = {
    "judge.suite": "none", "judge.attacks": "fgsm", "judge.images": 16, "judge.audits": "scores", "judge.inversion": "none",
    "judge.attribution": 0,
}  # fmt: skip
"""Judge settings of a source, of which only the weights are used."""


class Cell(NamedTuple):
    """One network of a table: its row, or the name of a source, and its seed."""

    row: str
    seed: int


@dataclass(frozen=True)
class Networks:
    """The configurations of all networks of an item."""

    rows: dict[Cell, TrialConfig]
    sources: dict[Cell, TrialConfig]
    """The networks that measurements use besides those of the rows."""

    @property
    def common(self) -> TrialConfig:
        """The first configuration, whose data set, pool and split all of them have."""
        return next(iter(self.rows.values()))

    def labels(self) -> list[str]:
        """Labels of the rows, in their order."""
        return list(dict.fromkeys(cell.row for cell in self.rows))


def networks_of(
    item: Item, preset: Preset, dataset: str | None, fixed: Mapping[str, str], only: Collection[str], seeds: int
) -> Networks:  # fmt: skip
    """The networks of an item.

    Args:
        item: the item.
        preset: its settings.
        dataset: name of the data set, if it is not the preset's.
        fixed: settings of every network, which replace all others.
        only: labels of the rows; empty for all.
        seeds: number of networks per row.

    Raises:
        InputError: a row is unknown, a setting is not legal, or the rows differ in the settings of the images.
    """
    rows: Mapping[str, Mapping[str, Value]] = preset.rows or {row: {} for row in item.rows}
    if missing := [row for row in only if row not in rows]:
        raise unknown("row", missing[0], rows)
    for name in ("dataset", "seed", "replicate", "shadow"):
        if name in fixed:
            fix = {"dataset": "use --dataset", "seed": "use --seeds, which numbers them from 1"}
            raise InputError(f"--set {name}=... : {fix.get(name, 'the networks of a table are numbered by --seeds')}")

    def configured(own: Mapping[str, Value], later: Mapping[str, Value], seed: int, replicate: int) -> TrialConfig:
        config = TrialConfig().set({**own, **preset.config, **later})
        config = config.set({"dataset": dataset} if dataset is not None else {}).set(fixed)
        return config.set({"seed": seed, "replicate": replicate})

    numbers = range(1, seeds + 1)
    targets = {
        Cell(row, seed): configured(item.rows[row], changes, seed, seed - 1)
        for row, changes in rows.items() if not only or row in only for seed in numbers
    }  # fmt: skip
    sources = {
        Cell(name, seed): configured({}, changes, fold(seed, "source", name), seed - 1).set(UNJUDGED)
        for name, changes in (item.measurement.sources if item.measurement else {}).items() for seed in numbers
    }  # fmt: skip
    networks = Networks(targets, sources)
    for cell, config in {**targets, **sources}.items():
        for name in ("dataset", "pool", "split"):
            if getattr(config, name) != getattr(networks.common, name):
                raise InputError(f"row {cell.row!r} has its own {name}, and all networks of a table have the same images")
    return networks


def job_of(config: TrialConfig, content: Content) -> Job:
    """The training of a network of a table; its folder is relative to `--storage`."""
    params = config.params()
    return Job(f"papers/{content.evaluation_key(params)}", params)
