"""The cards of all trials, of failed trials, and of the facts."""

import re

from reported import outcome, page_of, plain, rows_of, section_of

from core.space import LogUniform, Switch, Uniform
from trainables.study.trial import Trial


def test_the_table_of_all_trials_contains_status_and_flags():
    trials = rows_of(page_of(outcome()), "trials")
    assert {number: (row[1], row[6]) for number, row in trials.items()} == {
        "0": ("front", ""), "1": ("front", "more_steps_help"), "2": ("completed", "few_non_members"), "3": ("failed", ""),
        "4": ("front", ""), "5": ("excluded", "zero_gradients, black_box_beats_white_box"),
    }  # fmt: skip


def test_the_page_lists_the_ranges_of_every_option_and_the_cells_of_knobs_that_a_trial_does_not_have_are_empty():
    study = outcome()
    study.space = {"loss": Switch({"cross_entropy": {}, "crl": {"loss.lambda": LogUniform(0.1, 3)}}), "lr": Uniform(0, 1)}
    page = page_of(study)
    facts = plain(section_of(page, "facts"))
    assert "loss cross_entropy | crl (loss.lambda=0.1:3.0:log); lr 0.0:1.0" in facts
    without, having = re.findall(r"<tr><td[^>]*>[01]</td>.*?</tr>", section_of(page, "trials"))
    assert '<td class="knob">cross_entropy</td><td class="knob"></td>' in without
    assert '<td class="knob">crl</td><td class="n knob" data-value="0.3333333333333333">0.3333</td>' in having


def test_paper_has_the_knobs_of_a_trial_as_one_column_of_settings_which_break_between_knobs_only():
    without, having = re.findall(r"<tr><td[^>]*>[01]</td>.*?</tr>", section_of(page_of(outcome()), "trials"))
    assert without.endswith('<td class="settings"><span>loss=cross_entropy</span></td></tr>')
    assert having.endswith('<td class="settings"><span>loss.lambda=0.3333</span>, <span>loss=crl</span></td></tr>')


def test_failed_and_stopped_trials_are_listed_with_their_reasons():
    study = outcome()
    study.trials.append(Trial(6, {"loss": "crl", "loss.lambda": 0.5, "lr": 0.1}, stopped_epoch=5))
    rows = rows_of(page_of(study), "failed")
    assert rows["3"][2].startswith("TrialError: ") and rows["6"][2] == "stopped early after epoch 5: dominated"
