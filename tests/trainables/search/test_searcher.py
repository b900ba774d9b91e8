"""The searcher: the order of baselines and suggestions, and its reports to Optuna."""

import math
import pickle

import optuna
import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher
from searches import SIMPLE_SPACE, measured, metrics_of, plan, sweep

from core.config import TrialConfig
from core.errors import InputError
from core.rng import fold
from core.space import Uniform
from core.study import trilemma
from trainables.search.distributions import distribution
from trainables.search.reports import epochs_report, result_report
from trainables.search.samplers import SAMPLERS
from trainables.search.searcher import StudySearcher, _without_warnings
from trainables.storage.results import ended_trials
from trainables.storage.store import Store
from trainables.study.results import TrainingResult

COMPLETE = measured({"accuracy": 0.5, "robust_accuracy": 0.2, "mia_auc": 0.6})


@pytest.fixture
def store(tmp_path):
    """The folder of a study."""
    return Store.at(str(tmp_path / "study"))


# ---------------------------------------------------------------- suggestions


def test_baselines_come_first_and_are_not_part_of_the_search(store):
    searcher = StudySearcher(plan(), store, [])
    first, second, third = sweep(searcher, store, 3)
    assert [s["baseline"] for s in (first, second, third)] == ["undefended", "CRL alone", ""]
    assert first["params"]["loss"] == "cross_entropy" and first["params"]["perturbation"] == "none"
    assert second["params"]["loss"] == "crl" and second["params"]["perturbation"] == "none"
    assert len(searcher.study.trials) == 1


def test_a_suggestion_is_a_complete_legal_configuration_within_the_space(store):
    for suggestion in sweep(StudySearcher(plan(), store, []), store, 10)[2:]:
        params = suggestion["params"]
        assert TrialConfig.of(params).params() == params
        assert 4 <= params["net.width"] <= 9 and params["perturbation.steps"] in (3, 7)
        assert isinstance(params["normalize"], bool) and isinstance(params["loss.upper"], float)


def test_all_trials_have_different_seeds(store):
    seeds = [s["params"]["seed"] for s in sweep(StudySearcher(plan(), store, []), store, 10)]
    assert len(set(seeds)) == 10


def test_a_suggestion_is_stored_before_it_is_returned(store):
    searcher = StudySearcher(plan(), store, [])
    suggestion = searcher.suggest("a")
    record = store.read_json("trials/00000/params.json")
    assert {name: record[name] for name in suggestion} == suggestion


def test_there_are_never_more_trials_than_planned(store):
    searcher = StudySearcher(plan(trials=5), store, [])
    assert [s["number"] for s in sweep(searcher, store, 5)] == [0, 1, 2, 3, 4]
    assert searcher.suggest("x") == Searcher.FINISHED
    searcher.on_trial_complete("x", None)
    assert searcher.suggest("y") == Searcher.FINISHED
    resumed = StudySearcher(plan(trials=5), store, ended_trials(store))
    assert resumed.suggest("x") == Searcher.FINISHED


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_suggestions_depend_on_the_seed_alone(sampler, tmp_path):
    count = 14
    runs = []
    for i, seed in enumerate((0, 0, 1)):
        store = Store.at(str(tmp_path / str(i)))
        runs.append(sweep(StudySearcher(plan(sampler, count, seed), store, []), store, count))
    assert runs[0] == runs[1]
    assert all(a["params"]["seed"] != b["params"]["seed"] for a, b in zip(runs[0], runs[2], strict=True))
    assert all(a["params"] != b["params"] for a, b in zip(runs[0][2:], runs[2][2:], strict=True))
    knob = [s["params"]["loss.lambda"] for s in runs[0][2:]]
    assert len(set(knob)) == len(knob)  # a new random stream for every suggestion


def test_an_unknown_sampler_is_rejected(store):
    with pytest.raises(InputError, match="unknown sampler 'grid'"):
        StudySearcher(plan("grid"), store, [])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_suggestions_in_a_space_without_switches_are_those_of_optuna_alone(sampler, store):
    count = 12 if sampler == "gp" else 20
    simple = {"space": SIMPLE_SPACE} if sampler == "gp" else {}
    study_plan = plan(sampler, count, baselines={}, **simple)
    reference = optuna.create_study(directions=["minimize"] * 3)
    searcher = StudySearcher(study_plan, store, [])
    for number in range(count):
        reference.sampler = _without_warnings(SAMPLERS[sampler], fold(0, "suggestion", number), False)
        expected = _without_warnings(reference.ask, {name: distribution(span) for name, span in study_plan.space.items()})
        suggestion = searcher.suggest(str(number))
        assert {name: suggestion["params"][name] for name in study_plan.space} == expected.params
        metrics = metrics_of(suggestion["params"])
        searcher.on_trial_complete(str(number), measured(metrics))
        reference.tell(expected, [o.loss(metrics[o.metric]) for o in study_plan.objectives])


