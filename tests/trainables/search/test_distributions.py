"""The translation of search ranges into Optuna distributions."""

import optuna
import pytest
from searches import CONDITIONAL_SPACE, SPACE, plan, sweep

from core.space import Choice, IntRange, LogUniform, Uniform, ends, flat
from trainables.search.distributions import distribution, suggest
from trainables.search.searcher import StudySearcher
from trainables.storage.store import Store


@pytest.mark.parametrize(
    "span", [Uniform(-1.5, 2), LogUniform(1e-3, 10), IntRange(2, 9), Choice(("a", "b")), Choice((8 / 255, 0.1))]
)
def test_a_distribution_has_the_ends_of_its_range(span):
    translated = distribution(span)
    if isinstance(span, Choice):
        assert translated.choices == span.options
    else:
        assert (translated.low, translated.high) == ends(span)
        assert getattr(translated, "log", False) == isinstance(span, LogUniform)


def test_the_distribution_of_a_switch_is_over_its_options():
    assert distribution(CONDITIONAL_SPACE["perturbation"]).choices == ("none", "fgsm", "pgd")


def test_suggestions_use_exactly_the_distributions_with_which_trials_are_restored():
    for i in range(20):
        trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=i)).ask()
        suggest(trial, SPACE | CONDITIONAL_SPACE)
        restored = {name: distribution(span) for name, span in flat(SPACE | CONDITIONAL_SPACE).items()}
        assert trial.distributions.items() <= restored.items() and len(trial.distributions) < len(restored)


@pytest.mark.parametrize("span", [IntRange(4, 6), Choice((3, 7, 10))])
def test_both_ends_of_a_range_can_be_drawn(span, tmp_path):
    store = Store.at(str(tmp_path / "study"))
    name = "net.width" if isinstance(span, IntRange) else "perturbation.steps"
    searcher = StudySearcher(plan(trials=40, space={name: span}, baselines={}), store, [])
    drawn = {suggestion["params"][name] for suggestion in sweep(searcher, store, 40)}
    assert drawn == ({4, 5, 6} if isinstance(span, IntRange) else {3, 7, 10})
