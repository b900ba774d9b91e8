"""The point that the report recommends."""

from dataclasses import replace

import answered
from confirming import confirmation
from reported import empty

from trainables.reporting.recommendation import place, recommended
from trainables.study.text import knee


def test_the_recommended_point_is_that_to_ship_or_without_confirmed_points_the_knee_of_the_sweep():
    study = answered.outcome()
    unconfirmed = replace(study, confirmation=None)
    assert recommended(study) == answered.BOTH and recommended(unconfirmed) == knee(unconfirmed).number
    none_left = confirmation([replace(c, on_front=False) for c in study.confirmed])
    assert recommended(replace(study, confirmation=none_left)) is None and recommended(empty()) is None


def test_a_point_is_at_its_confirmed_means_or_else_at_its_numbers_of_the_sweep():
    study = answered.outcome()
    assert place(study, 3) == next(c.means for c in study.confirmed if c.number == 3)
    assert place(replace(study, confirmation=None), 3) == study.trials[3].metrics
