"""Picking a point: which one, what is refused, and that the registered model does what was reported."""

import math
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import finished
import numpy as np
import pytest
from mlflow import MlflowClient

from core import data
from core.config import TrialConfig, trilemma
from core.errors import InputError
from core.stats import mean_interval
from trainables import content, launch, pick
from trainables.card import LONGEST, short
from trainables.confirm import replicate_job
from trainables.look import Network
from trainables.outcome import Trial
from trainables.pick import Candidate, Limit, Wish, choose
from trainables.results import outcomes, replicate_folder
from trainables.store import Store
from trainables.tracking import Tracker
from trainables.trial import Job, Share, of_npz, pack, perform, trial_folder

ROOT = Path(__file__).resolve().parents[2]


# ---------------------------------------------------------------- the choice


def candidate(number: int, *accuracies: float, auc: float = 0.6) -> Candidate:
    found = [{"accuracy": a, "robust_accuracy": 0.5, "mia_auc": auc, "flag/x": 0.0, "seconds/train": 1.0} for a in accuracies]
    networks = [Network(f"r{r}", f"confirm/{number:05d}/{r}", {}, metrics) for r, metrics in enumerate(found, 1)]
    return Candidate(Trial(number, {}), tuple(networks))


def wish(*limits: str, metric: str = "mia_auc", highest: bool = False) -> Wish:
    return Wish(tuple(Limit.of(text) for text in limits), metric, highest)


POINTS = [candidate(3, 0.95, 0.97, auc=0.7), candidate(5, 0.90, 0.92, auc=0.6), candidate(8, 0.80, 0.82, auc=0.5)]


@pytest.mark.parametrize("asked, number, met", [
    (wish(), 8, 3),
    (wish("accuracy>=0.9"), 5, 2),
    (wish("accuracy>=0.91"), 5, 2),  # its mean is 0.91
    (wish("accuracy>=0.92"), 3, 1),
    (wish("mia_auc<=0.6", metric="accuracy", highest=True), 5, 2),
    (wish("mia_auc<=0.6", "accuracy<=0.85", metric="accuracy", highest=True), 8, 1),
    (wish(metric="accuracy"), 8, 3),
    (wish(metric="robust_accuracy"), 3, 3),  # all the same: the earliest
])  # fmt: skip
def test_the_best_of_those_that_meet_the_limits_by_their_means(asked, number, met):
    found = choose(POINTS, asked, trilemma(10), True)
    assert (found.candidate.trial.number, found.met, found.among) == (number, met, 3)


@pytest.mark.parametrize("accuracies, replicate, which", [
    ((0.9,), 1, "the only one"),
    ((0.9, 0.8), 2, "the lower of the two"),
    ((0.9, 0.7, 0.8), 3, "the median of 3"),
    ((0.7, 0.9, 0.8, 0.6), 1, "the lower of the two in the middle of 4"),
    ((0.5, 0.9, 0.8, 0.6, 0.7), 5, "the median of 5"),
])  # fmt: skip
def test_the_network_is_the_replicate_in_the_middle(accuracies, replicate, which):
    found = choose([candidate(1, *accuracies)], wish(), trilemma(10), True)
    assert found.network.folder == f"confirm/00001/{replicate}" and which in found.which


def test_a_limit_inside_the_interval_is_a_doubt():
    low, high = mean_interval([0.90, 0.92])[1]
    assert low < 0.85 < 0.91 < high and low > 0.78
    doubts = lambda *limits: choose(POINTS[1:2], wish(*limits), trilemma(10), True).doubts  # noqa: E731
    assert not doubts("accuracy>=0.78") and not doubts("mia_auc<=0.6") and not doubts()
    (doubt,) = doubts("accuracy>=0.85", "mia_auc<=0.7")
    assert "accuracy>=0.85" in doubt and f"{low:.4f} to {high:.4f}, crosses" in doubt
    crosses, own = doubts("accuracy>=0.905")  # 0.91 on average, and 0.90 is the network
    assert "crosses" in crosses and own == "accuracy>=0.905 is met by the mean, but this network itself has 0.9000"
    (doubt,) = doubts("accuracy<=0.95")
    assert "accuracy<=0.95" in doubt
    (doubt,) = choose([candidate(1, 0.9)], wish("accuracy>=0.1"), trilemma(10), True).doubts
    assert "no interval" in doubt


