"""The card that compares the sweep with its confirmation."""

import answered
import numpy as np
import pytest
from reported import page_of, plain, section_of

from trainables.reporting.card import Missing, ReportContext
from trainables.reporting.cards.comparison import data
from trainables.study.outcome import Outcome


@pytest.fixture(scope="module")
def study() -> Outcome:
    """A study whose threshold audits see half of the leak that sibling replicates see."""
    return answered.outcome()


def test_the_auc_of_the_sweep_is_compared_with_that_of_the_same_audits_in_confirmation(study):
    rows = {row[0]: row[1:] for row in data(ReportContext(study))["changes"]["rows"]}
    sweep = np.mean([study.trials[c.number].metrics["mia_auc"] for c in study.confirmed])
    same = np.mean([c.tiers["threshold"][0] for c in study.confirmed])
    assert rows["membership-inference AUC, the same four threshold audits"][:2] == [f"{sweep:.3f}", f"{same:.3f}"]
    assert abs(sweep - same) < 0.02 < np.mean([c.means["mia_auc"] for c in study.confirmed]) - sweep
    assert rows["accuracy"][1] == f"{np.mean([c.means['accuracy'] for c in study.confirmed]):.3f}"


def test_what_each_tier_of_audits_adds_is_shown_on_average_and_for_every_point(study):
    tiers = data(ReportContext(study))["tiers"]
    added = "and another replicate of the point"
    assert tiers["heads"] == ["trial", "the sweep's threshold audits", added, "chance level, all audits"]
    means = [np.mean([c.tiers[name][0] for c in study.confirmed]) for name in ("threshold", "siblings")]
    assert tiers["rows"][0][:3] == ["mean", f"{means[0]:.3f}", f"{means[1]:.3f} (+{means[1] - means[0]:.3f})"]
    assert [row[0] for row in tiers["rows"][1:]] == [c.number for c in study.confirmed]


def test_the_hypervolume_of_the_confirmed_means_is_beside_that_of_the_sweep(study):
    value, (low, high) = study.confirmation.hypervolume
    text = plain(section_of(page_of(study), "comparison"))
    assert f"{value:.3f} ({low:.3f} to {high:.3f}) by the confirmed means" in text
    assert f"{study.hypervolume():.3f} by the sweep's numbers" in text


def test_without_confirmed_points_there_is_nothing_to_compare():
    assert isinstance(data(ReportContext(answered.outcome(replicates=0))), Missing)
