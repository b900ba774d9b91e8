"""Tests of every study: its plan is valid under both presets, and a few short trials of it end with a front."""

import importlib
from pathlib import Path

import pytest
import torch
from files import read, rows
from study_runs import SERIAL

from core import space
from core.config import TrialConfig
from core.data import Images
from core.data.protocols import PARTS, Official
from trainables.commands.study import parser, plan_of

ROOT = Path(__file__).resolve().parents[2]
STUDIES = ("crl_tradeoff", "bpfc_tradeoff", "gat_tradeoff", "sparsity_tradeoff", "inversion_tradeoff", "all_knobs")
all_studies = pytest.mark.parametrize("name", STUDIES)
SHORT_STUDIES = [pytest.param(name, marks=[pytest.mark.thorough] * (name != "bpfc_tradeoff")) for name in STUDIES[1:]]
"""The studies besides the one that other tests run."""


def study(name: str):
    return importlib.import_module(f"studies.{name}").STUDY


def test_every_script_with_a_study_is_listed_here():
    assert {path.stem for path in (ROOT / "studies").glob("*.py") if "STUDY =" in path.read_text()} == set(STUDIES)


@all_studies
@pytest.mark.parametrize("preset", ["dev", "paper"])
def test_the_plan_of_each_preset_is_valid_and_leaves_trials_for_the_search(name, preset):
    plan = plan_of(study(name), parser(study(name)).parse_args(["--preset", preset]))
    assert study(name).name == name and plan.space
    assert plan.trials >= len(plan.baselines) + 12
    assert plan.config.judge.part == "val" and plan.confirm["judge.part"] == "test"


def test_the_preset_for_photographs_has_its_parts_and_leaves_trials_for_the_search():
    given = ["--preset", "photos", "--dataset", "parquet:photographs"]
    plan = plan_of(study("crl_tradeoff"), parser(study("crl_tradeoff")).parse_args(given))
    assert plan.config.dataset.endswith("/photographs") and plan.config.judge.epsilon == pytest.approx(8 / 255)
    assert len(plan.baselines) == 4 and plan.trials == 12
    labels = torch.arange(plan.config.pool) % 10
    parts = plan.config.split.draw(Images(torch.zeros(len(labels), 1, 1, 1, dtype=torch.uint8), labels, 10), 0, 0)
    assert [len(getattr(parts, name)) for name in PARTS] == [8000, 4000, 2000, 0]
    assert plan.confirm["judge.part"] == "test" and plan.confirm["judge.images"] == 500


PAPER_SPLITS = {
    "crl_tradeoff": [15000, 7500, 7500, 30000], "bpfc_tradeoff": [40000, 10000, 10000, 0],
    "gat_tradeoff": [45000, 5000, 10000, 0], "sparsity_tradeoff": [5000, 1000, 500, 10000],
    "inversion_tradeoff": [46000, 2000, 10000, 2000], "all_knobs": [15000, 7500, 7500, 30000],
}  # fmt: skip
"""Numbers of members, validation, test and shadow images of CIFAR-10 in the presets `paper`."""


@all_studies
def test_the_paper_preset_splits_cifar10_as_its_paper_does_and_has_shadow_images_for_its_shadow_models(name):
    plan = plan_of(study(name), parser(study(name)).parse_args(["--preset", "paper"]))
    labels = torch.arange(60000) % 10
    images = Images(torch.zeros(60000, 1, 1, 1, dtype=torch.uint8), labels, 10, in_test_file=torch.arange(60000) >= 50000)
    parts = plan.config.split.draw(images, 0, 0)
    assert [len(getattr(parts, part)) for part in PARTS] == PAPER_SPLITS[name]
    if isinstance(plan.config.split, Official):
        assert (parts.test >= 50000).all() and max(parts.members.max(), parts.val.max()) < 50000
    assert bool(plan.shadows) <= bool(len(parts.shadow))
    for config in (plan.config, plan.config.set(plan.confirm)):
        assert len(parts.non_members(config.judge.part))


