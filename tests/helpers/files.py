"""Reading the files of a study."""

import csv
import glob
import json
from pathlib import Path
from typing import Any

METRICS = ("accuracy", "robust_accuracy", "mia_auc")


def existing(folder: Path, pattern: str) -> list[Path]:
    """Paths that match now. `Path.glob` fails if a folder disappears while it looks, and a study checks its storage."""
    return [Path(path) for path in sorted(glob.glob(f"{folder}/{pattern}"))]


def results(cwd: Path) -> list[Path]:
    """Results of trials, so far, of the studies that were run in a directory."""
    return existing(cwd / "runs", "*/trials/*/result.json")


def rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    return list(csv.DictReader(path.read_text().splitlines()))


def front(path: Path) -> dict[int, dict[str, float]]:
    """Objectives of the points of a front.csv, by number of the trial."""
    return {int(row["trial"]): {metric: float(row[metric]) for metric in METRICS} for row in rows(path)}


def read(path: Path) -> Any:
    """Content of a JSON file."""
    return json.loads(path.read_text())


def modified(folder: Path, pattern: str = "result.json") -> dict[Path, int]:
    """Times at which the files of this name in a folder and below were written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob(pattern)}
