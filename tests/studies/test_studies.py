"""Every study: its plan is legal under both presets, and a few short trials of it end with a front."""

import csv
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from core import space
from core.config import TrialConfig
from trainables import cli

ROOT = Path(__file__).resolve().parents[2]
STUDIES = ("crl_tradeoff", "bpfc_tradeoff", "gat_tradeoff", "sparsity_tradeoff", "inversion_tradeoff", "all_knobs")
every = pytest.mark.parametrize("name", STUDIES)


def study(name: str):
    return importlib.import_module(f"studies.{name}").STUDY


def test_every_script_with_a_study_is_listed_here():
    assert {path.stem for path in (ROOT / "studies").glob("*.py") if "STUDY =" in path.read_text()} == set(STUDIES)


@every
@pytest.mark.parametrize("preset", ["dev", "paper"])
def test_the_plan_of_each_preset_is_legal_and_leaves_trials_for_the_search(name, preset):
    made = study(name)
    plan = cli.plan_of(made, cli.parser(made).parse_args(["--preset", preset]))
    assert made.name == name and plan.space
    assert plan.trials >= len(plan.baselines) + 12
    assert plan.config.judge.part == "val" and plan.confirm["judge.part"] == "test"


@every
def test_the_threat_model_follows_the_data_set_everywhere(name):
    made = study(name)
    plan = cli.plan_of(made, cli.parser(made).parse_args(["--dataset", "cifar10"]))
    radii = [span for key, span in space.flat(plan.space).items() if key.endswith("epsilon") and key.startswith("perturbation")]
    radii_of_baselines = [b["perturbation.epsilon"] for b in plan.baselines.values() if "perturbation.epsilon" in b]
    times = 2 if name == "inversion_tradeoff" else 1  # its question goes on beyond the radius that is judged
    assert all(span.high == pytest.approx(times * 8 / 255) for span in radii)
    assert all(value == pytest.approx(8 / 255) for value in radii_of_baselines)


def test_the_papers_knobs_are_searched():
    searched = {name: set(space.names(study(name).space(study(name).presets["paper"].config))) for name in STUDIES}
    assert {"regularizer.k", "regularizer.lambda"} <= searched["bpfc_tradeoff"]
    assert {"perturbation.c_g", "perturbation.k", "perturbation.alpha"} <= searched["gat_tradeoff"]
    assert {"regularizer.l1", "regularizer.l2"} <= searched["sparsity_tradeoff"]
    assert {"perturbation.epsilon", "perturbation.alpha"} <= searched["inversion_tradeoff"]
    assert {"loss", "perturbation", "regularizer", "loss.alpha_rce", "regularizer.k"} <= searched["all_knobs"]


@pytest.mark.ray
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", STUDIES[1:])
def test_a_short_run_ends_with_a_front_of_what_was_searched(name, tmp_path):
    count = len(study(name).baselines) + 4
    quick = ["--set", "epochs=15", "net.width=6", "judge.steps=2", "--trials", str(count), "--no-confirm"]
    script = [sys.executable, str(ROOT / f"studies/{name}.py"), *quick]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = (tmp_path / "runs").glob("*-*")
    front = list(csv.DictReader((folder / "front.csv").read_text().splitlines()))
    assert front and all(o.metric in front[0] for o in study(name).objectives(10))
    kind = {"inversion_tradeoff": "inversion-ascent", "sparsity_tradeoff": "attribution"}.get(name)
    for place in (folder / "plots", *(tmp_path / "mlartifacts").rglob("plots")):  # the report's and MLflow's
        found = [path for path in place.iterdir() if kind and path.name.startswith(kind)]
        assert bool(found) == bool(kind) and len(found) <= len(front)
    trials = sorted((folder / "trials").iterdir())
    assert len(trials) == count
    assert all(json.loads((t / "result.json").read_text())["metrics"]["accuracy"] > 0 for t in trials)
    params = [TrialConfig.of(json.loads((t / "params.json").read_text())["params"]).params() for t in trials]
    searched = space.names(study(name).space(study(name).presets["dev"].config))
    assert any(len({p[knob] for p in params if knob in p}) > 1 for knob in searched)
