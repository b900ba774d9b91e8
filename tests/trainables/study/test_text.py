"""Names and numbers as text."""

import math

import large
import pytest

from core.estimates import Difference
from core.stats import Interval
from core.study import trilemma
from trainables.study.outcome import Verdict
from trainables.study.text import (
    comparison_text,
    counted,
    counted_verdicts,
    decimal,
    describe_change,
    difference_text,
    duration,
    estimate_text,
    flagged,
    flags_on_all,
    interval_text,
    listed,
    numbered_trials,
    plural,
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


@pytest.mark.parametrize(("value", "interval", "text"), [
    (-0.033, (-0.066, -0.0001), "0.033 lower (0.000 to 0.066)"),
    (0.033, (0.01, 0.066), "0.033 higher (0.010 to 0.066)"),
    (0.25, (-0.5, 1.0), "0.250 higher (0.500 lower to 1.000 higher)"),
    (-0.25, (-1.0, 0.5), "0.250 lower (1.000 lower to 0.500 higher)"),
    (-0.0001, (-0.02, 0.03), "about equal (0.020 lower to 0.030 higher)"),
    (0.25, (-math.inf, math.inf), "0.250 higher (no interval)"),
])  # fmt: skip
def test_a_difference_has_one_direction_unless_its_interval_contains_zero(value, interval, text):
    assert difference_text(Difference(value, Interval(*interval))) == text


def test_two_values_are_compared_in_words():
    lower = Difference(-0.033, Interval(-0.066, -0.0001))
    assert comparison_text("accuracy", "A", "B", lower, decimals=2) == (
        "the accuracy of A is 0.03 lower than that of B (95 % interval 0.00 to 0.07)"
    )
    equal = Difference(0.0, Interval(-math.inf, math.inf))
    assert comparison_text("accuracy", "A", "B", equal) == "the accuracy of A is about equal to that of B (no interval)"


def test_negative_numbers_have_a_minus_sign_for_people_unless_they_are_rounded_to_zero():
    assert [decimal(value) for value in (-0.25, 0.25, -0.0001, 0.0)] == ["\N{MINUS SIGN}0.250", "0.250", "0.000", "0.000"]
    assert [decimal(value, 1, plus="+") for value in (-0.26, 0.26)] == ["\N{MINUS SIGN}0.3", "+0.3"]
    assert [decimal(value) for value in (math.nan, math.inf, -math.inf)] == ["nan", "inf", "\N{MINUS SIGN}inf"]
    assert interval_text(Interval(-0.1, 0.2), decimals=1) == "\N{MINUS SIGN}0.1 to 0.2"
    assert estimate_text(-0.5, Interval(-0.6, -0.4)) == "{0}0.500 ({0}0.600 to {0}0.400)".format("\N{MINUS SIGN}")


def test_words_agree_with_their_number():
    assert [counted(count, "trial") for count in (0, 1, 2)] == ["0 trials", "1 trial", "2 trials"]
    assert [plural(count, "is", "are") for count in (0, 1, 2)] == ["are", "is", "are"]
    assert [numbered_trials(numbers) for numbers in ([4], {2, 0})] == ["trial 4", "trials 0, 2"]
    texts = {verdict: [counted_verdicts(verdict, count) for count in (1, 2)] for verdict in Verdict}
    assert texts == {
        Verdict.STAYS: ["1 stays", "2 stay"], Verdict.LEAVES: ["1 leaves", "2 leave"],
        Verdict.UNDECIDED: ["1 undecided", "2 undecided"],
    }  # fmt: skip


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
