"""Conditional spaces: which filling a slot has, with knobs and ranges that only that filling has."""

import json
import re
from dataclasses import replace

import pytest

from core import space
from core.config import SLOTS, Preset, Study, TrialConfig, checked_space, fillings
from core.errors import InputError
from core.losses import LOSSES
from core.perturbations import PERTURBATIONS
from core.space import Choice, IntRange, LogUniform, Switch, Uniform, ranges, switch

LOSS = Switch({
    "cross_entropy": {},
    "relaxloss": {"loss.alpha": LogUniform(0.05, 3.0), "loss.upper": Uniform(0.5, 1.0)},
    "crl": {"loss.lambda": LogUniform(1e-3, 10.0), "loss.upper": Choice((0.25, 1.0))},
})  # fmt: skip
PERTURBATION = Switch({
    "none": {}, "pgd": {"perturbation.epsilon": Uniform(0.0, 0.1), "perturbation.steps": IntRange(1, 5)},
})  # fmt: skip
SPACE = {"loss": LOSS, "perturbation": PERTURBATION, "optimizer.lr": LogUniform(1e-3, 0.3)}


def refused(ranges_: dict, *fragments: str, config: TrialConfig | None = None) -> None:
    with pytest.raises(InputError) as caught:
        checked_space(config or TrialConfig(), ranges_)
    assert not [f for f in fragments if f not in str(caught.value)], str(caught.value)
    assert "\n" not in str(caught.value)


# -- a switch by itself -----------------------------------------------------------------------------------------------


def test_the_ends_of_a_switch_are_its_options_and_it_produces_nothing_else():
    assert space.ends(LOSS) == ("cross_entropy", "relaxloss", "crl")
    assert space.contains(LOSS, "crl") and not space.contains(LOSS, "loss.lambda") and not space.contains(LOSS, 0.5)


@pytest.mark.parametrize("options", [{}, {"crl": {"loss.lambda": PERTURBATION}}], ids=["empty", "nested"])
def test_a_switch_without_options_or_with_a_switch_inside_is_refused(options):
    with pytest.raises(InputError, match="a switch"):
        Switch(options)


def test_a_switch_comes_back_from_json_with_the_types_of_what_is_in_it():
    back = space.of_plain(json.loads(json.dumps(space.plain(LOSS))))
    assert back == LOSS and list(back.options) == list(LOSS.options)
    assert [type(s) for s in back.options["crl"].values()] == [LogUniform, Choice]


def test_the_text_of_a_switch_holds_the_text_of_every_range_in_it():
    assert space.text(LOSS) == (
        "cross_entropy | relaxloss (loss.alpha=0.05:3.0:log, loss.upper=0.5:1.0) | "
        "crl (loss.lambda=0.001:10.0:log, loss.upper=0.25,1.0)"
    )


def test_every_range_of_a_space_has_a_name_of_its_own_that_mlflow_takes():
    named = space.flat(SPACE)
    assert named == {
        "loss": Choice(("cross_entropy", "relaxloss", "crl")),
        "loss.relaxloss/alpha": LogUniform(0.05, 3.0), "loss.relaxloss/upper": Uniform(0.5, 1.0),
        "loss.crl/lambda": LogUniform(1e-3, 10.0), "loss.crl/upper": Choice((0.25, 1.0)),
        "perturbation": Choice(("none", "pgd")),
        "perturbation.pgd/epsilon": Uniform(0.0, 0.1), "perturbation.pgd/steps": IntRange(1, 5),
        "optimizer.lr": LogUniform(1e-3, 0.3),
    }  # fmt: skip
    assert all(re.fullmatch(r"[\w\-./]+", name) for name in named)
    assert space.within("loss", "crl", "loss.lambda") == "loss.crl/lambda"


def test_what_is_searched_is_named_once_however_many_options_have_it():
    assert space.names(SPACE) == [
        "loss", "loss.alpha", "loss.upper", "loss.lambda", "perturbation", "perturbation.epsilon", "perturbation.steps",
        "optimizer.lr",
    ]  # fmt: skip
    assert space.names(ranges(LOSSES["crl"], "loss.", only=("lambda",))) == ["loss.lambda"]


# -- from a family of fillings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("slot", SLOTS)
def test_a_family_makes_a_legal_switch_of_every_filling_with_its_authors_ranges(slot):
    made = switch(slot, SLOTS[slot])
    assert made.options == {name: ranges(cls, f"{slot}.") for name, cls in SLOTS[slot].items()}


def test_fillings_and_their_knobs_can_be_picked_and_their_ranges_replaced():
    assert set(switch("loss", LOSSES, only=("crl", "relaxloss")).options) == {"crl", "relaxloss"}
    made = switch(
        "loss", LOSSES, only={"cross_entropy": (), "crl": ("lambda", "alpha_rce")},
        limits={"crl": {"lambda": Uniform(0, 1), "lr_c": LogUniform(1e-4, 1e-2)}},
    )  # fmt: skip
    assert made == Switch({
        "cross_entropy": {},
        "crl": {
            "loss.lambda": Uniform(0, 1), "loss.lr_c": LogUniform(1e-4, 1e-2),
            "loss.alpha_rce": ranges(LOSSES["crl"])["alpha_rce"],
        },
    })  # fmt: skip


