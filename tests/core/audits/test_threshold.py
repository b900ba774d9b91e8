"""Threshold audits and their metrics against scikit-learn and the ROCs."""


import numpy as np
import pytest
import sklearn.metrics
import torch
from audit_oracles import logits_and_labels, naive_modified_entropy, tied_groups
from hypothesis import given, settings

from core.audits.roc import Roc, unresolved
from core.audits.threshold import below_half, leak_metrics, threshold_audits, worst_case_auc

torch.set_num_threads(1)


def audits(members=200, others=100, gain=6.0):
    logits, y = logits_and_labels(members, seed=1)
    other_logits, other_y = logits_and_labels(others, seed=2)
    logits[torch.arange(members), y] += gain
    return rocs_of(threshold_audits(logits, y, other_logits, other_y), members)


def rocs_of(scores, members):
    """The ROC of every score, of which the first ones are the members'."""
    return {name: Roc.of(score[:members], score[members:]) for name, score in scores.items()}


def test_threshold_audits_score_members_higher_and_have_the_auc_of_scikit_learn():
    logits, y = logits_and_labels(120, seed=1)
    logits[torch.arange(120), y] += 2
    others, other_y = logits_and_labels(80, seed=2)
    rocs = rocs_of(threshold_audits(logits, y, others, other_y), 120)
    assert set(rocs) == {"confidence", "loss", "entropy", "modified_entropy"}
    truth = np.r_[np.ones(120), np.zeros(80)]
    nll = [torch.nn.functional.cross_entropy(a.double(), b, reduction="none") for a, b in ((logits, y), (others, other_y))]
    assert rocs["loss"].auc == pytest.approx(sklearn.metrics.roc_auc_score(truth, -torch.cat(nll).numpy()), abs=1e-12)
    naive = np.r_[naive_modified_entropy(logits, y), naive_modified_entropy(others, other_y)]
    assert rocs["modified_entropy"].auc == pytest.approx(sklearn.metrics.roc_auc_score(truth, naive), abs=1e-9)
    assert all(roc.auc > 0.9 for roc in audits(gain=9.0).values())


def test_the_worst_case_auc_is_the_largest_after_folding_at_one_half():
    rocs = {"weak": Roc.of([1, 2, 3, 4], [1, 2, 3, 5]), "flipped": Roc.of([0, 1, 2, 9], [3, 4, 5, 6])}
    values = leak_metrics(rocs)
    assert values["mia_auc/flipped"] == pytest.approx(0.25)  # raw, not folded
    assert values["mia_auc/weak"] == pytest.approx((0.5 + 1.5 + 2.5 + 3) / 16)
    assert worst_case_auc(values)["mia_auc"] == pytest.approx(0.75)
    assert values["mia_auc_low/flipped"] <= 0.25 <= values["mia_auc_high/flipped"]


@given(tied_groups(2))
@settings(max_examples=30, deadline=None)
def test_mia_auc_is_at_least_one_half_and_independent_of_the_sign_of_the_scores(groups):
    members, others = map(np.array, groups)
    original, flipped = (worst_case_auc(leak_metrics({"a": Roc.of(s * members, s * others)}))["mia_auc"] for s in (1, -1))
    assert original >= 0.5 and original == pytest.approx(flipped, abs=1e-12)


@pytest.mark.parametrize(("others", "expected"), [(999, set()), (1000, {"0.01"}), (9999, {"0.01"}), (10000, {"0.01", "0.001"})])
def test_a_tpr_is_omitted_if_the_non_members_cannot_resolve_its_fpr(others, expected):
    values = leak_metrics(audits(others=others))
    rates = {name.split("/")[0].removeprefix("mia_tpr_at_fpr_") for name in values if name.startswith("mia_tpr")}
    assert rates == expected


def test_leak_metrics_are_the_statistics_of_the_rocs():
    rocs = audits(others=1000)
    values = leak_metrics(rocs)
    for name, roc in rocs.items():
        assert values[f"mia_auc/{name}"] == roc.auc
        assert (values[f"mia_auc_low/{name}"], values[f"mia_auc_high/{name}"]) == tuple(roc.auc_interval())
        assert values[f"mia_balanced_accuracy/{name}"] == roc.balanced_accuracy
        assert values[f"mia_advantage/{name}"] == pytest.approx(2 * roc.balanced_accuracy - 1)
        assert values[f"mia_tpr_at_fpr_0.01/{name}"] == roc.tpr_at(0.01)


