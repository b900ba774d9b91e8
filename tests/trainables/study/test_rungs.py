"""The rungs of early stopping in a plan."""

import finished
import pytest

from core.config import TrialConfig
from core.errors import InputError
from core.space import IntRange
from core.study import Constraint, Objective, trilemma
from studies.crl_tradeoff import STUDY
from trainables.commands.study import parser, plan_of
from trainables.study.plan import Plan


def plan(rungs=(1, 3), **changes) -> Plan:
    """A plan of nine epochs with these rungs."""
    return finished.plan(**{"config": TrialConfig.of({"epochs": 9}), "rungs": rungs} | changes)


def test_the_rungs_are_those_requested_or_a_third_and_two_thirds_of_the_epochs():
    rungs = lambda *argv: plan_of(STUDY, parser(STUDY).parse_args(["--set", "epochs=18", *argv])).rungs  # noqa: E731
    assert rungs() == () and rungs("--early-stopping") == (6, 12) and rungs("--early-stopping", "9", "3") == (3, 9)


def test_rungs_at_which_trials_cannot_be_compared_are_rejected():
    plan().check_rungs()
    density = Objective("density", "min", reference=1.0, ideal=0.0)
    for illegal, reason in (
        (plan((9,)), "--early-stopping 9: expected epochs between 1 and 8"),
        (plan(objectives=(*trilemma(10), density)), "this study's objective density is measured only at the end"),
        (plan(require=(Constraint.of("dp_epsilon<=8"),)), "this study's constraint on dp_epsilon is measured only at the end"),
        (plan(space={"epochs": IntRange(3, 9)}), "do not search epochs"),
    ):
        with pytest.raises(InputError, match=reason):
            illegal.check_rungs()
