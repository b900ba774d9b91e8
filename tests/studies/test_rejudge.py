"""Tests of studies/rejudge.py on a whole study.

Per image, robustness never increases; nothing is trained; nothing is done twice; and all places show the newest version.
"""

import hashlib
import json
import re
import shutil
from pathlib import Path

import finished
import numpy as np
import pytest
from files import METRICS, modified, read, rows
from mlflow_runs import logged
from study_runs import FIRST_FIVE, SERIAL, Finished, crl_with_replicates

from trainables.storage.arrays import of_npz
from trainables.tracking.client import front_from_runs

pytestmark = [pytest.mark.ray, pytest.mark.thorough, pytest.mark.timeout(900)]
SCRIPT = "studies/rejudge.py"
NEVER_CHANGED = ("network.pt", "predictions.npz", "result.json", "params.json", "plan.json", "facts.json")


@pytest.fixture(scope="module")
def script(tmp_path_factory) -> Path:
    """A script of the study with one replicate of each confirmed point."""
    return crl_with_replicates(tmp_path_factory.mktemp("script"), 1)


@pytest.fixture(scope="module")
def study(crl_study, run_study, script) -> Finished:
    """A study of five trials, whose trainings are those of `crl_study`."""
    return run_study.study(crl_study.cwd, *FIRST_FIVE, script=script)


def hashes(folder: Path, *names: str) -> dict[Path, str]:
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for name in names for path in folder.rglob(name)}


def robust(folder: Path) -> np.ndarray:
    """Images that are robust against every attack of one evaluation."""
    arrays = of_npz((folder / "predictions.npz").read_bytes())
    return np.all([array for name, array in arrays.items() if name.startswith("robust/")], axis=0)


def worst_case(folder: Path, network: Path, newest: int) -> np.ndarray:
    """Images of a network that are robust against every attack of all versions up to the newest."""
    places = [network, *(folder / f"versions/{n}" / network.relative_to(folder) for n in range(2, newest + 1))]
    return np.all([robust(place) for place in places], axis=0)


def points(path: Path) -> dict[int, dict[str, str]]:
    return {int(row["trial"]): row for row in rows(path)}


