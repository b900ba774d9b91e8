"""The cache of trainings: what is reused from an earlier training of the same content, and what is trained again."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from finished import everything
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


# ---------------------------------------------------------------- entries and results that cannot be trusted


@pytest.fixture
def trained(root, tmp_path) -> Path:
    """A copy of a folder with one training, runs/one-1/trials/00000, and its entry; beside it, another copy of the training."""
    run(root, "untrusted-1", seed=7)
    for name in ("runs/untrusted-1", "outside/one-1"):
        shutil.copytree(root / "untrusted-1", tmp_path / name)
    (entry,) = [path for path in (root / "cache").iterdir() if "untrusted-1/" in path.read_text()]
    (tmp_path / "runs/cache").mkdir()
    shutil.copy(entry, tmp_path / "runs/cache")
    return tmp_path / "runs"


def entry_of(runs: Path) -> Path:
    (entry,) = (runs / "cache").iterdir()
    return entry


def reused(runs: Path) -> str:
    """The folder that another study reuses, after a check that it has the complete training and changed nothing outside."""
    before = everything(runs.parent / "outside")
    result = run(runs, "two-1", seed=7)
    assert result.metrics and everything(runs.parent / "outside") == before
    assert not Store.at(str(runs)).is_truncated("two-1/trials/00000/network.pt")
    return result.reused_from


def test_the_copy_is_reused_as_long_as_nothing_is_wrong_with_it(trained):
    assert reused(trained) == "untrusted-1/trials/00000"


@pytest.mark.parametrize("folder", [
    "../outside/one-1/trials/00000", "{outside}/one-1/trials/00000", "untrusted-1/../../outside/one-1/trials/00000",
    "link/trials/00000", "untrusted-1", "untrusted-1/trials/00000/", "", "cache", 7, None, ["untrusted-1/trials/00000"],
])  # fmt: skip
def test_an_entry_that_names_anything_but_a_training_below_the_storage_is_ignored(trained, folder):
    (trained / "link").symlink_to(trained.parent / "outside/one-1")
    folder = folder.format(outside=trained.parent / "outside") if isinstance(folder, str) else folder
    entry_of(trained).write_text(json.dumps({"folder": folder}))
    assert not reused(trained)
    assert json.loads(entry_of(trained).read_text()) == {"folder": "two-1/trials/00000"}


def test_a_linked_file_of_a_training_is_not_followed_out_of_the_storage(trained):
    network = trained / "untrusted-1/trials/00000/network.pt"
    network.unlink()
    network.symlink_to(trained.parent / "outside/one-1/trials/00000/network.pt")
    assert not reused(trained)


def test_an_entry_that_names_the_training_of_another_configuration_is_ignored(trained):
    other = run(trained, "other-1", seed=8)
    (entry,) = [path for path in (trained / "cache").iterdir() if "untrusted-1" in path.read_text()]
    entry.write_text(json.dumps({"folder": "other-1/trials/00000"}))
    result = run(trained, "two-1", seed=7)
    assert not result.reused_from and result.key not in ("", other.key)


@pytest.mark.parametrize("change", [
    {"key": ""}, {"key": "0" * 32}, {"metrics": {}}, {"metrics": {"accuracy": "high"}}, {"x": 1}, {"stopped_epoch": 1},
])  # fmt: skip
def test_a_result_that_states_another_key_or_is_no_result_is_not_reused(trained, change):
    path = trained / "untrusted-1/trials/00000/result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert not reused(trained)


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
@pytest.mark.parametrize("name", ["network.pt", "predictions.npz", "result.json", "entry"])
def test_a_training_with_a_truncated_file_is_run_again(trained, name, share):
    path = entry_of(trained) if name == "entry" else trained / "untrusted-1/trials/00000" / name
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert not reused(trained)
