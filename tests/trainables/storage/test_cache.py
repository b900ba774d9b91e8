"""The cache of trainings: what is reused from an earlier training of the same content, and what is trained again."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from in_process import SHARE, workspace

from core import data
from core.config import TrialConfig
from trainables.execution.resources import Workspace, to_shared
from trainables.execution.trainable import run_job
from trainables.storage.arrays import of_npz
from trainables.storage.jobs import Job
from trainables.storage.store import Store
from trainables.study.results import TrainingResult

TINY = {"epochs": 2, "net.width": 4, "judge.steps": 1, "judge.images": 16, "judge.epsilon": 0.1}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A folder above all studies."""
    return tmp_path_factory.mktemp("root")


def run(root: Path, study: str, folder: str = "trials/00000", **changes) -> TrainingResult:
    """Run a tiny training in a folder of a study below `root`."""
    params = TrialConfig.of({**TINY, **changes}).params()
    return run_job(Job(folder, params), to_shared(data.load("digits")), workspace(root, study))


def test_the_same_training_in_another_study_is_reused_with_all_its_files(root):
    changes = {"judge.audits": "standard"}
    first, second = run(root, "one-1", **changes), run(root, "two-1", "confirm/00003/1", **changes)
    assert not first.reused_from and second == replace(first, reused_from="one-1/trials/00000")
    for name in ("network.pt", "predictions.npz", "outputs.npz"):
        assert (root / "two-1/confirm/00003/1" / name).read_bytes() == (root / "one-1/trials/00000" / name).read_bytes()
    assert json.loads((root / "two-1/confirm/00003/1/result.json").read_text()) == second.to_json()
    assert len(of_npz((root / "two-1/confirm/00003/1/outputs.npz").read_bytes())["state"]) == 1797


def test_a_training_that_differs_in_a_knob_is_not_reused(root):
    run(root, "one-2")
    assert not run(root, "two-2", **{"optimizer.lr": 0.011}).reused_from


def test_a_training_whose_files_are_incomplete_is_run_again_and_then_reused_from_there(root):
    run(root, "one-3", seed=3)
    (root / "one-3/trials/00000/network.pt").unlink()
    again = run(root, "two-3", seed=3)
    assert not again.reused_from and (root / "two-3/trials/00000/network.pt").is_file()
    assert run(root, "three-3", seed=3).reused_from == "two-3/trials/00000"  # the newer one is in the cache


def test_a_failed_training_is_not_reused(root):
    changes = {"seed": 4, "optimizer.lr": 1e30}
    failed = run(root, "one-4", **changes)
    assert failed.error and not run(root, "two-4", **changes).reused_from


def test_a_study_outside_the_folder_of_the_cache_is_not_in_the_cache_and_trains_everything(tmp_path):
    params = TrialConfig.of(TINY).params()
    results = [
        run_job(
            Job("trials/00000", params), to_shared(data.load("digits")),
            Workspace(SHARE, Store.at(str(tmp_path / name)), Store.at(str(tmp_path / "root"))),
        )
        for name in "ab"
    ]  # fmt: skip
    assert not any(result.reused_from for result in results) and not list(tmp_path.rglob("cache"))
    assert results[0].metrics["accuracy"] == results[1].metrics["accuracy"]


def test_studies_below_different_folders_do_not_share_a_cache(tmp_path):
    results = [run(tmp_path / name, "one-1") for name in "ab"]
    assert not any(result.reused_from for result in results)
    assert all(len(list((tmp_path / name / "cache").iterdir())) == 1 for name in "ab")
