"""Search spaces: ranges of components, switches among components, and their check against a configuration."""

import pytest
from switches import LOSS, SPACE

from core.config import SLOTS, TrialConfig
from core.errors import InputError
from core.losses import LOSSES
from core.perturbations import PERTURBATIONS
from core.search_space import checked_space, option_configs, ranges, switch
from core.space import Choice, IntRange, LogUniform, Switch, Uniform


def assert_space_rejected(space: dict, *fragments: str, config: TrialConfig | None = None) -> None:
    """Check that a space is rejected with a message of one line that contains all fragments."""
    with pytest.raises(InputError) as caught:
        checked_space(config or TrialConfig(), space)
    assert not [f for f in fragments if f not in str(caught.value)], str(caught.value)
    assert "\n" not in str(caught.value)


# -- built from the components of a slot ------------------------------------------------------------------------------


def test_ranges_of_a_class_are_prefixed_and_can_be_selected():
    crl = SLOTS["loss"]["crl"]
    assert ranges(crl, "loss.", only=("lambda",)) == {"loss.lambda": LogUniform(1e-3, 10.0)}
    assert "loss.detach_soft" not in ranges(crl, "loss.")
    with pytest.raises(InputError, match="did you mean 'lambda'"):
        ranges(crl, only=("lambd",))


@pytest.mark.parametrize("slot", SLOTS)
def test_a_switch_has_every_component_of_the_slot_with_its_declared_ranges(slot):
    assert switch(slot, SLOTS[slot]).options == {name: ranges(cls, f"{slot}.") for name, cls in SLOTS[slot].items()}


