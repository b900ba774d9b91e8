"""What is tried next: baselines, what was left unfinished, then the sampler's, and the same after a kill as without."""

import math
import pickle

import pytest
import torch
from optuna.trial import TrialState
from ray.tune.search import Searcher

from core.config import TrialConfig, checked_space, trilemma
from core.errors import InputError
from core.losses import CRL
from core.space import Choice, IntRange, LogUniform, Uniform, ends, ranges
from trainables.outcome import Trial
from trainables.plan import Plan
from trainables.search import SAMPLERS, StudySearcher
from trainables.space import distribution
from trainables.store import Store
from trainables.sweep import ended_trials

CONFIG = TrialConfig.of({"loss": "crl", "perturbation": "pgd"})
SPACE = ranges(CRL, "loss.", only=("alpha_rce", "lambda")) | {
    "perturbation.epsilon": Uniform(0.0, 0.1),
    "net.width": IntRange(4, 9),
    "perturbation.steps": Choice((3, 7)),
    "normalize": Choice((True, False)),
    "loss.upper": Choice((1, 0.5)),  # a whole number for a real one
}
BASELINES = {"undefended": {"loss": "cross_entropy", "perturbation": "none"}, "CRL alone": {"perturbation": "none"}}
LEARNS = {"tpe": 14, "gp": 16, "nsga2": 72, "random": 3}
"""The first trial whose suggestion depends on those before, of which two in seven have no metrics."""


def plan(sampler: str = "random", trials: int = 10, seed: int = 0, **changes) -> Plan:
    parts = dict(
        name="s-1", study="s", question="?", config=CONFIG, space=checked_space(CONFIG, SPACE), objectives=trilemma(10),
        baselines=BASELINES, trials=trials, sampler=sampler, seed=seed, confirm={}, replicates=0,
    )  # fmt: skip
    return Plan(**parts | changes)


def judged(params: dict) -> dict[str, float]:
    """Metrics that depend on the parameters, and pull in three directions."""
    width = params["net.width"] / 10
    return {
        "accuracy": 0.2 + 0.7 * width - params.get("perturbation.epsilon", 0.0),
        "robust_accuracy": 0.1 + 3 * params.get("perturbation.epsilon", 0.0),
        "mia_auc": 0.5 + 0.1 * min(2, params.get("loss.lambda", 0.0)) + 0.1 * width,
    }


def outcome(suggestion: dict) -> dict:
    """What becomes of a trial; some fail, one says nothing."""
    number = suggestion["number"]
    if number % 7 == 5:
        return {"metrics": {}, "curve": [], "error": "TrialError: not finite: train_loss"}
    if number % 7 == 6:
        return {"metrics": {}, "curve": [], "error": ""}
    return {"metrics": judged(suggestion["params"]), "curve": [], "error": ""}


def end(searcher: StudySearcher, store: Store, suggestion: dict, trial_id: str) -> None:
    """What happens in a sweep when a trial ends: its result first, then the searcher hears of it."""
    result = outcome(suggestion)
    store.write_json(f"trials/{suggestion['number']:05d}/result.json", result)
    searcher.on_trial_complete(trial_id, result)


def sweep(searcher: StudySearcher, store: Store, count: int) -> list[dict]:
    """`count` suggestions, one after the other."""
    suggestions = []
    for _ in range(count):
        suggestion = searcher.suggest(trial_id := f"tune-{len(suggestions)}-{id(searcher)}")
        suggestions.append(suggestion)
        end(searcher, store, suggestion, trial_id)
    return suggestions


@pytest.fixture
def store(tmp_path):
    return Store.at(str(tmp_path / "study"))


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# ---------------------------------------------------------------- ranges


@pytest.mark.parametrize(
    "span", [Uniform(-1.5, 2), LogUniform(1e-3, 10), IntRange(2, 9), Choice(("a", "b")), Choice((8 / 255, 0.1))]
)
def test_a_distribution_has_the_ends_of_its_range(span):
    found = distribution(span)
    if isinstance(span, Choice):
        assert found.choices == span.options
    else:
        assert (found.low, found.high) == ends(span)
        assert getattr(found, "log", False) == isinstance(span, LogUniform)


@pytest.mark.parametrize("span", [IntRange(4, 6), Choice((3, 7, 10))])
def test_both_ends_can_be_drawn(span, store):
    name = "net.width" if isinstance(span, IntRange) else "perturbation.steps"
    searcher = StudySearcher(plan(trials=40, space={name: span}, baselines={}), store, [])
    drawn = {suggestion["params"][name] for suggestion in sweep(searcher, store, 40)}
    assert drawn == ({4, 5, 6} if isinstance(span, IntRange) else {3, 7, 10})


