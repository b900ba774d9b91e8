"""Interim evaluations during training."""

import pytest

from core import data, trial
from core.config import TrialConfig
from core.evaluation.interim import INTERIM_METRICS


def test_an_interim_evaluation_changes_no_bit_of_the_trained_network():
    config = TrialConfig.of({"epochs": 3, "net.width": 4, "judge.steps": 2, "judge.images": 50, "perturbation": "pgd"})
    images = data.load("digits")
    plain, evaluated = trial.run(config, images), trial.run(config, images, rungs=(1, 2))
    assert [sorted(row) for row in evaluated.curve][2] == sorted(plain.curve[2])
    for name in INTERIM_METRICS:
        assert [f"rung/{name}" in row for row in evaluated.curve] == [True, True, False]
        assert evaluated.metrics[name] == plain.metrics[name]
    assert evaluated.curve[0]["rung/accuracy"] < evaluated.metrics["accuracy"]


def test_an_interim_evaluation_after_the_last_epoch_agrees_with_the_final_one():
    config = TrialConfig.of({"epochs": 2, "net.width": 4, "judge.steps": 5, "judge.images": 128})
    result = trial.run(config, data.load("digits"), rungs=(2,))
    last = result.curve[-1]
    assert last["rung/accuracy"] == result.metrics["accuracy"]
    assert last["rung/mia_auc"] == result.metrics["mia_auc"]
    assert last["rung/mia_auc_chance"] == result.metrics["mia_auc_chance"]
    assert last["rung/robust_accuracy"] == pytest.approx(result.metrics["robust_accuracy"], abs=0.05)
