"""One training with its files, in this process."""

import sys

import numpy as np
import pytest
from in_process import workspace
from states import identical, run_on_two_workers

from core import data
from core.config import TrialConfig
from trainables.execution import trainable
from trainables.execution.resources import Share, to_shared
from trainables.execution.trainable import run_job
from trainables.storage.arrays import of_npz
from trainables.storage.jobs import Job
from trainables.storage.store import Store
from trainables.study.results import TrainingResult

TINY = {"epochs": 2, "net.width": 4, "judge.steps": 1, "judge.images": 16, "judge.epsilon": 0.1}
CHOOSING = TINY | {
    "epochs": 6, "pool": 600, "optimizer.lr": 0.2, "optimizer.schedule": "constant", "selection": "attack",
    "selection.attack": "pgd:steps=2", "selection.epsilon": 0.05, "selection.images": 30,
}  # fmt: skip
"""Settings of a training whose best epoch is neither the first nor the last one."""


def test_a_shadow_model_is_queried_but_not_attacked(tmp_path):
    params = TrialConfig.of({**TINY, "shadow": 2, "judge.audits": "standard"}).params()
    result = run_job(Job("shadows/x", params), to_shared(data.load("digits")), workspace(tmp_path))
    assert {"accuracy", "train_accuracy"} <= result.metrics.keys() and not any("robust" in name for name in result.metrics)
    state = of_npz((tmp_path / "shadows/x/outputs.npz").read_bytes())["state"]
    parts = data.split(data.load("digits"), shadow=2)
    assert np.array_equal(np.flatnonzero(state > 0), np.sort(parts.members))


def same_numbers(one: TrainingResult, two: TrainingResult) -> bool:
    """Whether two results have the same metrics and curves, apart from durations."""
    metrics = [{n: v for n, v in result.metrics.items() if "second" not in n} for result in (one, two)]
    curves = [[{n: v for n, v in row.items() if n != "epoch/seconds"} for row in result.curve] for result in (one, two)]
    return metrics[0] == metrics[1] and curves[0] == curves[1]


def test_an_interrupted_job_chooses_the_epoch_of_an_uninterrupted_one(tmp_path, monkeypatch):
    monkeypatch.setattr(trainable, "CHECKPOINT_SECONDS", 0.0)
    job, shared = Job("0", TrialConfig.of(CHOOSING).params()), to_shared(data.load("digits", pool=600))
    whole = run_job(job, shared, workspace(tmp_path / "whole"))
    chosen = whole.metrics["selected_epoch"]
    assert 1 < chosen < 6 and whole.curve[int(chosen) - 1]["epoch/selection"] == max(row["epoch/selection"] for row in whole.curve)
    for last in (chosen - 1, chosen, 5):
        place = workspace(tmp_path / f"{last:g}")

        def stop(rows, last=last):
            if rows[-1]["epoch"] == last:
                raise OSError("the storage is gone")

        with pytest.raises(OSError, match="the storage is gone"):
            run_job(job, shared, place, on_rows=stop)
        epochs = []
        resumed = run_job(job, shared, place, on_rows=lambda rows, epochs=epochs: epochs.append(rows[-1]["epoch"]))
        assert epochs == list(np.arange(last + 1, 7)) and same_numbers(resumed, whole)
        networks = [store.read_state("0/network.pt") for store in (place.store, Store.at(str(tmp_path / "whole")))]
        assert identical(*networks)


def on_a_worker() -> dict:
    """Train as one of two workers of Ray Train would; the first one evaluates and stores the network."""
    files, shared = Store.at(sys.argv[3]).below("job"), to_shared(data.load("digits", pool=600))
    params = TrialConfig.of({**CHOOSING, "selection.patience": 1}).params()
    result = trainable._run_here(Job("job", params), shared, files, Share(2, 1, 0), None, ())
    return {"selected": result.metrics.get("selected_epoch", 0.0), "epochs": len(result.curve), "error": result.error}


@pytest.mark.thorough
def test_several_workers_choose_the_same_epoch_and_stop_after_the_same_one(tmp_path):
    first, second = run_on_two_workers(__file__, "on_a_worker", tmp_path)
    assert first["error"] == second["error"] == "" and second["epochs"] == 0
    one = run_job(
        Job("0", TrialConfig.of({**CHOOSING, "selection.patience": 1}).params()), to_shared(data.load("digits", pool=600)),
        workspace(tmp_path / "one"),
    )  # fmt: skip
    assert (first["selected"], first["epochs"]) == (one.metrics["selected_epoch"], len(one.curve))
