"""Taking over a study from an earlier driver."""

from pathlib import Path

import finished
import pytest

from core.errors import InputError
from trainables.storage.store import Store
from trainables.storage.takeover import resume_state


def test_the_state_that_a_killed_driver_left_is_put_in_order_and_counted(tmp_path: Path):
    plan = finished.plan(trials=5, replicates=0)
    first = Store.at(str(tmp_path)).below("s-1")
    assert resume_state(first, plan).is_new
    for number in (0, 1, 2):
        params = plan.config.set({"seed": number + 1, "epochs": 5}).params()
        first.write_json(f"trials/{number:05d}/params.json", {"number": number, "baseline": "", "params": params})
        first.write_state(f"trials/{number:05d}/checkpoint.pt", {"epoch": 1})
    finished.write_training(first, "trials/00001", 1, finished.metrics(1))
    first.write("ray/tune-1/experiment_state.json", b"{}")
    for partial in ("trials/00000/result.json.0123.part", "plan.json.4567.part"):
        (tmp_path / "s-1" / partial).write_bytes(b"{")
    state = resume_state(first, plan)
    assert (state.is_new, [trial.number for trial in state.ended], state.interrupted, state.remaining) == (False, [1], [0, 2], 2)
    assert str(state) == "resumed: 1 of 5 trials finished, 2 in progress, 2 to run"
    names = {str(path.relative_to(tmp_path / "s-1")) for path in (tmp_path / "s-1").rglob("*") if path.is_file()}
    assert {name for name in names if "checkpoint" in name} == {"trials/00000/checkpoint.pt", "trials/00002/checkpoint.pt"}
    assert not [name for name in names if name.endswith(".part") or name.startswith("ray")]


def test_files_that_are_no_trials_are_ignored(tmp_path: Path):
    plan = finished.plan()
    store = finished.study(tmp_path, plan)
    store.write("trials/.DS_Store", b"")
    state = resume_state(store, plan)
    assert [trial.number for trial in state.ended] == [0, 1, 2] and not state.interrupted and not state.remaining


def test_a_result_without_its_suggestion_is_an_error_that_names_the_file(tmp_path: Path):
    store = finished.study(tmp_path)
    store.discard("trials/00001/params.json")
    with pytest.raises(InputError, match=r"trials/00001/params\.json is missing"):
        resume_state(store, finished.plan())
