"""Damaged files of a study that is resumed: what can be made again is, and one line says so."""

import shutil
from pathlib import Path

import finished
import pytest
from in_process import workspace

from core import data
from core.config import TrialConfig
from core.errors import InputError
from trainables.execution.resources import to_shared
from trainables.execution.trainable import run_job
from trainables.storage.jobs import Job
from trainables.storage.results import LOST, REPLACE, replicate_results
from trainables.storage.store import Store
from trainables.storage.takeover import resume_state
from trainables.storage.versions import outcomes
from trainables.study.results import AuditResult

SHARES = [0, 0.5, 0.99]
AGAIN = {
    "trials/00001/result.json": "trial 1 is run again",
    "trials/00001/network.pt": "trial 1 is run again",
    "trials/00001/predictions.npz": "trial 1 is run again",
    "confirm/00000/1/result.json": "replicate 1 of trial 0 is run again",
    "confirm/00000/1/network.pt": "replicate 1 of trial 0 is run again",
    "confirm/00000/1/audit.json": "replicate 1 of trial 0 is audited again",
    "trials/00002/checkpoint.pt": "trial 2 starts from the beginning",
    "facts.json": "it is written again",
}
"""Files that can be made again, with what is said."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The folder above a finished study of three trials, of which the last one is in progress again."""
    root = tmp_path_factory.mktemp("whole")
    store = finished.study(root)
    store.write_json("confirm/00000/1/audit.json", AuditResult(metrics={"mia_auc": 0.6}).to_json())
    store.discard("trials/00002/result.json")
    store.write_state("trials/00002/checkpoint.pt", {"epoch": 1, "rows": list(range(100))})
    return root


@pytest.fixture
def store(whole, tmp_path) -> Store:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    return Store.at(str(tmp_path)).below("s-1")


def cut(store: Store, name: str, share: float) -> None:
    """Keep this share of a file."""
    data = store.read(name)
    assert data
    store.write(name, data[: int(share * len(data))])


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("name", AGAIN)
def test_a_truncated_file_that_can_be_made_again_is_removed_and_named_in_one_line(store, name, share):
    cut(store, name, share)
    (line,) = resume_state(store, finished.plan()).repaired
    assert line.startswith(f"{store.root}/{name} is damaged (") and line.endswith(f"; {AGAIN[name]}") and "\n" not in line
    again = resume_state(store, finished.plan())
    assert not again.repaired
    ended = [trial.number for trial in again.ended]
    assert ended == ([0] if name.startswith("trials/00001") else [0, 1]) and 2 in again.interrupted
    if name.startswith("confirm/00000/1") and "audit" not in name:
        assert [result.error for result in replicate_results(store).values()] == [LOST.error]


def test_a_result_without_metrics_or_an_error_is_damaged(store):
    store.write_json("trials/00001/result.json", {**store.read_json("trials/00001/result.json"), "metrics": {}})
    with pytest.raises(InputError, match=r"trials/00001/result.json is damaged \(it has neither metrics nor an error\)"):
        outcomes(finished.plan(), store, {}, [])
    assert resume_state(store, finished.plan()).repaired[0].endswith("trial 1 is run again")


@pytest.mark.parametrize("size", [1, 21, 22, 23, 97])
def test_an_archive_without_files_or_of_a_few_bytes_is_truncated(store, size):
    end_of_archive = b"PK\5\6" + bytes(18)
    store.write("trials/00001/predictions.npz", end_of_archive.rjust(size, b"\0")[-size:])
    (line,) = resume_state(store, finished.plan()).repaired
    assert line.endswith("trials/00001/predictions.npz is damaged (truncated); trial 1 is run again")


def test_nothing_is_removed_from_an_intact_study(store, tmp_path):
    before = finished.everything(tmp_path)
    assert resume_state(store, finished.plan()).repaired == []
    after = finished.everything(tmp_path)
    assert after.pop("s-1/driver.json") and after == before


