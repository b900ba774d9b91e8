"""The searcher of a resumed study: after a driver was killed, it suggests what it would have suggested without the kill."""

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher
from searches import (
    CONDITIONAL_SAMPLERS,
    FIRST_LEARNED,
    SIMPLE_SPACE,
    conditional_plan,
    end_trial,
    is_illegal,
    plan,
    result_of,
    sweep,
)

from trainables.search.samplers import SAMPLERS
from trainables.search.searcher import StudySearcher
from trainables.storage.results import ended_trials
from trainables.storage.store import Store
from trainables.study.trial import Trial


@pytest.fixture
def store(tmp_path):
    """The folder of a study."""
    return Store.at(str(tmp_path / "study"))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_after_a_kill_the_next_suggestions_are_those_of_the_uninterrupted_study(sampler, tmp_path, one_thread):
    """With one trial at a time, whenever the driver is killed."""
    first = FIRST_LEARNED[sampler]
    kills, total = [1, 3, first - 1, first + 1], first + (2 if sampler == "gp" else 10)
    simple = {"space": SIMPLE_SPACE} if sampler == "gp" else {}
    study_plan = plan(sampler, total, **simple)
    whole = Store.at(str(tmp_path / "whole"))
    uninterrupted = sweep(StudySearcher(study_plan, whole, []), whole, total)
    killed = Store.at(str(tmp_path / "killed"))
    suggestions: list[dict] = []
    for upto in (*kills, total):  # a new driver each time
        searcher = StudySearcher(study_plan, killed, ended_trials(killed))
        suggestions += sweep(searcher, killed, upto - len(suggestions))
    assert suggestions == uninterrupted


@pytest.mark.parametrize("sampler", CONDITIONAL_SAMPLERS)
def test_after_a_kill_a_conditional_search_continues_like_the_uninterrupted_one(sampler, tmp_path, one_thread):
    """Also after illegal proposals, of which the store has no record, and with a trial that was interrupted."""
    first = FIRST_LEARNED[sampler] + 10 * (sampler == "nsga2")
    total = first + 12
    study_plan = conditional_plan(sampler, total)
    whole = Store.at(str(tmp_path / "whole"))
    searcher = StudySearcher(study_plan, whole, [])
    uninterrupted = sweep(searcher, whole, total)
    rejected = [t.number for t in searcher.study.trials if is_illegal(t.params)]
    assert any(number > first for number in rejected)  # proposals of a sampler that has learned
    killed = Store.at(str(tmp_path / "killed"))
    suggestions: list[dict] = []
    for upto in (1, 3, first - 1, first + 1, first + 4, total):
        searcher = StudySearcher(study_plan, killed, ended_trials(killed))
        suggestions += sweep(searcher, killed, upto - len(suggestions))
        searcher.suggest("interrupted")
    assert suggestions == uninterrupted


def test_an_interrupted_trial_is_restored_in_optuna_as_it_was_before_the_kill(store):
    study_plan = conditional_plan("nsga2", 80)
    searcher = StudySearcher(study_plan, store, [])
    sweep(searcher, store, 79)
    searcher.suggest("interrupted")
    resumed = StudySearcher(study_plan, store, ended_trials(store))
    contents = lambda s: [(t.state, t.params, t.distributions, t.values, t.system_attrs) for t in s.study.trials]  # noqa: E731
    assert contents(resumed) == [row for row in contents(searcher) if not is_illegal(row[1])]
    assert resumed.study.trials[-1].state == TrialState.RUNNING
    assert resumed.study.trials[-1].system_attrs["NSGAIISampler:generation"] == 1
    end_trial(resumed, store, resumed.suggest("resumed"), "resumed")
    assert resumed.study.trials[-1].state != TrialState.RUNNING


def test_the_generations_of_nsga2_are_restored(store):
    study_plan = plan("nsga2", FIRST_LEARNED["nsga2"] + 20)
    searcher = StudySearcher(study_plan, store, [])
    sweep(searcher, store, study_plan.trials)
    resumed = StudySearcher(study_plan, store, ended_trials(store))
    generations = lambda s: [t.system_attrs["NSGAIISampler:generation"] for t in s.study.trials]  # noqa: E731
    assert generations(resumed) == generations(searcher) and max(generations(resumed)) == 1
    states = lambda s: [(t.state, t.params, t.values) for t in s.study.trials]  # noqa: E731
    assert states(resumed) == states(searcher)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_interrupted_trials_are_suggested_again_with_their_numbers(sampler, store):
    total = 16
    searcher = StudySearcher(plan(sampler, total), store, [])
    sweep(searcher, store, 11)
    running = [searcher.suggest(f"interrupted-{i}") for i in range(3)]  # three at a time, then SIGKILL; the second had ended
    store.write_json("trials/00012/result.json", result_of(running[1]).to_json())
    resumed = StudySearcher(plan(sampler, total), store, ended_trials(store))
    suggestions = sweep(resumed, store, 4)
    assert suggestions[:2] == [running[0], running[2]]
    assert [s["number"] for s in suggestions] == [11, 13, 14, 15]
    assert {**running[0]["params"]} != {**suggestions[2]["params"]}
    assert resumed.suggest("x") == Searcher.FINISHED


def test_interrupted_baselines_are_suggested_again(store):
    searcher = StudySearcher(plan(), store, [])
    running = [searcher.suggest("a"), searcher.suggest("b")]
    resumed = StudySearcher(plan(), store, ended_trials(store))
    assert sweep(resumed, store, 2) == running and not resumed.study.trials


def test_a_failed_trial_is_not_run_again(store):
    study_plan = plan(trials=3)
    searcher = StudySearcher(study_plan, store, [])
    suggestion = sweep(searcher, store, 2) and searcher.suggest("c")
    failed = Trial(2, suggestion["params"], error="lost")
    assert StudySearcher(study_plan, store, [*ended_trials(store), failed]).suggest("x") == Searcher.FINISHED
