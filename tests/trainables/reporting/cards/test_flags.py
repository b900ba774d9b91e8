"""The card of raised flags."""

from dataclasses import replace

import large
from confirming import confirmation
from reported import outcome, page_of, plain, rows_of, section_of

from core.flags import FLAGS


def test_every_raised_flag_is_explained_with_its_effect_on_the_front():
    table = rows_of(page_of(outcome()), "flags")
    assert set(table) == {"zero_gradients", "black_box_beats_white_box", "few_non_members", "more_steps_help"}
    for name, row in table.items():
        assert row[1] == FLAGS[name].means and row[2] == FLAGS[name].advice
    assert table["zero_gradients"][3:] == ["5", "none", "excluded from the front; would be on it: 5"]
    assert table["more_steps_help"][3:] == ["1", "none", "marked"]


def test_a_flag_of_the_confirmation_step_is_explained_too():
    study = outcome()
    first, *others = study.confirmed
    study.confirmation = confirmation([replace(first, on_front=False, flags=("random_forward",)), *others])
    page = page_of(study)
    assert rows_of(page, "flags")["random_forward"][3:5] == ["none", "1"]
    assert rows_of(page, "confirmed")["1"][2] == "undecided (random_forward)"


def test_a_flag_that_this_version_does_not_know_is_shown_nevertheless():
    study = outcome()
    study.trials[4].metrics["flag/of_old"] = 1.0
    assert rows_of(page_of(study), "flags")["of_old"][1] == "unknown to this version"


def test_a_flag_of_every_trial_is_explained_once_above_the_table_and_in_no_row():
    study = large.outcome()
    page = page_of(study)
    section = plain(section_of(page, "flags"))
    assert section.count("Every trial of the sweep raises few_non_members: " + FLAGS["few_non_members"].means) == 1
    assert "few_non_members" not in rows_of(page, "flags")
    assert not any(
        "few_non_members" in cell for anchor in ("front", "trials") for row in rows_of(page, anchor).values() for cell in row
    )
    assert plain(section_of(page, "front")).count("every trial has the flag few_non_members") == 1
