"""The search with constraints: samplers use by how much a trial violates them."""

import finished
import numpy as np
import pytest

from core.config import TrialConfig
from core.space import Uniform
from core.study import Constraint, trilemma
from trainables.search.reports import result_report
from trainables.search.searcher import StudySearcher
from trainables.storage.store import Store
from trainables.study.results import TrainingResult
from trainables.study.trial import Trial

ACCURATE = (Constraint.of("accuracy>=0.8"),)
CONFIG = TrialConfig.of({"net": "allconv"})
SPACE = {"optimizer.lr": Uniform(0.1, 0.9), "net.dropout": Uniform(0.0, 0.5)}


def row(accuracy: float, robust: float, mia: float = 0.6) -> dict[str, float]:
    """Metrics of a trial."""
    return {"accuracy": accuracy, "robust_accuracy": robust, "mia_auc": mia}


def suggestions(store: Store, sampler: str, require: tuple[Constraint, ...], trials: int, cut: int = 0, **changes) -> list[dict]:
    """The suggestions of a search in which accuracy falls and robust accuracy rises with the learning rate.

    Args:
        store: the study's folder.
        sampler: name of the sampler.
        require: constraints of the plan.
        trials: number of trials.
        cut: number of trials after which another driver continues the search; 0 for none.
        changes: other fields of the plan.
    """
    plan = finished.plan(config=CONFIG, space=SPACE, sampler=sampler, trials=trials, require=require, baselines={}, **changes)
    searcher, suggested, ended = StudySearcher(plan, store, []), [], []
    for i in range(trials):
        if cut and i == cut:
            searcher = StudySearcher(plan, store, ended)
        suggestion = searcher.suggest(f"t{i}")
        assert suggestion is not None
        lr = suggestion["params"]["optimizer.lr"]
        metrics = row(1 - lr, lr, 0.5 + suggestion["params"]["net.dropout"] / 2)
        searcher.on_trial_complete(f"t{i}", result_report(TrainingResult(metrics=metrics)))
        suggested.append(suggestion)
        ended.append(Trial(i, suggestion["params"], metrics))
    return suggested


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "gp"])
def test_a_sampler_suggests_more_trials_that_meet_the_constraints(tmp_path, sampler, one_thread):
    count, met = {"tpe": 50, "nsga2": 200, "gp": 20}[sampler], {}
    changes = {"objectives": trilemma(10)[1:2]} if sampler == "gp" else {}  # each objective costs it seconds
    for name, require in {"without": (), "constrained": ACCURATE}.items():
        suggested = suggestions(Store.at(str(tmp_path / name)), sampler, require, count, **changes)
        met[name] = np.mean([s["params"]["optimizer.lr"] <= 0.2 for s in suggested[count // 2 :]])
    assert met["constrained"] > met["without"] + 0.15, met


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_another_driver_suggests_the_same_trials(tmp_path, sampler):
    whole = suggestions(Store.at(str(tmp_path / "a")), sampler, ACCURATE, 60)
    assert suggestions(Store.at(str(tmp_path / "b")), sampler, ACCURATE, 60, cut=31) == whole


def test_a_trial_that_an_earlier_driver_started_is_reported_with_its_violations(tmp_path):
    store = Store.at(str(tmp_path))
    plan = finished.plan(space=SPACE, config=CONFIG, require=ACCURATE, baselines={}, trials=3)
    StudySearcher(plan, store, []).suggest("t0")
    searcher = StudySearcher(plan, store, [])
    searcher.suggest("t0 again")
    searcher.on_trial_complete("t0 again", result_report(TrainingResult(metrics=row(0.7, 0.2))))
    (trial,) = searcher.study.get_trials()
    assert trial.constraints == {"accuracy>=0.8": pytest.approx(0.1)}
