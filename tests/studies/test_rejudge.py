"""Attacking a finished study's networks further: per image nobody rises again, nothing is trained, nothing is done twice."""

import csv
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import finished
import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from core import data, trial
from core.attacks.gradient import pgd
from core.config import TrialConfig
from core.train import predict
from trainables import rejudge
from trainables.look import Network
from trainables.rejudge import Attacks, source_net
from trainables.results import Version, evidence
from trainables.store import Store
from trainables.tracking import front_from_runs
from trainables.trial import Job, Share, npz, of_npz, pack, perform

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
TINY = {"epochs": 8, "net.width": 4, "judge.steps": 2, "judge.images": 48, "judge.epsilon": 0.1}
ROBUST = {"perturbation": "pgd", "perturbation.steps": 2, "perturbation.epsilon": 0.1, "perturbation.alpha": 0.5}


# ---------------------------------------------------------------- one network


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Store, dict[int, Network]]:
    """Two trained trials: a plain one and a robust one."""
    store, networks = Store.at(str(tmp_path_factory.mktemp("trained"))), {}
    for number, changes in enumerate(({}, ROBUST)):
        params = TrialConfig.of({**TINY, **changes, "seed": number}).params()
        store.write_json(f"trials/{number:05d}/params.json", {"number": number, "baseline": "", "params": params})
        result = perform(Job(f"trials/{number:05d}", params), pack(data.load("digits")), store, Share(0, 1, 0))
        assert not result["error"], result["error"]
        networks[number] = Network(f"trial {number}", f"trials/{number:05d}", params, result["metrics"])
    return store, networks


def stands(arrays) -> np.ndarray:
    return np.all([array for name, array in arrays.items() if name.startswith("stands/")], axis=0)


def version(number: int, **settings) -> Version:
    return Version(number, settings, "", {}, "now")


def test_the_worst_case_is_that_of_all_attacks_ever_met(trained):
    store, networks = trained
    for number, network in networks.items():
        found = Attacks("standard", source=0).look(network, data.load("digits"), store, [], CPU)
        known = evidence(store, network.folder, [])
        both = stands(known) & stands(found.predictions)
        assert (stands(found.predictions) <= stands(known)).all()
        assert found.metrics["robust_accuracy"] == both.mean() <= network.metrics["robust_accuracy"]
        assert ("stands/transfer_0" in found.predictions) == (number != 0)
        assert {"stands/apgd_ce", "stands/apgd_t", "stands/pgd_cw", "stands/square"} <= found.predictions.keys()
        assert not {"stands/pgd", "stands/fgsm"} & found.predictions.keys()  # met before, with the same settings


def test_a_later_version_meets_only_what_is_new(trained):
    store, networks = trained
    base, images = [version(2, suite="standard")], data.load("digits")
    store.write("versions/2/trials/00001/predictions.npz", npz({"stands/apgd_t": np.arange(48) < 3}))
    found = Attacks("standard", source=0).look(networks[1], images, store, base, CPU)
    assert found.predictions.keys() == {"stands/pgd_more", "stands/transfer_0"}
    assert found.metrics["robust_accuracy"] <= 3 / 48  # what version 2 knew counts


def test_images_are_made_on_the_source_with_every_step(trained, monkeypatch):
    store, networks = trained
    seen = {}
    monkeypatch.setattr(trial, "rejudge", lambda *args, **more: seen.update(more["others"]))
    Attacks("quick", source=0).look(networks[1], data.load("digits"), store, [], CPU)
    attack = seen["transfer_0"]
    assert attack.black_box and attack.knobs["attack"] is pgd and attack.knobs["stop_when_fooled"] is False
    assert (attack.knobs["steps"], attack.knobs["restarts"]) == (TINY["judge.steps"], 1)
    images, known = data.load("digits"), evidence(store, "trials/00000", [])
    logits = predict(attack.knobs["source"], images.x[known["rows"]]).numpy()
    np.testing.assert_allclose(logits, known["logits"], atol=1e-5)
    assert (predict(source_net(store, 1, images, CPU), images.x[known["rows"]]).numpy() != known["logits"]).any()


