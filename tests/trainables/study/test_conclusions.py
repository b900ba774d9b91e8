"""The words about confirmed points that report and terminal share."""

import math
from dataclasses import replace

import answered
import pytest
from confirming import confirmation, point
from three_trials import TRIALS, metrics, outcome

from core.estimates import Difference
from core.stats import Interval
from core.study import Contrast, trilemma
from trainables.study.conclusions import (
    attacker,
    called,
    certainty,
    choice,
    contrast_line,
    front_caveat,
    how_to_confirm,
    matched_text,
    side_word,
    undecided,
    undefended,
    why_chosen,
)
from trainables.study.outcome import Confirmed, ContrastAnswer, Leak, Outcome
from trainables.study.text import comparison_text, difference_text
from trainables.study.trial import Trial


def leaking(auc: float, **changes) -> Confirmed:
    """A confirmed point with this AUC."""
    return point(1, metrics(0.9, 0.5, auc), audits=("lira",), chance=0.54, **changes)


def test_an_auc_is_explained_by_pairs_and_by_the_advantage_of_two_normal_distributions():
    """AUC 0.68 is 0.6614 standard deviations apart: 2 Phi(0.3307) - 1 = 0.2591."""
    assert attacker(leaking(0.68)).replace("\N{NO-BREAK SPACE}", " ") == (
        "An attacker with lira gives a random member a higher score than a random non-member in 68 % of pairs (AUC 0.68; "
        "guessing: 50 %); at the best threshold, the share of members that it calls members is about 26 points above that of "
        "non-members; its true-positive rate at a false-positive rate of 1 % is not resolved by this many non-members."
    )


def test_the_advantage_and_the_low_rate_are_measured_where_they_are_known():
    curve = [(0.01, 0.05), (0.2, 0.51), (0.5, 0.7), (1.0, 1.0)]
    text = attacker(leaking(0.68, curves={"lira": curve}, leaks={"lira": Leak(0.68, Interval(0.6, 0.7), {0.01: 0.052})}))
    assert "is 31 points above that of non-members; at a false-positive rate of 1\xa0%, it finds 5.2\xa0% of" in text


def test_an_unresolved_auc_allows_no_statement():
    assert attacker(leaking(0.53)).endswith("so the audits find no leak that this many images can show.")


def confirmed(*points: Confirmed) -> Outcome:
    """A study with these confirmed points."""
    return replace(outcome(*TRIALS), confirmation=confirmation(points), facts={"command": "python studies/crl.py --seed 1"})


def test_the_cost_of_a_decision_is_the_number_of_replicates_and_their_time():
    """At a probability of 0.8 the distance is 0.8416 errors; 1.6449 need 3 * 3.82 = 12 replicates, 9 more, of 60 s."""
    study = confirmed(point(0, metrics(0.9, 0.1, 0.7), probability=0.99), point(1, metrics(0.6, 0.5, 0.55), probability=0.8))
    assert undecided(study).lines == (
        "Undecided: 1 of 2 verdicts on points.",
        "To decide the verdict on trial 1, roughly 9 more replicates of 60 s are needed (9 min of computing).",
        "With the 6 so far, these are 15 for 2 points, 7.5 per point on average, rounded up to --replicates 8. Stored trainings "
        "are not repeated:",
    )
    assert undecided(study).command == "python studies/crl.py --seed 1 --replicates 8"  # (3 + 12) / 2 on average


def test_a_point_that_is_too_close_to_call_has_no_price():
    study = confirmed(point(0, metrics(0.9, 0.1, 0.7), probability=0.99), point(1, metrics(0.6, 0.5, 0.55), probability=0.5))
    assert undecided(study).lines[1:] == (
        "Too close to call, as more than 50 replicates of a point, or more judged images, would be needed: the verdict on trial 1.",
    )
    assert undecided(study).command == ""


OPEN = dict.fromkeys(("mia_auc", "accuracy"), Difference(0.01, Interval(-0.02, 0.04)))
"""Differences that answer nothing."""


