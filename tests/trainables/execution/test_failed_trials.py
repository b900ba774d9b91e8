"""Tests of a whole study in which trials fail."""

import re
from pathlib import Path

import pytest
from files import read, rows
from mlflow_runs import logged
from study_runs import Finished, folder_of

pytestmark = [pytest.mark.ray, pytest.mark.thorough, pytest.mark.timeout(600)]
SCRIPT = Path(__file__).parents[2] / "helpers/failing_study.py"


@pytest.fixture(scope="module")
def failed(run_study, tmp_path_factory) -> Finished:
    cwd = tmp_path_factory.mktemp("failing")
    options = ("--trials", "7", "--sampler", "random", "--set", "epochs=12", "net.width=8")
    done = run_study(cwd, *options, script=SCRIPT)
    assert done.returncode == 1, done.stdout + done.stderr
    return Finished(cwd, folder_of(done.stdout, cwd), done.stdout, done.stderr)


def test_failed_trials_are_counted_with_their_reasons_and_the_study_goes_on(failed):
    assert re.search(r"^\[\d/7\] trial 0 \(diverges\) failed: .*lower optimizer.lr", failed.out, re.M)
    assert re.search(r"^\[\d/7\] trial \d failed: RuntimeError: .*memory", failed.out, re.M)
    assert "Traceback" not in failed.out + failed.err
    _, parent, children = logged(failed.tracking_uri, failed.name)
    assert len(children) == 7 and {child.info.status for child in children.values()} == {"FINISHED", "FAILED"}
    too_large = {number for number, child in children.items() if child.data.params["net.hidden"] == str(2**40)}
    by_status = {number for number, child in children.items() if child.info.status == "FAILED"}
    assert by_status == too_large | {0} and too_large
    assert parent.data.metrics["trials_failed"] == len(by_status)
    assert parent.data.metrics["trials_completed"] == 7 - len(by_status)
    assert all("memory" in children[number].data.tags["error"] for number in too_large)
    assert all(read(failed.folder / f"trials/{number:05d}/result.json")["error"] for number in by_status)


def test_a_failed_trial_is_never_on_the_front(failed):
    points = rows(failed.folder / "front.csv")
    assert points and all(row.get("net.hidden", "16") == "16" and row["baseline"] == "" for row in points)
    assert "lower optimizer.lr" in (failed.folder / "report.html").read_text()
