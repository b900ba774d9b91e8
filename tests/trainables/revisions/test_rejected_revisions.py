"""Revisions that are rejected, with the message that says what to change."""

import finished
import pytest
from in_process import LocalExecutor
from revising import FakeAttack, evaluated

from core.errors import InputError
from trainables.revisions.revise import revise
from trainables.study.results import TrainingResult
from trainables.study.site import Site


def rejection(reevaluation: FakeAttack = FakeAttack(), name: str = "s-1", **site) -> str:  # noqa: B008
    """The message with which a revision is rejected."""
    with pytest.raises(InputError) as error:
        revise(name, reevaluation, Site(**site), command=["x"])
    assert not evaluated
    return str(error.value)


def test_an_unfinished_study_is_rejected_with_the_command_that_finishes_it(study):
    study.discard("trials/00002/result.json")
    message = rejection(data_dir="elsewhere")
    assert "s-1 is not finished, 2 of its 3 trials have ended" in message
    assert "studies/s.py --resume s-1 --data-dir elsewhere`" in message
    study.write_json("trials/00002/result.json", TrainingResult(metrics=finished.metrics(2)).to_json())
    study.discard("report.html")
    assert "s-1 is not finished, 3 of its 3 trials have ended" in rejection()


def test_a_different_unfinished_revision_is_rejected_with_two_ways_to_proceed(study, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LocalExecutor, "map", interrupted)
        assert revise("s-1", FakeAttack(1), Site(), command=["studies/fake.py", "s-1"]) == 130
    message = rejection(FakeAttack(2))
    assert "version 2 of s-1, with a fake attack, is not finished; continue with `python studies/fake.py s-1`" in message
    assert f"deleting {study.root}/versions/2" in message


@pytest.mark.parametrize("name", ["network.pt", "predictions.npz"])
@pytest.mark.parametrize("folder", ["trials/00001", "confirm/00000/1"])
def test_the_error_for_a_deleted_network_says_how_to_restore_it(study, folder, name):
    study.discard(f"{folder}/{name}")
    message = rejection()
    assert f"has no {name} in {study.root}/{folder}; delete result.json there" in message and "--resume s-1" in message


def test_a_study_whose_trials_all_failed_is_rejected(study, tmp_path):
    finished.study(tmp_path / "runs", finished.plan(name="s-2", trials=1, replicates=0), failed=0)
    assert rejection(name="s-2") == "every trial of s-2 failed, so there is no network to re-evaluate"


@pytest.mark.parametrize("reevaluation, site, fragment", [
    (FakeAttack(illegal="not for these"), {}, "not for these"),
    (FakeAttack(), {"tracking_uri": "mlruns"}, "is none of: sqlite"),
    (FakeAttack(), {"address": "somewhere"}, "is not HOST:PORT"),
    (FakeAttack(), {"gpus_per_worker": 99.0}, "--gpus-per-worker 99 is more than"),
    (FakeAttack(), {"storage": "elsewhere"}, "no study 's-1' in --storage elsewhere, expected one of: none"),
])  # fmt: skip
def test_a_revision_that_cannot_work_is_rejected_and_changes_no_file(study, tmp_path, reevaluation, site, fragment):
    before = finished.everything(tmp_path)
    assert fragment in rejection(reevaluation, **site)
    assert finished.everything(tmp_path) == before


def test_a_missing_data_set_is_rejected(study, tmp_path):
    plan = finished.plan(name="s-2", config=finished.plan().config.set({"dataset": "parquet:/nowhere"}))
    finished.study(tmp_path / "runs", plan)
    assert "no file /nowhere/train.parquet" in rejection(name="s-2")
