"""Trained replicates and shadow models of one recipe on digits, with the audits of the first; each is trained once per process."""

import functools

import torch

from core import data, trial
from core.config import TrialConfig
from core.evaluation import privacy

torch.set_num_threads(1)

CONFIG = TrialConfig.of({
    "epochs": 12, "batch_size": 64, "net.width": 8, "optimizer.lr": 0.2, "judge.part": "test", "judge.epsilon": 0.06,
    "judge.steps": 3, "judge.images": 20, "judge.audits": "full", "perturbation": "noise",
    "augmentation": "crop_flip", "augmentation.padding": 0,
})  # fmt: skip


@functools.cache
def pool():
    return data.load("digits", pool=900)


@functools.cache
def replicate(i):
    return trial.run(CONFIG.set({"replicate": i, "seed": i}), pool())


@functools.cache
def shadow(i):
    return trial.run(CONFIG.set({"shadow": i, "seed": 10 + i}), pool())


def audited(config=None, target=None, others=None, shadows=None, known=None):
    """An audit of replicate 1 by replicates 2 and 3 and by two shadow models, with replacements for any of these."""
    return privacy.audit_by_others(
        config or CONFIG.set({"replicate": 1, "seed": 1}),
        replicate(1).outputs if target is None else target,
        [replicate(i).outputs for i in (2, 3)] if others is None else others,
        [shadow(i).outputs for i in (1, 2)] if shadows is None else shadows,
        pool(),
        replicate(1).metrics.values if known is None else known,
    )


full = functools.cache(audited)
