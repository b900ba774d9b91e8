"""The parts of the report: what knobs do in words, parallel coordinates, curves over epsilon, and what a click shows."""

import json
import re
from dataclasses import replace
from html import unescape

import pytest
from large import outcome

from core.config import trilemma
from core.space import LogUniform
from trainables import coordinates, curves, details, knobs, page, words
from trainables.drawing import frame
from trainables.outcome import Outcome, Tracked, Trial


@pytest.fixture(scope="module")
def made() -> Outcome:
    return outcome()


@pytest.fixture(scope="module")
def section(made) -> str:
    return knobs.section(made)


def plain(html: str) -> str:
    return unescape(re.sub("<[^>]*>", "", html))


def test_what_a_knob_costs_and_buys_is_said_with_its_interval(section):
    said = plain(section)
    sentence = re.search(
        r"Raising perturbation\.epsilon from (\S+) to (\S+) costs (\S+) accuracy \(\S+ to \S+\).*? gains (\S+) robust accuracy",
        said,
    )
    assert sentence
    low, high, cost, gain = (float(number.rstrip(",")) for number in sentence.groups())
    assert cost == pytest.approx(1.5 * (high - low), rel=0.3) and gain == pytest.approx(5 * (high - low), rel=0.3)
    assert re.search(r"Raising loss\.lambda .*takes \S+ off the membership-inference AUC", said)
    assert re.search(r"What .*loss\.alpha.* cannot be told from \d+ trials", said)


def test_an_objective_hangs_on_the_knob_that_moves_it(section):
    assert re.search(r"Robust accuracy hangs on perturbation\.epsilon \((9\d|100)%\)", plain(section))


def test_effects_leave_out_baselines_and_numbers_that_a_flag_disbelieves(made):
    usable = [t for t in made.done if not t.baseline and "zero_gradients" not in t.flags]
    assert {response.trials for response in knobs.told(made).values()} == {len(usable)}
    assert len(usable) < len(made.done) - 1


def test_few_trials_get_one_honest_sentence(made):
    few = replace(made, trials=made.trials[:8], confirmed=[])
    assert plain(knobs.section(few)) == "No effect can be told from 5 trials; 10 are the fewest."
    assert plain(knobs.section(replace(made, trials=[], confirmed=[]))).startswith("No effect can be told from 0 trials")


def test_a_line_goes_through_the_values_of_its_trial(made):
    axes = coordinates.axes(made)
    names = [axis.name for axis in axes]
    assert names == [
        "loss",
        "loss.lambda",
        "loss.alpha",
        "perturbation.epsilon",
        "optimizer.lr",
        "accuracy",
        "robust_accuracy",
        "mia_auc",
    ]
    by_name = dict(zip(names, axes, strict=True))
    assert by_name["loss.lambda"].log and not by_name["perturbation.epsilon"].log and by_name["mia_auc"].flipped
    best = min(made.done, key=lambda t: t.metrics["mia_auc"])
    assert by_name["mia_auc"].place(best.metrics["mia_auc"]) == 1  # the best is at the top
    middle = (by_name["loss.lambda"].low * by_name["loss.lambda"].high) ** 0.5
    assert by_name["loss.lambda"].place(middle) == pytest.approx(0.5) and by_name["loss.lambda"].place(None) is None
    svg = coordinates.section(made)
    assert len(re.findall(r"<path data-trial=", svg)) == len(made.done)


def test_one_trial_has_no_parallel_coordinates(made):
    assert coordinates.section(replace(made, trials=made.trials[:1], confirmed=[])) == "<p>Too few trials for a picture.</p>"


def test_accuracy_over_epsilon_is_of_the_confirmed_points_else_of_the_trials(made):
    lines = curves.over_epsilon(made)
    assert {line.number for line in lines} == {c.number for c in made.confirmed}
    assert all(line.values[0.0][0] == c.means["accuracy"] for line in lines for c in made.confirmed if c.number == line.number)
    swept = [replace(t, metrics={**t.metrics, "robust_accuracy_at/1": 0.2}) if t.metrics else t for t in made.trials]
    unconfirmed = curves.over_epsilon(replace(made, trials=swept, confirmed=[]))
    assert {line.number for line in unconfirmed} == {t.number for t in made.done if not t.barred}
    assert sorted(unconfirmed[0].values) == [0.0, 1.0]
    assert curves.over_epsilon(replace(made, confirmed=[])) == []
    assert "Not measured" in page.render(replace(made, confirmed=[]), "", dict.fromkeys(("growth", "radii", "audits", "seen"), ""))


def test_a_click_knows_all_of_a_trial_and_no_password(made):
    text = details.data(made)
    known = json.loads(text)
    assert "secret" not in text and known["mlflow"]["runs"] == "https://mlflow.example/#/experiments/3/runs"
    for t in made.trials:
        told = known["trials"][str(t.number)]
        assert {**known["shared"], **told["params"]} == t.params and told["metrics"] == t.metrics
        assert told["run"] == made.tracked.runs[t.number] and told["error"] == t.error
    assert known["shared"] == {"epochs": 30}


def test_a_database_comes_with_the_command_that_shows_it(made):
    known = json.loads(details.data(replace(made, tracked=Tracked("sqlite:///mlflow.db", "1", "p", {0: "r"}))))
    assert known["mlflow"]["command"] == "python -m mlflow ui --backend-store-uri sqlite:///mlflow.db"
    assert known["mlflow"]["runs"].startswith("http://127.0.0.1:5000/#/experiments/1/")
    assert json.loads(details.data(replace(made, tracked=Tracked())))["mlflow"] == {}


def test_text_of_a_trial_cannot_end_the_script():
    evil = Trial(0, {"loss": "</script><script>alert(1)</script>"}, {"accuracy": 0.5, "robust_accuracy": 0.5, "mia_auc": 0.5})
    text = details.data(Outcome("n", "s", "q", trilemma(10), {"lr": LogUniform(1, 2)}, 1, trials=[evil]))
    assert "<" not in text and json.loads(text)["shared"]["loss"].startswith("</script>")


def test_a_flag_on_every_trial_is_said_once_and_marks_none(made):
    assert words.everywhere(made) == ["few_non_members"]
    assert all("more_steps_help" in t.flags for t in words.marked(made))
    said = plain(" ".join(words.answer(made)))
    assert said.count("few_non_members") == 1 + sum("few_non_members" in t.flags for t in made.kept_off())


def test_the_answer_compares_the_knee_with_the_undefended_baseline(made):
    knee, first = words.knee(made), made.trials[0]
    gained = knee.metrics["robust_accuracy"] - first.metrics["robust_accuracy"]
    assert f"gains {gained:.3f} robust accuracy" in plain(" ".join(words.answer(made)))
    accuracy, _, auc = made.objectives
    assert words.moved(accuracy, -0.0312) == "costs 0.031 accuracy" and words.moved(accuracy, 0.1) == "gains 0.100 accuracy"
    assert words.moved(auc, -0.02) == "takes 0.020 off the membership-inference AUC"
    assert words.moved(auc, 0.02) == "adds 0.020 to the membership-inference AUC"


def test_pictures_show_the_honest_trials_first(made):
    low, high = frame(made, made.objectives[1])
    assert high < 0.9 and any(t.barred and t.metrics["robust_accuracy"] == 0.9 for t in made.done)
    assert all(low < t.metrics["robust_accuracy"] < high for t in made.done if not t.barred)