@all_studies
def test_the_threat_model_follows_the_data_set_everywhere(name):
    plan = plan_of(study(name), parser(study(name)).parse_args(["--dataset", "cifar10"]))
    radii = [span for key, span in space.flat(plan.space).items() if key.endswith("epsilon") and key.startswith("perturbation")]
    radii_of_baselines = [b["perturbation.epsilon"] for b in plan.baselines.values() if "perturbation.epsilon" in b]
    factor = 2 if name == "inversion_tradeoff" else 1  # it searches beyond the radius of the evaluation
    assert all(span.high == pytest.approx(factor * 8 / 255) for span in radii)
    assert all(value == pytest.approx(8 / 255) for value in radii_of_baselines)


@all_studies
@pytest.mark.parametrize("radius", [1.5, 3.0])
def test_every_study_can_have_an_l2_threat_model_in_which_it_trains_too(name, radius):
    given = ["--set", "judge.norm=l2", f"judge.epsilon={radius}"]
    plan = plan_of(study(name), parser(study(name)).parse_args(given))
    assert (plan.config.judge.norm, plan.config.judge.epsilon) == ("l2", radius)
    for changes in ({}, *plan.baselines.values()):
        assert getattr(plan.configured(changes).perturbation, "norm", "l2") == "l2"
    factor = 2 if name == "inversion_tradeoff" else 1
    radii = [span for key, span in space.flat(plan.space).items() if key.endswith("epsilon") and key.startswith("perturbation")]
    assert all(space.ends(span) == (0, factor * radius) for span in radii)
    norms = [span for key, span in space.flat(plan.space).items() if key.endswith("norm") and key.startswith("perturbation")]
    assert all(space.ends(span) == ("l2",) for span in norms) and bool(norms) == (name == "all_knobs")


def test_training_may_have_another_norm_than_the_threat_model():
    given = ["--set", "judge.norm=l2", "judge.epsilon=0.5", "perturbation.norm=linf"]
    plan = plan_of(study("crl_tradeoff"), parser(study("crl_tradeoff")).parse_args(given))
    assert (plan.config.judge.norm, plan.config.perturbation.norm) == ("l2", "linf")


def test_the_knobs_of_the_papers_are_searched():
    searched = {name: set(space.searched_names(study(name).space(study(name).presets["paper"].config))) for name in STUDIES}
    assert {"regularizer.k", "regularizer.lambda"} <= searched["bpfc_tradeoff"]
    assert {"perturbation.c_g", "perturbation.k", "perturbation.alpha"} <= searched["gat_tradeoff"]
    assert {"regularizer.l1", "regularizer.l2"} <= searched["sparsity_tradeoff"]
    assert {"perturbation.epsilon", "perturbation.alpha"} <= searched["inversion_tradeoff"]
    assert {"loss", "perturbation", "regularizer", "loss.alpha_rce", "regularizer.k"} <= searched["all_knobs"]


@pytest.mark.ray
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", SHORT_STUDIES)
def test_a_short_study_ends_with_a_front_of_what_was_searched(name, run_study, tmp_path):
    count = len(study(name).baselines) + 2
    quick = ("epochs=10", "net.width=6", "judge.steps=2")
    if name == "inversion_tradeoff":
        quick = (*quick, "judge.inversion_iterations=50")
    options = (*SERIAL, "--trials", str(count), "--no-confirm", "--set", *quick)
    folder = run_study.study(tmp_path, *options, script=f"studies/{name}.py").folder
    front = rows(folder / "front.csv")
    assert front and all(objective.metric in front[0] for objective in study(name).objectives(10))
    kind = {"inversion_tradeoff": "inversion-ascent", "sparsity_tradeoff": "attribution"}.get(name)
    for plots in (folder / "plots", *(folder.parent / "mlartifacts").rglob("plots")):  # in the report and in MLflow
        found = [path for path in plots.iterdir() if kind and path.name.startswith(kind)]
        assert bool(found) == bool(kind) and len(found) <= len(front)
    trials = sorted((folder / "trials").iterdir())
    assert len(trials) == count
    assert all(read(trial / "result.json")["metrics"]["accuracy"] > 0 for trial in trials)
    params = [TrialConfig.of(read(trial / "params.json")["params"]).params() for trial in trials]
    searched = space.searched_names(study(name).space(study(name).presets["dev"].config))
    assert any(len({p[knob] for p in params if knob in p}) > 1 for knob in searched)