@pytest.mark.parametrize(
    "more, text",
    [
        ({"only": ("crll",)}, "unknown loss 'crll' (did you mean 'crl'?)"),
        ({"only": {"crl": ("lambd",)}}, "unknown searched knob of CRL 'lambd'"),
        ({"limits": {"crll": {}}}, "unknown loss 'crll'"),
        ({"only": ("crl",), "limits": {"relaxloss": {}}}, "unknown loss 'relaxloss', expected one of: crl"),
    ],
)
def test_a_filling_or_knob_that_does_not_exist_cannot_be_picked(more, text):
    with pytest.raises(InputError) as caught:
        switch("loss", LOSSES, **more)
    assert text in str(caught.value)


# -- checked against a configuration ----------------------------------------------------------------------------------


def test_the_knobs_of_every_option_are_checked_where_that_option_is_chosen_and_get_their_types():
    mixed = {**SPACE, "loss": Switch({"crl": {"loss.lambda": IntRange(1, 3), "loss.detach_p": Choice(("true", "false"))}})}
    for config in (TrialConfig(), TrialConfig.of({"loss": "crl", "perturbation": "fgsm"})):
        assert checked_space(config, SPACE) == SPACE
        found = checked_space(config, mixed)["loss"].options["crl"]
        assert found == {"loss.lambda": Uniform(1.0, 3.0), "loss.detach_p": Choice((True, False))}
        assert isinstance(found["loss.lambda"].low, float)


@pytest.mark.parametrize(
    "ranges_, fragments",
    [
        ({"loss": Switch({"crl": {"loss.lambda": Uniform(-1, 1)}})}, ["space loss=crl loss.lambda: ", "outside [0, inf)"]),
        ({"loss": Switch({"crl": {"loss.alpha_rce": Uniform(0, 1)}, "cross_entropy": {"loss.alpha_rce": Uniform(0, 1)}})},
         ["space loss=cross_entropy loss.alpha_rce: unknown knob of loss=cross_entropy"]),
        ({"loss": Switch({"crl": {"loss.lamda": Uniform(0, 1)}})}, ["space loss=crl loss.lamda: ", "did you mean 'lambda'"]),
        ({"loss": Switch({"crl": {"optimizer.lr": Uniform(0, 1)}})}, ["loss=crl optimizer.lr: only the knobs of loss"]),
        ({"loss": Switch({"crl": {"loss": Choice(("crl",))}})}, ["loss=crl loss: only the knobs of loss"]),
        ({"loss": Switch({"crll": {}})}, ["unknown loss 'crll'", "did you mean 'crl'"]),
        ({"los": Switch({"crl": {}})}, ["unknown slot 'los'", "net, loss, perturbation"]),
        ({"epochs": Switch({"3": {}})}, ["unknown slot 'epochs'"]),
        ({"judge": Switch({"x": {}})}, ["unknown slot 'judge'"]),
        ({"loss.lambda": Switch({"x": {}})}, ["unknown slot 'loss.lambda'"]),
        ({"perturbation": Switch({"pgd": {"perturbation.steps": LogUniform(1, 5)}})},
         ["space perturbation=pgd perturbation.steps: ", "holds fractions, perturbation.steps takes whole numbers"]),
        ({"loss": LOSS, "loss.lambda": Uniform(0, 1)}, ["space loss.lambda: loss=cross_entropy has no such knob"]),
        ({"loss.lambda": Uniform(0, 1), "loss": Switch({"crl": {"loss.lambda": Uniform(0, 2)}})},
         ["space loss.lambda: ", "beside the switch of loss and in its option crl"]),
        ({"perturbation": switch("perturbation", PERTURBATIONS, ("fgsm", "pgd")), "perturbation.alpha": Uniform(0, 2)},
         ["space perturbation.alpha of perturbation=fgsm: ", "outside [0, 1]"]),
    ],
)  # fmt: skip
def test_a_switch_that_cannot_be_is_refused_with_its_option_and_knob(ranges_, fragments):
    refused(ranges_, *fragments)


def test_a_knob_that_every_option_has_may_stand_beside_the_switch():
    shared = {"perturbation": Switch({"fgsm": {}, "pgd": {}}), "perturbation.epsilon": IntRange(0, 1)}
    assert checked_space(TrialConfig(), shared)["perturbation.epsilon"] == Uniform(0.0, 1.0)


def test_an_option_that_goes_only_with_another_switchs_option_is_checked_together_with_it():
    pairs = {"regularizer": Switch({"rss": {"regularizer.lambda": Uniform(1, 9)}, "none": {}})}  # rss: only with fgsm
    refused(pairs, "space regularizer=rss: regularizer=rss pairs FGSM images")
    assert checked_space(TrialConfig(), {**pairs, "perturbation": Switch({"none": {}, "fgsm": {}})})
    refused({**pairs, "perturbation": Switch({"none": {}, "pgd": {}})}, "space regularizer=rss: ")


def test_there_is_a_legal_configuration_for_every_option():
    found = list(fillings(TrialConfig(), SPACE))
    assert [(c.params()["loss"], c.params()["perturbation"]) for c in found] == [
        ("cross_entropy", "none"), ("relaxloss", "none"), ("crl", "none"), ("cross_entropy", "none"), ("cross_entropy", "pgd"),
    ]  # fmt: skip
    assert not list(fillings(TrialConfig(), {"optimizer.lr": Uniform(0, 1)}))


def test_a_study_with_an_illegal_option_is_refused_when_it_is_written():
    preset = Preset(config=TrialConfig(), trials=1)
    study = Study(name="s", question="?", presets={"dev": preset}, space=lambda config: SPACE)
    with pytest.raises(InputError, match=r"^space loss=crl loss\.lambda: "):
        replace(study, space=lambda config: {"loss": Switch({"crl": {"loss.lambda": Uniform(-1, 1)}})})
