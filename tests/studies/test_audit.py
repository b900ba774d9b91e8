"""Auditing a finished study's points by shadow models: a kill loses none, a second time trains none, four more are four more."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


def script(cwd: Path, name: str, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "studies" / name), *argv], cwd=cwd, capture_output=True, text=True, timeout=500
    )


@pytest.fixture(scope="module")
def studied(tmp_path_factory) -> tuple[Path, Path]:
    cwd = tmp_path_factory.mktemp("studied")
    done = script(cwd, "crl_tradeoff.py", "--set", "epochs=10", "net.width=8", "judge.steps=2", "--trials", "5", "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = (cwd / "runs").glob("*-*")
    return cwd, folder


def trained(cwd: Path) -> dict[Path, int]:
    """Every network that was trained, and when."""
    found = {}
    for path in [*(cwd / "runs").glob("*/trials/*/result.json"), *(cwd / "runs").glob("*/confirm/*/*/result.json"),
                 *(cwd / "runs").glob("shadows/*/result.json")]:  # fmt: skip
        if "taken_from" not in json.loads(path.read_text()):
            found[path] = path.stat().st_mtime_ns
    return found


def points(folder: Path) -> int:
    return len(list((folder / "confirm").iterdir()))


def test_a_study_trains_its_trials_and_replicates_and_an_identical_one_nothing(studied):
    cwd, folder = studied
    before = trained(cwd)
    assert len(before) == 5 + 3 * points(folder) and points(folder) >= 1
    again = script(cwd, "crl_tradeoff.py", "--set", "epochs=10", "net.width=8", "judge.steps=2", "--trials", "5", "--seed", "1")
    assert again.returncode == 0, again.stdout + again.stderr
    assert trained(cwd) == before and "5 of 5 trials" in again.stdout and "taken over" in again.stdout
    (other,) = set((cwd / "runs").glob("*-*")) - {folder}
    assert (other / "front.csv").read_text() == (folder / "front.csv").read_text()
    assert (other / "confirmed.csv").read_text() == (folder / "confirmed.csv").read_text()


def test_confirm_has_audits_by_sisters_in_the_report_in_mlflow_and_as_pictures(studied):
    cwd, folder = studied
    page = (folder / "report.html").read_text()
    assert "lira" in page and "calibrated" in page and "No true-positive rate at 1 %" in page and "1,000 non-members" in page
    pictures = {path.name for path in (folder / "plots").iterdir()}
    confirmed = [int(row["trial"]) for row in csv.DictReader((folder / "confirmed.csv").read_text().splitlines())]
    assert {f"audit-{number:05d}.png" for number in confirmed} <= pictures
    client = MlflowClient(f"sqlite:///{cwd}/mlflow.db")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()], "tags.confirmed != ''")
    assert runs and all("confirmed/mia_auc/lira" in run.data.metrics for run in runs)


def test_shadow_models_survive_a_kill_are_never_trained_twice_and_four_more_are_four_more(studied):
    cwd, folder = studied
    before, f = trained(cwd), points(folder)
    shadows = lambda: {p: at for p, at in trained(cwd).items() if "shadows" in p.parts}  # noqa: E731
    log = (cwd / "log").open("w")
    argv = [sys.executable, str(ROOT / "studies/audit.py"), folder.name, "--shadows", "2", "--concurrency", "1"]
    driver = subprocess.Popen(argv, cwd=cwd, stdout=log, stderr=log)
    until = time.monotonic() + 200
    while not shadows() and time.monotonic() < until:
        assert driver.poll() is None, (cwd / "log").read_text()
        time.sleep(0.1)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    early = shadows()
    assert 1 <= len(early) < 2 * f

    done = script(cwd, "audit.py", folder.name, "--shadows", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(shadows()) == 2 * f and early.items() <= shadows().items()
    assert before.items() <= trained(cwd).items() and len(trained(cwd)) == len(before) + 2 * f
    version = json.loads((folder / "versions/2/version.json").read_text())
    assert version["settings"] == {"shadows": 2} and version["finished"]
    assert "rmia_offline" in (folder / "report.html").read_text()

    second = script(cwd, "audit.py", folder.name, "--shadows", "2")
    assert second.returncode == 0 and "nothing to do" in second.stdout and len(shadows()) == 2 * f
    fewer = script(cwd, "audit.py", folder.name, "--shadows", "1")
    assert fewer.returncode == 0 and "nothing to do" in fewer.stdout
    known = shadows()
    more = script(cwd, "audit.py", folder.name, "--shadows", "6")
    assert more.returncode == 0, more.stdout + more.stderr
    assert len(shadows()) == 6 * f and known.items() <= shadows().items()
    results = [json.loads(path.read_text()) for path in (folder / "versions/3/confirm").rglob("result.json")]
    assert len(results) == 3 * f and all("mia_auc/lira_offline" in result["metrics"] for result in results)


def test_what_cannot_be_audited_is_refused_in_a_line(studied):
    cwd, folder = studied
    unknown = script(cwd, "audit.py", "nothing", "--shadows", "3")
    assert unknown.returncode == 2 and "no study 'nothing'" in unknown.stderr
    negative = script(cwd, "audit.py", folder.name, "--shadows", "-1")
    assert negative.returncode == 2 and negative.stderr.count("\n") == 1
