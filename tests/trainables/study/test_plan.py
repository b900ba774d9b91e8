"""Plans as plain data."""

import json

import finished
import pytest
from command_lines import plan as plan_of_command
from digits import DIGITS

from core.config import TrialConfig
from core.errors import InputError
from core.search_space import checked_space
from core.space import Choice, IntRange, LogUniform, Switch, Uniform, parse_range, range_text
from core.study import Constraint, Contrast, trilemma
from studies.crl_tradeoff import STUDY
from trainables.study.plan import Plan

CONFIG = TrialConfig.of({"loss": "crl", "perturbation": "pgd", "net.width": 7, "judge.epsilon": 1 / 3})
SPACE = {
    "loss.lambda": LogUniform(1e-3, 10),
    "loss.alpha_rcl": Uniform(0, 1),
    "loss.tau_rcl": Uniform(1 / 3, 2.0),
    "net.width": IntRange(4, 9),
    "net.hidden": Choice((8,)),
    "perturbation.norm": Choice(("linf", "l2")),
    "perturbation.epsilon": Choice((8 / 255, 0.1)),
    "normalize": Choice((True, False)),
}


def plan(**changes) -> Plan:
    """A plan with every kind of range, with these fields changed."""
    fields = dict(
        name="s-20260101-000000-abcd", study="s", question="What – “exactly”?", config=CONFIG,
        space=checked_space(CONFIG, SPACE), objectives=trilemma(10), trials=9, sampler="tpe", seed=2**40,
        baselines={"plain": {"loss": "cross_entropy"}, "FGSM": {"perturbation": "fgsm"}},
        confirm={"judge.part": "test", "judge.restarts": 5}, replicates=3, data=DIGITS,
    )  # fmt: skip
    return Plan(**fields | changes)


def round_trip(before: Plan) -> Plan:
    """The plan that is restored from the JSON of a plan."""
    return Plan.of_json(json.loads(json.dumps(before.to_json(), allow_nan=False)))


def test_a_plan_is_restored_from_json_unchanged():
    before = plan()
    after = round_trip(before)
    assert after == before and round_trip(after) == before
    assert list(after.space) == list(before.space) and list(after.baselines) == list(before.baselines)
    assert {name: type(span) for name, span in after.space.items()} == {name: type(span) for name, span in SPACE.items()}
    assert isinstance(after.objectives, tuple) and after.objectives == trilemma(10)


def test_a_conditional_space_is_restored_with_the_order_of_its_options_and_the_types_of_its_ranges():
    switches = {
        "loss": Switch({"relaxloss": {"loss.upper": IntRange(0, 1)}, "cross_entropy": {}, "crl": {"loss.upper": Choice((1, 0.5))}}),
        "perturbation": Switch({"none": {}, "pgd": {"perturbation.steps": IntRange(1, 5)}}),
        "net.width": IntRange(4, 9),
    }  # fmt: skip
    before = plan(space=checked_space(CONFIG, switches))
    after = round_trip(before)
    assert after == before and list(after.space["loss"].options) == ["relaxloss", "cross_entropy", "crl"]
    assert after.space["loss"].options["relaxloss"] == {"loss.upper": Uniform(0.0, 1.0)}
    assert [type(value) for value in after.space["loss"].options["crl"]["loss.upper"].options] == [float, float]
    with pytest.raises(InputError, match=r"loss=crl loss\.upper"):
        Plan.of_json({**before.to_json(), "space": {"loss": ["Switch", {"crl": {"loss.upper": ["Uniform", 0, 2]}}]}})


@pytest.mark.parametrize("preset", STUDY.presets)
def test_the_plan_of_a_preset_is_restored_unchanged(preset):
    before = plan_of_command("--preset", preset)
    assert round_trip(before) == before


def test_constraints_seeds_and_rungs_are_restored_unchanged():
    accurate, private = Constraint.of("accuracy>=0.8"), Constraint.of("mia_auc<=0.6")
    before = finished.plan(require=(accurate, private), seeds_per_trial=2, rungs=(3, 9))
    assert Plan.of_json(before.to_json()) == before and round_trip(before) == before


def test_contrasts_are_restored_unchanged():
    contrasts = (
        Contrast("Does it leak less?", "defended", "plain", "mia_auc", margin=1 / 3),
        Contrast("Is it more robust?", {"loss": "crl", "loss.lambda": 0.1}, "plain", "robust_accuracy", matched="accuracy"),
    )
    before = finished.plan(contrasts=contrasts)
    assert round_trip(before) == before and round_trip(before).contrasts == contrasts


@pytest.mark.parametrize("replicates, first, siblings", [(0, 0, 0), (1, 1, 0), (2, 2, 1), (5, 2, 1)])
def test_every_point_has_two_replicates_first_unless_the_budget_is_smaller(replicates, first, siblings):
    planned = finished.plan(replicates=replicates)
    assert (planned.first_replicates, planned.siblings) == (first, siblings)


@pytest.mark.parametrize("name", SPACE)
def test_every_kind_of_range_keeps_the_type_of_its_values(name):
    span = round_trip(plan(space=checked_space(CONFIG, {name: SPACE[name]}))).space[name]
    values = span.options if isinstance(span, Choice) else (span.low, span.high)
    kind = CONFIG.knob(name).type
    assert all(type(value) is (kind if kind in (int, float, bool) else str) for value in values)


def test_the_text_of_a_uniform_range_with_integer_ends_is_parsed_as_a_uniform_range():
    assert parse_range(range_text(Uniform(0, 1))) == Uniform(0.0, 1.0)
    assert isinstance(parse_range(range_text(Uniform(0, 1))), Uniform)
    assert parse_range(range_text(IntRange(0, 1))) == IntRange(0, 1)


def test_a_range_with_integer_ends_for_a_real_knob_is_a_real_range():
    assert checked_space(CONFIG, {"loss.lambda": IntRange(1, 10)}) == {"loss.lambda": Uniform(1.0, 10.0)}
    assert isinstance(checked_space(CONFIG, {"loss.lambda": IntRange(1, 10)})["loss.lambda"], Uniform)
    assert isinstance(checked_space(CONFIG, {"net.width": IntRange(1, 10)})["net.width"], IntRange)


def test_options_are_parsed_by_their_knob():
    space = checked_space(CONFIG, {"normalize": parse_range("true,false"), "loss.lambda": parse_range("1,1/2")})
    assert space["normalize"].options == (True, False)
    assert space["loss.lambda"].options == (1.0, 0.5) and all(type(v) is float for v in space["loss.lambda"].options)


def test_a_stored_plan_that_is_not_legal_is_refused():
    plain = plan().to_json()
    with pytest.raises(InputError, match="alpha_rcl"):
        Plan.of_json({**plain, "space": {"loss.alpha_rcl": ["Uniform", -1, 1]}})
    with pytest.raises(InputError, match="unknown loss"):
        Plan.of_json({**plain, "config": {**plain["config"], "loss": "nothing"}})
    for name, value in (("objectives", {}), ("rungs", "12"), ("rungs", ["1"]), ("require", {}), ("space", [])):
        with pytest.raises(InputError, match=name):
            Plan.of_json({**plain, name: value})


def test_the_configuration_of_a_trial_is_that_of_the_plan_with_its_changes():
    changed = plan().configured({"loss.lambda": 2.0, "seed": 3})
    assert changed.params() == CONFIG.params() | {"loss.lambda": 2.0, "seed": 3}
