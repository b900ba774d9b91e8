"""Names and numbers as text."""

import math

import large

from core.stats import Interval
from trainables.study.text import flagged, flags_on_all, interval_text, listed, plus_minus, signed


def test_a_flag_that_every_trial_raises_does_not_mark_any_trial():
    study = large.outcome()
    assert flags_on_all(study) == ["few_non_members"]
    assert all("more_steps_help" in t.flags for t in flagged(study)) and flagged(study)


def test_numbers_have_signs_and_intervals_only_if_they_are_finite():
    finite, infinite = Interval(0.4, 0.6), Interval(-math.inf, math.inf)
    assert (signed(0.25), signed(-0.25)) == ("+0.250", "\N{MINUS SIGN}0.250")
    assert (plus_minus(0.5, finite), plus_minus(0.5, infinite)) == ("0.500 \N{PLUS-MINUS SIGN} 0.100", "0.500")
    assert (interval_text(finite), interval_text(infinite)) == ("0.4000 to 0.6000", "none")


def test_parts_are_joined_with_commas_and_and():
    assert [listed(parts) for parts in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]
