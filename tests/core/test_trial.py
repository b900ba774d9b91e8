"""Trials: training followed by the evaluation, and shadow models."""

import numpy as np
import pytest
import torch

from core import data, trial
from core.config import TrialConfig
from core.errors import InputError
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


def test_an_l2_radius_above_one_is_trained_against_and_evaluated():
    config = CONFIG.set({
        "epochs": 1, "perturbation": "pgd", "perturbation.norm": "l2", "perturbation.epsilon": 1.5, "perturbation.steps": 1,
        "judge.norm": "l2", "judge.epsilon": 1.5, "judge.steps": 10, "judge.restarts": 1, "judge.images": 100,
    })  # fmt: skip
    images = data.load("digits", pool=600)
    wide = trial.run(config, images).metrics
    near = trial.run(config.set({"judge.epsilon": 0.05}), images).metrics
    assert wide["robust_accuracy"] < near["robust_accuracy"] <= near["accuracy"] + 0.1


@pytest.mark.parametrize(
    "changes, side, text",
    [
        ({"judge.attribution": 4}, 2, "judge.attribution needs images of at least 3x3 pixels.*these are 2x2.*judge.attribution=0"),
        ({"judge.norm": "l2", "judge.epsilon": 8.5}, 8, "judge.epsilon=8.5 is longer than the L2 distance 8 from black to white"),
        ({"perturbation": "fgsm", "perturbation.norm": "l2", "perturbation.epsilon": 128}, 8, "perturbation.epsilon=128 is longer"),
    ],
)
def test_settings_that_do_not_fit_the_size_of_the_images_are_refused_before_training(changes, side, text):
    digits = data.load("digits", pool=300)
    pixels = torch.randint(256, (300, 1, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = data.Images(pixels, digits.y, digits.classes)
    epochs = []
    with pytest.raises(InputError, match=text):
        trial.run(CONFIG.set(changes), images, on_epoch=lambda row, bound: epochs.append(row))
    assert not epochs


def test_maps_of_the_smallest_images_that_are_accepted_are_compared():
    digits = data.load("digits", pool=300)
    images = data.Images(digits.x[:, :, 2:5, 1:6].contiguous(), digits.y, digits.classes)
    result = trial.run(CONFIG.set({"epochs": 1, "judge.attribution": 4, "judge.images": 8}), images)
    assert -1 <= result.metrics["attribution_rank/patch_blur"] <= 1
