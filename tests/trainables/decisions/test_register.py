"""Registering a chosen network of a study that was trained here: the model does what was reported of the network."""

import math
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import finished
import in_process
import numpy as np
import pytest
from mlflow import MlflowClient

from core import data
from core.config import TrialConfig
from trainables.commands.pick import main
from trainables.decisions.model_card import short
from trainables.execution.resources import to_shared
from trainables.execution.trainable import run_job
from trainables.storage.arrays import of_npz
from trainables.storage.jobs import Job, replicate_folder, replicate_job, trial_folder
from trainables.storage.results import training_result
from trainables.storage.store import Store
from trainables.storage.takeover import stored_plan
from trainables.storage.versions import outcomes
from trainables.study.data_identity import DataIdentity
from trainables.study.site import Site
from trainables.terminal.provenance import facts
from trainables.tracking.tracker import Tracker

ROOT = Path(__file__).resolve().parents[3]
TINY = {"epochs": 15, "net.width": 6, "judge.steps": 2, "judge.images": 48, "judge.epsilon": 0.05}
CHANGES = ({}, {"perturbation": "pgd", "perturbation.steps": 2, "perturbation.epsilon": 0.05, "perturbation.alpha": 0.5})
"""Changes of the configuration in each trial."""


@pytest.fixture(scope="module")
def cwd(tmp_path_factory) -> Path:
    """A directory with a study of two trained trials, two replicates of each on the front, and its runs in MLflow."""
    folder = tmp_path_factory.mktemp("register")
    plan = finished.plan(
        name="tiny-1", study="tiny", question="Is it small?", config=TrialConfig.of(TINY), baselines={}, trials=2, replicates=2
    )
    workspace, images = in_process.workspace(folder / "runs", plan.name), to_shared(data.load("digits"))
    store = workspace.store
    store.write_json("plan.json", plan.to_json())
    store.write_json("facts.json", facts(["studies/tiny.py"]))
    for number, changes in enumerate(CHANGES):
        params = plan.config.set({**changes, "seed": number}).params()
        store.write_json(f"{trial_folder(number)}/params.json", {"number": number, "baseline": "", "params": params})
        assert not run_job(Job(trial_folder(number), params), images, workspace).error
    known = store.read_json("facts.json")
    for trial in outcomes(plan, store, known, [])[0].front():
        for replicate in (1, 2):
            assert not run_job(replicate_job(plan, trial, replicate), images, workspace).error
    (first,) = outcomes(plan, store, known, [])
    assert any(point.on_front for point in first.confirmed), first.confirmed
    store.write("report.html", b"the last file of a study")
    tracker = Tracker(f"sqlite:///{folder}/mlflow.db", plan, first)
    tracker.confirmed()
    assert tracker.close() == 0
    return folder


LOAD = """
    import socket, sys
    import numpy as np
    sys.modules["core"] = sys.modules["trainables"] = None  # the model needs none of this project's code
    def refuse(*args): raise AssertionError("a connection was opened")
    socket.socket.connect = refuse
    import mlflow
    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    model, given = mlflow.pyfunc.load_model(sys.argv[1]), np.load("given.npz")
    np.savez("logits.npz", all=model.predict(given["x"]), one=model.predict(given["x"][:1]))
    print(model.metadata.signature.to_dict(), model.metadata.flavors["python_function"]["config"])
"""
"""Code that loads a model and stores its logits of the images in given.npz."""


