"""Permutation tests of dependence, and their correction for the number of knobs."""

import numpy as np
import pytest

from trainables.reporting.dependence import dependence_p_value, holm


def test_p_values_are_corrected_by_holms_procedure():
    """The example of Holm's procedure with p-values 0.01, 0.04, 0.03 and 0.005 in most textbooks."""
    corrected = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert corrected == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert holm({"a": 0.7, "b": 0.9}) == {"a": 1.0, "b": 1.0}


def test_independent_values_have_a_small_p_value_as_often_as_its_level():
    stream = np.random.default_rng(0)
    found = [dependence_p_value(stream.random((20, 1)), stream.random(20), seed) for seed in range(300)]
    assert 0.025 < np.mean(np.array(found) <= 0.05) < 0.085 and 0.4 < np.mean(np.array(found) <= 0.5) < 0.6


@pytest.mark.parametrize("shape", [lambda x: 2 * x, lambda x: (x - 0.5) ** 2, lambda x: -np.log(x)], ids=["line", "valley", "log"])
def test_any_dependence_is_detected(shape):
    x = np.random.default_rng(1).random((40, 1))
    assert dependence_p_value(x, shape(x[:, 0])) <= 0.002


def test_options_are_compared_by_whether_they_are_equal_and_trials_without_the_knob_do_not_count():
    group = np.arange(60) % 3
    x, y = np.eye(3)[group], 1.0 * (group == 1)
    x[50:], y[50:] = np.nan, 100.0
    assert dependence_p_value(x, y) == 0.001
    assert dependence_p_value(x[49:], y[49:]) == 1.0  # a single trial has it
