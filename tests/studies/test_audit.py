"""Tests of studies/audit.py: no shadow model is lost by a kill or trained twice, and more of them are trained only on request."""

from pathlib import Path

import pytest
from files import modified, read
from study_runs import FIRST_FIVE, SERIAL, Finished, crl_with_replicates, kill, start, wait_until

pytestmark = pytest.mark.timeout(600)
SCRIPT = "studies/audit.py"
REPLICATES = 2


@pytest.fixture
def study(run_study, tmp_path) -> Finished:
    """A confirmed study with few front points."""
    script = crl_with_replicates(tmp_path, REPLICATES)
    return run_study.study(tmp_path, *FIRST_FIVE, "--require", "robust_accuracy>=0.15", script=script)


def trained(cwd: Path) -> dict[Path, int]:
    """Every network that was trained, and when."""
    by_path = modified(cwd / "runs")
    return {path: time for path, time in by_path.items() if "versions" not in path.parts and not read(path).get("reused_from")}


@pytest.mark.faults
def test_shadow_models_survive_a_kill_are_never_trained_twice_and_more_are_trained_on_request(study, run_study):
    cwd, folder = study.cwd, study.folder
    before, points = trained(cwd), len(list((folder / "confirm").iterdir()))
    assert points >= 1

    def shadows() -> dict[Path, int]:
        return {path: time for path, time in trained(cwd).items() if "shadows" in path.parts}

    driver = start(cwd, folder.name, *SERIAL, "--shadows", "2", script=SCRIPT)
    wait_until(shadows, driver)
    kill(driver)
    early = shadows()
    assert 1 <= len(early) < 2 * points

    run_study.succeed(cwd, folder.name, *SERIAL, "--shadows", "2", script=SCRIPT)
    assert len(shadows()) == 2 * points and early.items() <= shadows().items()
    assert before.items() <= trained(cwd).items() and len(trained(cwd)) == len(before) + 2 * points
    version = read(folder / "versions/2/version.json")
    assert version["settings"] == {"shadows": 2} and version["finished"]
    assert "rmia_offline" in (folder / "report.html").read_text()

    for fewer_or_equal in ("2", "1"):
        assert "nothing to do" in run_study.succeed(cwd, folder.name, *SERIAL, "--shadows", fewer_or_equal, script=SCRIPT)
    known = shadows()
    assert len(known) == 2 * points
    run_study.succeed(cwd, folder.name, *SERIAL, "--shadows", "3", script=SCRIPT)
    assert len(shadows()) == 3 * points and known.items() <= shadows().items()
    results = [read(path) for path in (folder / "versions/3/confirm").rglob("result.json")]
    assert len(results) == REPLICATES * points and all("mia_auc/lira_offline" in result["metrics"] for result in results)


@pytest.mark.ray
def test_invalid_requests_are_refused_in_one_line(crl_study, run_study):
    unknown = run_study(crl_study.cwd, "nothing", "--shadows", "3", script=SCRIPT)
    assert unknown.returncode == 2 and "no study 'nothing'" in unknown.stderr
    negative = run_study(crl_study.cwd, crl_study.name, "--shadows", "-1", script=SCRIPT)
    assert negative.returncode == 2 and negative.stderr.count("\n") == 1
