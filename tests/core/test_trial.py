"""Trials: training followed by the evaluation, and shadow models."""

import numpy as np
import pytest
import torch

from core import data, trial
from core.config import TrialConfig
from core.evaluation.judge import judge
from core.train import train

torch.set_num_threads(1)

CONFIG = TrialConfig.of({
    "epochs": 5, "batch_size": 64, "net.width": 8, "optimizer.lr": 0.1, "judge.epsilon": 0.06, "judge.steps": 4,
    "judge.restarts": 2,
})  # fmt: skip


def test_run_trains_and_then_evaluates():
    images = data.load("digits")
    parts = data.split(images)
    from_run = trial.run(CONFIG, images)
    trained = train(CONFIG, images.at(parts.members), images.at(parts.val))
    evaluated = judge(CONFIG, trained, images, parts)
    same = {k: v for k, v in from_run.metrics.values.items() if "second" not in k}
    assert same == {k: v for k, v in evaluated.metrics.values.items() if "second" not in k}
    assert len(from_run.curve) == CONFIG.epochs


def test_a_shadow_model_is_queried_but_not_attacked_or_audited():
    config = TrialConfig.of({
        "epochs": 12, "batch_size": 64, "net.width": 8, "optimizer.lr": 0.2, "judge.part": "test", "judge.epsilon": 0.06,
        "judge.steps": 3, "judge.images": 20, "judge.audits": "full", "perturbation": "noise",
        "augmentation": "crop_flip", "augmentation.padding": 0, "shadow": 1, "seed": 11,
    })  # fmt: skip
    images = data.load("digits", pool=900)
    result, parts = trial.run(config, images), data.split(images, shadow=1)
    assert set(np.flatnonzero(result.outputs.state == 1)) == set(parts.members)
    correct = result.outputs.logits[:, 0].argmax(1) == images.y.numpy()
    assert result.metrics["accuracy"] == pytest.approx(correct[parts.val].mean())
    assert result.metrics["train_accuracy"] == pytest.approx(correct[parts.members].mean())
    assert not any("mia" in name or "robust" in name or "flag" in name for name in result.metrics.values)
    assert np.array_equal(result.predictions["member_rows"], parts.members) and not len(result.predictions["reference_rows"])
