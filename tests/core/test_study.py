"""Objectives and studies: normalised losses, and definitions that are rejected."""

import math
from dataclasses import replace

import pytest
from switches import SPACE

from core.config import TrialConfig
from core.errors import InputError
from core.space import LogUniform, Switch, Uniform
from core.study import Contrast, Objective, Preset, Study, trilemma


def test_objective_loss_is_zero_at_the_ideal_and_one_at_the_reference():
    accuracy = Objective("accuracy", "max", reference=0.1, ideal=1.0)
    assert [accuracy.loss(v) for v in (1.0, 0.55, 0.1, 0.01, 1.2)] == pytest.approx([0.0, 0.5, 1.0, 1.1, 0.0])
    auc = Objective("mia_auc", "min", reference=1.0, ideal=0.5)
    assert [auc.loss(v) for v in (0.5, 0.75, 1.0, 0.4)] == pytest.approx([0.0, 0.5, 1.0, 0.0])


def test_a_value_that_does_not_exceed_its_chance_level_counts_as_that_level():
    auc = Objective("mia_auc", "min", reference=1.0, ideal=0.5)
    rows = [{"mia_auc": 0.52, "mia_auc_chance": 0.55}, {"mia_auc": 0.6, "mia_auc_chance": 0.55}, {"mia_auc": 0.52}]
    assert [auc.loss_of(row) for row in rows] == pytest.approx([0.1, 0.2, 0.04])
    assert auc.loss_of(rows[1], level=0.7) == pytest.approx(0.4)
    assert math.isnan(auc.loss_of({"mia_auc_chance": 0.55})) and math.isnan(
        auc.loss_of({"mia_auc": math.nan, "mia_auc_chance": 0.55})
    )


@pytest.mark.parametrize("direction, reference, ideal", [("max", 1.0, 0.5), ("min", 0.5, 1.0), ("max", 1.0, 1.0)])
def test_an_objective_whose_ideal_is_not_better_than_its_reference_is_rejected(direction, reference, ideal):
    with pytest.raises(InputError, match="ideal on the better side"):
        Objective("m", direction, reference=reference, ideal=ideal)


def test_the_three_objectives_have_loss_one_at_chance_no_robustness_and_perfect_attacks():
    worst = {"accuracy": 0.1, "robust_accuracy": 0.0, "mia_auc": 1.0}
    best = {"accuracy": 1.0, "robust_accuracy": 1.0, "mia_auc": 0.5}
    objectives = trilemma(10)
    assert {o.metric: o.loss(worst[o.metric]) for o in objectives} == dict.fromkeys(worst, 1.0)
    assert {o.metric: o.loss(best[o.metric]) for o in objectives} == dict.fromkeys(worst, 0.0)


@pytest.mark.parametrize(
    "change",
    [
        {"space": lambda config: {"loss.lambda": Uniform(0, 1)}},
        {"baselines": {"typo": {"loss": "crll"}}},
        {"presets": {"dev": Preset(config=TrialConfig(), trials=1, confirm={"judge.part": "tset"})}},
    ],
    ids=["space", "baselines", "confirm"],
)
def test_a_study_that_cannot_run_is_rejected_on_construction(change):
    valid = {
        "name": "s", "question": "?", "presets": {"dev": Preset(config=TrialConfig(), trials=1)},
        "space": lambda config: {"optimizer.lr": LogUniform(1e-3, 0.3)}, "baselines": {"plain": {}},
    }  # fmt: skip
    Study(**valid)
    with pytest.raises(InputError):
        Study(**(valid | change))


def test_a_study_with_an_illegal_option_is_rejected_on_construction():
    preset = Preset(config=TrialConfig(), trials=1)
    study = Study(name="s", question="?", presets={"dev": preset}, space=lambda config: SPACE)
    with pytest.raises(InputError, match=r"^space loss=crl loss\.lambda: "):
        replace(study, space=lambda config: {"loss": Switch({"crl": {"loss.lambda": Uniform(-1, 1)}})})


def test_a_contrast_needs_a_matched_metric_for_settings_and_only_for_them():
    Contrast("?", "a", "b", "mia_auc")
    Contrast("?", {"loss": "crl"}, "b", "mia_auc", matched="accuracy")
    for treatment, matched in (("a", "accuracy"), ({"loss": "crl"}, "")):
        with pytest.raises(InputError, match="contrast '\\?': settings as a treatment"):
            Contrast("?", treatment, "b", "mia_auc", matched=matched)


@pytest.mark.parametrize("contrast, message", [
    (Contrast("?", "plain", "plane", "mia_auc"), r"unknown baseline of a contrast 'plane' \(did you mean 'plain'\?\)"),
    (Contrast("?", "other", "plain", "mia_auc"), "unknown baseline of a contrast 'other'"),
    (Contrast("?", "plain", "plain", "auc"), "unknown objective of a contrast 'auc'"),
    (Contrast("?", {"loss": "crl"}, "plain", "mia_auc", matched="density"), "unknown objective of a contrast 'density'"),
    (Contrast("?", {"loss": "crll"}, "plain", "mia_auc", matched="accuracy"), "unknown loss 'crll'"),
])  # fmt: skip
def test_a_contrast_of_unknown_names_is_rejected_with_its_study(contrast, message):
    valid = {
        "name": "s", "question": "?", "presets": {"dev": Preset(config=TrialConfig(), trials=1)},
        "space": lambda config: {"optimizer.lr": LogUniform(1e-3, 0.3)}, "baselines": {"plain": {}},
    }  # fmt: skip
    with pytest.raises(InputError, match=message):
        Study(**valid, contrasts=(contrast,))