def test_the_interval_of_the_worst_audit_is_widened_for_the_choice_among_audits():
    one = leak_metrics({"a": Roc.of(np.arange(50) + 20, np.arange(50))})
    assert worst_case_auc(one) == pytest.approx(
        {"mia_auc": one["mia_auc/a"], "mia_auc_low": one["mia_auc_low/a"], "mia_auc_high": one["mia_auc_high/a"]}
    )
    weak = Roc.of(np.arange(50) + 1, np.arange(50))
    ten = worst_case_auc(one | leak_metrics({str(i): weak for i in range(9)}))
    expected = Roc.of(np.arange(50) + 20, np.arange(50)).auc_interval(1 - 0.05 / 10)
    assert (ten["mia_auc_low"], ten["mia_auc_high"]) == pytest.approx(tuple(expected), abs=1e-9)
    flipped = worst_case_auc(leak_metrics({"a": Roc.of(np.arange(50), np.arange(50) + 20)}))
    assert flipped == pytest.approx(worst_case_auc(one))


@pytest.mark.parametrize("others", [999, 1000, 9_999, 10_000])
def test_metrics_contain_a_tpr_exactly_if_its_rate_is_resolved(others):
    metrics = leak_metrics({"a": Roc.of(np.arange(50), np.arange(others))})
    for fpr in (0.01, 0.001):
        assert (f"mia_tpr_at_fpr_{fpr:g}/a" in metrics) == (unresolved(fpr, others) == "")


def test_metrics_contain_every_statistic_of_every_audit_under_its_name():
    rocs = {name: Roc.of(np.arange(20) + shift, np.arange(20)) for name, shift in (("a", 3), ("b/per", 7))}
    metrics = leak_metrics(rocs)
    kinds = ("auc", "auc_low", "auc_high", "balanced_accuracy", "advantage")
    assert set(metrics) == {f"mia_{kind}/{name}" for kind in kinds for name in rocs}
    for name, roc in rocs.items():
        assert metrics[f"mia_advantage/{name}"] == pytest.approx(max(np.subtract(*roc.curve()[::-1])), abs=1e-12)


def test_the_worst_case_auc_is_over_audits_only_and_folded():
    metrics = {"mia_auc/a": 0.6, "mia_auc_low/a": 0.55, "mia_auc_high/a": 0.65, "accuracy": 0.99, "mia_learned_accuracy/x": 1.0}
    flipped = {"mia_auc/b": 0.2, "mia_auc_low/b": 0.1, "mia_auc_high/b": 0.3}
    assert worst_case_auc(metrics)["mia_auc"] == 0.6
    worst = worst_case_auc(metrics | flipped)
    assert worst["mia_auc"] == pytest.approx(0.8) and worst["mia_auc_low"] < 0.7 < 0.9 < worst["mia_auc_high"]


@pytest.mark.parametrize("groups", [((9, 8, 7, 6), (1, 0)), ((1,), (0,)), ((5, 5), (5, 5))])
def test_the_worst_case_interval_has_a_width_and_stays_in_zero_one_for_few_separated_or_constant_scores(groups):
    for members, others in (groups, groups[::-1]):
        worst = worst_case_auc(leak_metrics({name: Roc.of(members, others) for name in "abc"}))
        assert 0 <= worst["mia_auc_low"] < worst["mia_auc_low"] + 0.1 < worst["mia_auc_high"] <= 1
        assert worst["mia_auc_low"] <= worst["mia_auc"] <= worst["mia_auc_high"]


def test_the_interval_of_a_stored_audit_without_a_width_remains_readable():
    stored = {"mia_auc/a": 1.0, "mia_auc_low/a": 1.0, "mia_auc_high/a": 1.0}
    assert worst_case_auc(stored) == {"mia_auc": 1.0, "mia_auc_low": 1.0, "mia_auc_high": 1.0} and not below_half(stored)


@pytest.mark.parametrize(("members", "others", "audits"), [(4, 2, 4), (30, 15, 4), (120, 60, 4), (120, 60, 12)])
def test_at_most_a_fortieth_of_the_networks_without_a_leak_have_an_auc_below_half(members, others, audits):
    """Without a correction, a tenth of the networks with 4 audits and a quarter of those with 12 are flagged."""
    stream, networks = np.random.default_rng(0), 250
    flagged = sum(
        below_half(leak_metrics({str(i): Roc.of(stream.normal(size=members), stream.normal(size=others)) for i in range(audits)}))
        for _ in range(networks)
    )
    assert flagged / networks <= 0.025 + 3 * (0.025 * 0.975 / networks) ** 0.5


def test_an_auc_far_below_half_is_found_among_many_audits_and_one_above_half_is_not_reported():
    stream = np.random.default_rng(1)
    null = {str(i): Roc.of(stream.normal(size=200), stream.normal(size=100)) for i in range(11)}
    assert below_half(leak_metrics(null | {"low": Roc.of(stream.normal(-1, 1, 200), stream.normal(size=100))}))
    assert not below_half(leak_metrics(null | {"high": Roc.of(stream.normal(3, 1, 200), stream.normal(size=100))}))
    assert not below_half({})
