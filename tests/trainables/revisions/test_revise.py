"""Revisions of a finished study's front: what is done, what is not repeated, and what is printed."""

import csv
import io
from dataclasses import replace

import finished
import pytest
from in_process import LocalExecutor, workspace
from ray.exceptions import RaySystemError
from revising import FakeAttack, RecordingTracker, evaluated

from core import data
from trainables.execution.resources import to_shared
from trainables.revisions import revise
from trainables.revisions.reevaluation import reevaluate
from trainables.runs import publish
from trainables.storage.networks import stored_networks
from trainables.storage.store import Store
from trainables.storage.versions import versions, write_version
from trainables.study.results import AuditResult
from trainables.study.site import Site

ALL = ["trials/00000", "trials/00001", "trials/00002", "confirm/00000/1"]


def run_revision(reevaluation: FakeAttack, name: str = "s-1", **site) -> int:
    """Revise the front of a study; returns the exit code."""
    return revise.revise(name, reevaluation, Site(**site), command=["studies/fake.py", name])


def front(store: Store, name: str = "front.csv") -> dict[int, float]:
    """Robust accuracy by trial in a front.csv."""
    text = (store.read(name) or b"").decode()
    return {int(row["trial"]): float(row["robust_accuracy"]) for row in csv.DictReader(io.StringIO(text))}


def logged() -> list[list[int]]:
    """Versions that each tracker has logged."""
    return [tracker.outcomes for tracker in RecordingTracker.trackers]


def published() -> list[list[tuple[int, bool]]]:
    """Versions that each tracker has published."""
    return [tracker.published for tracker in RecordingTracker.trackers]


def test_every_network_is_evaluated_once_and_the_front_has_a_new_version(study, tmp_path, capsys):
    before = finished.everything(tmp_path / "runs/s-1")
    assert run_revision(FakeAttack()) == 0 and evaluated == ALL
    after = finished.everything(tmp_path / "runs/s-1")
    files = {"front.csv", "confirmed.csv", "report.html", "plots/front.png", "plots/hypervolume.png"}
    assert {name for name in before if before[name] != after[name]} <= files  # no earlier result is changed
    assert {f"versions/1/{name}": before[name] for name in files}.items() <= after.items()
    assert all(after[name] == after[f"versions/2/{name}"] for name in files)  # the study's folder has the newest version
    results = {f"versions/2/{folder}/{name}" for folder in ALL for name in ("result.json", "predictions.npz")}
    assert after.keys() - before.keys() == {f"versions/{n}/{name}" for n in (1, 2) for name in files} | results | {
        "versions/2/version.json"
    }
    assert front(study, "versions/1/front.csv") == {0: 0.4, 1: 0.5, 2: 0.6} and front(study) == {0: 0.3, 1: 0.4, 2: 0.5}
    (version,) = versions(study)
    assert version.finished and version.settings == {"fooled": 1} and version.facts["command"] == "python studies/fake.py s-1"
    out = capsys.readouterr().out
    assert "[2/4] trial 1  robust_accuracy 0.500 -> 0.400" in out and "[4/4] trial 0, replicate 1  robust_accuracy 0.400" in out
    assert "Front of s-1, version 2" in out
    assert "robust_accuracy: on average 0.100 lower over 3 trials; largest change 0.100 lower (trial 0)" in out
    assert "left the front: none; entered it: none" in out and "flag few_non_members, raised by the sweep's numbers (every" in out
    assert f"report: {study.root}/report.html" in out and "mlflow ui --backend-store-uri sqlite:///mlflow.db" in out
    assert logged() == [[1, 0, 2]] and published() == [[(2, True)]]


