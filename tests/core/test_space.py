"""Ranges and spaces: text, JSON, ends, and unique names of the knobs of switches."""

import json
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from switches import LOSS, PERTURBATION, SPACE

from core import space
from core.errors import InputError
from core.losses import LOSSES
from core.search_space import ranges
from core.space import Choice, IntRange, LogUniform, Switch, Uniform, parse_range

# -- ranges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, span",
    [
        ("0:8/255", Uniform(0.0, 8 / 255)),
        ("0.1:2", Uniform(0.1, 2.0)),
        ("1e-3:1", Uniform(1e-3, 1.0)),
        ("1e-3:10:log", LogUniform(1e-3, 10.0)),
        ("1:100:log", LogUniform(1.0, 100.0)),
        ("1:5", IntRange(1, 5)),
        ("-2:3", IntRange(-2, 3)),
        ("3,7,10", Choice((3, 7, 10))),
        ("l2,linf", Choice(("l2", "linf"))),
        ("0,4/255,8/255", Choice((0, 4 / 255, 8 / 255))),
        ("crl, relaxloss", Choice(("crl", "relaxloss"))),
    ],
)
def test_ranges_are_read_as_written(text, span):
    assert parse_range(text) == span
    assert type(parse_range(text)) is type(span)
    assert [type(v) for v in space.ends(parse_range(text))] == [type(v) for v in space.ends(span)]


@pytest.mark.parametrize(
    "text",
    ["", "5", "word", "1:2:lin", "1:2:", "1:2:3:4", "2:1", "1:1", "0:1:log", "nan:1", "0:inf", "a:b", "3,3"],
)
def test_invalid_ranges_are_rejected(text):
    with pytest.raises(InputError) as caught:
        parse_range(text)
    assert "\n" not in str(caught.value)


@settings(deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_ranges_reject_ends_in_the_wrong_order(low, high):
    if low < high:
        assert space.contains(Uniform(low, high), (low + high) / 2)
        assert not space.contains(Uniform(low, high), math.nextafter(high, math.inf))
    else:
        with pytest.raises(InputError):
            Uniform(low, high)


# -- switches ---------------------------------------------------------------------------------------------------------


def test_a_switch_contains_its_options_only_and_its_ends_are_its_options():
    assert space.ends(LOSS) == ("cross_entropy", "relaxloss", "crl")
    assert space.contains(LOSS, "crl") and not space.contains(LOSS, "loss.lambda") and not space.contains(LOSS, 0.5)


@pytest.mark.parametrize("options", [{}, {"crl": {"loss.lambda": PERTURBATION}}], ids=["empty", "nested"])
def test_a_switch_without_options_or_with_a_switch_inside_is_rejected(options):
    with pytest.raises(InputError, match="a switch"):
        Switch(options)


def test_a_switch_is_restored_from_json_with_the_types_of_its_ranges():
    restored = space.range_of_json(json.loads(json.dumps(space.range_to_json(LOSS))))
    assert restored == LOSS and list(restored.options) == list(LOSS.options)
    assert [type(s) for s in restored.options["crl"].values()] == [LogUniform, Choice]


def test_the_text_of_a_switch_contains_the_text_of_each_of_its_ranges():
    assert space.range_text(LOSS) == (
        "cross_entropy | relaxloss (loss.alpha=0.05:3.0:log, loss.upper=0.5:1.0) | "
        "crl (loss.lambda=0.001:10.0:log, loss.upper=0.25,1.0)"
    )


def test_every_range_of_a_space_has_a_unique_name_that_mlflow_accepts():
    flat = space.flat(SPACE)
    assert flat == {
        "loss": Choice(("cross_entropy", "relaxloss", "crl")),
        "loss.relaxloss/alpha": LogUniform(0.05, 3.0), "loss.relaxloss/upper": Uniform(0.5, 1.0),
        "loss.crl/lambda": LogUniform(1e-3, 10.0), "loss.crl/upper": Choice((0.25, 1.0)),
        "perturbation": Choice(("none", "pgd")),
        "perturbation.pgd/epsilon": Uniform(0.0, 0.1), "perturbation.pgd/steps": IntRange(1, 5),
        "optimizer.lr": LogUniform(1e-3, 0.3),
    }  # fmt: skip
    assert all(re.fullmatch(r"[\w\-./]+", name) for name in flat)
    assert space.within("loss", "crl", "loss.lambda") == "loss.crl/lambda"


def test_a_knob_of_several_options_is_listed_once():
    assert space.searched_names(SPACE) == [
        "loss", "loss.alpha", "loss.upper", "loss.lambda", "perturbation", "perturbation.epsilon", "perturbation.steps",
        "optimizer.lr",
    ]  # fmt: skip
    assert space.searched_names(ranges(LOSSES["crl"], "loss.", only=("lambda",))) == ["loss.lambda"]
