"""Configurations: every filling's knobs, the flat form and its inverse, and what is refused with which message."""

import json
import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from core import space
from core.config import SLOTS, Metrics, Objective, Preset, Study, TrialConfig, checked_space, trilemma
from core.errors import InputError, TrialError
from core.space import Choice, IntRange, LogUniform, Uniform, parse_range

FILLINGS = [(slot, name) for slot, family in SLOTS.items() for name in family]
every_filling = pytest.mark.parametrize("slot, name", FILLINGS, ids=[f"{s}={n}" for s, n in FILLINGS])


NEEDS = {("regularizer", "rss"): {"perturbation": "fgsm"}, ("optimizer", "dp_sgd"): {"normalize": False}}
"""What a filling cannot be without."""


def filled(slot: str, name: str) -> TrialConfig:
    return TrialConfig.of({slot: name, **NEEDS.get((slot, name), {})})


def refused(text: str, params: dict) -> None:
    """`params` are refused in one line that contains the text."""
    with pytest.raises(InputError) as caught:
        TrialConfig.of(params)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


# -- the contract of every filling ------------------------------------------------------------------------------------


def test_the_first_filling_of_the_optional_slots_is_none():
    assert {slot for slot, family in SLOTS.items() if "none" in family} == {
        "perturbation", "regularizer", "augmentation",
    }  # fmt: skip


@every_filling
def test_filling_is_built_from_defaults_alone_and_immutable(slot, name):
    part = SLOTS[slot][name]()
    assert part == SLOTS[slot][name]()
    for knob in space.of(type(part)).values():
        with pytest.raises(AttributeError):
            setattr(part, knob.attribute, getattr(part, knob.attribute))


@every_filling
def test_every_default_lies_in_its_bounds_and_its_search_range(slot, name):
    for flat, knob in space.of(SLOTS[slot][name]).items():
        if knob.options:
            assert knob.default in knob.options, flat
        if knob.type in (int, float):
            assert knob.bounds.low <= knob.default <= knob.bounds.high, flat
        if knob.span is not None:
            assert space.contains(knob.span, knob.default), flat


@every_filling
def test_the_ends_of_every_search_range_are_legal(slot, name):
    config = filled(slot, name)
    for flat, span in space.ranges(SLOTS[slot][name], f"{slot}.").items():
        for value in space.ends(span):
            assert config.set({flat: value}).params()[flat] == value


@every_filling
def test_every_knob_has_a_type_that_text_can_be_read_as(slot, name):
    for flat, knob in space.of(SLOTS[slot][name]).items():
        assert knob.options or knob.type in (int, float, str, bool), flat


def near_default(knob):
    """Legal values of a knob, the ends of its bounds and range included."""
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
    names = [n for n in config.params() if n not in SLOTS]
    changed = draw(st.lists(st.sampled_from(names), max_size=6, unique=True))
    changes = {n: draw(near_default(config.knob(n))) for n in changed}
    try:
        return config.set(changes)
    except InputError:  # each is legal, but not with what the other slots hold
        assume(False)


@settings(deadline=None, max_examples=60)
@given(configs())
def test_the_flat_form_reads_back_to_the_same_configuration(config):
    flat = config.params()
    assert TrialConfig.of(flat) == config
    assert TrialConfig.of(json.loads(json.dumps(flat))) == config
    as_text = TrialConfig.of({name: str(value) for name, value in flat.items()})  # as MLflow gives it back
    assert as_text == config
    assert {n: type(v) for n, v in as_text.params().items()} == {n: type(v) for n, v in flat.items()}


@every_filling
def test_the_flat_form_of_every_filling_reads_back(slot, name):
    config = filled(slot, name)
    assert config.params()[slot] == name
    assert TrialConfig.of(config.params()) == config
    assert TrialConfig.of({n: str(v) for n, v in config.params().items()}) == config


def test_flat_names_drop_the_underscore_of_a_reserved_word():
    assert TrialConfig.of({"loss": "crl", "loss.lambda": 0.7}).loss.lambda_ == 0.7
    assert "loss.lambda_" not in TrialConfig.of({"loss": "crl"}).params()


# -- setting ----------------------------------------------------------------------------------------------------------


def test_a_replaced_slot_gets_the_new_fillings_defaults():
    crl = TrialConfig.of({"loss": "crl", "loss.alpha_rce": 0.9, "loss.upper": 0.5})
    relax = crl.set({"loss": "relaxloss"})
    assert relax.loss == SLOTS["loss"]["relaxloss"]()
    assert relax.set({"loss": "crl"}).loss == SLOTS["loss"]["crl"]()


