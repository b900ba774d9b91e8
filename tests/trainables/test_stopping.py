"""Early stopping: who is stopped at a rung, who never is, and what a real study makes of it."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import finished
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from ray.tune.schedulers import TrialScheduler

from core import data, pareto, trial
from core.config import Limit, Objective, TrialConfig, trilemma
from core.errors import InputError
from core.space import IntRange
from studies.crl_tradeoff import STUDY
from trainables import cli
from trainables.outcome import Trial
from trainables.stopping import ParetoHalving, hopeless

ROOT = Path(__file__).resolve().parents[2]
STOP, GO = TrialScheduler.STOP, TrialScheduler.CONTINUE
few = arrays(float, st.tuples(st.integers(1, 12), st.just(3)), elements=st.integers(0, 3).map(float))


def plan(rungs=(1, 3), **changes):
    return finished.plan(**{"config": TrialConfig.of({"epochs": 9}), "rungs": rungs} | changes)


def at_rung(number: int, epoch: int, accuracy: float, robust: float = 0.3, mia: float = 0.6, baseline: str = ""):
    """A trial of Tune, and what it reports."""
    row = {"epoch": epoch, "rung/accuracy": accuracy, "rung/robust_accuracy": robust, "rung/mia_auc": mia}
    return SimpleNamespace(config={"number": number, "baseline": baseline}), {"rows": [{"epoch": epoch - 1}, row]}


def decide(scheduler: ParetoHalving, *args, **kwargs) -> str:
    return scheduler.on_trial_result(None, *at_rung(*args, **kwargs))


@settings(deadline=None)
@given(few)
def test_a_non_dominated_trial_is_never_stopped(values):
    on = pareto.non_dominated(values)
    for i in range(len(values)):
        if on[i]:
            assert not hopeless(values[i], np.delete(values, i, 0), 3)


@settings(deadline=None)
@given(few, st.integers(2, 4))
def test_whoever_is_stopped_is_dominated_and_enough_are_better(values, eta):
    for i in range(len(values)):
        others = np.delete(values, i, 0)
        if hopeless(values[i], others, eta):
            assert any((other <= values[i]).all() and (other < values[i]).any() for other in others)
            layer = np.array([_layer(values, j) for j in range(len(values))])
            assert (layer < layer[i]).sum() >= len(values) / eta


def _layer(values: np.ndarray, i: int) -> int:
    """How many non-dominated fronts are before a row's own, by peeling."""
    left, layer = list(range(len(values))), 0
    while True:
        front = [j for j in left if not any((values[k] <= values[j]).all() and (values[k] < values[j]).any() for k in left)]
        if i in front:
            return layer
        left, layer = [j for j in left if j not in front], layer + 1


def test_a_chain_keeps_its_best_third():
    chain = np.arange(9.0)[:, None].repeat(3, 1)
    assert [hopeless(chain[i], np.delete(chain, i, 0), 3) for i in range(9)] == [False] * 3 + [True] * 6


def test_the_rungs_are_as_asked_or_a_third_and_two_thirds_of_the_epochs():
    of = lambda *argv: cli.plan_of(STUDY, cli.parser(STUDY).parse_args(["--set", "epochs=18", *argv])).rungs  # noqa: E731
    assert of() == () and of("--early-stopping") == (6, 12) and of("--early-stopping", "9", "3") == (3, 9)


def test_what_cannot_be_compared_at_a_rung_is_refused():
    plan().check_rungs()
    density = Objective("density", "min", reference=1.0, ideal=0.0)
    for wrong, why in (
        (plan((9,)), "--early-stopping 9: expected epochs between 1 and 8"),
        (plan(objectives=(*trilemma(10), density)), "this study's objective density is measured only at the end"),
        (plan(require=(Limit.of("dp_epsilon<=8"),)), "this study's limit on dp_epsilon is measured only at the end"),
        (plan(space={"epochs": IntRange(3, 9)}), "do not search epochs"),
    ):
        with pytest.raises(InputError, match=why):
            wrong.check_rungs()


def test_only_equal_rungs_are_compared():
    scheduler = ParetoHalving(plan(), [])
    assert decide(scheduler, 1, 3, accuracy=0.9) == GO
    assert decide(scheduler, 2, 1, accuracy=0.5) == GO  # dominated by trial 1, which had trained longer
    assert decide(scheduler, 3, 1, accuracy=0.4) == STOP
    assert decide(scheduler, 4, 1, accuracy=0.4, mia=0.55) == GO  # better in one objective
    assert decide(scheduler, 2, 3, accuracy=0.8) == STOP


def test_between_the_rungs_nothing_is_stopped():
    scheduler = ParetoHalving(plan(), [])
    assert decide(scheduler, 1, 1, accuracy=0.9) == GO
    other, _ = at_rung(2, 2, accuracy=0.1)
    assert scheduler.on_trial_result(None, other, {"rows": [{"epoch": 2, "epoch/loss": 9.0}]}) == GO
    assert scheduler.on_trial_result(None, other, {"metrics": {"accuracy": 0.1}}) == GO


def test_a_baseline_is_compared_with_and_never_stopped():
    scheduler = ParetoHalving(plan(), [])
    assert decide(scheduler, 1, 1, accuracy=0.9) == GO
    assert decide(scheduler, 0, 1, accuracy=0.2, baseline="undefended") == GO
    assert decide(scheduler, 2, 1, accuracy=0.1) == STOP