def test_networks_that_do_not_change_are_counted_and_have_no_line(study, capsys):
    run_revision(FakeAttack())
    capsys.readouterr()
    assert run_revision(FakeAttack(fooled=2)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "[1/4] trial 0  robust_accuracy 0.300 -> 0.200" in lines and not [line for line in lines if "unchanged" in line]
    assert run_revision(FakeAttack(fooled=0)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "robust_accuracy unchanged: 4 of 4 networks" in lines and not [line for line in lines if line.startswith("[")]


@pytest.mark.parametrize("before, update, text", [
    ({"mia_auc": 0.6}, {"mia_auc": 0.65}, "mia_auc 0.600 -> 0.650"),
    ({"mia_auc": 0.6}, {"mia_auc": 0.6001}, ""),
    ({"mia_auc": 0.6}, {"other": 1.0}, ""),  # the audit of a network of the sweep that has been audited already
    ({}, {"mia_auc": 0.65}, "mia_auc 0.650"),
    ({}, {"other": 1.0}, ""),
])  # fmt: skip
def test_the_change_of_a_metric_is_text_only_if_it_can_be_seen(before, update, text):
    assert revise.change_text("mia_auc", before, update) == text


def test_the_same_revision_again_does_nothing_and_prints_that(study, tmp_path, capsys):
    run_revision(FakeAttack())
    before = finished.everything(tmp_path)
    capsys.readouterr()
    assert run_revision(FakeAttack()) == 0 and len(evaluated) == 4 and len(logged()) == 1
    assert finished.everything(tmp_path) == before
    out = capsys.readouterr().out
    start = "nothing to do: version 2 of the front of s-1 was made with a fake attack, 20"
    assert out.startswith(start) and f"report: {study.root}" in out


def test_an_evaluation_that_the_study_itself_contains_is_not_repeated(study, tmp_path, capsys):
    before = finished.everything(tmp_path)
    assert run_revision(FakeAttack(contained_in=1)) == 0 and not evaluated and finished.everything(tmp_path) == before
    assert "version 1 of the front of s-1 had the same from the start" in capsys.readouterr().out


def test_a_further_revision_starts_from_the_newest_version(study):
    run_revision(FakeAttack(1))
    assert run_revision(FakeAttack(3)) == 0 and len(evaluated) == 8
    assert front(study, "versions/2/front.csv") == {0: 0.3, 1: 0.4, 2: 0.5} and front(study) == {0: 0.1, 1: 0.2, 2: 0.3}
    assert run_revision(FakeAttack(2)) == 0 and front(study) == front(study, "versions/4/front.csv") == {0: 0.1, 1: 0.2, 2: 0.3}
    assert front(study, "versions/1/front.csv") == {0: 0.4, 1: 0.5, 2: 0.6} and [v.number for v in versions(study)] == [2, 3, 4]
    assert logged()[-1] == [1, 0, 2, 3, 4] and published()[-1] == [(2, False), (3, False), (4, True)]
    # Version 2 contains this evaluation, although it is not the newest.
    assert run_revision(FakeAttack(1)) == 0 and len(versions(study)) == 3 and len(evaluated) == 12


@pytest.mark.parametrize("error, code", [(KeyboardInterrupt(), 130), (RaySystemError("lost\nfor good"), 3), (OSError("full"), 3)])
def test_an_interrupted_revision_prints_how_to_continue_and_then_does_only_the_rest(study, monkeypatch, capsys, error, code):
    original = LocalExecutor.map

    def interrupted(self, work, jobs, result_type, on_result):
        original(self, work, dict(list(jobs.items())[:2]), result_type, on_result)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(LocalExecutor, "map", interrupted)
        assert run_revision(FakeAttack(), storage="./runs", concurrency=2) == code
    out = capsys.readouterr().out
    assert "continue with" in out and "studies/fake.py s-1 --fooled 1 --concurrency 2 --storage ./runs" in out
    assert "Front" not in out
    assert not versions(study)[0].finished and front(study) == {0: 0.4, 1: 0.5, 2: 0.6} and not logged()
    assert run_revision(FakeAttack()) == 0 and evaluated == ALL
    assert "4 stored networks with a fake attack, 2 of them done before" in capsys.readouterr().out
    assert versions(study)[0].finished and front(study) == {0: 0.3, 1: 0.4, 2: 0.5}


def test_after_a_kill_before_publishing_the_version_is_published_without_evaluating_again(study):
    run_revision(FakeAttack())
    write_version(study, replace(versions(study)[0], finished=""))
    study.discard("versions/2/front.csv")
    assert run_revision(FakeAttack()) == 0 and len(evaluated) == 4 and front(study, "versions/2/front.csv")
    assert versions(study)[0].finished
    assert front(study, "versions/1/front.csv") == {0: 0.4, 1: 0.5, 2: 0.6}  # not overwritten with the files of version 2


def test_a_network_whose_evaluation_fails_is_on_no_front_and_can_be_evaluated_again(study, capsys):
    assert run_revision(FakeAttack(fails=("trials/00001",))) == 1
    out = capsys.readouterr().out
    assert "trial 1 failed: RuntimeError: it broke\n" in out and "badly" not in out
    assert "trial 1 failed in version 2: RuntimeError: it broke; to try again: " in out and "left the front: 1" in out
    assert front(study) == {0: 0.3, 2: 0.5} and versions(study)[0].finished
    assert run_revision(FakeAttack()) == 0 and evaluated == [*ALL[:1], *ALL[2:], ALL[1]]
    assert front(study) == {0: 0.3, 1: 0.4, 2: 0.5} and len(versions(study)) == 1


def test_a_task_that_is_repeated_after_its_machine_died_returns_the_stored_result(study, tmp_path):
    network, images = stored_networks(finished.plan(), study, [])[1], to_shared(data.load("digits"))
    where = workspace(tmp_path / "runs", "s-1")
    results = [reevaluate(network, FakeAttack(), [], "versions/2", images, where) for _ in range(2)]
    assert results[0] == results[1] and evaluated == ["trials/00001"]


def test_an_error_of_the_storage_is_no_result_and_ends_the_revision(study, capsys):
    assert run_revision(FakeAttack(fails=("trials/00002",), error=OSError)) == 3
    assert study.read("versions/2/trials/00002/result.json") is None and not versions(study)[0].finished and not logged()
    assert "error: it broke; continue with\n" in capsys.readouterr().out
    assert run_revision(FakeAttack()) == 0 and sorted(evaluated) == sorted(ALL)


def test_a_network_whose_task_ray_could_not_run_has_no_result_and_ends_the_revision(study, monkeypatch, capsys):
    original = LocalExecutor.map

    def lose_one(self, work, jobs, result_type, on_result):
        original(self, work, {name: job for name, job in jobs.items() if name != "trial 2"}, result_type, on_result)
        on_result("trial 2", AuditResult(error="the machine died"))

    with monkeypatch.context() as patch:
        patch.setattr(LocalExecutor, "map", lose_one)
        assert run_revision(FakeAttack()) == 3
    assert study.read("versions/2/trials/00002/result.json") is None and not versions(study)[0].finished and not logged()
    out = capsys.readouterr().out
    assert "trial 2 failed: the machine died" in out and "1 of 4 networks has no result; continue with" in out
    assert run_revision(FakeAttack()) == 0 and sorted(evaluated) == sorted(ALL)


def test_a_failed_trial_is_not_evaluated(tmp_path, study):
    finished.study(tmp_path / "runs", finished.plan(name="s-2"), failed=1)
    assert run_revision(FakeAttack(), "s-2") == 0
    assert evaluated == [ALL[0], *ALL[2:]]


def test_an_excluding_flag_removes_trials_from_the_front_and_its_advice_is_printed(study, capsys):
    assert run_revision(FakeAttack(flags={"flag/black_box_beats_white_box": 1.0})) == 1  # every trial raises it
    out = capsys.readouterr().out
    assert "new flag black_box_beats_white_box: trials 0 plain, 1, 2" in out and "left the front: 0 plain, 1, 2" in out
    assert "flag black_box_beats_white_box, raised by the sweep's numbers (excluded from its front: trials 0, 1, 2): " in out
    assert "the network's gradients are misleading" in out
    assert "the front is empty" in out and front(study) == {}


def test_a_version_that_did_not_reach_mlflow_is_logged_by_the_same_command(study, monkeypatch, capsys):
    monkeypatch.setattr(RecordingTracker, "undelivered", 3)
    assert run_revision(FakeAttack()) == 1
    assert "3 writes did not reach MLflow (down); when it is up again: " in capsys.readouterr().out
    monkeypatch.setattr(RecordingTracker, "undelivered", 0)
    monkeypatch.setattr(revise, "front_version", lambda uri, plan: 1)
    assert run_revision(FakeAttack()) == 0 and logged() == [[1, 0, 2], [1, 0, 2]] and len(evaluated) == 4
    assert published() == [[(2, True)], [(2, True)]]


@pytest.mark.parametrize(("error", "code"), [(OSError("disk full"), 3), (KeyboardInterrupt(), 130)])
def test_a_revision_that_cannot_be_published_ends_its_tracker_and_prints_the_command(study, monkeypatch, capsys, error, code):
    def fail(outcome):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(publish, "render", fail)
        assert run_revision(FakeAttack()) == code
    assert [tracker.closed for tracker in RecordingTracker.trackers] == [1]
    assert "continue with" in capsys.readouterr().out and not [version for version in versions(study) if version.finished]
    assert run_revision(FakeAttack()) == 0 and sorted(evaluated) == sorted(ALL)


def test_a_version_that_cannot_be_published_again_stops_with_the_command(study, monkeypatch, capsys):
    def fail(outcome):
        raise OSError("disk full")

    run_revision(FakeAttack())
    capsys.readouterr()
    monkeypatch.setattr(revise, "front_version", lambda uri, plan: 1)
    monkeypatch.setattr(publish, "render", fail)
    assert run_revision(FakeAttack()) == 3
    assert "error: disk full; continue with" in capsys.readouterr().out and RecordingTracker.trackers[-1].closed == 1
