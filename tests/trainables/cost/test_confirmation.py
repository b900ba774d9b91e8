"""The expected size of the confirmation step."""

import numpy as np
import pytest
from command_lines import plan

from core import pareto
from trainables.cost.confirmation import Span, expected, front_size


@pytest.mark.parametrize(("trials", "objectives"), [(7, 2), (20, 2), (20, 3)])
def test_the_front_of_independent_objectives_has_the_expected_size(trials, objectives):
    stream = np.random.Generator(np.random.PCG64(0))
    sizes = [pareto.non_dominated(stream.random((trials, objectives))).sum() for _ in range(4000)]
    low, high = front_size(trials, objectives)
    assert np.mean(sizes) == pytest.approx(low, abs=4 * np.std(sizes) / 4000**0.5)
    assert high == front_size(trials, objectives + 1).low


def test_two_objectives_have_a_front_of_the_harmonic_number():
    assert front_size(4, 2).low == pytest.approx(1 + 1 / 2 + 1 / 3 + 1 / 4)
    assert front_size(4, 1).low == 1


def test_baselines_and_front_are_confirmed_with_two_replicates_each_up_to_the_budget():
    planned = plan()  # 20 trials, of which 4 are baselines; 3 replicates
    objectives = planned.__class__(**vars(planned) | {"objectives": (None,) * 3})
    step = expected(objectives)
    front = front_size(20, 3)
    assert step.front == front and step.replicates == Span(2, 3)
    assert step.points == pytest.approx(Span(4 + 16 / 20 * front.low, 4 + 16 / 20 * front.high))
    assert step.networks == pytest.approx(Span(2 * step.points.low, 3 * step.points.high))


def test_without_confirmation_nothing_is_confirmed():
    assert expected(plan("--no-confirm")).networks == Span(0, 0)
