"""A plan is plain data, and comes back from it as it was."""

import json

import pytest

from core.config import TrialConfig, checked_space, trilemma
from core.errors import InputError
from core.space import Choice, IntRange, LogUniform, Switch, Uniform, parse_range, text
from studies.crl_tradeoff import STUDY
from trainables import cli
from trainables.plan import Plan, Site

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
    parts = dict(
        name="s-20260101-000000-abcd", study="s", question="What – “exactly”?", config=CONFIG,
        space=checked_space(CONFIG, SPACE), objectives=trilemma(10), trials=9, sampler="tpe", seed=2**40,
        baselines={"plain": {"loss": "cross_entropy"}, "FGSM": {"perturbation": "fgsm"}},
        confirm={"judge.part": "test", "judge.restarts": 5}, replicates=3,
    )  # fmt: skip
    return Plan(**parts | changes)


def there_and_back(before: Plan) -> Plan:
    return Plan.of_json(json.loads(json.dumps(before.to_json(), allow_nan=False)))


def test_a_plan_comes_back_from_json_as_it_was():
    before = plan()
    after = there_and_back(before)
    assert after == before and there_and_back(after) == before
    assert list(after.space) == list(before.space) and list(after.baselines) == list(before.baselines)
    assert {name: type(span) for name, span in after.space.items()} == {name: type(span) for name, span in SPACE.items()}
    assert isinstance(after.objectives, tuple) and after.objectives == trilemma(10)


def test_a_conditional_space_comes_back_with_its_options_in_order_and_their_ranges_in_their_types():
    switches = {
        "loss": Switch({"relaxloss": {"loss.upper": IntRange(0, 1)}, "cross_entropy": {}, "crl": {"loss.upper": Choice((1, 0.5))}}),
        "perturbation": Switch({"none": {}, "pgd": {"perturbation.steps": IntRange(1, 5)}}),
        "net.width": IntRange(4, 9),
    }  # fmt: skip
    before = plan(space=checked_space(CONFIG, switches))
    after = there_and_back(before)
    assert after == before and list(after.space["loss"].options) == ["relaxloss", "cross_entropy", "crl"]
    assert after.space["loss"].options["relaxloss"] == {"loss.upper": Uniform(0.0, 1.0)}
    assert [type(value) for value in after.space["loss"].options["crl"]["loss.upper"].options] == [float, float]
    with pytest.raises(InputError, match=r"loss=crl loss\.upper"):
        Plan.of_json({**before.to_json(), "space": {"loss": ["Switch", {"crl": {"loss.upper": ["Uniform", 0, 2]}}]}})


@pytest.mark.parametrize("preset", STUDY.presets)
def test_the_plans_of_a_study_come_back_too(preset):
    before = cli.plan_of(STUDY, cli.parser(STUDY).parse_args(["--preset", preset]))
    assert there_and_back(before) == before


@pytest.mark.parametrize("name", SPACE)
def test_every_kind_of_range_keeps_the_types_of_what_it_can_produce(name):
    span = there_and_back(plan(space=checked_space(CONFIG, {name: SPACE[name]}))).space[name]
    values = span.options if isinstance(span, Choice) else (span.low, span.high)
    kind = CONFIG.knob(name).type
    assert all(type(value) is (kind if kind in (int, float, bool) else str) for value in values)


def test_a_uniform_range_with_whole_ends_stays_one():
    assert parse_range(text(Uniform(0, 1))) == Uniform(0.0, 1.0)
    assert isinstance(parse_range(text(Uniform(0, 1))), Uniform)
    assert parse_range(text(IntRange(0, 1))) == IntRange(0, 1)


def test_whole_ends_for_a_real_knob_are_a_real_range():
    assert checked_space(CONFIG, {"loss.lambda": IntRange(1, 10)}) == {"loss.lambda": Uniform(1.0, 10.0)}
    assert isinstance(checked_space(CONFIG, {"loss.lambda": IntRange(1, 10)})["loss.lambda"], Uniform)
    assert isinstance(checked_space(CONFIG, {"net.width": IntRange(1, 10)})["net.width"], IntRange)


def test_options_are_read_as_their_knob_reads_them():
    read = checked_space(CONFIG, {"normalize": parse_range("true,false"), "loss.lambda": parse_range("1,1/2")})
    assert read["normalize"].options == (True, False)
    assert read["loss.lambda"].options == (1.0, 0.5) and all(type(v) is float for v in read["loss.lambda"].options)


def test_a_plan_that_would_not_be_made_is_not_read():
    plain = plan().to_json()
    with pytest.raises(InputError, match="alpha_rcl"):
        Plan.of_json({**plain, "space": {"loss.alpha_rcl": ["Uniform", -1, 1]}})
    with pytest.raises(InputError, match="unknown loss"):
        Plan.of_json({**plain, "config": {**plain["config"], "loss": "nothing"}})


def test_a_trial_is_the_configuration_with_its_changes():
    changed = plan().configured({"loss.lambda": 2.0, "seed": 3})
    assert changed.params() == CONFIG.params() | {"loss.lambda": 2.0, "seed": 3}


def test_the_usual_site_is_what_no_switch_says():
    args = cli.parser(STUDY).parse_args([])
    assert cli.site_of(args) == Site()
