"""What must hold of a study whatever happened to it on the way."""

import csv
import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from growing import there

OF_THE_CLOCK = ("seconds", "images_per_second", "epoch/seconds", "peak_")
"""Beginnings of the names of metrics that no two runs share."""


def results(storage: Path) -> dict[str, bytes]:
    """The results that are there, by the folder of their trial; of the one study below `storage`."""
    return {path.parent.name: path.read_bytes() for path in there(storage, "*/trials/*/result.json")}


def study(storage: Path) -> Path:
    """The one study's folder."""
    (plan,) = storage.glob("*/plan.json")
    return plan.parent


def numbers(storage: Path) -> dict[str, dict[str, float]]:
    """Every trial's metrics without the clock's."""
    found = {name: json.loads(data)["metrics"] for name, data in results(storage).items()}
    return {
        name: {metric: value for metric, value in metrics.items() if not metric.startswith(OF_THE_CLOCK)}
        for name, metrics in found.items()
    }


def front(storage: Path) -> dict[int, dict[str, str]]:
    """The front as it was published."""
    metrics = ("accuracy", "robust_accuracy", "mia_auc")
    rows = csv.DictReader((study(storage) / "front.csv").read_text().splitlines())
    return {int(row["trial"]): {metric: row[metric] for metric in metrics} for row in rows}


def check(storage: Path, database: Path, trials: int, before: Mapping[str, bytes]) -> None:
    """All trials ended, none of those that had ended was touched, and MLflow has all of it once.

    Args:
        storage: of one study. database: the SQLite file behind the tracking server. trials: how many were planned.
        before: results at some time on the way.
    """
    after = results(storage)
    assert sorted(after) == [f"{number:05d}" for number in range(trials)]
    assert {name: after[name] for name in before} == dict(before), "a finished trial was run again"
    ended = {int(name): json.loads(data) for name, data in after.items()}
    assert not any(result["error"] for result in ended.values()), {n: result["error"] for n, result in ended.items()}
    folder = study(storage)
    assert not list(folder.rglob("*.part")) and not list(folder.rglob("checkpoint.pt")) and not (folder / "ray").exists()
    logged = Logged(database, folder.name)
    assert logged.parents == {folder.name: "FINISHED"}
    assert logged.children == [(number, "FINISHED") for number in range(trials)], logged.children
    assert logged.twice == []
    for number, result in ended.items():
        assert logged.metrics(number).items() >= result["metrics"].items()
        assert logged.epochs(number) == [row["epoch"] for row in result["curve"]]


class Logged:
    """A study's runs in MLflow's database, read without MLflow: all of them in a few queries."""

    def __init__(self, database: Path, name: str):
        self.connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
        self.mine = """
            from runs join tags name on name.run_uuid = runs.run_uuid and name.key = 'trilemma.name'
            join tags kind on kind.run_uuid = runs.run_uuid and kind.key = 'trilemma.kind'
            left join tags number on number.run_uuid = runs.run_uuid and number.key = 'trilemma.trial'
            """
        self.where = f" where runs.lifecycle_stage = 'active' and name.value = '{name}' and kind.value = "

    def _all(self, what: str, kind: str, join: str = "", rest: str = "") -> list[tuple]:
        return self.connection.execute(f"select {what} {self.mine} {join} {self.where} '{kind}' {rest}").fetchall()

    @property
    def parents(self) -> dict[str, str]:
        """Names of the study's own runs, with their status."""
        found = self._all("runs.name, runs.status", "study")
        assert len(found) == 1, found
        return dict(found)

    @property
    def children(self) -> list[tuple[int, str]]:
        """Number and status of each child."""
        return sorted((int(number), status) for number, status in self._all("number.value, runs.status", "trial"))

    @property
    def twice(self) -> list[tuple]:
        """What was logged more than once at a step."""
        join, group = "join metrics on metrics.run_uuid = runs.run_uuid", "group by runs.run_uuid, metrics.key, metrics.step"
        return [
            row for kind in ("study", "trial")
            for row in self._all("number.value, metrics.key, metrics.step, count(*)", kind, join, f"{group} having count(*) > 1")
        ]  # fmt: skip

    def metrics(self, number: int) -> dict[str, float]:
        """The newest values of a child."""
        join, rest = "join latest_metrics m on m.run_uuid = runs.run_uuid", f"and number.value = '{number}'"
        return dict(self._all("m.key, m.value", "trial", join, rest))

    def epochs(self, number: int) -> list[int]:
        """The steps of a child's curve."""
        join, rest = "join metrics m on m.run_uuid = runs.run_uuid", f"and number.value = '{number}' and m.key = 'epoch/loss'"
        return [step for (step,) in self._all("m.step", "trial", join, f"{rest} order by m.step")]
