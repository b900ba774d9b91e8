"""The data that the page shows for a trial."""

import json
from dataclasses import replace

import answered
import large
import pytest
from confirming import confirmation, point

from core.space import LogUniform
from core.stats import Interval
from core.study import trilemma
from trainables.reporting.page_data import page_data
from trainables.study.mlflow_pages import run_page, trials_page
from trainables.study.outcome import MLflowRefs, Outcome
from trainables.study.trial import Trial
from trainables.study.trial_names import described


@pytest.fixture(scope="module")
def study() -> Outcome:
    """An outcome with everything that a report can contain."""
    return large.outcome()


def test_the_data_contain_everything_about_every_trial_and_no_password(study):
    text = page_data(study)
    data = json.loads(text)
    assert "secret" not in text and data["mlflow"]["table"] == trials_page(study.mlflow, "made-1")
    assert data["mlflow"]["charts"] == data["mlflow"]["table"] + "&compareRunsMode=CHART" and data["mlflow"]["command"] == ""
    for t in study.trials:
        trial = data["trials"][str(t.number)]
        assert {**data["shared"], **trial["params"]} == t.params and trial["metrics"] == t.metrics
        assert trial["run"] == study.mlflow.runs[t.number] and trial["link"] == run_page(study.mlflow, trial["run"])
        assert trial["name"] == described(t, study) and trial["error"] == t.error
    assert data["shared"] == {"epochs": 30}


def test_a_confirmed_trial_has_its_verdict_its_chance_level_and_only_known_intervals():
    study = answered.outcome()
    c = next(c for c in study.confirmed if c.number == 3)
    shown = json.loads(page_data(study))["trials"]["3"]
    assert shown["mark"] == "the point to ship" and shown["confirmed"]["verdict"] == c.verdict
    assert shown["confirmed"]["intervals"]["accuracy"] == pytest.approx(list(c.intervals["accuracy"]))
    assert shown["confirmed"]["notes"] == {"mia_auc": f", chance level {c.chance:.3f}"}
    single = point(3, c.means, intervals={name: Interval(0.0, 1.0) for name in c.means}, chance=0.9)
    unknown = json.loads(page_data(replace(study, confirmation=confirmation([single]))))["trials"]["3"]["confirmed"]
    assert unknown["intervals"] == dict.fromkeys(c.means) and unknown["notes"]["mia_auc"] == ", chance level 0.900, not resolved"


def test_a_database_comes_with_the_command_that_shows_it(study):
    data = json.loads(page_data(replace(study, mlflow=MLflowRefs("sqlite:///mlflow.db", "1", "p", {0: "r"}))))
    assert data["mlflow"]["command"] == "python -m mlflow ui --backend-store-uri sqlite:///mlflow.db"
    assert data["mlflow"]["table"].startswith("http://127.0.0.1:5000/#/experiments/1/runs?")
    assert data["trials"]["0"]["name"] == "000 undefended" and data["trials"]["1"]["link"] == ""
    assert json.loads(page_data(replace(study, mlflow=MLflowRefs())))["mlflow"] == {}


def test_the_text_of_a_trial_cannot_end_the_script_element():
    evil = Trial(0, {"loss": "</script><script>alert(1)</script>"}, {"accuracy": 0.5, "robust_accuracy": 0.5, "mia_auc": 0.5})
    text = page_data(Outcome("n", "s", "q", trilemma(10), {"lr": LogUniform(1, 2)}, 1, trials=[evil]))
    assert "<" not in text and json.loads(text)["shared"]["loss"].startswith("</script>")
