"""The configurations whose cost is measured."""

import pytest
from command_lines import plan
from conditional_study import STUDY as CONDITIONAL

from core import space
from core.space import Choice, IntRange, LogUniform, Switch, Uniform
from trainables.cost.configurations import MAX_POINTS, MIN_POINTS, at, pilots_of, points_of


def test_a_share_of_a_range_lies_below_the_value():
    ranges = {"a": Uniform(2.0, 4.0), "b": LogUniform(0.01, 1.0), "c": IntRange(1, 4), "d": Choice(("x", "y"))}
    assert at(ranges, dict.fromkeys(ranges, 0.0)) == {"a": 2.0, "b": pytest.approx(0.01), "c": 1, "d": "x"}
    assert at(ranges, dict.fromkeys(ranges, 0.5)) == {"a": 3.0, "b": pytest.approx(0.1), "c": 3, "d": "y"}
    assert at(ranges, dict.fromkeys(ranges, 0.999)) == {
        "a": pytest.approx(3.998), "b": pytest.approx(1.0, rel=0.01), "c": 4, "d": "y",
    }  # fmt: skip


def test_a_switch_has_the_knobs_of_its_option_only():
    ranges = {"loss": Switch({"crl": {"loss.lambda": Uniform(0.0, 2.0)}, "relaxloss": {"loss.alpha": Uniform(0.0, 1.0)}})}
    names = space.flat(ranges)
    assert at(ranges, dict.fromkeys(names, 0.25)) == {"loss": "crl", "loss.lambda": 0.5}
    assert at(ranges, dict.fromkeys(names, 0.75)) == {"loss": "relaxloss", "loss.alpha": 0.75}


def test_points_are_legal_different_and_always_the_same():
    planned = plan()
    points = points_of(planned)
    assert len(points) == MIN_POINTS and points == points_of(planned)
    assert all(space.contains(planned.space[name], value) for point in points for name, value in point.items())
    thirds = {int(3 * point["perturbation.epsilon"] / 0.05) for point in points}
    assert thirds == {0, 1, 2}  # spread evenly


def test_points_and_baselines_are_measured_in_turn_with_the_settings_of_the_confirmation_step():
    planned = plan()
    pilots = pilots_of(planned)
    names = ["", "undefended", "", "CRL alone", "", "adversarial training alone", "CRL + adversarial training"]
    assert [pilot.name for pilot in pilots] == names
    assert all(pilot.confirm == pilot.sweep.set(planned.confirm) for pilot in pilots)
    assert pilots[1].sweep == planned.configured(planned.baselines["undefended"])
    assert all(pilot.confirm is None for pilot in pilots_of(plan("--no-confirm")))


def test_a_slot_with_many_options_has_more_points():
    points = points_of(plan(study=CONDITIONAL))
    assert len(points) == 3 and {point["loss"] for point in points} <= {"cross_entropy", "relaxloss", "crl"}
    assert MIN_POINTS <= len(points) <= MAX_POINTS