def test_whether_more_steps_help_is_asked_from_a_start_that_no_version_had(trained, monkeypatch):
    store, networks = trained
    starts = []
    monkeypatch.setattr(trial, "rejudge", lambda *args, **more: starts.append(more["others"]["pgd_more"].knobs["restarts"]))
    for count in range(3):
        later = [version(number, suite="standard") for number in range(2, 2 + count)]
        for each in later:
            store.write(f"{each.folder}/{networks[0].folder}/predictions.npz", npz({"stands/none": np.ones(48, bool)}))
        Attacks("strong").look(networks[0], data.load("digits"), store, later, CPU)
    assert starts == [2, 3, 4]


@pytest.mark.parametrize("own, confirm, later, asked, number", [
    ("quick", None, [], ("quick", None), 1),
    ("quick", None, [], ("quick", 0), 0),
    ("quick", None, [], ("strong", None), 0),
    ("quick", "quick", [], ("quick", None), 1),
    ("quick", "standard", [], ("quick", None), 0),
    ("quick", "standard", [], ("standard", None), 0),
    ("quick", None, [{"suite": "strong"}], ("strong", None), 2),
    ("quick", None, [{"suite": "strong"}], ("strong", 1), 0),
    ("quick", None, [{"suite": "strong"}], ("standard", None), 0),
    ("quick", None, [{"suite": "strong", "transfer_from": 1}], ("strong", None), 2),
    ("quick", None, [{"suite": "strong", "transfer_from": 1}], ("strong", 2), 0),
    ("quick", None, [{"suite": "standard"}, {"suite": "strong", "transfer_from": 0}], ("strong", 0), 3),
    ("quick", None, [{"audit": "lira"}], ("strong", None), 0),
])  # fmt: skip
def test_what_is_covered(own, confirm, later, asked, number):
    changes = {"judge.suite": confirm} if confirm else {}
    config = TrialConfig.of({"judge.suite": own})
    plan = finished.plan(config=config, confirm=changes, replicates=3 if confirm else 0)
    versions = [version(i, **settings) for i, settings in enumerate(later, 2)]
    assert Attacks(*asked).covered(plan, versions) == number


# ---------------------------------------------------------------- what is refused