def test_optuna_is_told_the_chance_level_of_a_leak_that_does_not_exceed_it(store):
    searcher = StudySearcher(plan("tpe", 2, baselines={}), store, [])
    searcher.suggest("0")
    searcher.on_trial_complete("0", measured({"accuracy": 0.9, "robust_accuracy": 0.2, "mia_auc": 0.52, "mia_auc_chance": 0.55}))
    assert searcher.study.trials[0].values[2] == pytest.approx(0.1)


# ---------------------------------------------------------------- reports to Optuna


@pytest.mark.parametrize(
    "report, error, state",
    [
        (COMPLETE, False, TrialState.COMPLETE),
        (measured({"accuracy": math.nan, "robust_accuracy": 0.2, "mia_auc": 0.6}), False, TrialState.PRUNED),
        (measured({"accuracy": 0.5, "robust_accuracy": math.inf, "mia_auc": 0.6}), False, TrialState.PRUNED),
        (measured({"accuracy": 0.5, "mia_auc": 0.6}), False, TrialState.PRUNED),
        (result_report(TrainingResult(error="TrialError: no")), False, TrialState.FAIL),
        (epochs_report([]), False, TrialState.PRUNED),
        (None, False, TrialState.PRUNED),
        (None, True, TrialState.FAIL),
        (COMPLETE, True, TrialState.FAIL),
    ],
)
@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_only_a_trial_with_all_objectives_is_complete(sampler, report, error, state, store):
    searcher = StudySearcher(plan(sampler, 20, baselines={}), store, [])
    searcher.suggest("a")
    searcher.on_trial_complete("a", report, error)
    assert [t.state for t in searcher.study.trials] == [state]
    assert not searcher.running
    sweep(searcher, store, 12)
    assert len(searcher.study.trials) == 13


def test_the_sampler_minimises_losses_rather_than_metrics(store):
    searcher = StudySearcher(plan(baselines={}), store, [])
    searcher.suggest("a")
    searcher.on_trial_complete("a", measured({"accuracy": 1.0, "robust_accuracy": 0.25, "mia_auc": 0.5}))
    assert searcher.study.trials[0].values == [0.0, 0.75, 0.0]


def test_an_unknown_trial_changes_nothing(store):
    searcher = StudySearcher(plan(), store, [])
    searcher.on_trial_complete("unknown", result_report(TrainingResult()), error=True)
    searcher.on_trial_result("unknown", result_report(TrainingResult()))
    assert not searcher.study.trials and searcher.suggest("a")["number"] == 0


def test_the_sampler_prefers_the_region_of_good_trials(tmp_path):
    study_plan = plan("tpe", 40, baselines={}, space={"perturbation.epsilon": Uniform(0.0, 1.0)}, objectives=trilemma(10)[1:2])
    means = {}
    for best in (0.1, 0.9):
        searcher = StudySearcher(study_plan, Store.at(str(tmp_path / str(best))), [])
        radii = []
        for i in range(40):
            radii.append(searcher.suggest(str(i))["params"]["perturbation.epsilon"])
            searcher.on_trial_complete(str(i), measured({"robust_accuracy": 1 - abs(radii[-1] - best)}))
        means[best] = sum(radii[20:]) / 20
    assert means[0.9] - means[0.1] > 0.3


# ---------------------------------------------------------------- Ray Tune's own records


def test_a_pickled_searcher_is_restored_as_a_plain_searcher(store):
    restored = pickle.loads(pickle.dumps(StudySearcher(plan(), store, [])))
    assert type(restored) is Searcher


def test_saving_the_searcher_writes_no_file(store, tmp_path):
    searcher = StudySearcher(plan(), store, [])
    searcher.save(str(tmp_path / "state"))
    searcher.restore(str(tmp_path / "state"))
    assert not (tmp_path / "state").exists()