def test_a_resumed_study_knows_what_ended_trials_showed():
    curve = [{"epoch": 1, "rung/accuracy": 0.9, "rung/robust_accuracy": 0.3, "rung/mia_auc": 0.6}, {"epoch": 2, "epoch/loss": 1.0}]
    scheduler = ParetoHalving(plan(), [Trial(number=1, params={}, curve=curve)])
    assert decide(scheduler, 2, 1, accuracy=0.8) == STOP


def test_a_resumed_trial_is_not_judged_again_at_the_rung_behind_it():
    scheduler = ParetoHalving(plan(), [])
    assert decide(scheduler, 1, 1, accuracy=0.9) == GO
    resumed, report = at_rung(2, 1, accuracy=0.1)
    report["rows"].append({"epoch": 2, "epoch/loss": 1.0})
    assert scheduler.on_trial_result(None, resumed, report) == GO


def test_a_glance_changes_no_bit_of_what_is_trained():
    config = TrialConfig.of({"epochs": 3, "net.width": 4, "judge.steps": 2, "judge.images": 50, "perturbation": "pgd"})
    images = data.load("digits")
    plain, watched = trial.run(config, images), trial.run(config, images, rungs=(1, 2))
    assert [sorted(row) for row in watched.curve][2] == sorted(plain.curve[2])
    for name in trial.GLANCED:
        assert [f"rung/{name}" in row for row in watched.curve] == [True, True, False]
        assert watched.metrics[name] == plain.metrics[name]
    assert watched.curve[0]["rung/accuracy"] < watched.metrics["accuracy"]


def test_a_glance_at_the_end_agrees_with_the_judge():
    config = TrialConfig.of({"epochs": 2, "net.width": 4, "judge.steps": 5, "judge.images": 128})
    result = trial.run(config, data.load("digits"), rungs=(2,))
    last = result.curve[-1]
    assert last["rung/accuracy"] == result.metrics["accuracy"]
    assert last["rung/mia_auc"] == result.metrics["mia_auc"]
    assert last["rung/robust_accuracy"] == pytest.approx(result.metrics["robust_accuracy"], abs=0.05)


@pytest.fixture(scope="module")
def halved(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("halved")
    quick = ["--set", "epochs=18", "net.width=8", "judge.steps=3", "--trials", "12", "--sampler", "random", "--concurrency", "1"]
    argv = [sys.executable, str(ROOT / "studies/crl_tradeoff.py"), *quick, "--early-stopping", "2", "6", "--no-confirm"]
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = (cwd / "runs").glob("*-*")
    return cwd, folder, done.stdout


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_study_stops_trials_at_their_rungs_and_says_so(halved):
    _, folder, out = halved
    results = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("trials/*/result.json")}
    assert len(results) == 12
    stopped = {number: result["stopped"] for number, result in results.items() if result.get("stopped")}
    assert stopped and set(stopped.values()) <= {2, 6} and not {"00000", "00001", "00002"} & stopped.keys()
    for number, epoch in stopped.items():
        assert f"trial {int(number)} stopped after epoch {epoch} of 18" in out
        assert [row["epoch"] for row in results[number]["curve"]] == list(range(1, epoch + 1))
        assert not (folder / "trials" / number / "checkpoint.pt").exists()
    losses = {
        number: {row["epoch"]: [row["rung/accuracy"], row["rung/robust_accuracy"], -row["rung/mia_auc"]]
                 for row in result["curve"] if "rung/accuracy" in row}
        for number, result in results.items()
    }  # fmt: skip
    for number, epoch in stopped.items():
        mine = np.array(losses[number][epoch])
        others = [np.array(rungs[epoch]) for other, rungs in losses.items() if other < number and epoch in rungs]
        assert any((other >= mine).all() and (other > mine).any() for other in others)
    on = {int(row["trial"]) for row in csv.DictReader((folder / "front.csv").read_text().splitlines())}
    assert on and not on & set(map(int, stopped))


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_mlflow_and_the_resumed_searcher_know_a_stopped_trial_as_stopped(halved):
    from mlflow import MlflowClient
    from optuna.trial import TrialState

    from trainables.plan import Plan
    from trainables.results import ended_trials
    from trainables.search import StudySearcher
    from trainables.store import Store

    cwd, folder, _ = halved
    client = MlflowClient(f"sqlite:///{cwd}/mlflow.db")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    store = Store.at(str(folder))
    stopped = {t.number: t.stopped for t in ended_trials(store) if t.stopped}
    tagged = {r.data.tags["trilemma.trial"]: r for r in runs if "stopped_after_epoch" in r.data.tags}
    assert {int(n): int(r.data.tags["stopped_after_epoch"]) for n, r in tagged.items()} == stopped
    assert all(r.data.tags["pareto"] == "false" and "accuracy" not in r.data.metrics for r in tagged.values())
    searcher = StudySearcher(Plan.of_json(store.read_json("plan.json")), store, ended_trials(store))
    states = [t.state for t in searcher.study.get_trials()]
    assert states.count(TrialState.PRUNED) == len(stopped) and TrialState.RUNNING not in states


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_resuming_a_study_with_stopped_trials_runs_nothing_again(halved):
    cwd, folder, _ = halved
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")}
    argv = [sys.executable, str(ROOT / "studies/crl_tradeoff.py"), "--resume", folder.name]
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")} == before
