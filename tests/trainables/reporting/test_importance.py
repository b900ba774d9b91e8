"""Known effects of knobs are found with their sign and size, and no effect is reported where there is none."""

import numpy as np
import pytest

from core.space import Choice, IntRange, LogUniform, Switch, Uniform
from core.stats import Interval
from trainables.reporting import importance
from trainables.reporting.importance import MIN_R2, MIN_TRIALS, Effect, KnobStep, responses

SPACE = {"a": Uniform(0, 1), "b": LogUniform(1e-3, 10), "c": Uniform(0, 1)}


def sampled(count: int, seed: int = 0) -> list[dict]:
    """Parameters of trials that were sampled from `SPACE`."""
    stream = np.random.default_rng(seed)
    return [{"a": float(a), "b": float(10 ** (4 * b - 3)), "c": float(c)} for a, b, c in stream.random((count, 3))]


def noise(count: int, size: float, seed: int = 1) -> np.ndarray:
    """Gaussian noise with this standard deviation."""
    return size * np.random.default_rng(seed).standard_normal(count)


@pytest.fixture(scope="module")
def known():
    """Trials, their metric and its response; the metric rises by 0.5 with a, falls by 0.25 with log(b), and ignores c."""
    rows = sampled(60)
    values = [0.5 * row["a"] - 0.25 * (np.log10(row["b"]) + 3) / 4 for row in rows] + noise(60, 0.02)
    return rows, values, responses(rows, {"m": values.tolist()}, SPACE)["m"]


def test_known_effects_are_found_with_their_sign_and_most_of_their_size(known):
    _, _, response = known
    by_knob = {step.knob: (step, effect) for step, effect in response.effects.items()}
    for knob, true in (("a", lambda v: 0.5 * v), ("b", lambda v: -0.25 * (np.log10(v) + 3) / 4)):
        step, effect = by_knob[knob]
        size = true(step.high) - true(step.low)
        assert 0.6 < effect.mean / size < 1.05 and effect.significant  # a forest shrinks
        assert effect.interval.low <= effect.mean <= effect.interval.high
    _, ignored = by_knob["c"]
    assert abs(ignored.mean) < 0.02 and not ignored.significant


def test_an_effect_is_significant_only_if_the_metric_depends_on_the_knob(known):
    _, _, response = known
    assert response.p_values["a"] == response.p_values["b"] == pytest.approx(0.003) and response.p_values["c"] > 0.05
    assert Effect(0.1, Interval(0.05, 0.2), 0.04).significant
    assert not Effect(0.1, Interval(0.05, 0.2), 0.06).significant and not Effect(0.1, Interval(-0.05, 0.2), 0.04).significant


def test_importance_follows_the_variance_that_each_knob_causes_and_sums_to_one(known):
    _, _, response = known
    assert list(sorted(response.importance, key=response.importance.__getitem__)) == ["c", "b", "a"]
    assert response.importance["a"] > 0.7 and response.importance["c"] < 0.02
    assert sum(response.importance.values()) == pytest.approx(1)


def test_steps_lie_between_the_percentiles_of_the_values_that_were_tried(known):
    rows, _, response = known
    step = next(s for s in response.effects if s.knob == "b")
    assert (step.low, step.high) == tuple(np.quantile([row["b"] for row in rows], [0.1, 0.9], method="nearest"))


def test_the_same_trials_have_the_same_response(known):
    rows, values, response = known
    assert responses(rows, {"m": values.tolist()}, SPACE)["m"] == response


def test_a_forest_that_does_not_predict_reports_no_effects():
    rows = sampled(30)
    all_responses = [responses(rows, {"m": noise(30, 1.0, seed).tolist()}, SPACE)["m"] for seed in range(2, 10)]
    useless = [r for r in all_responses if r.r2 < MIN_R2]
    assert len(useless) >= 7 and all(not r.effects and not r.importance and not r.p_values for r in useless)


