"""The effects of knobs in sentences."""

import re
from dataclasses import replace

import large
import pytest
from reported import page_of, plain, section_of

from core.stats import Interval
from trainables.reporting.importance import Effect, KnobStep, Response
from trainables.reporting.knob_effects import knob_responses, sentences
from trainables.study.outcome import Outcome
from trainables.study.trial import Trial


@pytest.fixture(scope="module")
def study() -> Outcome:
    """An outcome with everything that a report can contain."""
    return large.outcome()


def section(of: Outcome) -> str:
    """The section of the report as text."""
    return plain(section_of(page_of(of), "knobs"))


@pytest.fixture(scope="module")
def text(study) -> str:
    """The section of the report as text."""
    return section(study)


def test_the_costs_and_gains_of_a_knob_are_reported_with_their_intervals(text):
    sentence = re.search(
        r"Raising perturbation\.epsilon from (\S+) to (\S+) costs (\S+) accuracy \(\S+ to \S+\).*? gains (\S+) robust accuracy",
        text,
    )
    assert sentence
    low, high, cost, gain = (float(number.rstrip(",")) for number in sentence.groups())
    assert cost == pytest.approx(1.5 * (high - low), rel=0.3) and gain == pytest.approx(5 * (high - low), rel=0.3)
    assert re.search(r"Raising loss\.lambda .*lowers the membership-inference AUC by \S+", text)
    assert re.search(r"\d+ trials are too few to detect an effect of .*loss\.alpha", text)


def test_an_objective_depends_on_the_knob_that_changes_it(text):
    assert re.search(r"Robust accuracy depends mainly on perturbation\.epsilon \((9\d|100)%\)", text)


def test_every_effect_in_the_table_has_its_interval_in_parentheses_and_the_importance_of_the_knob(text, study):
    number = r"[+\N{MINUS SIGN}]\d\.\d{3}"
    cells = re.findall(rf"{number}\s+\({number} to {number}\)importance \d+%", text)
    assert len(cells) == 5 * len(study.objectives)


def test_several_knobs_are_listed_as_code_and_their_names_are_escaped(study):
    steps = [KnobStep(knob, 0.1, 0.2) for knob in ("a", "b", "<c>")]
    effects = {step: Effect(0.01, Interval(-0.1, 0.1)) for step in steps}
    response = Response(30, 0.5, importance={"a": 0.6, "b": 0.3, "<c>": 0.1}, effects=effects)
    lines = sentences(study, {o.metric: response for o in study.objectives}, steps)
    assert lines[0] == (
        "<b>Accuracy</b> depends mainly on <code>a</code> (60%), <code>b</code> (30%) and <code>&lt;c&gt;</code> (10%). "
        "The forest predicts 50% of the variance of left-out trials."
    )
    assert lines[-1] == (
        "30 trials are too few to detect an effect of <code>a</code>, <code>b</code> and <code>&lt;c&gt;</code>."
    )  # fmt: skip


def test_effects_leave_out_baselines_and_trials_with_untrustworthy_metrics(study):
    usable = [t for t in study.completed if not t.baseline and "zero_gradients" not in t.flags]
    assert {response.trials for response in knob_responses(study).values()} == {len(usable)}
    assert len(usable) < len(study.completed) - 1


def test_few_trials_are_reported_in_one_sentence(study):
    few = replace(study, trials=study.trials[:8], confirmation=None)
    assert section(few) == "Effects of knobsToo few trials (5) to detect an effect; at least 10 are needed."
    assert "Too few trials (0) to detect an effect" in section(replace(study, trials=[], confirmation=None))


@pytest.mark.parametrize("count, sentence", [
    (1, "1 trial that was stopped early is not included, which may bias these effects."),
    (2, "2 trials that were stopped early are not included, which may bias these effects."),
])  # fmt: skip
def test_the_number_of_early_stopped_trials_is_mentioned(count, sentence, study):
    stopped = [Trial(100 + i, study.trials[1].params, stopped_epoch=10) for i in range(count)]
    assert sentence in section(replace(study, trials=[*study.trials, *stopped]))
