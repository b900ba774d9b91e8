"""The table of recipes, run as its documentation says, on digits."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
ROOT = Path(__file__).resolve().parents[2]


def run(cwd: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, str(ROOT / "studies/recipes_table.py"), *argv]
    return subprocess.run(script, cwd=cwd, capture_output=True, text=True, timeout=250)


def test_means_paired_differences_and_nothing_trained_twice(tmp_path):
    argv = ["--seeds", "2", "--recipes", "cross_entropy", "crl", "--set", "epochs=3", "judge.steps=2"]
    first = run(tmp_path, *argv)
    assert first.returncode == 0, first.stderr
    rows = re.findall(r"^\| ([\w -]+) \| (.*) \|$", first.stdout, re.M)
    assert [name for name, _ in rows] == ["recipe", "cross_entropy", "crl", "crl - cross_entropy"]
    means = {name: float(cells.split(" ")[0]) for name, cells in rows[1:]}
    assert means["crl - cross_entropy"] == pytest.approx(means["crl"] - means["cross_entropy"], abs=0.0011)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
    assert len(stamps) == 4
    again = run(tmp_path, *argv)
    assert again.stdout.splitlines()[-3:] == first.stdout.splitlines()[-3:]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")} == stamps


def test_an_unknown_recipe_is_refused(tmp_path):
    done = run(tmp_path, "--recipes", "relaxlos")
    assert done.returncode != 0 and "did you mean 'relaxloss'" in done.stderr and not list(tmp_path.iterdir())
