"""Tests of how a run of a study ends: what is printed before MLflow is waited for, and what is checked before anything starts."""

import contextlib
import json
import os
import socket
from types import SimpleNamespace

import finished
import pytest

from core import data
from core.errors import InputError
from trainables.commands import run
from trainables.execution import cluster
from trainables.runs.study_run import EXIT_INTERRUPTED, EXIT_STOPPED, StudyRun
from trainables.study.outcome import MLflowRefs
from trainables.study.site import Site


class FakeTracker:
    """A tracker that records how it is closed, and what was printed until then."""

    closed: list[tuple[str, str]]
    last_error = ""

    def __init__(self, capsys):
        self.refs, self.closed, self.capsys = MLflowRefs(parent="run-1"), [], capsys

    def close(self, status: str = "FINISHED") -> int:
        self.closed.append((status, self.capsys.readouterr().err))
        return 0


@pytest.fixture
def study(tmp_path):
    """The folder of a finished study in tmp_path/runs."""
    return finished.study(tmp_path / "runs")


@pytest.fixture
def tracker(monkeypatch, capsys) -> FakeTracker:
    """The tracker of runs in this process, without a cluster."""
    fake = FakeTracker(capsys)
    monkeypatch.setattr(run, "Tracker", lambda *args, **kwargs: fake)
    monkeypatch.setattr(cluster, "joined", lambda site: contextlib.nullcontext({"CPU": 1.0}))
    return fake


def run_study(tmp_path, error: BaseException, monkeypatch, **site) -> int:
    """Run a study whose sweep raises an error; returns the exit code."""

    def fail(*args):
        raise error

    monkeypatch.setattr(run, "_sweep_and_confirm", fail)
    where = Site(storage=str(tmp_path / "runs"), **site)
    return run._run(StudyRun.open(finished.plan(), where, ["studies/s.py"]), data.load("digits"))


@pytest.mark.parametrize(("error", "code", "text"), [
    (KeyboardInterrupt(), EXIT_INTERRUPTED, "interrupted; continue with"),
    (OSError("disk full"), EXIT_STOPPED, "error: disk full; continue with"),
])  # fmt: skip
def test_the_resume_command_is_printed_before_waiting_for_mlflow(study, tracker, tmp_path, monkeypatch, capsys, error, code, text):
    assert run_study(tmp_path, error, monkeypatch, output="json") == code
    ((status, printed),) = tracker.closed
    assert status == "KILLED" and text in printed and "--resume s-1" in printed
    assert '"mlflow_run": "run-1"' in capsys.readouterr().out


def test_a_superseded_driver_does_not_advise_to_resume_which_stops_the_other_one(study, tracker, tmp_path, monkeypatch, capsys):
    def be_superseded(execution, *args):
        study.with_new_lease()
        execution.store.write("front.csv", b"")

    monkeypatch.setattr(run, "_sweep_and_confirm", be_superseded)
    execution = StudyRun.open(finished.plan(), Site(storage=str(tmp_path / "runs"), output="json"), ["studies/s.py"])
    assert run._run(execution, data.load("digits")) == EXIT_STOPPED
    ((_, printed),) = tracker.closed
    who, advice = f"(process {os.getpid()} on {socket.gethostname()})", "it continues there; this driver changes nothing more"
    line = f"error: another driver has resumed the study in {study.root} {who}; {advice}"
    assert printed.splitlines()[-1] == line and "--resume" not in printed
    assert json.loads(capsys.readouterr().out)["resume"] == ""


@pytest.mark.parametrize("output", ["text", "json"])
def test_a_study_that_is_interrupted_during_the_checks_has_not_started(tmp_path, monkeypatch, capsys, output):
    def be_interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(run.preflight, "check_new", be_interrupted)
    site = Site(storage=str(tmp_path / "runs"), output=output)
    assert run.start(finished.plan(), site, objectives=lambda classes: (), command=["studies/s.py"]) == EXIT_INTERRUPTED
    out, err = capsys.readouterr()
    assert "interrupted; nothing was started; repeat the command\n" in out + err and not list(tmp_path.iterdir())
    if output == "json":
        assert json.loads(out)["exit_code"] == EXIT_INTERRUPTED and json.loads(out)["resume"] == ""


def test_a_resumed_study_that_is_interrupted_during_the_checks_prints_how_to_resume(study, tmp_path, monkeypatch, capsys):
    def be_interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(run.preflight, "check", be_interrupted)
    script = SimpleNamespace(name=finished.plan().study)
    site = Site(storage=str(tmp_path / "runs"))
    assert run.resume(script, "s-1", site, requested=(), command=["studies/s.py"]) == EXIT_INTERRUPTED  # type: ignore[arg-type]
    assert "--resume s-1" in capsys.readouterr().out


def test_an_unexpected_error_ends_the_runs_in_mlflow_as_failed(study, tracker, tmp_path, monkeypatch):
    with pytest.raises(ZeroDivisionError):
        run_study(tmp_path, ZeroDivisionError(), monkeypatch)
    assert [status for status, _ in tracker.closed] == ["FAILED"]


def test_an_unreadable_version_is_refused_before_anything_starts(study, tracker, tmp_path, monkeypatch):
    study.write("versions/2/version.json", b"{}")
    with pytest.raises(InputError, match=r"version\.json"):
        run_study(tmp_path, AssertionError("a sweep was started"), monkeypatch)
    assert not tracker.closed and study.read("driver.json") is None


def test_the_data_are_described_in_the_terminal_and_in_the_facts(study, tracker, tmp_path, monkeypatch):
    run_study(tmp_path, KeyboardInterrupt(), monkeypatch, output="json")
    description = "1,797 images of 8x8 grey in 10 classes, no exact copies"
    assert study.read_json("facts.json")["data"] == description
    assert f"data: {description}" in tracker.closed[0][1]
