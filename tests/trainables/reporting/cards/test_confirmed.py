"""The card of the confirmed points."""

from dataclasses import replace

import answered
import pytest
from reported import page_of, plain, rows_of, section_of

from trainables.study.outcome import Outcome


@pytest.fixture(scope="module")
def study() -> Outcome:
    """A study with three replicates of each point."""
    return answered.outcome()


def test_every_confirmed_point_has_its_verdict_its_numbers_with_intervals_and_a_chance_level(study):
    rows = rows_of(page_of(study), "confirmed")
    assert set(rows) == {str(c.number) for c in study.confirmed}
    for c in study.confirmed:
        row = [cell.replace("\N{NO-BREAK SPACE}", " ") for cell in rows[str(c.number)]]
        low, high = c.intervals["accuracy"]
        assert row[2:5] == [c.verdict, f"{c.probability:.3f}", f"{c.means['accuracy']:.3f} ({low:.3f} to {high:.3f})"]
        assert row[6].startswith(f"{c.means['mia_auc']:.3f} (") and row[7:] == [f"{c.chance:.3f}", "3"]


def test_the_point_to_ship_is_in_bold_and_points_that_are_not_confirmed_have_their_reasons(study):
    missing = replace(study.confirmation, not_confirmed={7: "every replicate failed: TrialError: no"})
    section = section_of(page_of(replace(study, confirmation=missing)), "confirmed")
    assert '<tr class="mark"><td class="n" data-value="3">3</td>' in section and section.count("<tr class=") == 1
    assert "Trial 7 is not confirmed: every replicate failed: TrialError: no." in plain(section)
