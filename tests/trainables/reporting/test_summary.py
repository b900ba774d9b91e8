"""The outcome in sentences."""

from dataclasses import replace

import large
import pytest
from confirming import confirmation
from reported import outcome, plain, text_of

from core.study import Constraint
from trainables.reporting.summary import summary
from trainables.study.outcome import Outcome, front_revision
from trainables.study.text import knee
from trainables.study.trial import Trial


@pytest.fixture(scope="module")
def study() -> Outcome:
    """An outcome with everything that a report can contain."""
    return large.outcome()


def sentences(of: Outcome) -> str:
    """The summary as text."""
    return plain(" ".join(summary(of)))


def test_the_summary_contains_counts_verdicts_and_flags():
    text = text_of(outcome())
    assert "5 of 6 planned trials are completed, 1 failed. 3 are on the front of the sweep." in text
    assert "Confirmation trained 2 points again, 4 replicates in all" in text
    assert "0 stay; 0 leave; 2 undecided." in text
    assert "On the front of the sweep but flagged there, to be read with care: trial 1: more_steps_help." in text
    assert "Excluded from the front of the sweep by their flags: trial 5: zero_gradients, black_box_beats_white_box." in text


def test_points_that_stay_or_leave_are_named():
    study = outcome()
    one, other = study.confirmed
    study.confirmation = confirmation([replace(one, probability=0.97), replace(other, probability=0.02)])
    assert "1 stays (trial 1); 1 leaves (trial 4); 0 undecided." in sentences(study)


def test_the_point_to_ship_is_named_with_its_criterion_and_a_caveat_if_its_verdict_is_undecided():
    study = outcome()
    criterion = "the balanced compromise (--balanced) of the only point on the confirmed front, as no requirement was given."
    caveat = "The verdict on its place on the front is undecided: its probability of being on the front is 0.750."
    assert f"The point to ship is trial 1 (crl lambda=0.333), {criterion} {caveat}" in sentences(study)
    study.confirmation = confirmation([replace(study.confirmed[0], probability=0.99)])
    assert criterion in sentences(study) and "undecided:" not in sentences(study)


def test_the_knee_of_the_sweep_is_mentioned_only_if_nothing_is_confirmed(study):
    unconfirmed = replace(study, confirmation=None)
    balanced = knee(unconfirmed)
    assert f"The knee of the sweep is trial {balanced.number}: " in sentences(unconfirmed)
    assert "knee" not in sentences(study)


def test_baselines_are_listed_by_whether_they_are_on_the_front():
    trials = [replace(t, baseline={0: "first", 2: "second", 4: "third"}.get(t.number, "")) for t in outcome().trials]
    text = sentences(replace(outcome(), trials=trials))
    assert "Baselines on the front of the sweep: first and third; not on it: second." in text
    assert "Baselines on the front of the sweep: none; not on it: second." in sentences(replace(outcome(), trials=[
        replace(t, baseline="second" if t.number == 2 else "") for t in trials
    ]))  # fmt: skip


def test_constraints_and_early_stopped_trials_are_reported():
    study = outcome()
    study.require = (Constraint.of("accuracy>=0.7"),)
    study.trials.append(Trial(6, {"loss": "crl", "loss.lambda": 0.5, "lr": 0.1}, stopped_epoch=5))
    text = text_of(study)
    assert "1 failed, 1 was stopped early as dominated" in text
    assert "Every point of the front must meet accuracy>=0.7; 2 of the 5 trials do not." in text


def test_every_revision_of_the_front_is_described():
    before = outcome()
    after = replace(before, trials=[
        replace(t, metrics={**t.metrics, "robust_accuracy": 0.05}) if t.number == 1 else t for t in before.trials
    ])  # fmt: skip
    after.revisions = [front_revision(before, after, "with the attacks of suite strong", "2026-01-01 00:00:00 +0000", {})]
    text = text_of(after)
    assert (
        "Version 2 of the front, from the stored networks with the attacks of suite strong: robust accuracy 0.090 "
        "lower on average, largest change 0.450 lower (trial 1). Left the front: trial 1; entered it: trial 2."
    ) in text
    assert "Front of the sweep, version 2" in text


def test_a_flag_on_every_trial_is_mentioned_once_and_not_for_each_trial_on_the_front(study):
    assert sentences(study).count("few_non_members") == 1