def test_components_and_their_knobs_can_be_selected_and_their_ranges_replaced():
    assert set(switch("loss", LOSSES, only=("crl", "relaxloss")).options) == {"crl", "relaxloss"}
    selected = switch(
        "loss", LOSSES, only={"cross_entropy": (), "crl": ("lambda", "alpha_rce")},
        limits={"crl": {"lambda": Uniform(0, 1), "lr_c": LogUniform(1e-4, 1e-2)}},
    )  # fmt: skip
    assert selected == Switch({
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
def test_an_unknown_component_or_knob_cannot_be_selected(more, text):
    with pytest.raises(InputError) as caught:
        switch("loss", LOSSES, **more)
    assert text in str(caught.value)


# -- ranges checked against a configuration ---------------------------------------------------------------------------


def test_checked_space_returns_legal_ranges():
    config = TrialConfig.of({"loss": "crl", "perturbation": "pgd"})
    ranges_ = {
        "loss.lambda": LogUniform(1e-3, 10), "perturbation.epsilon": Uniform(0, 8 / 255), "epochs": IntRange(1, 5),
        "perturbation.norm": Choice(("l2", "linf")), "optimizer.lr": IntRange(1, 2), "normalize": Choice((True, False)),
    }  # fmt: skip
    checked = {**ranges_, "optimizer.lr": Uniform(1, 2)}  # for a float, 1:2 is not a choice between 1 and 2
    assert checked_space(config, ranges_) == checked


@pytest.mark.parametrize(
    "spans, text",
    [
        ({"perturbation.epsilon": Uniform(0, 8)}, "epsilon=8 is outside [0, 1]"),
        ({"loss.lambda": Uniform(-1, 1)}, "lambda=-1 is outside [0, inf)"),
        ({"perturbation.norm": Choice(("l2", "l1"))}, "unknown value of perturbation.norm 'l1'"),
        ({"perturbation.norm": Uniform(0, 1)}, "perturbation.norm"),
        ({"perturbation.steps": Uniform(1.0, 5.0)}, "perturbation.steps takes int"),
        ({"epochs": IntRange(0, 5)}, "epochs=0 is outside"),
        ({"normalize": IntRange(0, 1)}, "normalize takes bool"),
        ({"loss.alpha_rcee": Uniform(0, 1)}, "did you mean 'alpha_rce'?"),
        ({"regularizer.l1": Uniform(0, 1)}, "regularizer=l1 or elastic_net has it"),
        ({"loss": Choice(("crl", "relaxloss"))}, "unknown knob 'loss'"),
        ({"optimizer.schedule": Choice(("cosine", "bogus"))}, "cannot read the schedule 'bogus'"),
    ],
)
def test_checked_space_rejects_values_that_the_knob_rejects(spans, text):
    with pytest.raises(InputError) as caught:
        checked_space(TrialConfig.of({"loss": "crl", "perturbation": "pgd"}), spans)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_continuous_range_is_rejected_for_an_integer_knob():
    with pytest.raises(InputError, match="batch_size takes integers"):
        checked_space(TrialConfig(), {"batch_size": LogUniform(8, 64)})


# -- switches checked against a configuration -------------------------------------------------------------------------


def test_the_knobs_of_an_option_are_checked_with_that_option_chosen_and_converted_to_their_types():
    mixed = {**SPACE, "loss": Switch({"crl": {"loss.lambda": IntRange(1, 3), "loss.detach_p": Choice(("true", "false"))}})}
    for config in (TrialConfig(), TrialConfig.of({"loss": "crl", "perturbation": "fgsm"})):
        assert checked_space(config, SPACE) == SPACE
        checked = checked_space(config, mixed)["loss"].options["crl"]
        assert checked == {"loss.lambda": Uniform(1.0, 3.0), "loss.detach_p": Choice((True, False))}
        assert isinstance(checked["loss.lambda"].low, float)


def test_an_option_whose_norm_is_l2_may_have_larger_radii():
    radii = {"perturbation.epsilon": Uniform(0.0, 3.0)}
    l2 = {"perturbation": Switch({"pgd": radii | {"perturbation.norm": Choice(("l2",))}, "none": {}})}
    assert checked_space(TrialConfig(), l2) == l2
    for norms in ({}, {"perturbation.norm": Choice(("linf",))}, {"perturbation.norm": Choice(("l2", "linf"))}):
        assert_space_rejected({"perturbation": Switch({"pgd": radii | norms})}, "perturbation.epsilon=3 is outside [0, 1]")


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
         ["space perturbation=pgd perturbation.steps: ", "contains fractions, perturbation.steps takes integers"]),
        ({"loss": LOSS, "loss.lambda": Uniform(0, 1)}, ["space loss.lambda: loss=cross_entropy has no such knob"]),
        ({"loss.lambda": Uniform(0, 1), "loss": Switch({"crl": {"loss.lambda": Uniform(0, 2)}})},
         ["space loss.lambda: ", "both outside the switch of loss and in its option crl"]),
        ({"perturbation": switch("perturbation", PERTURBATIONS, ("fgsm", "pgd")), "perturbation.alpha": Uniform(0, 2)},
         ["space perturbation.alpha of perturbation=fgsm: ", "outside [0, 1]"]),
    ],
)  # fmt: skip
def test_an_illegal_switch_is_rejected_with_its_option_and_knob(ranges_, fragments):
    assert_space_rejected(ranges_, *fragments)


def test_a_knob_that_every_option_has_may_be_listed_outside_the_switch():
    shared = {"perturbation": Switch({"fgsm": {}, "pgd": {}}), "perturbation.epsilon": IntRange(0, 1)}
    assert checked_space(TrialConfig(), shared)["perturbation.epsilon"] == Uniform(0.0, 1.0)


def test_an_option_that_requires_an_option_of_another_switch_is_checked_in_combination_with_it():
    pairs = {"regularizer": Switch({"rss": {"regularizer.lambda": Uniform(1, 9)}, "none": {}})}  # rss requires fgsm
    assert_space_rejected(pairs, "space regularizer=rss: regularizer=rss compares FGSM with R-FGSM images")
    assert checked_space(TrialConfig(), {**pairs, "perturbation": Switch({"none": {}, "fgsm": {}})})
    assert_space_rejected({**pairs, "perturbation": Switch({"none": {}, "pgd": {}})}, "space regularizer=rss: ")


def test_there_is_a_legal_configuration_for_every_option():
    configs = list(option_configs(TrialConfig(), SPACE))
    assert [(c.params()["loss"], c.params()["perturbation"]) for c in configs] == [
        ("cross_entropy", "none"), ("relaxloss", "none"), ("crl", "none"), ("cross_entropy", "none"), ("cross_entropy", "pgd"),
    ]  # fmt: skip
    assert not list(option_configs(TrialConfig(), {"optimizer.lr": Uniform(0, 1)}))