def test_a_study_is_attacked_further_from_its_networks(study, run_study, script):
    cwd, folder = study.cwd, study.folder
    trained, old_front = hashes(folder, *NEVER_CHANGED), (folder / "front.csv").read_text()
    networks = sorted(path.parent for path in folder.rglob("network.pt"))
    assert len(networks) > 5  # the confirmation step trained some

    def rejudge(*argv: str) -> str:
        return run_study.succeed(cwd, study.name, *SERIAL, *argv, script=SCRIPT)

    # More attacks.
    out = rejudge("--suite", "standard")
    assert hashes(folder, *NEVER_CHANGED).items() >= trained.items() and not list(folder.rglob("checkpoint.pt"))
    assert sorted(path.parent for path in folder.rglob("network.pt")) == networks
    assert "version 2" in out and "left the front: " in out
    assert re.search(r"robust_accuracy: on average (0\.\d+ lower|about equal) over \d+ trials; largest change 0\.\d+ lower", out)
    fooled = 0
    for network in networks:
        before, after = robust(network), worst_case(folder, network, 2)
        new = read(folder / "versions/2" / network.relative_to(folder) / "result.json")
        assert (after <= before).all() and new["metrics"]["robust_accuracy"] == after.mean() and not new["error"]
        fooled += int((before & ~after).sum())
    assert fooled > 0
    assert (folder / "versions/1/front.csv").read_text() == old_front
    assert (folder / "versions/2/front.csv").read_bytes() == (folder / "front.csv").read_bytes()
    assert read(folder / "versions/2/version.json")["settings"] == {"suite": "standard"}
    names = {path.name for path in (folder / "versions/2").iterdir()}
    assert names == {"confirm", "confirmed.csv", "contrasts.csv", "front.csv", "plots", "report.html", "trials", "version.json"}
    _check_version_everywhere(study, 2)

    # The same again.
    before = finished.everything(folder)
    assert "nothing to do: version 2" in rejudge("--suite", "standard")
    assert finished.everything(folder) == before

    # The study's own command keeps the version.
    resumed = run_study(cwd, "--resume", study.name, script=script)
    assert resumed.returncode == 0 and ", version 2" in resumed.stdout, resumed.stdout + resumed.stderr
    assert hashes(folder, "network.pt", "predictions.npz", "result.json").items() <= hashes(folder, *NEVER_CHANGED).items()
    _check_version_everywhere(study, 2)

    # Images made on one of the networks, interrupted half-way.
    source = next(iter(points(folder / "front.csv")))
    rejudge("--suite", "standard", "--transfer-from", str(source))
    whole = folder / "versions/3"
    made = {path: path.read_bytes() for path in whole.rglob("result.json")}
    (whole / "version.json").write_text(json.dumps(read(whole / "version.json") | {"finished": ""}))
    lost = [whole / network.relative_to(folder) for network in networks[1::2]]
    for place in lost:
        shutil.rmtree(place)
    shutil.rmtree(whole / "plots")
    left = modified(whole)
    out = rejudge("--suite", "standard", "--transfer-from", str(source))
    assert f"{len(networks) - len(lost)} of them done before" in out
    unchanged = re.search(rf"robust_accuracy unchanged: (\d+) of {len(lost)} networks", out)
    assert len(re.findall(rf"^\[\d+/{len(lost)}\] ", out, re.M)) + int(unchanged[1] if unchanged else 0) == len(lost)
    assert modified(whole).items() >= left.items()
    for path, content in made.items():  # the missing ones are made again with the same numbers
        then, now = json.loads(content)["metrics"], read(path)["metrics"]
        assert {k: v for k, v in then.items() if "second" not in k} == {k: v for k, v in now.items() if "second" not in k}
    for network in networks:
        new = of_npz((whole / network.relative_to(folder) / "predictions.npz").read_bytes())
        own = network == folder / f"trials/{source:05d}"
        attacks = {name for name in new if name.startswith("robust/")}
        assert attacks == {"robust/pgd_more"} | (set() if own else {f"robust/transfer_{source}"})
        metrics = read(whole / network.relative_to(folder) / "result.json")["metrics"]
        assert metrics["robust_accuracy"] == worst_case(folder, network, 3).mean() <= worst_case(folder, network, 2).mean()
    _check_version_everywhere(study, 3)
    assert hashes(folder, "network.pt").items() <= trained.items()


def _check_version_everywhere(study: Finished, number: int) -> None:
    """The newest version is in front.csv, in the report, and in MLflow, whose child runs alone give the front, too."""
    folder = study.folder
    shown = points(folder / "front.csv")
    assert shown == points(folder / f"versions/{number}/front.csv") and shown
    found = logged(study.tracking_uri, study.name)
    rebuilt = {row.pop("trial"): row for row in front_from_runs(study.tracking_uri, study.name)}
    assert rebuilt == {n: {metric: float(row[metric]) for metric in METRICS} for n, row in shown.items()}
    assert {n for n, run in found.children.items() if run.data.tags["pareto"] == "true"} == set(shown)
    assert {run.data.tags["front_version"] for run in (*found.children.values(), found.parent)} == {str(number)}
    for n, run in found.children.items():
        assert run.data.metrics["robust_accuracy"] == worst_case(folder, folder / f"trials/{n:05d}", number).mean()
        history = found.client.get_metric_history(run.info.run_id, "robust_accuracy")
        by_step = sorted((metric.step, metric.value) for metric in history)
        assert [step for step, _ in by_step] == [12 + later for later in range(number)]
        assert [value for _, value in by_step] == sorted((value for _, value in by_step), reverse=True)
    artifacts = {f.path for f in found.client.list_artifacts(found.parent.info.run_id, f"versions/{number}")}
    files = ("front.csv", "confirmed.csv", "contrasts.csv", "report.html", "plots")
    assert artifacts >= {f"versions/{number}/{name}" for name in files}
    for name in ("front.csv", "report.html"):
        assert (found.artifacts / name).read_bytes() == (folder / name).read_bytes()
    assert f"version {number}" in (folder / "report.html").read_text()
