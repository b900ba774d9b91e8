"""The card of the answer."""

from dataclasses import replace

import answered
import pytest
from answered import BOTH, TWIN, UNDEFENDED
from confirming import confirmation
from reported import EVIL, empty, page_of, plain, section_of

from trainables.reporting.card import ReportContext
from trainables.reporting.cards.answer import data
from trainables.study.conclusions import matched_text
from trainables.study.outcome import Outcome
from trainables.study.text import difference_text


def card(study: Outcome) -> dict:
    """The data of the card."""
    return dict(data(ReportContext(study)))


def text(study: Outcome) -> str:
    """The text of the card, with ordinary spaces."""
    return " ".join(plain(section_of(page_of(study), "answer")).replace("\N{NO-BREAK SPACE}", " ").split())


@pytest.fixture(scope="module")
def study() -> Outcome:
    """A study with known true values and three replicates of each point."""
    return answered.outcome()


def test_without_confirmed_points_nothing_is_concluded_and_the_command_that_confirms_them_is_given(study):
    facts = study.facts | {"command": "python studies/crl.py --trials 5 --no-confirm"}
    shown = text(replace(study, confirmation=None, facts=facts))
    assert "Nothing can be concluded. The confirmation step was skipped with --no-confirm." in shown
    assert "python studies/crl.py --trials 5 The numbers below are those of the sweep" in shown
    assert "python studies/crl.py --resume crl-1" in text(replace(study, confirmation=None))
    assert "Nothing can be concluded. No trial is completed yet." in text(empty())


def test_the_point_to_ship_is_named_with_its_verdict_its_cost_and_the_command(study):
    shown = text(study)
    assert "Ship trial 3 (crl + pgd 0.08), the balanced compromise (--balanced) of the 4 points on the confirmed front" in shown
    point = study.confirmed[[c.number for c in study.confirmed].index(BOTH)]
    assert f"Its verdict: {point.verdict} (probability of being on the front {point.probability:.3f})." in shown
    change = study.confirmation.estimates.difference(BOTH, UNDEFENDED, "accuracy").value
    assert f"Compared with no defence (trial 0), it costs {-change:.3f} accuracy, gains" in shown
    assert "Register its model: python studies/pick.py crl-1 --balanced" in shown


def test_the_numbers_are_confirmed_ones_with_intervals_beside_those_of_the_baseline_and_the_paired_differences(study):
    estimates, rows = study.confirmation.estimates, card(study)["rows"]
    for row, o, word in zip(rows, study.objectives, ("worse", "better", "better"), strict=True):
        low, high = estimates.interval(BOTH, o.metric)
        assert row["mean"] == f"{estimates.mean(BOTH, o.metric):.3f}"
        assert row["interval"].replace("\N{NO-BREAK SPACE}", " ") == f"({low:.3f} to {high:.3f})"
        assert row["baseline"] == f"{estimates.mean(UNDEFENDED, o.metric):.3f}"
        expected = difference_text(estimates.difference(BOTH, UNDEFENDED, o.metric))
        assert row["difference"].replace("\N{NO-BREAK SPACE}", " ") == expected and row["word"] == word
    assert rows[0]["mean"] != f"{study.trials[BOTH].metrics['accuracy']:.3f}"


def test_the_expected_values_are_the_shrunken_ones(study):
    point = next(c for c in study.confirmed if c.number == BOTH)
    for row, o in zip(card(study)["rows"], study.objectives, strict=True):
        assert row["expected"].startswith(f"{point.shrunk[o.metric]:.3f}\N{NO-BREAK SPACE}(")


