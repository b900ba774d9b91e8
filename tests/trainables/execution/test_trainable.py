"""One training with its files, in this process."""

import numpy as np
from in_process import workspace

from core import data
from core.config import TrialConfig
from trainables.execution.resources import to_shared
from trainables.execution.trainable import run_job
from trainables.storage.arrays import of_npz
from trainables.storage.jobs import Job

TINY = {"epochs": 2, "net.width": 4, "judge.steps": 1, "judge.images": 16, "judge.epsilon": 0.1}


def test_a_shadow_model_is_queried_but_not_attacked(tmp_path):
    params = TrialConfig.of({**TINY, "shadow": 2, "judge.audits": "standard"}).params()
    result = run_job(Job("shadows/x", params), to_shared(data.load("digits")), workspace(tmp_path))
    assert {"accuracy", "train_accuracy"} <= result.metrics.keys() and not any("robust" in name for name in result.metrics)
    state = of_npz((tmp_path / "shadows/x/outputs.npz").read_bytes())["state"]
    parts = data.split(data.load("digits"), shadow=2)
    assert np.array_equal(np.flatnonzero(state > 0), np.sort(parts.members))