def test_naming_the_filling_that_is_there_keeps_its_knobs():
    crl = TrialConfig.of({"loss": "crl", "loss.alpha_rce": 0.9})
    assert crl.set({"loss": "crl"}) == crl
    assert crl.set({"loss": "crl", "loss.upper": 0.5}).loss.alpha_rce == 0.9


def test_the_order_of_changes_does_not_matter():
    assert TrialConfig.of({"loss.lambda": 2.0, "loss": "crl"}) == TrialConfig.of({"loss": "crl", "loss.lambda": 2.0})


def test_set_leaves_the_original_alone():
    config = TrialConfig()
    changed = config.set({"seed": 3, "judge.steps": 5, "net.width": 4})
    assert config == TrialConfig()
    assert (changed.seed, changed.judge.steps, changed.net.width) == (3, 5, 4)
    assert config.set({}) == config


@pytest.mark.parametrize("text", ["8/255", " 8/255 ", "16/510", str(8 / 255)])
def test_fractions_are_numbers(text):
    config = TrialConfig.of({"perturbation": "pgd", "perturbation.epsilon": text, "judge.epsilon": text})
    assert config.perturbation.epsilon == config.judge.epsilon == 8 / 255


def test_text_is_read_as_the_knobs_type():
    config = TrialConfig.of({"epochs": "7", "normalize": "False", "optimizer.lr": "1e-2", "judge.norm": "l2"})
    assert (config.epochs, config.normalize, config.optimizer.lr, config.judge.norm) == (7, False, 0.01, "l2")


def test_a_whole_number_is_fine_where_a_real_one_is_wanted():
    lr = TrialConfig.of({"optimizer.lr": 1}).optimizer.lr
    assert lr == 1.0 and type(lr) is float


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
def test_unknown_names_are_refused_with_the_nearest_known_one(params, text):
    refused(text, params)


@pytest.mark.parametrize(
    "params, text",
    [
        ({"epochs": 0}, "epochs=0 is outside [1, inf)"),
        ({"batch_size": 1}, "batch_size=1 is outside [2, inf)"),
        ({"seed": -1}, "seed=-1 is outside [0, inf)"),
        ({"net.width": 0}, "net.width=0 is outside [1, inf)"),
        ({"judge.epsilon": 8}, "judge.epsilon=8 is outside [0, 1]; images are in [0, 1], so write 8/255"),
        ({"perturbation": "pgd", "perturbation.epsilon": "8"}, "perturbation.epsilon=8 is outside [0, 3]"),
        ({"loss": "crl", "loss.lambda": -0.1}, "loss.lambda=-0.1 is outside [0, inf)"),
        ({"loss": "crl", "loss.upper": 1.5}, "loss.upper=1.5 is outside [0, 1]"),
        ({"loss": "crl", "loss.lambda": float("nan")}, "loss.lambda=nan is not a finite number"),
        ({"optimizer.momentum": float("inf")}, "optimizer.momentum=inf is not a finite number"),
    ],
)
def test_values_outside_their_bounds_are_refused(params, text):
    refused(text, params)


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
def test_values_of_the_wrong_type_are_refused(params, text):
    refused(text, params)


@pytest.mark.parametrize("schedule", ["0:nan", "0:inf", "5:-0.1"])
def test_a_schedule_with_a_factor_that_cannot_train_is_refused(schedule):
    refused("schedule", {"optimizer.schedule": schedule})


def test_an_infinite_learning_rate_is_refused():
    refused("lr", {"optimizer.lr": float("inf")})


def test_a_filling_named_by_something_that_is_not_text_is_refused():
    refused("unknown loss", {"loss": ["crl"]})  # JSON can hold this


def test_a_filling_of_another_slot_is_refused_at_birth():
    with pytest.raises(InputError):
        TrialConfig(loss=SLOTS["perturbation"]["pgd"]())


def test_knob_finds_what_a_flat_name_stands_for():
    config = TrialConfig.of({"loss": "crl"})
    assert config.knob("loss.lambda").attribute == "lambda_"
    assert config.knob("epochs").type is int
    assert config.knob("judge.steps").default == 20
    for name in ("loss", "judge", "loss.nothing", "nothing", "nothing.at_all"):
        with pytest.raises(InputError):
            config.knob(name)


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
def test_ranges_that_make_no_sense_are_refused(text):
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


