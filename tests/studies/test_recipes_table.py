"""Tests of studies/recipes_table.py, as its documentation runs it, on digits."""

import re

import pytest
from files import modified

from core.small_recipes import SMALL
from studies import recipes_table

SCRIPT = "studies/recipes_table.py"


@pytest.mark.parametrize("norm, radius", [("l2", "1.5"), ("l2", "3.0"), ("linf", "0.2")])
def test_every_row_has_the_threat_model_of_the_table_and_rows_for_linf_alone_keep_their_customary_radius(norm, radius):
    args = recipes_table.parser().parse_args(["--seeds", "1", "--set", f"judge.norm={norm}", f"judge.epsilon={radius}"])
    params = {name: job.params for (name, _), job in recipes_table.jobs_of(args).items()}
    assert params.keys() == SMALL.keys()
    assert all((p["judge.norm"], p["judge.epsilon"]) == (norm, float(radius)) for p in params.values())
    radii = {name: p for name, p in params.items() if "perturbation.epsilon" in p}
    trained = {name: (p.get("perturbation.norm"), p["perturbation.epsilon"]) for name, p in radii.items()}
    assert trained.pop("fgsm_l2") == ("l2", 0.5)
    in_linf = {"rfgsm_at": (None, 0.1), "rss_at": ("linf", 0.1)} if norm == "l2" else {"rfgsm_at": (None, 0.2)}
    assert trained == dict.fromkeys(trained, (norm, float(radius))) | in_linf


@pytest.mark.ray
@pytest.mark.timeout(300)
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


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_an_unknown_recipe_is_refused(run_study, tmp_path):
    done = run_study(tmp_path, "--recipes", "relaxlos", script=SCRIPT)
    assert done.returncode != 0 and "did you mean 'relaxloss'" in done.stderr and not list(tmp_path.glob("runs"))
