"""`--require`: what misses it is on no front, the searcher knows by how much, and a study says what was nearest."""

import csv
import subprocess
import sys
from pathlib import Path

import finished
import numpy as np
import pytest

from core import data, pareto
from core.config import Limit, TrialConfig, trilemma
from core.errors import InputError
from core.space import Uniform
from trainables import preflight
from trainables.confirm import verdicts
from trainables.outcome import Outcome, Trial
from trainables.plan import Plan
from trainables.search import StudySearcher
from trainables.store import Store

ROOT = Path(__file__).resolve().parents[2]
ACCURATE = (Limit.of("accuracy>=0.8"),)
SPACE = {"optimizer.lr": Uniform(0.1, 0.9), "net.dropout": Uniform(0.0, 0.5)}


def row(accuracy: float, robust: float, mia: float = 0.6, **more: float) -> dict[str, float]:
    return {"accuracy": accuracy, "robust_accuracy": robust, "mia_auc": mia, **more}


def test_what_misses_a_limit_is_on_no_front_and_pushes_nobody_off():
    rows = [row(0.79, 0.9), row(0.8, 0.3), row(0.9, 0.2)]
    assert pareto.front(rows, trilemma(10)).tolist() == [True, True, True]
    assert pareto.front(rows, trilemma(10), ACCURATE).tolist() == [False, True, True]
    better = [row(0.79, 0.9, 0.5), row(0.85, 0.8, 0.55)]
    assert pareto.front(better, trilemma(10), (Limit.of("mia_auc>=0.55"),)).tolist() == [False, True]


def test_a_metric_that_was_not_measured_misses_every_limit():
    rows = [row(0.9, 0.3), row(0.8, 0.3, dp_epsilon=7.0), row(0.8, 0.3, dp_epsilon=9.0)]
    assert pareto.eligible(rows, trilemma(10), (Limit.of("dp_epsilon<=8"),)).tolist() == [False, True, False]


def test_the_hypervolume_is_of_what_meets_it():
    trials = [Trial(0, {}, row(0.7, 0.9)), Trial(1, {}, row(0.9, 0.4))]
    free = Outcome("s-1", "s", "?", trilemma(10), {}, 2, trials=trials)
    bound = Outcome("s-1", "s", "?", trilemma(10), {}, 2, trials=trials, require=ACCURATE)
    only = Outcome("s-1", "s", "?", trilemma(10), {}, 2, trials=trials[1:])
    assert bound.hypervolume() == only.hypervolume() < free.hypervolume()
    assert bound.hypervolume_curve() == [0.0, only.hypervolume()]


def test_confirm_asks_it_of_the_means():
    points = [Trial(number=n, params={}) for n in (0, 1)]
    metrics = {
        (0, 1): row(0.83, 0.5, density=0.4), (0, 2): row(0.79, 0.5, density=0.2),
        (1, 1): row(0.81, 0.6, density=0.4), (1, 2): row(0.77, 0.6, density=0.4),
    }  # fmt: skip
    results = {key: {"metrics": m, "error": ""} for key, m in metrics.items()}
    found = verdicts(points, results, trilemma(10), (*ACCURATE, Limit.of("density<=0.35")))
    assert [point.on_front for point in found] == [True, False] and [point.probability for point in found] == [1.0, 0.0]
    assert found[0].means["density"] == pytest.approx(0.3)


def test_a_plan_keeps_it():
    made = finished.plan(require=(*ACCURATE, Limit.of("mia_auc<=0.6")), seeds=2, rungs=(3, 9))
    assert Plan.of_json(made.to_json()) == made