def with_open_contrasts(*needed: float) -> Outcome:
    """A study with an open verdict on trial 1, which 9 replicates decide, and open contrasts that need so many per point."""
    points = [point(0, metrics(0.9, 0.1, 0.7), probability=0.99), point(1, metrics(0.6, 0.5, 0.55), probability=0.8)]
    names = ("mia_auc", "accuracy")
    answers = [
        ContrastAnswer(Contrast(f"{name}?", "a", "b", name), 1, 0, "undecided", OPEN, replicates)
        for name, replicates in zip(names, needed, strict=False)
    ]
    return replace(outcome(*TRIALS), confirmation=confirmation(points, answers))


def test_each_line_about_what_is_undecided_names_verdicts_and_contrasts():
    """The verdict of trial 0 is decided; contrasts need replicates of it, too."""
    first, second, third, fourth = undecided(with_open_contrasts(99, math.inf)).lines
    assert first == "Undecided: 1 of 2 verdicts on points and 2 of 2 contrasts."
    assert second.endswith("needed: the contrasts in mia_auc between trials 1 and 0 and in accuracy between trials 1 and 0.")
    assert third.startswith("To decide the verdict on trial 1, roughly 9 more replicates of 60 s")
    assert fourth.startswith("With the 6 so far, these are 15 for 2 points")
    _, both, budget = undecided(with_open_contrasts(4)).lines  # one more of trial 0, and nine of trial 1
    assert both.startswith(
        "To decide the verdict on trial 1, and the contrast in mia_auc between trials 1 and 0, roughly 10 more replicates of 60 s"
    )
    assert budget == (
        "With the 6 so far, these are 16 for 2 points, 8 per point on average: --replicates 8. Stored trainings are not repeated:"
    )


def test_a_contrast_between_points_that_do_not_match_is_decided_by_no_replicate():
    study = with_open_contrasts(4)
    contrast = Contrast("?", {"loss": "crl"}, "b", "mia_auc", matched="accuracy")
    far = ContrastAnswer(contrast, 1, 0, "undecided", OPEN | {"mia_auc": Difference(-0.1, Interval(-0.15, -0.05))}, 1)
    answers = (*study.confirmation.contrasts, far)
    study = replace(study, confirmation=replace(study.confirmation, contrasts=answers))
    first, second, third, _ = undecided(study).lines
    assert first.endswith(" and 2 of 2 contrasts.") and second == (
        "No replicates decide the contrast in mia_auc between trials 1 and 0, as its points differ in the metric that is to be the "
        "same."
    )
    assert "roughly 10 more replicates" in third
    assert matched_text(far, study).endswith(f"{difference_text(OPEN['accuracy'])}, which is too far for an answer")
    close = replace(far, answer="yes")
    assert matched_text(close, study).endswith(difference_text(OPEN["accuracy"]))


def test_one_replicate_is_singular():
    decided = [point(n, metrics(0.9, 0.1, 0.7), probability=0.99) for n in (0, 1)]
    answer = ContrastAnswer(Contrast("?", "a", "b", "mia_auc"), 1, 0, "undecided", OPEN, 4)
    fewer = [replace(decided[0], replicates=4), decided[1]]
    lines = undecided(replace(outcome(*TRIALS), confirmation=confirmation(fewer, [answer]))).lines
    assert "roughly 2 more replicates of 60 s are needed" in lines[1]
    single = [replace(decided[1], probability=0.93)]
    (_, line, _) = undecided(replace(outcome(*TRIALS), confirmation=confirmation(single))).lines
    assert line == "To decide the verdict on trial 1, roughly 1 more replicate of 60 s is needed (60 s of computing)."


def test_a_study_in_which_everything_is_decided_says_so():
    study = confirmed(point(0, metrics(0.9, 0.1, 0.7), probability=0.99), point(1, metrics(0.6, 0.5, 0.55), probability=0.01))
    assert undecided(study).lines == ("Every verdict and every contrast is decided.",)


def test_the_command_that_confirms_depends_on_why_nothing_is_confirmed():
    study = replace(outcome(*TRIALS), facts={"command": "python studies/crl.py --seed 1 --no-confirm"})
    assert how_to_confirm(study)[1] == "python studies/crl.py --seed 1"
    assert how_to_confirm(replace(study, facts={}))[1] == "python studies/crl.py --resume crl-1"
    assert how_to_confirm(outcome()) == ("No trial is completed yet.", "python studies/crl.py --resume crl-1")
    excluded = [replace(t, metrics={**t.metrics, "flag/zero_gradients": 1.0}) if t.metrics else t for t in TRIALS]
    assert how_to_confirm(replace(study, trials=excluded))[0].startswith("The front is empty")