# ---------------------------------------------------------------- what is suggested


def test_baselines_come_first_and_are_left_out_of_the_search(store):
    searcher = StudySearcher(plan(), store, [])
    first, second, third = sweep(searcher, store, 3)
    assert [s["baseline"] for s in (first, second, third)] == ["undefended", "CRL alone", ""]
    assert first["params"]["loss"] == "cross_entropy" and first["params"]["perturbation"] == "none"
    assert second["params"]["loss"] == "crl" and second["params"]["perturbation"] == "none"
    assert len(searcher.study.trials) == 1


def test_a_suggestion_is_a_whole_legal_configuration_and_lies_in_the_space(store):
    for suggestion in sweep(StudySearcher(plan(), store, []), store, 10)[2:]:
        params = suggestion["params"]
        assert TrialConfig.of(params).params() == params
        assert 4 <= params["net.width"] <= 9 and params["perturbation.steps"] in (3, 7)
        assert isinstance(params["normalize"], bool) and isinstance(params["loss.upper"], float)


def test_every_trial_has_a_seed_of_its_own(store):
    seeds = [s["params"]["seed"] for s in sweep(StudySearcher(plan(), store, []), store, 10)]
    assert len(set(seeds)) == 10


def test_a_suggestion_is_in_the_store_before_anybody_hears_of_it(store):
    searcher = StudySearcher(plan(), store, [])
    suggestion = searcher.suggest("a")
    record = store.read_json("trials/00000/params.json")
    assert {name: record[name] for name in suggestion} == suggestion


def test_never_more_trials_than_planned(store):
    searcher = StudySearcher(plan(trials=5), store, [])
    assert [s["number"] for s in sweep(searcher, store, 5)] == [0, 1, 2, 3, 4]
    assert searcher.suggest("x") == Searcher.FINISHED
    searcher.on_trial_complete("x", None)
    assert searcher.suggest("y") == Searcher.FINISHED
    again = StudySearcher(plan(trials=5), store, ended_trials(store))
    assert again.suggest("x") == Searcher.FINISHED


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_seed_suggests_the_same_and_another_does_not(sampler, tmp_path):
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


def test_an_unknown_sampler_is_refused(store):
    with pytest.raises(InputError, match="unknown sampler 'grid'"):
        StudySearcher(plan("grid"), store, [])


# ---------------------------------------------------------------- what the sampler is told


@pytest.mark.parametrize(
    "result, error, state",
    [
        (
            {"metrics": {"accuracy": 0.5, "robust_accuracy": 0.2, "mia_auc": 0.6}, "error": ""},
            False,
            TrialState.COMPLETE,
        ),
        (
            {"metrics": {"accuracy": math.nan, "robust_accuracy": 0.2, "mia_auc": 0.6}, "error": ""},
            False,
            TrialState.PRUNED,
        ),
        (
            {"metrics": {"accuracy": 0.5, "robust_accuracy": math.inf, "mia_auc": 0.6}, "error": ""},
            False,
            TrialState.PRUNED,
        ),
        ({"metrics": {"accuracy": 0.5, "mia_auc": 0.6}, "error": ""}, False, TrialState.PRUNED),
        ({"metrics": {}, "error": "TrialError: no"}, False, TrialState.FAIL),
        ({"rows": []}, False, TrialState.PRUNED),
        (None, False, TrialState.PRUNED),
        (None, True, TrialState.FAIL),
        ({"metrics": {"accuracy": 0.5, "robust_accuracy": 0.2, "mia_auc": 0.6}, "error": ""}, True, TrialState.FAIL),
    ],
)
@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_only_a_trial_with_all_its_objectives_is_complete(sampler, result, error, state, store):
    searcher = StudySearcher(plan(sampler, 20, baselines={}), store, [])
    searcher.suggest("a")
    searcher.on_trial_complete("a", result, error)
    assert [t.state for t in searcher.study.trials] == [state]
    assert not searcher.asked
    sweep(searcher, store, 12)
    assert len(searcher.study.trials) == 13


def test_the_sampler_minimises_losses_and_not_metrics(store):
    searcher = StudySearcher(plan(baselines={}), store, [])
    searcher.suggest("a")
    searcher.on_trial_complete(
        "a", {"metrics": {"accuracy": 1.0, "robust_accuracy": 0.25, "mia_auc": 0.5}, "error": ""}
    )
    assert searcher.study.trials[0].values == [0.0, 0.75, 0.0]


