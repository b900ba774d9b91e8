"""Known effects are found with their sign and size, and nothing is said where nothing is known."""

import numpy as np
import pytest

from core.space import Choice, IntRange, LogUniform, Switch, Uniform
from trainables import effects
from trainables.effects import Step, responses

FLAT = {"a": Uniform(0, 1), "b": LogUniform(1e-3, 10), "c": Uniform(0, 1)}


def drawn(count: int, seed: int = 0) -> list[dict]:
    stream = np.random.default_rng(seed)
    return [{"a": float(a), "b": float(10 ** (4 * b - 3)), "c": float(c)} for a, b, c in stream.random((count, 3))]


def noise(count: int, size: float, seed: int = 1) -> np.ndarray:
    return size * np.random.default_rng(seed).standard_normal(count)


@pytest.fixture(scope="module")
def known():
    """Rises with a by 0.5 over its range, falls with the logarithm of b by 0.25, ignores c."""
    rows = drawn(60)
    values = [0.5 * row["a"] - 0.25 * (np.log10(row["b"]) + 3) / 4 for row in rows] + noise(60, 0.02)
    return rows, values, responses(rows, {"m": values.tolist()}, FLAT)["m"]


def test_known_effects_are_found_with_their_sign_and_most_of_their_size(known):
    _, _, found = known
    by_knob = {step.knob: (step, effect) for step, effect in found.effects.items()}
    for knob, true in (("a", lambda v: 0.5 * v), ("b", lambda v: -0.25 * (np.log10(v) + 3) / 4)):
        step, effect = by_knob[knob]
        size = true(step.high) - true(step.low)
        assert 0.6 < effect.mean / size < 1.05 and effect.told  # a forest shrinks
        assert effect.interval.low <= effect.mean <= effect.interval.high
    _, nothing = by_knob["c"]
    assert abs(nothing.mean) < 0.02 and not nothing.told


def test_importance_is_in_the_order_of_the_variance_that_each_knob_makes_and_sums_to_one(known):
    _, _, found = known
    assert list(sorted(found.importance, key=found.importance.__getitem__)) == ["c", "b", "a"]
    assert found.importance["a"] > 0.7 and found.importance["c"] < 0.02
    assert sum(found.importance.values()) == pytest.approx(1)


def test_steps_go_between_the_percentiles_of_the_values_that_were_tried(known):
    rows, _, found = known
    step = next(s for s in found.effects if s.knob == "b")
    assert (step.low, step.high) == tuple(np.quantile([row["b"] for row in rows], [0.1, 0.9], method="nearest"))


def test_the_same_trials_give_the_same_words(known):
    rows, values, found = known
    assert responses(rows, {"m": values.tolist()}, FLAT)["m"] == found


def test_nothing_is_said_where_the_forest_does_not_predict():
    rows = drawn(30)
    found = [responses(rows, {"m": noise(30, 1.0, seed).tolist()}, FLAT)["m"] for seed in range(2, 10)]
    silent = [r for r in found if r.predicted <= 0]
    assert len(silent) >= 6 and all(not r.effects and not r.importance for r in silent)


def test_pure_noise_is_seldom_called_an_effect():
    rows = drawn(24)
    called = [
        e.told for seed in range(20) for e in responses(rows, {"m": noise(24, 1.0, seed).tolist()}, FLAT)["m"].effects.values()
    ]
    assert sum(called) <= 0.1 * 20 * len(FLAT)


@pytest.mark.parametrize("count", [0, 1, effects.FEWEST - 1])
def test_too_few_trials_say_nothing(count):
    rows = drawn(count)
    found = responses(rows, {"m": [row["a"] for row in rows]}, FLAT)["m"]
    assert found.trials == count and not found.effects and not found.importance


def test_a_metric_or_a_knob_that_never_moves_has_no_effect():
    rows = [row | {"a": 0.5} for row in drawn(30)]
    found = responses(rows, {"still": [0.3] * 30, "m": [np.log(row["b"]) for row in rows]}, FLAT)
    assert not found["still"].effects
    assert {step.knob for step in found["m"].effects} == {"b", "c"} and "a" not in found["m"].importance


def test_a_word_is_compared_with_the_commonest_one():
    rows = [row | {"kind": ("x", "x", "y", "z", "x")[i % 5], "on": i % 2 == 0} for i, row in enumerate(drawn(50))]
    values = [row["a"] + {"x": 0.0, "y": 1.0, "z": -1.0}[row["kind"]] for row in rows]
    space = FLAT | {"kind": Choice(("x", "y", "z")), "on": Choice((False, True))}
    found = responses(rows, {"m": values}, space)["m"]
    assert found.effects[Step("kind", "x", "y")].mean == pytest.approx(1, abs=0.25)
    assert found.effects[Step("kind", "x", "z")].mean == pytest.approx(-1, abs=0.25)
    assert [s for s in found.effects if s.knob == "on"] == [Step("on", False, True)]


def test_whole_numbers_stay_whole():
    rows = [row | {"k": 1 + i % 7} for i, row in enumerate(drawn(40))]
    found = responses(rows, {"m": [row["k"] / 7 for row in rows]}, FLAT | {"k": IntRange(1, 7)})["m"]
    (step,) = [s for s in found.effects if s.knob == "k"]
    assert (step.low, step.high) == (1, 7) and isinstance(step.low, int)
    assert found.effects[step].mean == pytest.approx(6 / 7, abs=0.15)


def test_a_knob_of_one_option_is_told_from_the_trials_that_have_it():
    stream = np.random.default_rng(3)
    rows = [{"loss": "crl", "loss.lambda": float(v)} if i % 2 else {"loss": "plain"} for i, v in enumerate(stream.random(60))]
    values = [(1 + row["loss.lambda"]) if row["loss"] == "crl" else 0.0 for row in rows]
    space = {"loss": Switch({"crl": {"loss.lambda": Uniform(0, 1)}, "plain": {}})}
    found = responses(rows, {"m": values}, space)["m"]
    ((step, inner),) = [(s, e) for s, e in found.effects.items() if s.knob == "loss.lambda"]
    assert inner.mean == pytest.approx(step.high - step.low, rel=0.15)
    outer = found.effects.get(Step("loss", "plain", "crl")) or found.effects[Step("loss", "crl", "plain")]
    assert abs(outer.mean) == pytest.approx(1.5, abs=0.2)
    assert found.importance["loss"] > found.importance["loss.lambda"]


def test_more_trials_than_a_tree_learns_from_are_fine(monkeypatch):
    monkeypatch.setattr(effects, "MOST", 50)
    rows = drawn(200)
    found = responses(rows, {"m": [row["a"] for row in rows]}, FLAT)["m"]
    assert found.trials == 200 and found.importance["a"] > 0.9