ROWS: dict[str, tuple[list[str], list[str]]] = {
    "no study": (["--suite", "strong"], ["the following arguments are required: STUDY"]),
    "no suite": (["s-1"], ["the following arguments are required: --suite"]),
    "unknown suite": (["s-1", "--suite", "stron"], ["unknown suite 'stron' (did you mean 'strong'?)", "quick, standard, strong"]),
    "unknown study": (["s-2", "--suite", "strong"], ["no study 's-2' in --storage runs, there is: half, s-1"]),
    "study from outside": (["../runs/s-1", "--suite", "strong"], ["no study '../runs/s-1'"]),
    "unknown switch": (["s-1", "--suite", "strong", "--trials", "3"], ["unrecognized arguments: --trials 3"]),
    "several workers": (["s-1", "--suite", "strong", "--workers-per-trial", "2"], ["unrecognized arguments"]),
    "trial in words": (["s-1", "--suite", "strong", "--transfer-from", "best"], ["'best' is not a whole number"]),
    "negative trial": (["s-1", "--suite", "strong", "--transfer-from", "-1"], ["--transfer-from", "-1 is less than 0"]),
    "no such trial": (["s-1", "--suite", "strong", "--transfer-from", "9"], ["--transfer-from 9", "expected one of: 0, 1, 2"]),
    "unfinished study": (["half", "--suite", "strong"], ["half is not finished, 2 of its 3 trials", "studies/s.py --resume half"]),
    "no concurrency": (["s-1", "--suite", "strong", "--concurrency", "0"], ["--concurrency", "0 is less than 1"]),
    "no cores": (["s-1", "--suite", "strong", "--cpus-per-worker", "0"], ["--cpus-per-worker", "more than 0"]),
    "more GPUs than exist": (["s-1", "--suite", "strong", "--gpus-per-worker", "99"], ["is more than the", "GPUs of this machine"]),
    "tracking in a folder": (["s-1", "--suite", "strong", "--tracking-uri", "mlruns"], ["is none of: sqlite:///FILE"]),
    "storage of nothing": (["s-1", "--suite", "strong", "--storage", "elsewhere"], ["no study 's-1' in --storage elsewhere"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def shelf(tmp_path_factory) -> Path:
    """A finished study and one that is not."""
    cwd = tmp_path_factory.mktemp("shelf")
    finished.study(cwd / "runs")
    finished.study(cwd / "runs", finished.plan(name="half")).discard("trials/00001/result.json")
    return cwd


@pytest.mark.parametrize("case", ROWS)
def test_bad_input_is_one_line_and_leaves_nothing(case, shelf, monkeypatch, capfd):
    finished.refuses(rejudge.main, *ROWS[case], shelf, monkeypatch, capfd)


# ---------------------------------------------------------------- a whole study


def run(cwd: Path, script: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(script), *argv], cwd=cwd, capture_output=True, text=True, timeout=500)


def study(cwd: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return run(cwd, cwd / "study.py", *argv)


def again(cwd: Path, *argv: str) -> str:
    (folder,) = (cwd / "runs").glob("*-*")
    done = run(cwd, ROOT / "studies/rejudge.py", folder.name, *argv)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def studied(tmp_path_factory) -> Path:
    """Four trials and a replicate of each front point, on digits."""
    cwd = tmp_path_factory.mktemp("studied")
    (cwd / "study.py").write_text(
        "from dataclasses import replace\nfrom trainables.cli import main\nfrom studies.crl_tradeoff import STUDY\n"
        "dev = replace(STUDY.presets['dev'], replicates=1)\n"
        "if __name__ == '__main__':\n    main(replace(STUDY, presets={'dev': dev}))\n"
    )
    tiny = ["--trials", "4", "--set", "epochs=12", "net.width=6", "judge.steps=3", "judge.images=100"]
    done = study(cwd, *tiny)
    assert done.returncode == 0, done.stdout + done.stderr
    return cwd


def networks(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.rglob("network.pt"))


def hashes(folder: Path, *names: str) -> dict[Path, str]:
    return {p: hashlib.sha256(p.read_bytes()).hexdigest() for name in names for p in folder.rglob(name)}


def worst(folder: Path, network: Path, upto: int) -> np.ndarray:
    """Who stands under every attack of the versions so far."""
    places = [network, *(folder / f"versions/{n}" / network.relative_to(folder) for n in range(2, upto + 1))]
    return np.all([stands(of_npz((place / "predictions.npz").read_bytes())) for place in places], axis=0)


def front(path: Path) -> dict[int, dict[str, str]]:
    return {int(row["trial"]): row for row in csv.DictReader(path.read_text().splitlines())}


def children(cwd: Path):
    client = MlflowClient(f"sqlite:///{cwd}/mlflow.db")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    (parent,) = [r for r in runs if r.data.tags["trilemma.kind"] == "study"]
    return client, parent, {int(r.data.tags["trilemma.trial"]): r for r in runs if r is not parent}


@pytest.mark.ray
@pytest.mark.timeout(900)
def test_a_study_is_rejudged_from_its_networks(studied):
    cwd, (folder,) = studied, (studied / "runs").glob("*-*")
    fixed = ("network.pt", "predictions.npz", "result.json", "params.json", "plan.json", "facts.json")
    trained, old_front = hashes(folder, *fixed), (folder / "front.csv").read_text()
    places = networks(folder)
    assert len(places) > 4  # confirm trained some

    # first more attacks
    out = again(cwd, "--suite", "standard")
    assert hashes(folder, *fixed).items() >= trained.items() and not list(folder.rglob("checkpoint.pt"))
    assert networks(folder) == places and "version 2" in out and "robust_accuracy: -" in out and "left the front: " in out
    fell = 0
    for place in places:
        before, after = (stands(of_npz((place / "predictions.npz").read_bytes())), worst(folder, place, 2))
        new = json.loads((folder / "versions/2" / place.relative_to(folder) / "result.json").read_text())
        assert (after <= before).all() and new["metrics"]["robust_accuracy"] == after.mean() and not new["error"]
        fell += int((before & ~after).sum())
    assert fell > 0
    assert (folder / "versions/1/front.csv").read_text() == old_front
    assert (folder / "versions/2/front.csv").read_bytes() == (folder / "front.csv").read_bytes()
    assert json.loads((folder / "versions/2/version.json").read_text())["settings"] == {"suite": "standard"}
    names = {path.name for path in (folder / "versions/2").iterdir()}
    assert names == {"confirm", "confirmed.csv", "front.csv", "plots", "report.html", "trials", "version.json"}
    _same_everywhere(cwd, folder, 2)

    # the same once more
    before = finished.everything(folder)
    assert "nothing to do: version 2" in again(cwd, "--suite", "standard")
    assert finished.everything(folder) == before

    # the study's own command does not undo it
    resumed = subprocess.run(
        [sys.executable, "study.py", "--resume", folder.name], cwd=cwd, capture_output=True, text=True, timeout=500
    )
    assert resumed.returncode == 0 and ", version 2" in resumed.stdout, resumed.stdout + resumed.stderr
    assert hashes(folder, "network.pt", "predictions.npz", "result.json").items() <= hashes(folder, *fixed).items()
    _same_everywhere(cwd, folder, 2)

    # then images made on one of the networks, cut off half-way
    source = next(iter(front(folder / "front.csv")))
    again(cwd, "--suite", "standard", "--transfer-from", str(source))
    whole = folder / "versions/3"
    made = {path: path.read_bytes() for path in whole.rglob("result.json")}
    state = json.loads((whole / "version.json").read_text())
    (whole / "version.json").write_text(json.dumps(state | {"finished": ""}))
    lost = [whole / place.relative_to(folder) for place in places[1::2]]
    for place in lost:
        shutil.rmtree(place)
    shutil.rmtree(whole / "plots")
    left = {path: path.stat().st_mtime_ns for path in whole.rglob("result.json")}
    out = again(cwd, "--suite", "standard", "--transfer-from", str(source))
    assert f"{len(places) - len(lost)} of them done before" in out and f"/{len(lost)}] " in out
    assert {path: path.stat().st_mtime_ns for path in left} == left  # what was there was not done again
    for path, content in made.items():  # and what was lost came out the same
        then, now = json.loads(content)["metrics"], json.loads(path.read_text())["metrics"]
        assert {k: v for k, v in then.items() if "second" not in k} == {k: v for k, v in now.items() if "second" not in k}
    for place in places:
        new = of_npz((whole / place.relative_to(folder) / "predictions.npz").read_bytes())
        own = place == folder / f"trials/{source:05d}"
        assert new.keys() == {"stands/pgd_more"} | (set() if own else {f"stands/transfer_{source}"})
        metrics = json.loads((whole / place.relative_to(folder) / "result.json").read_text())["metrics"]
        assert metrics["robust_accuracy"] == worst(folder, place, 3).mean() <= worst(folder, place, 2).mean()
    _same_everywhere(cwd, folder, 3)
    assert hashes(folder, "network.pt").items() <= trained.items()


def _same_everywhere(cwd: Path, folder: Path, number: int) -> None:
    """The newest version is on the front, in the report, and in MLflow, whose children alone give the front, too."""
    shown = front(folder / "front.csv")
    assert shown == front(folder / f"versions/{number}/front.csv") and shown
    client, parent, runs = children(cwd)
    rebuilt = {row.pop("trial"): row for row in front_from_runs(f"sqlite:///{cwd}/mlflow.db", folder.name)}
    assert rebuilt == {n: {m: float(row[m]) for m in ("accuracy", "robust_accuracy", "mia_auc")} for n, row in shown.items()}
    assert {n for n, run in runs.items() if run.data.tags["pareto"] == "true"} == set(shown)
    assert {run.data.tags["front_version"] for run in (*runs.values(), parent)} == {str(number)}
    for n, run in runs.items():
        assert run.data.metrics["robust_accuracy"] == worst(folder, folder / f"trials/{n:05d}", number).mean()
        history = sorted((m.step, m.value) for m in client.get_metric_history(run.info.run_id, "robust_accuracy"))
        assert [step for step, _ in history] == [12 + later for later in range(number)]
        assert [value for _, value in history] == sorted((value for _, value in history), reverse=True)
    assert {f.path for f in client.list_artifacts(parent.info.run_id, f"versions/{number}")} >= {
        f"versions/{number}/{name}" for name in ("front.csv", "confirmed.csv", "report.html", "plots")
    }
    logged = Path(parent.info.artifact_uri.removeprefix("file://"))
    assert (logged / "front.csv").read_bytes() == (folder / "front.csv").read_bytes()
    assert f"version {number}" in (folder / "report.html").read_text()
    assert f"version {number}" in (logged / "report.html").read_text()