@pytest.mark.parametrize("content", [b"[]", b"null", b"{}", b'{"metrics": 1}', b'"done"'])
@pytest.mark.parametrize("name", [name for name in AGAIN if name.endswith("result.json")])
def test_a_result_of_another_type_is_removed_like_a_truncated_one(store, name, content):
    store.write(name, content)
    (line,) = resume_state(store, finished.plan()).repaired
    assert f"{name} is damaged" in line and AGAIN[name] in line


def test_one_damaged_seed_of_a_trial_is_run_again_and_the_mean_is_formed_again(tmp_path):
    plan = finished.plan(seeds_per_trial=2)
    store = finished.study(tmp_path, plan)
    for seed in (1, 2):
        finished.write_training(store, f"trials/00001/seeds/{seed}", 1, finished.metrics(1))
    cut(store, "trials/00001/seeds/2/network.pt", 0.5)
    (line,) = resume_state(store, plan).repaired
    assert "trials/00001/seeds/2/network.pt" in line and line.endswith("trial 1 is run again")
    assert "result.json" not in store.names("trials/00001") and "result.json" in store.names("trials/00001/seeds/1")
    assert "result.json" not in store.names("trials/00001/seeds/2")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"number": 1}', b'{"number": 2, "baseline": "", "params": {}}'])
def test_a_damaged_suggestion_is_an_error_with_the_way_to_another_one(store, content):
    """It cannot be made again: a sampler's suggestion depends on the results that there were at the time."""
    store.write("trials/00001/params.json", content)
    with pytest.raises(InputError, match=r"trials/00001/params\.json is damaged .*; delete the folder to have --resume suggest"):
        resume_state(store, finished.plan())


def test_a_suggestion_that_names_another_trial_is_refused(store):
    store.write("trials/00001/params.json", store.read("trials/00000/params.json") or b"")
    with pytest.raises(InputError, match="it is the suggestion of trial 0"):
        resume_state(store, finished.plan())


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("name", ["trials/00001/result.json", "confirm/00000/1/audit.json"])
def test_a_command_that_only_reads_the_study_names_the_file_and_the_command_that_repairs_it(store, name, share):
    cut(store, name, share)
    with pytest.raises(InputError, match=rf"{name} is damaged .*; (--resume of its study trains it again|repeat the command)"):
        outcomes(finished.plan(), store, {}, [])


@pytest.mark.parametrize("name", ["network.pt", "predictions.npz"])
def test_a_file_that_is_deleted_as_a_command_advises_is_made_again(store, name):
    """The end of an archive is intact after damage in its middle, so --resume alone would not find it."""
    path, data = f"trials/00001/{name}", bytearray(store.read(f"trials/00001/{name}") or b"")
    store.write_json("trials/00001/result.json", {**store.read_json("trials/00001/result.json"), "key": "0" * 32})
    start = len(data) // 3
    data[start : start + 40] = bytes(40)
    store.write(path, bytes(data))
    read = store.read_state if name == "network.pt" else store.read_arrays
    with pytest.raises(InputError, match=rf"{path} is damaged .*; delete it to have --resume of its study train the network again"):
        read(path, REPLACE)
    store.discard(path)
    assert resume_state(store, finished.plan()).repaired == [f"{store.root}/{path} is missing; trial 1 is run again"]
    assert resume_state(store, finished.plan()).repaired == []


@pytest.mark.parametrize("name", ["network.pt", "predictions.npz", "result.json"])
def test_a_damaged_training_is_run_again_with_the_same_numbers(tmp_path, name):
    plan = finished.plan(config=TrialConfig.of({"epochs": 1, "net.width": 4, "judge.steps": 1, "judge.images": 16}), trials=1)
    where, images, job = workspace(tmp_path, plan.name), to_shared(data.load("digits")), Job("trials/00000", plan.config.params())
    where.store.write_json("trials/00000/params.json", {"number": 0, "baseline": "", "params": job.params})
    results, networks = [], []
    for _ in range(2):
        assert not resume_state(where.store, plan).ended
        results.append({n: v for n, v in run_job(job, images, where).metrics.items() if "second" not in n})
        networks.append(where.store.read("trials/00000/network.pt"))
        cut(where.store, f"trials/00000/{name}", 0.5)
    assert results[0] == results[1] and networks[0] == networks[1]