def searched(store: Store, sampler: str, require: tuple[Limit, ...], trials: int, cut: int = 0, **changes) -> list[dict]:
    """Suggestions; accuracy falls with the learning rate and robustness rises. With `cut`, another driver goes on from there."""
    config = TrialConfig.of({"net": "allconv"})
    made = finished.plan(config=config, space=SPACE, sampler=sampler, trials=trials, require=require, baselines={}, **changes)
    searcher, suggestions, results = StudySearcher(made, store, []), [], []
    for i in range(trials):
        if cut and i == cut:
            searcher = StudySearcher(made, store, results)
        suggestion = searcher.suggest(f"t{i}")
        assert suggestion is not None
        lr = suggestion["params"]["optimizer.lr"]
        result = {"metrics": row(1 - lr, lr, 0.5 + suggestion["params"]["net.dropout"] / 2), "curve": [], "error": ""}
        searcher.on_trial_complete(f"t{i}", result)
        suggestions.append(suggestion)
        results.append(Trial(i, suggestion["params"], result["metrics"]))
    return suggestions


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "gp"])
def test_the_search_goes_where_it_is_met(tmp_path, sampler, one_thread):
    count, met = {"tpe": 50, "nsga2": 200, "gp": 20}[sampler], {}
    changes = {"objectives": trilemma(10)[1:2]} if sampler == "gp" else {}  # each objective costs it seconds
    for name, require in {"free": (), "bound": ACCURATE}.items():
        made = searched(Store.at(str(tmp_path / name)), sampler, require, count, **changes)
        met[name] = np.mean([s["params"]["optimizer.lr"] <= 0.2 for s in made[count // 2 :]])
    assert met["bound"] > met["free"] + 0.15, met


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_another_driver_suggests_the_same(tmp_path, sampler):
    whole = searched(Store.at(str(tmp_path / "a")), sampler, ACCURATE, 60)
    assert searched(Store.at(str(tmp_path / "b")), sampler, ACCURATE, 60, cut=31) == whole


def test_a_trial_that_an_earlier_driver_began_is_told_with_its_limits(tmp_path):
    store = Store.at(str(tmp_path))
    made = finished.plan(space=SPACE, config=TrialConfig.of({"net": "allconv"}), require=ACCURATE, baselines={}, trials=3)
    StudySearcher(made, store, []).suggest("t0")
    searcher = StudySearcher(made, store, [])
    searcher.suggest("t0 again")
    searcher.on_trial_complete("t0 again", {"metrics": row(0.7, 0.2), "error": ""})
    (told,) = searcher.study.get_trials()
    assert told.constraints == {"accuracy>=0.8": pytest.approx(0.1)}


def test_a_metric_that_nobody_measures_is_refused_with_those_that_are():
    images = data.load("digits")
    with pytest.raises(
        InputError, match=r"metric of --require 'acuracy'.*did you mean 'accuracy'|metric of --require 'acuracy'.*accuracy"
    ):
        preflight.check_required(finished.plan(require=(Limit.of("acuracy>=0.5"),)), images)
    preflight.check_required(finished.plan(require=(Limit.of("robust_accuracy/pgd>=0.5"), Limit.of("density<=0.9"))), images)
    private = {"config": TrialConfig.of({"optimizer": "dp_sgd", "normalize": False}), "space": {"optimizer.lr": Uniform(0.1, 0.2)}}
    preflight.check_required(finished.plan(require=(Limit.of("dp_epsilon<=8"),), **private), images)
    with pytest.raises(InputError, match="dp_epsilon"):
        preflight.check_required(finished.plan(require=(Limit.of("dp_epsilon<=8"),)), images)


QUICK = ["--set", "epochs=12", "net.width=8", "judge.steps=3", "--trials", "6", "--sampler", "random", "--no-confirm"]


def study(cwd: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    script = str(ROOT / "studies/crl_tradeoff.py")
    return subprocess.run([sys.executable, script, *QUICK, *argv], cwd=cwd, capture_output=True, text=True, timeout=500)


@pytest.mark.ray
@pytest.mark.timeout(900)
def test_a_study_whose_front_meets_it_and_one_that_cannot(tmp_path):
    from trainables.tracking import front_from_runs

    done = study(tmp_path, "--require", "train_accuracy>=0.3", "--require", "mia_auc<=0.6")
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = (tmp_path / "runs").glob("*-*")
    front = {int(r["trial"]) for r in csv.DictReader((folder / "front.csv").read_text().splitlines())}
    assert front == {r["trial"] for r in front_from_runs(f"sqlite:///{tmp_path}/mlflow.db", folder.name)}
    hopeless = study(tmp_path, "--require", "accuracy>=0.999")  # the same trainings, taken over
    assert hopeless.returncode == 1
    assert "the front is empty: no trial has accuracy>=0.999; the nearest is trial" in hopeless.stdout
    refused = study(tmp_path, "--require", "acuracy>=0.5")
    assert refused.returncode == 2 and "metric of --require" in refused.stderr
