"""What is tried next: baselines, what was left unfinished, then the sampler's, and the same after a kill as without."""

import math
import pickle

import optuna
import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from core.config import TrialConfig, checked_space, trilemma
from core.errors import InputError
from core.losses import CRL
from core.rng import fold
from core.space import Choice, IntRange, LogUniform, Switch, Uniform, contains, ends, flat, ranges
from trainables.outcome import Trial
from trainables.plan import Plan
from trainables.results import ended_trials
from trainables.search import SAMPLERS, StudySearcher, _quiet
from trainables.space import distribution, suggest
from trainables.store import Store

CONFIG = TrialConfig.of({"loss": "crl", "perturbation": "pgd"})
SPACE = ranges(CRL, "loss.", only=("alpha_rce", "lambda")) | {
    "perturbation.epsilon": Uniform(0.0, 0.1),
    "net.width": IntRange(4, 9),
    "perturbation.steps": Choice((3, 7)),
    "normalize": Choice((True, False)),
    "loss.upper": Choice((1, 0.5)),  # a whole number for a real one
}
BASELINES = {"undefended": {"loss": "cross_entropy", "perturbation": "none"}, "CRL alone": {"perturbation": "none"}}
SWITCHED = {
    "loss": Switch({
        "cross_entropy": {},
        "relaxloss": {"loss.alpha": LogUniform(0.05, 3.0), "loss.upper": Uniform(0.75, 1.0)},
        "crl": {"loss.lambda": LogUniform(1e-3, 10.0), "loss.upper": Choice((0.25, 0.5))},
    }),
    "perturbation": Switch({
        "none": {}, "fgsm": {"perturbation.epsilon": Uniform(0.0, 0.1)}, "pgd": {"perturbation.epsilon": Uniform(0.2, 0.3)},
    }),
    "regularizer": Switch({"none": {}, "rss": {}}),  # rss is legal with fgsm only: a third of all combinations are not
    "net.width": IntRange(4, 9),
}  # fmt: skip
CONDITIONAL = [name for name in SAMPLERS if name != "gp"]
LEARNS = {"tpe": 14, "gp": 16, "nsga2": 72, "random": 3}
"""The first trial whose suggestion depends on those before, of which two in seven have no metrics."""


def plan(sampler: str = "random", trials: int = 10, seed: int = 0, **changes) -> Plan:
    parts = dict(
        name="s-1", study="s", question="?", config=CONFIG, space=checked_space(CONFIG, SPACE), objectives=trilemma(10),
        baselines=BASELINES, trials=trials, sampler=sampler, seed=seed, confirm={}, replicates=0,
    )  # fmt: skip
    return Plan(**parts | changes)


def switched(sampler: str = "random", trials: int = 10, seed: int = 0, **changes) -> Plan:
    """A plan with a conditional space, of which a third is illegal."""
    return plan(sampler, trials, seed, space=checked_space(CONFIG, SWITCHED), **changes)


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


def test_the_distribution_of_a_switch_is_its_options():
    assert distribution(SWITCHED["perturbation"]).choices == ("none", "fgsm", "pgd")


def test_optuna_is_asked_for_exactly_the_distributions_that_a_replay_would_give_it():
    for i in range(20):
        asked = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=i)).ask()
        suggest(asked, SPACE | SWITCHED)
        named = {name: distribution(span) for name, span in flat(SPACE | SWITCHED).items()}
        assert asked.distributions.items() <= named.items() and len(asked.distributions) < len(named)


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


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_space_without_switches_is_suggested_as_optuna_alone_would(sampler, store):
    count = 12 if sampler == "gp" else 20
    simple = {"space": ranges(CRL, "loss.", only=("lambda",))} if sampler == "gp" else {}  # gp thinks for seconds
    made = plan(sampler, count, baselines={}, **simple)
    theirs = optuna.create_study(directions=["minimize"] * 3)
    searcher = StudySearcher(made, store, [])
    for number in range(count):
        theirs.sampler = _quiet(SAMPLERS[sampler], fold(0, "suggestion", number), False)
        expected = _quiet(theirs.ask, {name: distribution(span) for name, span in made.space.items()})
        suggestion = searcher.suggest(str(number))
        assert {name: suggestion["params"][name] for name in made.space} == expected.params
        metrics = judged(suggestion["params"])
        searcher.on_trial_complete(str(number), {"metrics": metrics, "error": ""})
        theirs.tell(expected, [o.loss(metrics[o.metric]) for o in made.objectives])


# ---------------------------------------------------------------- conditional spaces


@pytest.mark.parametrize("sampler", CONDITIONAL)
def test_a_trial_has_the_knobs_of_its_own_options_within_their_ranges_there(sampler, store):
    made = switched(sampler, 40, baselines={})
    fills = set()
    for suggestion in sweep(StudySearcher(made, store, []), store, 40):
        params = suggestion["params"]
        assert TrialConfig.of(params).params() == params
        chosen = {slot: span.options[params[slot]] for slot, span in made.space.items() if isinstance(span, Switch)}
        fills |= {f"{slot}={params[slot]}" for slot in chosen}
        for own in chosen.values():
            assert all(contains(span, params[knob]) for knob, span in own.items()), params
        if params["loss"] == "crl":
            assert params["loss.alpha_rce"] == CONFIG.loss.alpha_rce  # what is not searched is as configured
    assert fills == {f"{slot}={o}" for slot, span in made.space.items() if isinstance(span, Switch) for o in span.options}


