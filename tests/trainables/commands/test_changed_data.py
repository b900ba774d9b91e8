"""Commands on a study whose images have changed: one line, exit code 2, and no file is changed."""

from pathlib import Path

import finished
import parquet_studies
import pytest
from parquet_studies import CHANGES

from studies.crl_tradeoff import STUDY
from trainables.commands import audit, pick, rejudge, run
from trainables.commands.study import main
from trainables.storage.versions import outcomes
from trainables.tracking.tracker import Tracker

COMMANDS = {
    "resume": (lambda argv: main(STUDY, argv), ["--resume", "s-1"]),
    "rejudge": (rejudge.main, ["s-1", "--suite", "strong"]),
    "audit": (audit.main, ["s-1", "--shadows", "1"]),
    "pick": (pick.main, ["s-1", "--minimize", "mia_auc"]),
}
"""Commands that need the images of a stored study."""


@pytest.fixture(scope="module")
def cwd(tmp_path_factory) -> Path:
    """A directory with a finished study and its runs in MLflow."""
    folder = tmp_path_factory.mktemp("changed_data")
    store = parquet_studies.study(folder)
    plan = parquet_studies.plan(folder / "set")
    tracker = Tracker(f"sqlite:///{folder}/mlflow.db", plan, outcomes(plan, store, {}, [])[0])
    tracker.confirmed()
    assert tracker.close() == 0
    return folder


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("change", CHANGES)
def test_every_command_that_needs_the_images_refuses_others(command, change, cwd, monkeypatch, capfd):
    monkeypatch.setattr(run, "_run", lambda *args: pytest.fail("the study would have been resumed"))
    make, words = CHANGES[change]
    parquet_studies.write(cwd / "set", *make(*parquet_studies.images()))
    entry, argv = COMMANDS[command]
    finished.refuses(entry, argv, [f"parquet:{cwd}/set has changed since s-1 started: {words}", "restore"], cwd, monkeypatch, capfd)


def test_the_original_images_are_accepted(cwd, monkeypatch):
    """The rows above fail because of the images."""
    monkeypatch.chdir(cwd)
    parquet_studies.write(cwd / "set", *parquet_studies.images())
    monkeypatch.setattr(run, "_run", lambda *args: 0)
    with pytest.raises(SystemExit) as exit_info:
        main(STUDY, ["--resume", "s-1"])
    assert exit_info.value.code == 0