def test_no_defence_is_the_baseline_of_that_name_whichever_trial_ended_first():
    first = Trial(0, {"loss": "crl"}, metrics(0.8, 0.2, 0.6), baseline="CRL alone")
    study = outcome(Trial(4, {"loss": "x"}, metrics(0.9, 0.1, 0.7), baseline="undefended"), first)
    points = [point(0, metrics(0.8, 0.2, 0.6)), point(4, metrics(0.9, 0.1, 0.7))]
    assert undefended(replace(study, confirmation=confirmation(points))) == 4
    assert undefended(replace(study, confirmation=confirmation(points[:1]))) == 0
    assert undefended(study) is None


@pytest.mark.parametrize("interval, words", [
    ((0.01, 0.03), ("better", "worse")), ((-0.03, -0.01), ("worse", "better")), ((-0.01, 0.03), ("undecided", "undecided")),
])  # fmt: skip
def test_a_difference_is_better_or_worse_only_if_its_interval_excludes_zero(interval, words):
    accuracy, _, auc = trilemma(10)
    difference = Difference(sum(interval) / 2, Interval(*interval))
    assert (side_word(difference, accuracy), side_word(difference, auc)) == words


def test_equal_points_are_runners_up_of_each_other():
    equal = metrics(0.8, 0.4, 0.6)
    trials = [Trial(n, {"loss": "crl"}, equal) for n in (0, 1)]
    study = replace(outcome(*trials), confirmation=confirmation([point(n, equal) for n in (0, 1)]))
    chosen = choice(study)
    assert not isinstance(chosen, str) and chosen.point.number == 0
    assert certainty(chosen, study) == (
        f"Its probability of being the best choice is {chosen.probability:.3f}. Runners-up, which cannot be distinguished from it, "
        f"with theirs: trial 1 (crl), {chosen.runners_up[0].probability:.3f}."
    )


def test_the_criterion_of_the_point_to_ship_is_named():
    study = answered.outcome()
    chosen = choice(study)
    assert why_chosen(chosen, study) == (
        "the balanced compromise (--balanced) of the 4 points on the confirmed front, as no requirement was given"
    )
    only = replace(chosen, among=1)
    assert why_chosen(only, study).startswith("the balanced compromise (--balanced) of the only point on the confirmed front")
    required = answered.outcome(require=("mia_auc<=0.7", "accuracy>=0.9"))
    assert why_chosen(choice(required), required) == (
        "the balanced one (--balanced) of the points on the confirmed front with mia_auc<=0.7 and accuracy>=0.9 (1 of 1)"
    )


@pytest.mark.parametrize("probability, caveat", [
    (0.97, ""),
    (0.94, "the verdict on its place on the front is undecided: its probability of being on the front is 0.940"),
    (0.01, "the verdict on its place on the front is leaves: its probability of being on the front is 0.010"),
])  # fmt: skip
def test_a_point_of_which_it_is_not_decided_that_it_stays_has_a_caveat(probability, caveat):
    assert front_caveat(leaking(0.6, probability=probability)) == caveat


def test_a_contrast_is_one_line_and_a_trial_is_called_by_what_it_is():
    study = answered.outcome()
    answer = study.confirmation.contrasts[0]
    found = comparison_text("mia_auc", "trial 1", "trial 0", answer.differences["mia_auc"])
    assert contrast_line(answer, study) == f"Does CRL lower the leak? yes: {found}" and " lower than that of trial 0 (" in found
    assert matched_text(answer, study) == ""
    assert (called(0, study), called(3, study)) == ("trial 0 (undefended)", "trial 3 (crl + pgd 0.08)")


def test_a_matched_contrast_shows_the_values_that_were_matched():
    study = answered.matched()
    (answer,) = study.confirmation.contrasts
    own, other = (study.confirmation.estimates.mean(n, "robust_accuracy") for n in (answered.BOTH, answered.ADVERSARIAL))
    assert matched_text(answer, study) == (
        "of the points with loss=crl and perturbation=pgd, trial 3 is nearest to trial 2 in robust accuracy: "
        f"{own:.3f} against {other:.3f}, {difference_text(answer.differences['robust_accuracy'])}, which is too far for an answer"
    )
    assert contrast_line(answer, study).endswith(f"; {matched_text(answer, study)}")