def python(cwd: Path, *words: str) -> str:
    """Run Python in a directory, without permission to load pickles, and return its output."""
    env = os.environ | {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    done = subprocess.run([sys.executable, *words], cwd=cwd, capture_output=True, text=True, timeout=200, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.thorough
def test_the_registered_model_does_what_was_reported(cwd, monkeypatch, capfd):
    store, client = Store.at(str(cwd / "runs/tiny-1")), MlflowClient(f"sqlite:///{cwd}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "tiny"]
    runs = {r.info.run_id: r for r in client.search_runs([experiment.experiment_id])}
    files = finished.everything(cwd / "runs")
    words = ["tiny-1", "--require", "accuracy>=0.3", "--maximize", "robust_accuracy"]
    out = python(cwd, str(ROOT / "studies/pick.py"), *words)

    # which network it is
    (registered,) = client.search_model_versions("name = 'tiny'")
    number, folder = int(registered.tags["trilemma.trial"]), registered.tags["network"]
    results = {r: training_result(store, replicate_folder(number, r)).metrics for r in (1, 2)}
    reported = training_result(store, folder).metrics
    assert reported["robust_accuracy"] == min(m["robust_accuracy"] for m in results.values())
    mean = float(np.mean([m["accuracy"] for m in results.values()]))
    plan = stored_plan("tiny-1", Site(storage=str(cwd / "runs")))
    (outcome,) = outcomes(plan, store, store.read_json("facts.json"), [])
    (point,) = [point for point in outcome.confirmed if point.number == number]
    value, (low, high) = point.shrunk["accuracy"], point.shrunk_intervals["accuracy"]
    assert registered.run_id and runs[registered.run_id].data.tags["trilemma.trial"] == str(number)
    assert f"MLflow run: {registered.run_id}" in out and "registered model: models:/tiny/1" in out
    assert f"chosen: trial {number} of tiny-1" in out and "the worse of the 2 replicates by" in out
    assert registered.tags["accuracy"] == repr(value) and registered.tags["accuracy.this_network"] == repr(reported["accuracy"])
    assert registered.tags["accuracy.mean"] == repr(mean) and registered.tags["mia_auc.chance"] == repr(point.chance)
    line = f"accuracy {value:.4f} (95 % interval {low:.4f} to {high:.4f}; mean as measured {mean:.4f}; this network"
    assert f"{line} {reported['accuracy']:.4f})" in out
    own_auc = reported[f"mia_auc/{point.audits[0]}"]
    resolved = "" if point.resolved else ", not resolved"
    assert f"chance level {point.chance:.4f}{resolved}; this network {own_auc:.4f})" in out
    assert registered.tags["mia_auc.resolved"] == str(point.resolved).lower()

    # its logits, without this project's code and without connections
    images, known = data.load("digits"), of_npz((cwd / "runs/tiny-1" / folder / "predictions.npz").read_bytes())
    assert set(known["rows"]) == set(data.split(images).test)
    np.savez(cwd / "given.npz", x=images.x[known["rows"]].float().numpy() / 255)
    shape = python(cwd, "-c", textwrap.dedent(LOAD), "models:/tiny/1")
    logits = np.load(cwd / "logits.npz")
    assert (logits["all"].argmax(1) == known["labels"]).mean() == reported["accuracy"] > 0.3
    np.testing.assert_allclose(logits["all"], known["logits"], atol=1e-4)
    np.testing.assert_allclose(logits["one"], known["logits"][:1], atol=1e-4)
    for part in ('"float32"', '"shape": [-1, 1, 8, 8]', '"shape": [-1, 10]', "'device': 'cpu'"):  # an exported graph cannot move
        assert part in shape, shape

    # its card
    (path,) = (cwd / "mlartifacts").rglob("model_card.md")
    text = path.read_text()
    assert registered.description == short(text) and text.startswith(f"# tiny: trial {number}\n\nIs it small?")
    assert f"| accuracy | {value:.4f} | {low:.4f} to {high:.4f} | {mean:.4f} |  | {reported['accuracy']:.4f} |" in text
    chance = f"{point.chance:.4f}" + ("" if point.resolved else " (not resolved)")
    assert f"| {point.means['mia_auc']:.4f} | {chance} | {own_auc:.4f} |" in text
    average = np.mean([m["train_accuracy"] for m in results.values()])
    assert f"| train_accuracy | {average:.4f} | {reported['train_accuracy']:.4f} |" in text
    leaks = "leaks some" if point.resolved else "may leak"
    words_of_intervals = "Intervals include seeds, the draw of members and the judged images, but not another data set."
    assert f"- The model {leaks} training data" in text and words_of_intervals in text and "Student" not in text
    commit = facts([])["commit"]
    members = len(known["member_rows"])
    for part in (DataIdentity.of(images).fingerprint, f"trained on {members} members, evaluated on {len(known['rows'])} other",
                 "split `stratified` (`split.members=0.25`, ", "`epochs=15`", "`net.width=6`", "`part=test`", "`epsilon=0.05`",
                 "## Caveats", "`few_non_members`: fewer than 10", commit,
                 f"studies/pick.py {' '.join(words[:2])} 'accuracy>=0.3'", "python studies/tiny.py"):  # fmt: skip
        assert part in text, part
    assert registered.tags["data_fingerprint"] == DataIdentity.of(images).fingerprint and registered.tags["members"] == str(members)
    assert registered.tags.keys() >= {"mia_auc", "mia_auc.interval", "commit", "flags", "dataset"}
    assert registered.tags["accuracy.interval"] == f"{low!r} to {high!r}"

    # MLflow itself would record the commit of whatever repository the command is in
    (logged,) = client.search_logged_models([experiment.experiment_id])
    git = {name: text for name, text in logged.tags.items() if name.startswith("mlflow.source.git")}
    assert git.pop("mlflow.source.git.commit") == registered.tags["commit"] and not any(git.values())

    # registering again changes nothing, and the study and its runs are unchanged
    monkeypatch.chdir(cwd)
    with pytest.raises(SystemExit) as exit_info:
        main(words)
    assert exit_info.value.code == 0
    assert "models:/tiny/1 (already registered; nothing was changed)" in capfd.readouterr().out
    assert len(client.search_model_versions("name = 'tiny'")) == 1
    assert finished.everything(cwd / "runs") == files
    for run_id, before in runs.items():
        now = client.get_run(run_id)
        assert (now.info.status, now.info.end_time, now.data.metrics) == ("FINISHED", before.info.end_time, before.data.metrics)


def test_a_network_with_another_accuracy_than_reported_is_not_registered(cwd, tmp_path, monkeypatch, capfd):
    shutil.copytree(cwd / "runs", tmp_path / "runs")
    store = Store.at(str(tmp_path / "runs/tiny-1"))
    for path in (tmp_path / "runs/tiny-1/confirm").glob("*/*"):
        state = store.read_state(f"confirm/{path.parent.name}/{path.name}/network.pt")
        assert state
        state["net"] = {name: tensor * 0 for name, tensor in state["net"].items() if math.prod(tensor.shape)}
        store.write_state(f"confirm/{path.parent.name}/{path.name}/network.pt", state)
    monkeypatch.chdir(cwd)
    with pytest.raises(SystemExit) as exit_info:
        main(["tiny-1", "--maximize", "accuracy", "--name", "other", "--storage", str(tmp_path / "runs")])
    err = capfd.readouterr().err
    assert exit_info.value.code == 2 and "error: the stored network has accuracy" in err and err.count("\n") == 1
    assert not MlflowClient(f"sqlite:///{cwd}/mlflow.db").search_model_versions("name = 'other'")
