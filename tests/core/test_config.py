"""Configurations: the flat form and its inverse, changes, and the names that are rejected."""

import json

import pytest
from components import assert_config_rejected, config_with, for_every_component
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from core.config import CHOICES, SLOTS, TrialConfig
from core.errors import InputError
from core.space import Choice, IntRange


def test_the_optional_slots_have_a_component_named_none():
    assert {slot for slot, family in SLOTS.items() if "none" in family} == {
        "perturbation", "regularizer", "augmentation",
    }  # fmt: skip


# -- the flat form ----------------------------------------------------------------------------------------------------


def legal_values(knob):
    """A strategy of legal values of a knob, including the ends of its bounds and range."""
    if knob.options:
        return st.sampled_from(knob.options)
    if knob.span is not None:
        span = knob.span
        if isinstance(span, Choice):
            return st.sampled_from(span.options)
        return st.integers(span.low, span.high) if isinstance(span, IntRange) else st.floats(span.low, span.high)
    if knob.type is bool:
        return st.booleans()
    if knob.type is float:
        return st.floats(knob.bounds.low, min(knob.bounds.high, 1e6))
    if knob.type is int:
        return st.integers(int(max(knob.bounds.low, -99)), int(min(knob.bounds.high, 10**6)))
    return st.just(knob.default)


@st.composite
def configs(draw):
    chosen = {slot: draw(st.sampled_from(sorted(family))) for slot, family in SLOTS.items()}
    try:
        config = TrialConfig.of(chosen | {"normalize": chosen["optimizer"] != "dp_sgd"})
    except InputError:
        assume(False)
    names = [n for n in config.params() if n not in CHOICES]
    changed = draw(st.lists(st.sampled_from(names), max_size=6, unique=True))
    changes = {n: draw(legal_values(config.knob(n))) for n in changed}
    try:
        return config.set(changes)
    except InputError:  # each value is legal, but not in combination with the other slots
        assume(False)


@settings(deadline=None, max_examples=60)
@given(configs())
def test_of_is_the_inverse_of_params(config):
    flat = config.params()
    assert TrialConfig.of(flat) == config
    assert TrialConfig.of(json.loads(json.dumps(flat))) == config
    as_text = TrialConfig.of({name: str(value) for name, value in flat.items()})  # as MLflow returns it
    assert as_text == config
    assert {n: type(v) for n, v in as_text.params().items()} == {n: type(v) for n, v in flat.items()}


@for_every_component
def test_of_is_the_inverse_of_params_for_every_component(slot, name):
    config = config_with(slot, name)
    assert config.params()[slot] == name
    assert TrialConfig.of(config.params()) == config
    assert TrialConfig.of({n: str(v) for n, v in config.params().items()}) == config


# -- changes ----------------------------------------------------------------------------------------------------------


def test_a_replaced_component_starts_from_its_defaults():
    crl = TrialConfig.of({"loss": "crl", "loss.alpha_rce": 0.9, "loss.upper": 0.5})
    relaxloss = crl.set({"loss": "relaxloss"})
    assert relaxloss.loss == SLOTS["loss"]["relaxloss"]()
    assert relaxloss.set({"loss": "crl"}).loss == SLOTS["loss"]["crl"]()


def test_naming_the_present_component_keeps_its_knobs():
    crl = TrialConfig.of({"loss": "crl", "loss.alpha_rce": 0.9})
    assert crl.set({"loss": "crl"}) == crl
    assert crl.set({"loss": "crl", "loss.upper": 0.5}).loss.alpha_rce == 0.9


def test_the_order_of_changes_does_not_matter():
    assert TrialConfig.of({"loss.lambda": 2.0, "loss": "crl"}) == TrialConfig.of({"loss": "crl", "loss.lambda": 2.0})


def test_set_does_not_change_the_original():
    config = TrialConfig()
    changed = config.set({"seed": 3, "judge.steps": 5, "net.width": 4})
    assert config == TrialConfig()
    assert (changed.seed, changed.judge.steps, changed.net.width) == (3, 5, 4)
    assert config.set({}) == config


def test_knob_returns_the_knob_with_a_flat_name():
    config = TrialConfig.of({"loss": "crl"})
    assert config.knob("loss.lambda").attribute == "lambda_"
    assert config.knob("epochs").type is int
    assert config.knob("judge.steps").default == 20
    for name in ("loss", "judge", "loss.nothing", "nothing", "nothing.at_all"):
        with pytest.raises(InputError):
            config.knob(name)


# -- rejection --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params, text",
    [
        ({"epoch": 3}, "did you mean 'epochs'?"),
        ({"los.lambda": 3}, "unknown setting 'los.lambda'"),
        ({"loss": "crll"}, "did you mean 'crl'?"),
        ({"net": "resnet"}, "did you mean 'resnet50'?"),
        ({"loss": "crl", "loss.alpharce": 1}, "did you mean 'alpha_rce'?"),
        ({"loss": "crl", "loss.lambda_": 1}, "did you mean 'lambda'?"),
        ({"loss.lambda": 1}, "loss=centre_loss or crl has it"),
        ({"loss.lambda": 1}, "unknown knob of loss=cross_entropy"),
        ({"judge.step": 1}, "did you mean 'steps'?"),
        ({"judge": "pgd"}, "unknown setting 'judge'"),
        ({"judge.norm": "l22"}, "did you mean 'l2'?"),
        ({"split": "papr"}, "did you mean 'paper'?"),
        ({"seed.x": 1}, "unknown setting 'seed.x'"),
        ({"": 1}, "unknown setting ''"),
        ({"loss.": 1}, "unknown knob of loss=cross_entropy"),
    ],
)
def test_unknown_names_are_rejected_with_the_most_similar_known_one(params, text):
    assert_config_rejected(params, text)


def test_a_component_name_that_is_not_text_is_rejected():
    assert_config_rejected({"loss": ["crl"]}, "unknown loss")  # valid JSON


def test_a_component_of_another_slot_is_rejected_on_construction():
    with pytest.raises(InputError):
        TrialConfig(loss=SLOTS["perturbation"]["pgd"]())
