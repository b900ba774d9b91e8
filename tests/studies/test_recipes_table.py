"""Tests of studies/recipes_table.py, as its documentation runs it, on digits."""

import re

import pytest
from files import modified

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
SCRIPT = "studies/recipes_table.py"


def test_means_paired_differences_and_nothing_trained_twice(run_study, tmp_path):
    options = ("--seeds", "2", "--recipes", "cross_entropy", "crl", "--set", "epochs=3", "judge.steps=2")
    first = run_study.succeed(tmp_path, *options, script=SCRIPT)
    rows = re.findall(r"^\| ([\w -]+) \| (.*) \|$", first, re.M)
    assert [name for name, _ in rows] == ["recipe", "cross_entropy", "crl", "crl - cross_entropy"]
    means = {name: float(cells.split(" ")[0]) for name, cells in rows[1:]}
    assert means["crl - cross_entropy"] == pytest.approx(means["crl"] - means["cross_entropy"], abs=0.0011)
    times = modified(tmp_path)
    assert len(times) == 4
    again = run_study.succeed(tmp_path, *options, script=SCRIPT)
    assert again.splitlines()[-3:] == first.splitlines()[-3:]
    assert modified(tmp_path) == times


def test_an_unknown_recipe_is_refused(run_study, tmp_path):
    done = run_study(tmp_path, "--recipes", "relaxlos", script=SCRIPT)
    assert done.returncode != 0 and "did you mean 'relaxloss'" in done.stderr and not list(tmp_path.glob("runs"))