def test_the_chance_level_is_beside_the_auc_and_an_auc_that_does_not_exceed_it_is_not_resolved(study):
    level = next(c.chance for c in study.confirmed if c.number == BOTH)
    assert f"chance level {level:.3f}" in text(study) and "not resolved" not in card(study)["rows"][2]["chance"]
    above = confirmation([replace(c, chance=0.9) for c in study.confirmed], study.confirmation.contrasts)
    unresolved = text(replace(study, confirmation=replace(above, estimates=study.confirmation.estimates)))
    assert "chance level 0.900: not resolved" in unresolved
    assert "does not exceed the chance level of 0.900 (not resolved)" in unresolved


def test_contrasts_are_answered_in_words_with_paired_differences(study):
    yes, no, undecided = card(study)["contrasts"]
    assert (yes["word"], no["word"], undecided["word"]) == ("yes", "no", "undecided")
    difference = study.confirmation.estimates.difference(1, 0, "mia_auc")
    assert yes["own"] == ("membership-inference AUC", difference_text(difference)) and yes["needed"] == ""
    assert yes["points"] == "trial 1 (CRL alone) compared with trial 0 (undefended)"
    assert [name for name, _ in yes["others"]] == ["accuracy", "robust accuracy"]
    assert "to decide it" in undecided["needed"]
    assert "Yes. Does CRL lower the leak?" in text(study)


def test_a_contrast_at_the_same_value_of_a_metric_shows_both_values():
    study = answered.matched()
    (answer,) = study.confirmation.contrasts
    assert f"Of {matched_text(answer, study)[3:]}" in text(study) and "no replicates decide it" in text(study)
    assert [name for name, _ in card(study)["contrasts"][0]["others"]] == ["accuracy"]  # the matched one is not repeated
    assert card(answered.outcome())["contrasts"][0]["matched"] == ""


def test_a_point_whose_own_verdict_is_undecided_has_a_caveat(study):
    points = [replace(c, probability=0.9) if c.number == BOTH else c for c in study.confirmed]
    undecided = replace(study, confirmation=replace(study.confirmation, points=tuple(points)))
    caveat = "Its verdict: undecided (probability of being on the front 0.900, so it may not belong there)."
    assert caveat in text(undecided) and "may not belong" not in text(study)


def test_a_contrast_without_an_answer_has_its_reason(study):
    with_reason = replace(study.confirmation, unanswered={"Is it cheap?": "no confirmed point has loss=dp"})
    assert "No answer. Is it cheap? no confirmed point has loss=dp" in text(replace(study, confirmation=with_reason))


def test_requirements_choose_the_point_and_are_in_the_command():
    study = answered.outcome(require=("mia_auc<=0.7", "accuracy>=0.9"))
    shown = text(study)
    wanted = "mia_auc<=0.7 and accuracy>=0.9 (1 of 1)"
    assert f"Ship trial 1 (CRL alone), the balanced one (--balanced) of the points on the confirmed front with {wanted}" in shown
    assert "python studies/pick.py crl-1 --require 'mia_auc<=0.7' --require 'accuracy>=0.9' --balanced" in shown


def test_requirements_that_no_point_meets_are_reported_with_the_nearest_point(study):
    point = next(c for c in study.confirmed if c.number == TWIN)
    none_left = confirmation([replace(point, on_front=False)])
    assert "No point can be shipped: no confirmed point is on the front." in text(replace(study, confirmation=none_left))


def test_a_point_that_is_the_undefended_network_is_not_compared_with_itself(study):
    only = confirmation([c for c in study.confirmed if c.number == UNDEFENDED])
    shown = card(replace(study, confirmation=only))
    assert not shown["baseline"] and shown["cost"] == "" and len(shown["heads"]) == 2


def test_names_of_baselines_and_questions_are_escaped(study):
    trials = [replace(t, baseline=f"{t.baseline}{EVIL}") if t.baseline else t for t in study.trials]
    answers = [replace(a, contrast=replace(a.contrast, question=EVIL)) for a in study.confirmation.contrasts]
    evil = replace(study, trials=trials, confirmation=replace(study.confirmation, contrasts=tuple(answers)))
    assert EVIL not in page_of(evil) and EVIL in text(evil)
