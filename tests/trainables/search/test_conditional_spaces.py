"""The search of conditional spaces, in which a trial has only the knobs of its own options."""

import math

import pytest
from optuna.trial import TrialState
from searches import CONDITIONAL_SAMPLERS, CONDITIONAL_SPACE, CONFIG, conditional_plan, is_illegal, measured, plan, sweep

from core.config import TrialConfig
from core.errors import InputError
from core.space import Switch, contains
from core.study import trilemma
from trainables.search.searcher import StudySearcher
from trainables.storage.store import Store


@pytest.fixture
def store(tmp_path):
    """The folder of a study."""
    return Store.at(str(tmp_path / "study"))


@pytest.mark.parametrize("sampler", CONDITIONAL_SAMPLERS)
def test_a_trial_has_the_knobs_of_its_own_options_within_their_ranges_there(sampler, store):
    study_plan = conditional_plan(sampler, 40, baselines={})
    suggested_options = set()
    for suggestion in sweep(StudySearcher(study_plan, store, []), store, 40):
        params = suggestion["params"]
        assert TrialConfig.of(params).params() == params
        chosen = {slot: span.options[params[slot]] for slot, span in study_plan.space.items() if isinstance(span, Switch)}
        suggested_options |= {f"{slot}={params[slot]}" for slot in chosen}
        for own in chosen.values():
            assert all(contains(span, params[knob]) for knob, span in own.items()), params
        if params["loss"] == "crl":
            assert params["loss.alpha_rce"] == CONFIG.loss.alpha_rce  # a knob that is not searched is as configured
    switches = [(slot, span) for slot, span in study_plan.space.items() if isinstance(span, Switch)]
    assert suggested_options == {f"{slot}={option}" for slot, span in switches for option in span.options}


@pytest.mark.parametrize("sampler", CONDITIONAL_SAMPLERS)
def test_no_trial_is_spent_on_an_illegal_combination(sampler, store):
    searcher = StudySearcher(conditional_plan(sampler, 40), store, [])
    suggestions = sweep(searcher, store, 40)
    assert [s["number"] for s in suggestions] == list(range(40))
    assert all(s["params"]["regularizer"] == "none" or s["params"]["perturbation"] == "fgsm" for s in suggestions)
    assert {s["params"]["regularizer"] for s in suggestions} == {"none", "rss"}
    assert len(searcher.study.trials) > 38  # 38 and the rejected ones
    assert all(t.state == TrialState.FAIL for t in searcher.study.trials if is_illegal(t.params))


def test_a_space_without_a_legal_combination_ends_in_an_error_of_one_line(store):
    study_plan = conditional_plan(baselines={}, trials=3)
    study_plan.space["perturbation"] = Switch({"pgd": {}})
    study_plan.space["regularizer"] = Switch({"rss": {}})
    searcher = StudySearcher(study_plan, store, [])
    with pytest.raises(InputError, match=r"^trial 0: 200 consecutive suggestions are not legal, the last one because .*rss"):
        searcher.suggest("a")
    assert not store.names("trials") and {t.state for t in searcher.study.trials} == {TrialState.FAIL}


@pytest.mark.parametrize("sampler, count", [("tpe", 150), ("nsga2", 300)])
def test_the_sampler_finds_the_best_option_and_good_values_of_its_knob(sampler, count, tmp_path):
    """The best trials have CRL with a large weight; by chance, it is a third of the trials and a quarter of the weights."""
    space = {"loss": CONDITIONAL_SPACE["loss"]}
    study_plan = plan(sampler, count, baselines={}, space=space, objectives=trilemma(10)[1:2])
    store, weights = Store.at(str(tmp_path)), []
    searcher = StudySearcher(study_plan, store, [])
    for i in range(count):
        params = searcher.suggest(str(i))["params"]
        weights.append(math.log10(params["loss.lambda"]) if params["loss"] == "crl" else None)
        robust = 0.1 if weights[-1] is None else 0.2 + 0.2 * (weights[-1] + 3)
        searcher.on_trial_complete(str(i), measured({"robust_accuracy": robust}))
    late = weights[-50:]
    assert sum(value is not None for value in late) > 33
    assert sum(value is not None and value > 0 for value in late) > 25


def test_nsga2_inherits_the_knobs_of_options_that_a_trial_does_not_have(store):
    study_plan = plan("nsga2", 70, baselines={}, space={"loss": CONDITIONAL_SPACE["loss"]})
    sweep(StudySearcher(study_plan, store, []), store, 70)
    weights = [store.read_json(f"trials/{n:05d}/params.json")["suggested"]["loss.crl/lambda"] for n in range(70)]
    assert len(set(weights)) < 70