def test_the_nearest_misses_fewest_limits_and_then_least():
    with pytest.raises(InputError, match=r"none of the 3 points.* the nearest is trial 3 with accuracy 0.9600, mia_auc 0.7000"):
        choose(POINTS, wish("accuracy>=0.99", "mia_auc<=0.7"), trilemma(10), True)
    with pytest.raises(InputError, match=r"the nearest is trial 8 with accuracy 0.8100, mia_auc 0.5000"):
        choose(POINTS, wish("accuracy>=0.97", "mia_auc<=0.55"), trilemma(10), True)  # trial 5 is closer, but misses both


def test_what_one_replicate_lacks_is_no_metric_to_pick_by():
    mixed = candidate(1, 0.9, 0.8)
    mixed.networks[0].metrics["epsilon"] = 8.0  # pyright: ignore[reportIndexIssue]
    for name in ("epsilon", "flag/x", "seconds/train"):
        with pytest.raises(InputError, match=f"unknown metric '{name}'.*expected one of: accuracy, robust_accuracy, mia_auc$"):
            choose([mixed], wish(metric=name), trilemma(10), True)


def test_a_long_card_is_cut_at_a_line_and_says_so():
    assert short("a\n" * 2500) == "a\n" * 2500
    cut = short("a line\n" * 1000)
    assert LONGEST - 10 < len(cut) <= LONGEST and "a line\n\n(cut here" in cut


# ---------------------------------------------------------------- what is refused

