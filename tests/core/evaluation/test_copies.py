"""Audits of networks whose pool contains exact copies of images, with random labels as in a memorisation test."""

import functools

import numpy as np
import pytest
import torch

from core import data, trial
from core.audits.roc import Roc
from core.audits.shadow_audits import positive_control
from core.config import TrialConfig
from core.data import Images
from core.evaluation.privacy import audit_by_others
from core.evaluation.stored import member_rows

torch.set_num_threads(1)

CONFIG = TrialConfig.of({
    "epochs": 1, "batch_size": 64, "net.width": 4, "judge.part": "test", "judge.steps": 1, "judge.images": 8,
    "judge.audits": "standard", "perturbation": "noise", "augmentation": "crop_flip", "augmentation.padding": 0,
})  # fmt: skip


@functools.cache
def pool(copied: str) -> Images:
    """Digits with random labels; of the test images, a share is replaced by members, or a third of all images by others."""
    x, stream = data.load("digits", pool=600).x.clone(), np.random.default_rng(0)
    y = torch.from_numpy(stream.permutation(np.arange(600) % 10))
    parts = data.split(Images(x, y, 10))
    if copied == "third":
        rows = stream.permutation(600)
        x[rows[:200]] = x[rows[200:400]]
    else:
        count = len(parts.test) // (2 if copied == "half" else 1)
        x[parts.test[:count]] = x[parts.members[:count]]
    return Images(x, y, 10)


@functools.cache
def network(copied: str, **changes: int) -> trial.TrialResult:
    return trial.run(CONFIG.set(changes), pool(copied))


@pytest.mark.parametrize("copied", ["half", "all", "third"])
def test_audits_detect_a_network_that_memorised_its_members_whatever_copies_there_are(copied):
    config, images = CONFIG.set({"replicate": 1, "seed": 1}), pool(copied)
    runs = [network(copied, replicate=i, seed=i) for i in (1, 2)]
    shadows = [network(copied, shadow=i, seed=10 + i) for i in (1, 2)]
    outputs = [run.outputs for run in (*runs, *shadows)]
    metrics = audit_by_others(config, outputs[0], outputs[1:2], outputs[2:], images, runs[0].metrics.values).metrics.values
    assert metrics["mia_control_memorised/attacker"] > 0.98 and metrics["mia_control_memorised/auditor"] > 0.98
    assert metrics["flag/audit_is_blind"] == 0 and metrics["flag/audit_is_biased"] == 0
    assert runs[0].metrics["flag/split_overlap"] == 0
    parts = data.split(images, replicate=1)
    memorised = positive_control(outputs[0]).phi[:, 0]  # confident on exactly the pixels of training images
    assert Roc.of(memorised[parts.members], memorised[parts.test]).auc == 1
    assert np.isfinite(outputs[0].adversarial_phi[np.concatenate([parts.members, parts.val, parts.test])]).all()


def test_an_image_is_in_for_a_network_if_any_copy_of_it_is_a_member():
    images = pool("third")
    for changes in ({"replicate": 1, "seed": 1}, {"shadow": 1, "seed": 11}):
        config, state = CONFIG.set(changes), network("third", **changes).outputs.state
        private, _ = member_rows(config, images, data.split(images, config.split, config.replicate, config.shadow))
        x = images.x.flatten(1).numpy()
        expected = (x[:, None] == x[private]).all(2).any(1)
        assert np.array_equal(state > 0, expected) and expected.sum() > len(private)