def test_a_forest_that_predicts_a_quarter_of_the_variance_reports_no_effects():
    rows = sampled(60)
    values = [row["a"] for row in rows] + noise(60, 0.4)
    response = responses(rows, {"m": values.tolist()}, SPACE)["m"]
    assert 0.1 < response.r2 < MIN_R2 and not response.effects


def test_pure_noise_seldom_has_a_significant_effect():
    rows = sampled(24)
    significant = [
        effect.significant
        for seed in range(20)
        for effect in responses(rows, {"m": noise(24, 1.0, seed).tolist()}, SPACE)["m"].effects.values()
    ]
    assert sum(significant) <= 0.1 * 20 * len(SPACE)


@pytest.mark.parametrize("count", [0, 1, MIN_TRIALS - 1])
def test_too_few_trials_have_no_effects(count):
    rows = sampled(count)
    response = responses(rows, {"m": [row["a"] for row in rows]}, SPACE)["m"]
    assert response.trials == count and not response.effects and not response.importance


def test_a_metric_or_a_knob_with_a_single_value_has_no_effect():
    rows = [row | {"a": 0.5} for row in sampled(30)]
    by_metric = responses(rows, {"constant": [0.3] * 30, "m": [np.log(row["b"]) for row in rows]}, SPACE)
    assert not by_metric["constant"].effects
    assert {step.knob for step in by_metric["m"].effects} == {"b", "c"} and "a" not in by_metric["m"].importance


def test_an_option_is_compared_with_the_most_frequent_one():
    rows = [row | {"kind": ("x", "x", "y", "z", "x")[i % 5], "on": i % 2 == 0} for i, row in enumerate(sampled(50))]
    values = [row["a"] + {"x": 0.0, "y": 1.0, "z": -1.0}[row["kind"]] for row in rows]
    space = SPACE | {"kind": Choice(("x", "y", "z")), "on": Choice((False, True))}
    response = responses(rows, {"m": values}, space)["m"]
    assert response.effects[KnobStep("kind", "x", "y")].mean == pytest.approx(1, abs=0.25)
    assert response.effects[KnobStep("kind", "x", "z")].mean == pytest.approx(-1, abs=0.25)
    assert [s for s in response.effects if s.knob == "on"] == [KnobStep("on", False, True)]


def test_a_step_of_an_integer_knob_has_integer_ends():
    rows = [row | {"k": 1 + i % 7} for i, row in enumerate(sampled(40))]
    response = responses(rows, {"m": [row["k"] / 7 for row in rows]}, SPACE | {"k": IntRange(1, 7)})["m"]
    (step,) = [s for s in response.effects if s.knob == "k"]
    assert (step.low, step.high) == (1, 7) and isinstance(step.low, int)
    assert response.effects[step].mean == pytest.approx(6 / 7, abs=0.15)


def test_the_effect_of_a_knob_of_one_option_comes_from_the_trials_that_have_it():
    stream = np.random.default_rng(3)
    rows = [{"loss": "crl", "loss.lambda": float(v)} if i % 2 else {"loss": "plain"} for i, v in enumerate(stream.random(60))]
    values = [(1 + row["loss.lambda"]) if row["loss"] == "crl" else 0.0 for row in rows]
    space = {"loss": Switch({"crl": {"loss.lambda": Uniform(0, 1)}, "plain": {}})}
    response = responses(rows, {"m": values}, space)["m"]
    ((step, inner),) = [(s, e) for s, e in response.effects.items() if s.knob == "loss.lambda"]
    assert inner.mean == pytest.approx(step.high - step.low, rel=0.15)
    outer = response.effects.get(KnobStep("loss", "plain", "crl")) or response.effects[KnobStep("loss", "crl", "plain")]
    assert abs(outer.mean) == pytest.approx(1.5, abs=0.2)
    assert response.importance["loss"] > response.importance["loss.lambda"]


def test_there_may_be_more_trials_than_a_tree_is_trained_on(monkeypatch):
    monkeypatch.setattr(importance, "MAX_SAMPLES", 50)
    rows = sampled(200)
    response = responses(rows, {"m": [row["a"] for row in rows]}, SPACE)["m"]
    assert response.trials == 200 and response.importance["a"] > 0.9