BEST = ["--minimize", "mia_auc"]
ROWS: dict[str, tuple[list[str], list[str]]] = {
    "no study": (BEST, ["the following arguments are required: STUDY"]),
    "nothing to optimise": (["s-1"], ["one of the arguments --minimize --maximize is required"]),
    "both": (["s-1", *BEST, "--maximize", "accuracy"], ["not allowed with"]),
    "unknown study": (["s-2", *BEST], ["no study 's-2' in --storage runs, there is: bare, barred, half, s-1"]),
    "unknown metric": (["s-1", "--minimize", "mia_acu"], ["unknown metric 'mia_acu' (did you mean 'mia_auc'?)", ": accuracy, "]),
    "unknown metric in a limit": (["s-1", *BEST, "--require", "acuracy>=0.5"], ["unknown metric 'acuracy' (did you mean 'acc"]),
    "a strict limit": (["s-1", *BEST, "--require", "accuracy>0.5"], ["METRIC>=VALUE or METRIC<=VALUE, got 'accuracy>0.5'"]),
    "eaten by the shell": (["s-1", *BEST, "--require", "accuracy"], ["got 'accuracy'; quote it, since a shell takes > for itself"]),
    "a limit in words": (["s-1", *BEST, "--require", "accuracy>=high"], ["--require accuracy>=high: 'high' is not a number"]),
    "no finite limit": (["s-1", *BEST, "--require", "accuracy>=nan"], ["'nan' is not a finite number"]),
    "nothing satisfies": (
        ["s-1", *BEST, "--require", "accuracy>=0.95"],
        ["none of the 1 points has accuracy>=0.95; the nearest is trial 0 (plain) with accuracy 0.9000"],
    ),
    "not confirmed": (["bare", *BEST], ["no point of bare was confirmed", "without --no-confirm", "--unconfirmed"]),
    "all flagged": (["barred", *BEST], ["no point of barred is left on the front (flags of trial 0: zero_gradients)"]),
    "not finished": (["half", *BEST], ["half is not finished", "studies/s.py --resume half"]),
    "unknown to MLflow": (["s-1", *BEST], ["sqlite:///mlflow.db has no run of trial 0 of s-1; --resume s-1 logs it there"]),
    "a name that MLflow refuses": (["s-1", *BEST, "--name", "a/b"], ["--name 'a/b'"]),
    "no name": (["s-1", *BEST, "--name", ""], ["--name ''"]),
    "tracking in a folder": (["s-1", *BEST, "--tracking-uri", "mlruns"], ["is none of: sqlite:///FILE"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def shelf(tmp_path_factory) -> Path:
    """Studies made by hand: a whole one, one without confirm, one whose replicate is flagged, one that is not finished."""
    cwd = tmp_path_factory.mktemp("shelf")
    for name in ("s-1", "barred", "half"):
        store = finished.study(cwd / "runs", finished.plan(name=name))
        if name == "half":
            store.discard("report.html")
        if name == "barred":
            finished.judged(store, replicate_folder(0, 1), 0, finished.metrics(0, **{"flag/zero_gradients": 1.0}))
    finished.study(cwd / "runs", finished.plan(name="bare", replicates=0))
    return cwd


@pytest.mark.parametrize("case", ROWS)
def test_bad_input_is_one_line_and_leaves_nothing(case, shelf, monkeypatch, capfd):
    finished.refuses(pick.main, *ROWS[case], shelf, monkeypatch, capfd)


def test_a_sweep_alone_is_picked_from_only_when_asked(shelf, monkeypatch, capfd):
    monkeypatch.chdir(shelf)
    before = finished.everything(shelf)
    with pytest.raises(SystemExit) as left:
        pick.main(["bare", "--maximize", "robust_accuracy", "--require", "accuracy>=0.75", "--unconfirmed", "--no-register"])
    out, err = capfd.readouterr()
    assert left.value.code == 0 and not err
    for text in ("picked trial 1 of bare", "among 3 points on the front of the sweep, by its own numbers, of which 2 meet",
                 "MLflow run: unknown there", "robust_accuracy 0.5000 (95 % interval none; this network 0.5000)",
                 "network: trial 1, as the sweep trained it", "doubt: accuracy>=0.75"):  # fmt: skip
        assert text in out
    assert finished.everything(shelf) == before


# ---------------------------------------------------------------- a trained study

TINY = {"epochs": 15, "net.width": 6, "judge.steps": 2, "judge.images": 48, "judge.epsilon": 0.05}
CHANGES = ({}, {"perturbation": "pgd", "perturbation.steps": 2, "perturbation.epsilon": 0.05, "perturbation.alpha": 0.5})


@pytest.fixture(scope="module")
def studied(tmp_path_factory) -> Path:
    """Two trained trials, two replicates of each on the front, and MLflow as a study leaves it."""
    cwd = tmp_path_factory.mktemp("studied")
    made = finished.plan(
        name="tiny-1", study="tiny", question="Is it small?", config=TrialConfig.of(TINY), baselines={}, trials=2, replicates=2
    )
    store, arrays, share = Store.at(str(cwd / "runs")).below(made.name), pack(data.load("digits")), Share(0, 1, 0)
    store.write_json("plan.json", made.to_json())
    store.write_json("facts.json", launch.facts(["studies/tiny.py"]))
    for number, changes in enumerate(CHANGES):
        params = made.config.set({**changes, "seed": number}).params()
        store.write_json(f"{trial_folder(number)}/params.json", {"number": number, "baseline": "", "params": params})
        assert not perform(Job(trial_folder(number), params), arrays, store, share)["error"]
    facts = store.read_json("facts.json")
    for trial in outcomes(made, store, facts, [])[0].front():
        for replicate in (1, 2):
            assert not perform(replicate_job(made, trial, replicate), arrays, store, share)["error"]
    (first,) = outcomes(made, store, facts, [])
    assert any(point.on_front for point in first.confirmed), first.confirmed
    store.write("report.html", b"the last file of a study")
    tracker = Tracker(f"sqlite:///{cwd}/mlflow.db", made, first)
    tracker.confirmed()
    assert tracker.close() == 0
    return cwd


LOAD = """
    import socket, sys
    import numpy as np
    sys.modules["core"] = sys.modules["trainables"] = None  # the model stands alone
    def refuse(*args): raise AssertionError("the network was asked")
    socket.socket.connect = refuse
    import mlflow
    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    model, given = mlflow.pyfunc.load_model(sys.argv[1]), np.load("given.npz")
    np.savez("answers.npz", logits=model.predict(given["x"]), one=model.predict(given["x"][:1]))
    print(model.metadata.signature.to_dict(), model.metadata.flavors["python_function"]["config"])
"""


def python(cwd: Path, *words: str) -> str:
    env = os.environ | {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    done = subprocess.run([sys.executable, *words], cwd=cwd, capture_output=True, text=True, timeout=200, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_registered_model_does_what_was_reported(studied, monkeypatch, capfd):
    cwd, store, client = studied, Store.at(str(studied / "runs/tiny-1")), MlflowClient(f"sqlite:///{studied}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "tiny"]
    runs = {r.info.run_id: r for r in client.search_runs([experiment.experiment_id])}
    files = finished.everything(cwd / "runs")
    words = ["tiny-1", "--require", "accuracy>=0.3", "--maximize", "robust_accuracy"]
    out = python(cwd, str(ROOT / "studies/pick.py"), *words)

    # which it is
    (made,) = client.search_model_versions("name = 'tiny'")
    number, folder = int(made.tags["trilemma.trial"]), made.tags["network"]
    results = {r: store.read_json(f"{replicate_folder(number, r)}/result.json")["metrics"] for r in (1, 2)}
    reported = store.read_json(f"{folder}/result.json")["metrics"]
    assert reported["accuracy"] == min(m["accuracy"] for m in results.values())
    mean, (low, high) = mean_interval([m["accuracy"] for m in results.values()])
    assert made.run_id and runs[made.run_id].data.tags["trilemma.trial"] == str(number) and f"MLflow run: {made.run_id}" in out
    assert "registered model: models:/tiny/1" in out and f"picked trial {number} of tiny-1" in out and "lower of the two" in out
    assert made.tags["accuracy"] == repr(mean) and made.tags["accuracy.this_network"] == repr(reported["accuracy"])
    assert f"accuracy {mean:.4f} (95 % interval {low:.4f} to {high:.4f}; this network {reported['accuracy']:.4f})" in out

    # what it does, without this project and without a network
    images, known = data.load("digits"), of_npz((cwd / "runs/tiny-1" / folder / "predictions.npz").read_bytes())
    assert set(known["rows"]) == set(data.split(images).test)
    np.savez(cwd / "given.npz", x=images.x[known["rows"]].float().numpy() / 255)
    shape = python(cwd, "-c", textwrap.dedent(LOAD), "models:/tiny/1")
    answers = np.load(cwd / "answers.npz")
    assert (answers["logits"].argmax(1) == known["labels"]).mean() == reported["accuracy"] > 0.3
    np.testing.assert_allclose(answers["logits"], known["logits"], atol=1e-4)
    np.testing.assert_allclose(answers["one"], known["logits"][:1], atol=1e-4)
    for part in ('"float32"', '"shape": [-1, 1, 8, 8]', '"shape": [-1, 10]', "'device': 'cpu'"):  # an exported graph cannot move
        assert part in shape, shape

    # what its card says
    (path,) = (cwd / "mlartifacts").rglob("model_card.md")
    text = path.read_text()
    assert made.description == short(text) and text.startswith(f"# tiny: trial {number}\n\nIs it small?")
    assert f"| accuracy | {mean:.4f} | {low:.4f} to {high:.4f} | {reported['accuracy']:.4f} |" in text
    for name in ("robust_accuracy", "mia_auc", "train_accuracy"):
        value = np.mean([m[name] for m in results.values()])
        assert f"| {name} | {value:.4f} | " in text and f" | {reported[name]:.4f} |" in text
    commit = launch.facts([])["commit"]
    members = len(known["member_rows"])
    for part in (content.of_images(images), f"trained on {members} members, judged on {len(known['rows'])} other", "`epochs=15`",
                 "`net.width=6`", "`part=test`", "`epsilon=0.05`", "## Caveats", "`few_non_members`: fewer than 10", commit,
                 f"studies/pick.py {' '.join(words[:2])} 'accuracy>=0.3'", "python studies/tiny.py"):  # fmt: skip
        assert part in text, part
    assert made.tags["data_fingerprint"] == content.of_images(images) and made.tags["members"] == str(members)
    assert made.tags.keys() >= {"mia_auc", "mia_auc.interval", "commit", "flags", "dataset"}

    # once is enough, and nothing of the study has changed
    monkeypatch.chdir(cwd)
    with pytest.raises(SystemExit) as left:
        pick.main(words)
    assert left.value.code == 0 and "models:/tiny/1, as it was before" in capfd.readouterr().out
    assert len(client.search_model_versions("name = 'tiny'")) == 1
    assert finished.everything(cwd / "runs") == files
    for run_id, before in runs.items():
        now = client.get_run(run_id)
        assert (now.info.status, now.info.end_time, now.data.metrics) == ("FINISHED", before.info.end_time, before.data.metrics)


def test_a_network_that_does_something_else_is_not_registered(studied, tmp_path, monkeypatch, capfd):
    shutil.copytree(studied / "runs", tmp_path / "runs")
    store = Store.at(str(tmp_path / "runs/tiny-1"))
    for path in (tmp_path / "runs/tiny-1/confirm").glob("*/*"):
        state = store.read_state(f"confirm/{path.parent.name}/{path.name}/network.pt")
        assert state
        state["net"] = {name: tensor * 0 for name, tensor in state["net"].items() if math.prod(tensor.shape)}
        store.write_state(f"confirm/{path.parent.name}/{path.name}/network.pt", state)
    monkeypatch.chdir(studied)
    with pytest.raises(SystemExit) as left:
        pick.main(["tiny-1", "--maximize", "accuracy", "--name", "other", "--storage", str(tmp_path / "runs")])
    err = capfd.readouterr().err
    assert left.value.code == 2 and "error: the stored network has accuracy" in err and err.count("\n") == 1
    assert not MlflowClient(f"sqlite:///{studied}/mlflow.db").search_model_versions("name = 'other'")
