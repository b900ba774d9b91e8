"""The cache: what is reused from an earlier training or evaluation of the same content, and what is run again."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from finished import everything
from in_process import SHARE, workspace

from core import data, trial
from core.config import TrialConfig
from core.errors import TrialError
from core.evaluation import own_audits
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
    for name in ("network.pt", "training.json", "predictions.npz", "outputs.npz"):
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
    assert all(len(list((tmp_path / name / "cache/results").iterdir())) == 1 for name in "ab")


# ---------------------------------------------------------------- evaluations of one network


@pytest.fixture
def trainings(monkeypatch) -> list[TrialConfig]:
    """The configurations that are trained from now on."""
    ran = []

    def counted(config: TrialConfig, *args, **options):
        ran.append(config)
        return train_network(config, *args, **options)

    train_network = trial.train_network
    monkeypatch.setattr(trial, "train_network", counted)
    return ran


CHANGES = (
    {"judge.steps": 7}, {"judge.epsilon": 0.05}, {"judge.norm": "l2", "judge.epsilon": 0.5}, {"judge.suite": "standard"},
    {"judge.part": "test"}, {"judge.audits": "standard"}, {"judge.images": 8}, {"judge.inversion": "ascent"},
    {"judge.attribution": 2}, {"judge.restarts": 2},
)  # fmt: skip


def test_changed_settings_of_the_evaluation_train_nothing_and_give_the_same_numbers(root, tmp_path, trainings):
    run(root, "judged-1", seed=9)
    assert len(trainings) == 1
    reused = [run(root, "judged-1", f"trials/{i:05d}", seed=9, **change) for i, change in enumerate(CHANGES, 1)]
    assert len(trainings) == 1
    assert all(result.reused_from.startswith("judged-1/trials/") and not result.error for result in reused)
    own = [run(tmp_path / str(i), "own-1", seed=9, **change) for i, change in enumerate(CHANGES)]
    assert len(trainings) == 1 + len(CHANGES)
    for one, other in zip(reused, own, strict=True):
        assert {n: v for n, v in one.metrics.items() if "second" not in n} == {
            n: v for n, v in other.metrics.items() if "second" not in n
        }
        assert one.metrics["seconds/train"] == run(root, "judged-1", seed=9).metrics["seconds/train"]


def test_a_network_is_reused_from_a_copy_after_the_first_is_gone(root, trainings):
    run(root, "copied-1", seed=10)
    run(root, "copied-2", seed=10, **{"judge.steps": 3})
    shutil.rmtree(root / "copied-1")
    assert run(root, "copied-3", seed=10, **{"judge.steps": 4}).reused_from == "copied-2/trials/00000"
    assert len(trainings) == 1


def test_a_training_that_was_stopped_before_its_evaluation_is_only_evaluated(root, trainings, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(trial, "evaluate", lambda *args, **options: (_ for _ in ()).throw(OSError("killed")))
        with pytest.raises(OSError, match="killed"):
            run(root, "killed-1", seed=11)
    assert not (root / "killed-1/trials/00000/result.json").exists() and len(trainings) == 1
    assert run(root, "killed-1", seed=11).metrics and len(trainings) == 1


def test_a_network_whose_evaluation_failed_is_reused_by_another_evaluation(root, trainings, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(trial, "evaluate", lambda *args, **options: (_ for _ in ()).throw(TrialError("logits are not finite")))
        assert run(root, "failed-1", seed=12).error == "logits are not finite"
    assert run(root, "failed-2", seed=12, **{"judge.steps": 3}).reused_from == "failed-1/trials/00000" and len(trainings) == 1


def test_outputs_for_the_pool_are_reused_under_the_same_threat_model_only(root, monkeypatch):
    queried = []
    ask = own_audits.outputs_of
    monkeypatch.setattr(own_audits, "outputs_of", lambda *args, **options: queried.append(1) or ask(*args, **options))
    first = run(root, "outputs-1", seed=13, **{"judge.audits": "standard"})
    second = run(root, "outputs-2", seed=13, **{"judge.audits": "standard", "judge.steps": 3, "judge.part": "test"})
    assert len(queried) == 1 and first.outputs_key == second.outputs_key
    np.testing.assert_equal(*(of_npz((root / f"outputs-{i}/trials/00000/outputs.npz").read_bytes()) for i in (1, 2)))
    run(root, "outputs-3", seed=13, **{"judge.audits": "standard", "judge.epsilon": 0.05})
    assert len(queried) == 2


def test_interim_evaluations_are_not_reused(root):
    job = Job("trials/00000", TrialConfig.of({**TINY, "seed": 14}).params())
    run_job(job, to_shared(data.load("digits")), workspace(root, "rungs-1"), rungs=[1])
    curves = [json.loads((root / f"rungs-1/trials/00000/{name}.json").read_text())["curve"] for name in ("result", "training")]
    assert all("rung/accuracy" in curve[0] for curve in curves)
    result = run(root, "rungs-2", seed=14, **{"judge.steps": 3})
    assert result.reused_from and not [name for row in result.curve for name in row if name.startswith("rung/")]


# ---------------------------------------------------------------- entries and results that cannot be trusted


@pytest.fixture(params=["results", "networks"])
def trained(root, tmp_path, request) -> Path:
    """A copy of a folder with one training, runs/one-1/trials/00000, and one entry; beside it, another copy of the training."""
    run(root, "untrusted-1", seed=7)
    for name in ("runs/untrusted-1", "outside/one-1"):
        shutil.copytree(root / "untrusted-1", tmp_path / name)
    (entry,) = [path for path in (root / "cache" / request.param).iterdir() if "untrusted-1/" in path.read_text()]
    (tmp_path / "runs/cache" / request.param).mkdir(parents=True)
    shutil.copy(entry, tmp_path / "runs/cache" / request.param)
    return tmp_path / "runs"


def entry_of(runs: Path) -> Path:
    """The only entry before another study runs."""
    (entry,) = (runs / "cache").glob("*/*")
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
    entry = entry_of(trained)
    entry.write_text(json.dumps({"folder": folder}))
    assert not reused(trained)
    assert json.loads(entry.read_text()) == {"folder": "two-1/trials/00000"}


def test_a_linked_file_of_a_training_is_not_followed_out_of_the_storage(trained):
    network = trained / "untrusted-1/trials/00000/network.pt"
    network.unlink()
    network.symlink_to(trained.parent / "outside/one-1/trials/00000/network.pt")
    assert not reused(trained)


def test_an_entry_that_names_the_training_of_another_configuration_is_ignored(trained):
    entry = entry_of(trained)
    other = run(trained, "other-1", seed=8)
    entry.write_text(json.dumps({"folder": "other-1/trials/00000"}))
    result = run(trained, "two-1", seed=7)
    assert not result.reused_from and result.key not in ("", other.key)


@pytest.mark.parametrize("trained", ["results"], indirect=True)
@pytest.mark.parametrize("change", [
    {"key": ""}, {"key": "0" * 32}, {"metrics": {}}, {"metrics": {"accuracy": "high"}}, {"x": 1}, {"stopped_epoch": 1},
])  # fmt: skip
def test_a_result_that_states_another_key_or_is_no_result_is_not_reused(trained, change):
    path = trained / "untrusted-1/trials/00000/result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert not reused(trained)


@pytest.mark.parametrize("trained", ["networks"], indirect=True)
@pytest.mark.parametrize("change", [{"key": ""}, {"key": "0" * 32}, {"curve": 7}, {"seconds": "long"}, {"x": 1}])
def test_a_network_whose_record_states_another_key_or_is_no_record_is_not_reused(trained, change):
    path = trained / "untrusted-1/trials/00000/training.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert not reused(trained)


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
@pytest.mark.parametrize(("trained", "name"), [
    *(("results", name) for name in ("network.pt", "predictions.npz", "result.json", "entry")),
    *(("networks", name) for name in ("network.pt", "training.json", "entry")),
], indirect=["trained"])  # fmt: skip
def test_a_training_with_a_truncated_file_is_run_again(trained, name, share):
    path = entry_of(trained) if name == "entry" else trained / "untrusted-1/trials/00000" / name
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert not reused(trained)
