"""The card of what was measured."""

import answered
from reported import empty

from trainables.reporting.card import Missing, ReportContext
from trainables.reporting.cards.measured import data


def test_data_network_threat_model_attacks_audits_and_time_are_listed():
    items = data(ReportContext(answered.outcome()))["items"]
    assert items["data"] == "digits: 2,000 images of 8x8 grey in 10 classes, no exact copies" and items["parts"] == "500 members"
    assert items["network"] == "convnet (width 16, hidden 64)"
    assert items["threat model"] == "L\N{INFINITY}, epsilon 0.1 (25.5/255)"
    assert items["sweep attacks"] == items["confirmation attacks"] == "fgsm, pgd"
    assert items["sweep audits"] == "confidence, entropy, loss, modified_entropy"
    assert items["confirmation audits"].split(", ")[0] == "lira" and "loss" in items["confirmation audits"]
    assert items["trials"] == "5 completed of 5 planned; 5 points confirmed with 15 replicates"
    assert items["computing time"] == "0.29 hours (sweep 2 min, confirmation 15 min)"  # 5 * 30 s and 15 * 60 s


def test_settings_that_differ_between_trials_are_called_varied():
    study = answered.outcome()
    assert data(ReportContext(study))["items"]["training"].startswith("30 epochs, sgd (")
    trials = [t if t.number else type(t)(0, {**t.params, "net": "resnet18"}, t.metrics, baseline=t.baseline) for t in study.trials]
    assert data(ReportContext(type(study)("a-1", "a", "", study.objectives, {}, 5, {}, trials)))["items"]["network"] == "varied"


def test_a_study_without_trials_has_measured_nothing():
    assert isinstance(data(ReportContext(empty())), Missing)