def test_checked_space_hands_legal_ranges_back():
    config = TrialConfig.of({"loss": "crl", "perturbation": "pgd"})
    spans = {
        "loss.lambda": LogUniform(1e-3, 10), "perturbation.epsilon": Uniform(0, 8 / 255), "epochs": IntRange(1, 5),
        "perturbation.norm": Choice(("l2", "linf")), "optimizer.lr": IntRange(1, 2), "normalize": Choice((True, False)),
    }  # fmt: skip
    assert checked_space(config, spans) == {**spans, "optimizer.lr": Uniform(1, 2)}  # 1:2 of a real number is not 1 or 2


@pytest.mark.parametrize(
    "spans, text",
    [
        ({"perturbation.epsilon": Uniform(0, 8)}, "epsilon=8 is outside [0, 3]"),
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
def test_checked_space_refuses_what_the_knob_would_refuse(spans, text):
    with pytest.raises(InputError) as caught:
        checked_space(TrialConfig.of({"loss": "crl", "perturbation": "pgd"}), spans)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ranges_of_a_class_are_prefixed_and_can_be_picked():
    crl = SLOTS["loss"]["crl"]
    assert space.ranges(crl, "loss.", only=("lambda",)) == {"loss.lambda": LogUniform(1e-3, 10.0)}
    assert "loss.detach_soft" not in space.ranges(crl, "loss.")
    with pytest.raises(InputError, match="did you mean 'lambda'"):
        space.ranges(crl, only=("lambd",))


# -- metrics, objectives, studies -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_metrics_that_are_not_finite_are_refused_by_name(bad):
    with pytest.raises(TrialError, match="not finite: accuracy, mia_auc"):
        Metrics({"mia_auc": bad, "fine": 1.0, "accuracy": bad})
    assert Metrics({"fine": 1.0})["fine"] == 1.0


def test_objective_loss_is_zero_at_the_ideal_and_one_at_the_reference():
    accuracy = Objective("accuracy", "max", reference=0.1, ideal=1.0)
    assert [accuracy.loss(v) for v in (1.0, 0.55, 0.1, 0.01, 1.2)] == pytest.approx([0.0, 0.5, 1.0, 1.1, 0.0])
    auc = Objective("mia_auc", "min", reference=1.0, ideal=0.5)
    assert [auc.loss(v) for v in (0.5, 0.75, 1.0, 0.4)] == pytest.approx([0.0, 0.5, 1.0, 0.0])


@pytest.mark.parametrize("direction, reference, ideal", [("max", 1.0, 0.5), ("min", 0.5, 1.0), ("max", 1.0, 1.0)])
def test_an_objective_whose_ideal_is_on_the_worse_side_is_refused(direction, reference, ideal):
    with pytest.raises(InputError, match="ideal on the better side"):
        Objective("m", direction, reference=reference, ideal=ideal)


def test_the_projects_objectives_put_chance_no_robustness_and_a_sure_attacker_at_loss_one():
    worst = {"accuracy": 0.1, "robust_accuracy": 0.0, "mia_auc": 1.0}
    best = {"accuracy": 1.0, "robust_accuracy": 1.0, "mia_auc": 0.5}
    objectives = trilemma(10)
    assert {o.metric: o.loss(worst[o.metric]) for o in objectives} == dict.fromkeys(worst, 1.0)
    assert {o.metric: o.loss(best[o.metric]) for o in objectives} == dict.fromkeys(worst, 0.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"space": lambda config: {"loss.lambda": Uniform(0, 1)}},
        {"baselines": {"typo": {"loss": "crll"}}},
        {"presets": {"dev": Preset(config=TrialConfig(), trials=1, confirm={"judge.part": "tset"})}},
    ],
    ids=["space", "baselines", "confirm"],
)
def test_a_study_that_cannot_run_is_refused_when_it_is_written(wrong):
    right = {
        "name": "s", "question": "?", "presets": {"dev": Preset(config=TrialConfig(), trials=1)},
        "space": lambda config: {"optimizer.lr": LogUniform(1e-3, 0.3)}, "baselines": {"plain": {}},
    }  # fmt: skip
    Study(**right)
    with pytest.raises(InputError):
        Study(**(right | wrong))


def test_real_ranges_are_refused_for_whole_numbers():
    with pytest.raises(InputError, match="batch_size takes whole numbers"):
        checked_space(TrialConfig(), {"batch_size": LogUniform(8, 64)})
