"""Names and numbers as text."""

import math

import large

from core.estimates import Difference
from core.stats import Interval
from core.study import trilemma
from trainables.study.text import (
    describe_change,
    difference_text,
    duration,
    estimate_text,
    flagged,
    flags_on_all,
    interval_text,
    listed,
    plus_minus,
    signed,
)


def test_a_flag_that_every_trial_raises_does_not_mark_any_trial():
    study = large.outcome()
    assert flags_on_all(study) == ["few_non_members"]
    assert all("more_steps_help" in t.flags for t in flagged(study)) and flagged(study)


def test_numbers_have_signs_and_intervals_only_if_they_are_finite():
    finite, infinite = Interval(0.4, 0.6), Interval(-math.inf, math.inf)
    assert (signed(0.25), signed(-0.25)) == ("+0.250", "\N{MINUS SIGN}0.250")
    assert (plus_minus(0.5, finite), plus_minus(0.5, infinite)) == ("0.500 \N{PLUS-MINUS SIGN} 0.100", "0.500")
    assert (interval_text(finite), interval_text(infinite)) == ("0.4000 to 0.6000", "none")


def test_estimates_and_differences_have_their_intervals_if_there_are_any():
    assert estimate_text(0.5, Interval(0.41, 0.59)) == "0.500 (0.410 to 0.590)"
    assert estimate_text(0.5, Interval(0.0, 1.0)) == estimate_text(0.5, Interval(-math.inf, math.inf)) == "0.500 (no interval)"
    assert estimate_text(7.5, Interval(6.0, 9.0)) == "7.500 (6.000 to 9.000)"
    assert difference_text(Difference(0.25, Interval(-0.5, 1.0))) == "+0.250 (\N{MINUS SIGN}0.500 to +1.000)"
    assert difference_text(Difference(0.25, Interval(-math.inf, math.inf))) == "+0.250 (no interval)"


def test_a_change_is_described_as_a_gain_or_a_cost():
    accuracy, _, auc = trilemma(10)
    assert describe_change(accuracy, -0.0312) == "costs 0.031 accuracy"
    assert describe_change(accuracy, 0.1) == "gains 0.100 accuracy"
    assert describe_change(auc, -0.02) == "lowers the membership-inference AUC by 0.020"
    assert describe_change(auc, 0.02) == "raises the membership-inference AUC by 0.020"


def test_a_time_is_given_in_seconds_minutes_or_hours():
    assert [duration(seconds) for seconds in (0.2, 75, 540, 9000)] == ["1 s", "75 s", "9 min", "2.5 h"]


def test_parts_are_joined_with_commas_and_and():
    assert [listed(parts) for parts in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]