def test_a_trial_that_is_not_known_changes_nothing(store):
    searcher = StudySearcher(plan(), store, [])
    searcher.on_trial_complete("never asked", {"metrics": {}}, error=True)
    searcher.on_trial_result("never asked", {"metrics": {}})
    assert not searcher.study.trials and searcher.suggest("a")["number"] == 0


def test_the_sampler_goes_where_trials_were_good(tmp_path):
    made = plan(
        "tpe", 40, baselines={}, space={"perturbation.epsilon": Uniform(0.0, 1.0)}, objectives=trilemma(10)[1:2]
    )
    means = {}
    for best in (0.1, 0.9):
        searcher = StudySearcher(made, Store.at(str(tmp_path / str(best))), [])
        radii = []
        for i in range(40):
            radii.append(searcher.suggest(str(i))["params"]["perturbation.epsilon"])
            searcher.on_trial_complete(str(i), {"metrics": {"robust_accuracy": 1 - abs(radii[-1] - best)}, "error": ""})
        means[best] = sum(radii[20:]) / 20
    assert means[0.9] - means[0.1] > 0.3


# ---------------------------------------------------------------- after a kill


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_after_a_kill_the_next_suggestions_are_those_of_the_uninterrupted_study(sampler, tmp_path, one_thread):
    """At one trial at a time, wherever it was killed."""
    first = LEARNS[sampler]
    kills, total = [1, 3, first - 1, first + 1], first + (2 if sampler == "gp" else 10)
    simple = {"space": ranges(CRL, "loss.", only=("lambda",))} if sampler == "gp" else {}  # gp thinks for seconds
    made = plan(sampler, total, **simple)
    whole = Store.at(str(tmp_path / "whole"))
    uninterrupted = sweep(StudySearcher(made, whole, []), whole, total)
    killed = Store.at(str(tmp_path / "killed"))
    suggestions: list[dict] = []
    for upto in (*kills, total):  # a new driver each time
        searcher = StudySearcher(made, killed, ended_trials(killed))
        suggestions += sweep(searcher, killed, upto - len(suggestions))
    assert suggestions == uninterrupted


def test_nsga2_remembers_its_generations(store):
    made = plan("nsga2", LEARNS["nsga2"] + 20)
    searcher = StudySearcher(made, store, [])
    sweep(searcher, store, made.trials)
    again = StudySearcher(made, store, ended_trials(store))
    notes = lambda s: [t.system_attrs["NSGAIISampler:generation"] for t in s.study.trials]  # noqa: E731
    assert notes(again) == notes(searcher) and max(notes(again)) == 1
    states = lambda s: [(t.state, t.params, t.values) for t in s.study.trials]  # noqa: E731
    assert states(again) == states(searcher)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_was_under_way_is_suggested_again_with_its_number(sampler, store):
    total = 16
    searcher = StudySearcher(plan(sampler, total), store, [])
    sweep(searcher, store, 11)
    lost = [searcher.suggest(f"lost-{i}") for i in range(3)]  # three at a time, and then SIGKILL; the second had ended
    store.write_json("trials/00012/result.json", outcome(lost[1]))
    again = StudySearcher(plan(sampler, total), store, ended_trials(store))
    found = sweep(again, store, 4)
    assert found[:2] == [lost[0], lost[2]]
    assert [s["number"] for s in found] == [11, 13, 14, 15]
    assert {**lost[0]["params"]} != {**found[2]["params"]}
    assert again.suggest("x") == Searcher.FINISHED


def test_baselines_that_were_under_way_come_again(store):
    searcher = StudySearcher(plan(), store, [])
    lost = [searcher.suggest("a"), searcher.suggest("b")]
    again = StudySearcher(plan(), store, ended_trials(store))
    assert sweep(again, store, 2) == lost and not again.study.trials


def test_a_failed_trial_is_not_tried_again(store):
    made = plan(trials=3)
    searcher = StudySearcher(made, store, [])
    suggestion = sweep(searcher, store, 2) and searcher.suggest("c")
    failed = Trial(2, suggestion["params"], error="lost")
    assert StudySearcher(made, store, [*ended_trials(store), failed]).suggest("x") == Searcher.FINISHED


def test_pickling_gives_a_plain_searcher(store):
    back = pickle.loads(pickle.dumps(StudySearcher(plan(), store, [])))
    assert type(back) is Searcher


def test_there_is_nothing_to_save(store, tmp_path):
    searcher = StudySearcher(plan(), store, [])
    searcher.save(str(tmp_path / "state"))
    searcher.restore(str(tmp_path / "state"))
    assert not (tmp_path / "state").exists()