@pytest.mark.parametrize("sampler", CONDITIONAL)
def test_no_trial_is_spent_on_an_illegal_combination(sampler, store):
    searcher = StudySearcher(switched(sampler, 40), store, [])
    suggestions = sweep(searcher, store, 40)
    assert [s["number"] for s in suggestions] == list(range(40))
    assert all(s["params"]["regularizer"] == "none" or s["params"]["perturbation"] == "fgsm" for s in suggestions)
    assert {s["params"]["regularizer"] for s in suggestions} == {"none", "rss"}
    assert len(searcher.study.trials) > 38  # 38 and the refused ones
    assert all(t.state == TrialState.FAIL for t in searcher.study.trials if _illegal(t.params))


def _illegal(params: dict) -> bool:
    return params["regularizer"] == "rss" and params["perturbation"] != "fgsm"


def test_a_space_in_which_nothing_is_legal_ends_in_one_line(store):
    made = switched(baselines={}, trials=3)
    made.space["perturbation"] = Switch({"pgd": {}})
    made.space["regularizer"] = Switch({"rss": {}})
    searcher = StudySearcher(made, store, [])
    with pytest.raises(InputError, match=r"^trial 0: 200 suggestions in a row are not legal, the last one because .*rss"):
        searcher.suggest("a")
    assert not store.names("trials") and {t.state for t in searcher.study.trials} == {TrialState.FAIL}


@pytest.mark.parametrize("sampler, count", [("tpe", 150), ("nsga2", 300)])
def test_the_sampler_finds_the_good_option_and_its_good_knobs(sampler, count, tmp_path):
    """Of CRL with a large weight, against chance: a third of trials, a quarter of weights."""
    made = plan(sampler, count, baselines={}, space={"loss": SWITCHED["loss"]}, objectives=trilemma(10)[1:2])
    store, chosen = Store.at(str(tmp_path)), []
    searcher = StudySearcher(made, store, [])
    for i in range(count):
        params = searcher.suggest(str(i))["params"]
        chosen.append(math.log10(params["loss.lambda"]) if params["loss"] == "crl" else None)
        good = 0.1 if chosen[-1] is None else 0.2 + 0.2 * (chosen[-1] + 3)
        searcher.on_trial_complete(str(i), {"metrics": {"robust_accuracy": good}, "error": ""})
    late = chosen[-50:]
    assert sum(value is not None for value in late) > 33
    assert sum(value is not None and value > 0 for value in late) > 25


def test_nsga2_hands_down_the_knobs_of_options_that_a_trial_does_not_have(store):
    made = plan("nsga2", 70, baselines={}, space={"loss": SWITCHED["loss"]})
    sweep(StudySearcher(made, store, []), store, 70)
    weights = [store.read_json(f"trials/{n:05d}/params.json")["suggested"]["loss.crl/lambda"] for n in range(70)]
    assert len(set(weights)) < 70


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
    searcher.on_trial_complete("a", {"metrics": {"accuracy": 1.0, "robust_accuracy": 0.25, "mia_auc": 0.5}, "error": ""})
    assert searcher.study.trials[0].values == [0.0, 0.75, 0.0]


def test_a_trial_that_is_not_known_changes_nothing(store):
    searcher = StudySearcher(plan(), store, [])
    searcher.on_trial_complete("never asked", {"metrics": {}}, error=True)
    searcher.on_trial_result("never asked", {"metrics": {}})
    assert not searcher.study.trials and searcher.suggest("a")["number"] == 0


def test_the_sampler_goes_where_trials_were_good(tmp_path):
    made = plan("tpe", 40, baselines={}, space={"perturbation.epsilon": Uniform(0.0, 1.0)}, objectives=trilemma(10)[1:2])
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


@pytest.mark.parametrize("sampler", CONDITIONAL)
def test_after_a_kill_a_conditional_search_goes_on_as_if_there_had_been_none(sampler, tmp_path, one_thread):
    """Also where illegal proposals had been refused, of which the store knows nothing, and in the middle of a trial."""
    first = LEARNS[sampler] + 10 * (sampler == "nsga2")
    total = first + 12
    made = switched(sampler, total)
    whole = Store.at(str(tmp_path / "whole"))
    searcher = StudySearcher(made, whole, [])
    uninterrupted = sweep(searcher, whole, total)
    refused = [t.number for t in searcher.study.trials if _illegal(t.params)]
    assert any(number > first for number in refused)  # by a sampler that has learnt
    killed = Store.at(str(tmp_path / "killed"))
    suggestions: list[dict] = []
    for upto in (1, 3, first - 1, first + 1, first + 4, total):
        searcher = StudySearcher(made, killed, ended_trials(killed))
        suggestions += sweep(searcher, killed, upto - len(suggestions))
        searcher.suggest("lost")  # and never ends
    assert suggestions == uninterrupted


def test_a_trial_under_way_is_to_optuna_what_it_was_before_the_kill(store):
    made = switched("nsga2", 80)
    searcher = StudySearcher(made, store, [])
    sweep(searcher, store, 79)
    searcher.suggest("lost")
    again = StudySearcher(made, store, ended_trials(store))
    told = lambda s: [(t.state, t.params, t.distributions, t.values, t.system_attrs) for t in s.study.trials]  # noqa: E731
    assert told(again) == [row for row in told(searcher) if not _illegal(row[1])]
    assert again.study.trials[-1].state == TrialState.RUNNING
    assert again.study.trials[-1].system_attrs["NSGAIISampler:generation"] == 1
    end(again, store, again.suggest("back"), "back")
    assert again.study.trials[-1].state != TrialState.RUNNING


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
