"""Knobs of every component, the conversion of text to their types, and the values that they reject."""

import pytest
from components import assert_config_rejected, config_with, for_every_component

from core import space
from core.config import SLOTS, TrialConfig
from core.knobs import knobs_of
from core.search_space import ranges

# -- the knobs of every component -------------------------------------------------------------------------------------


@for_every_component
def test_a_component_is_built_from_its_defaults_and_is_immutable(slot, name):
    part = SLOTS[slot][name]()
    assert part == SLOTS[slot][name]()
    for knob in knobs_of(type(part)).values():
        with pytest.raises(AttributeError):
            setattr(part, knob.attribute, getattr(part, knob.attribute))


@for_every_component
def test_every_default_lies_within_its_bounds_and_its_search_range(slot, name):
    for flat, knob in knobs_of(SLOTS[slot][name]).items():
        if knob.options:
            assert knob.default in knob.options, flat
        if knob.type in (int, float):
            assert knob.bounds.low <= knob.default <= knob.bounds.high, flat
        if knob.span is not None:
            assert space.contains(knob.span, knob.default), flat


@for_every_component
def test_the_ends_of_every_search_range_are_legal(slot, name):
    config = config_with(slot, name)
    for flat, span in ranges(SLOTS[slot][name], f"{slot}.").items():
        for value in space.ends(span):
            assert config.set({flat: value}).params()[flat] == value


@for_every_component
def test_every_knob_has_a_type_that_can_be_read_from_text(slot, name):
    for flat, knob in knobs_of(SLOTS[slot][name]).items():
        assert knob.options or knob.type in (int, float, str, bool), flat


# -- conversion -------------------------------------------------------------------------------------------------------


def test_flat_names_drop_the_underscore_of_a_reserved_word():
    assert TrialConfig.of({"loss": "crl", "loss.lambda": 0.7}).loss.lambda_ == 0.7
    assert "loss.lambda_" not in TrialConfig.of({"loss": "crl"}).params()


@pytest.mark.parametrize("text", ["8/255", " 8/255 ", "16/510", str(8 / 255)])
def test_fractions_are_numbers(text):
    config = TrialConfig.of({"perturbation": "pgd", "perturbation.epsilon": text, "judge.epsilon": text})
    assert config.perturbation.epsilon == config.judge.epsilon == 8 / 255


def test_a_radius_is_bounded_by_its_norm():
    """In Linf by the range of a pixel. In L2 the customary radii are 1.5 for MNIST and 3 for ImageNet."""
    assert_config_rejected({"judge.norm": "linf", "judge.epsilon": 1.5}, "judge.epsilon=1.5 is outside [0, 1]")
    assert_config_rejected({"judge.norm": "l2", "judge.epsilon": -1}, "judge.epsilon=-1 is outside [0, inf)")
    assert_config_rejected({"perturbation": "rfgsm", "perturbation.epsilon": 1.5}, "perturbation.epsilon=1.5 is outside [0, 1]")
    for component in ("noise", "fgsm", "pgd"):
        given = {"perturbation": component, "perturbation.epsilon": 3.0}
        assert_config_rejected({**given, "perturbation.norm": "linf"}, "perturbation.epsilon=3 is outside [0, 1]")
        config = TrialConfig.of({"judge.epsilon": "3.0", "judge.norm": "l2", **given, "perturbation.norm": "l2"})
        assert config.judge.epsilon == config.perturbation.epsilon == 3.0 and TrialConfig.of(config.params()) == config
        assert_config_rejected({**config.params(), "judge.norm": "linf"}, "judge.epsilon=3 is outside [0, 1]")
    step = TrialConfig.of({"perturbation": "pgd", "perturbation.norm": "l2", "perturbation.step_size": 1.5})
    assert step.perturbation.step_size == 1.5


def test_text_is_converted_to_the_type_of_the_knob():
    config = TrialConfig.of({"epochs": "7", "normalize": "False", "optimizer.lr": "1e-2", "judge.norm": "l2"})
    assert (config.epochs, config.normalize, config.optimizer.lr, config.judge.norm) == (7, False, 0.01, "l2")


def test_an_integer_is_accepted_as_a_float():
    lr = TrialConfig.of({"optimizer.lr": 1}).optimizer.lr
    assert lr == 1.0 and type(lr) is float


# -- rejection --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params, text",
    [
        ({"epochs": 0}, "epochs=0 is outside [1, inf)"),
        ({"batch_size": 1}, "batch_size=1 is outside [2, inf)"),
        ({"seed": -1}, "seed=-1 is outside [0, inf)"),
        ({"net.width": 0}, "net.width=0 is outside [1, inf)"),
        ({"judge.epsilon": 8}, "judge.epsilon=8 is outside [0, 1]; images are in [0, 1], so write 8/255"),
        ({"perturbation": "pgd", "perturbation.epsilon": "8"}, "perturbation.epsilon=8 is outside [0, 1]"),
        ({"loss": "crl", "loss.lambda": -0.1}, "loss.lambda=-0.1 is outside [0, inf)"),
        ({"loss": "crl", "loss.upper": 1.5}, "loss.upper=1.5 is outside [0, 1]"),
        ({"loss": "crl", "loss.lambda": float("nan")}, "loss.lambda=nan is not a finite number"),
        ({"optimizer.momentum": float("inf")}, "optimizer.momentum=inf is not a finite number"),
    ],
)
def test_values_outside_their_bounds_are_rejected(params, text):
    assert_config_rejected(params, text)


@pytest.mark.parametrize(
    "params, text",
    [
        ({"epochs": 2.5}, "epochs takes int, got 2.5"),
        ({"epochs": "2.5"}, "epochs takes int, got '2.5'"),
        ({"epochs": True}, "epochs takes int, got True"),
        ({"normalize": 1}, "normalize takes bool, got 1"),
        ({"normalize": "yes"}, "normalize takes bool, got 'yes'"),
        ({"dataset": 3}, "dataset takes str, got 3"),
        ({"optimizer.lr": "fast"}, "optimizer.lr takes float, got 'fast'"),
        ({"optimizer.lr": "nan"}, "optimizer.lr takes float, got 'nan'"),
        ({"optimizer.lr": "1/0"}, "optimizer.lr takes float, got '1/0'"),
        ({"optimizer.lr": True}, "lr takes float, got True"),
        ({"optimizer.lr": None}, "lr takes float, got None"),
        ({"judge.norm": 2}, "unknown value of judge.norm '2'"),
        ({"loss": 3}, "unknown loss '3'"),
        ({"optimizer.schedule": "50-0.1"}, "cannot read the schedule '50-0.1'"),
    ],
)
def test_values_of_the_wrong_type_are_rejected(params, text):
    assert_config_rejected(params, text)


def test_an_infinite_learning_rate_is_rejected():
    assert_config_rejected({"optimizer.lr": float("inf")}, "lr")
