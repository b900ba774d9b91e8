"""Membership leakage of confirmed points: audits that all of them have, tiers, and the best audit."""

import numpy as np
import pytest
from confirming import THRESHOLDS, evidence

from trainables.study.leakage import TIERS, chance_level_of, common_audits, leaks_of, selected_audits, tier_of, tiers_of
from trainables.study.replicates import Replicate
from trainables.study.results import NetworkResult


def audited(seed: int, leaks: dict[str, float], metrics: dict[str, float] | None = None) -> Replicate:
    """A replicate with further audits, each of which separates members by a number of standard deviations."""
    arrays, draw = evidence(seed, members_seed=seed), np.random.default_rng([seed, 9])
    rows, member = arrays["own/rows"], arrays["own/member"]
    for name, leak in leaks.items():
        group = name.partition("/")[0]
        arrays |= {f"{group}/rows": rows, f"{group}/member": member, name: draw.normal(size=len(rows)) + leak * member}
    return Replicate.of(NetworkResult(metrics=metrics or {}), arrays)


EVERY = {
    "own/gradient_norm": 0.1, "own/loss_adversarial": 0.2, "label_only/label_only": 0.3, "auditor/lira": 0.7,
    "attacker/lira_offline": 1.0,
}  # fmt: skip


def test_every_audit_belongs_to_the_tier_of_its_attacker():
    names = [("own", "loss"), ("reference", "reference_loss"), *(tuple(name.split("/")) for name in EVERY)]
    assert [tier_of(*name) for name in names] == ["threshold", *TIERS]


def test_only_audits_that_all_points_have_had_count():
    points = {0: {1: audited(1, EVERY), 2: audited(2, EVERY)}, 1: {1: audited(3, {"own/gradient_norm": 0.1, "auditor/lira": 0.5})}}
    assert common_audits(points) == dict.fromkeys(THRESHOLDS, "threshold") | {"gradient_norm": "gradient", "lira": "siblings"}


def test_a_replicate_whose_siblings_failed_does_not_remove_their_audits_from_the_other_points():
    alone = audited(3, {}, {"flag/audit_lacks_models": 1.0})
    points = {0: {1: audited(1, EVERY), 2: audited(2, EVERY)}, 1: {1: alone}}
    audits = common_audits(points)
    assert audits["lira"] == "siblings" and set(selected_audits(points, audits)[1].names) <= set(THRESHOLDS)
    assert common_audits({1: {1: alone}}).keys() == set(THRESHOLDS)


def test_each_tier_adds_its_audits_to_those_before_it():
    points = {0: {r: audited(r, EVERY) for r in (1, 2)}, 1: {r: audited(10 + r, EVERY) for r in (1, 2)}}
    tiers = tiers_of(points, common_audits(points))[0]
    assert list(tiers) == list(TIERS)
    expected = {"threshold": 0.5, "siblings": 0.690, "shadows": 0.760}  # Phi(leak / sqrt(2))
    for tier, auc in expected.items():
        value, (low, high) = tiers[tier]
        assert value == pytest.approx(auc, abs=0.03) and low < auc < high
    assert tiers["threshold"][0] < tiers["siblings"][0] < tiers["shadows"][0]


def test_the_best_audit_of_each_point_is_chosen():
    points = {0: {1: audited(1, EVERY)}, 1: {1: audited(2, EVERY | {"own/gradient_norm": 2.0})}}
    chosen = selected_audits(points, common_audits(points))
    assert [chosen[number].names for number in points] == [("lira_offline",), ("gradient_norm",)]


def test_leaks_are_sorted_and_have_the_rates_that_every_replicate_resolves():
    rates = {"mia_tpr_at_fpr_0.01/lira": 0.2}
    points = {0: {1: audited(1, EVERY, rates), 2: audited(2, EVERY, rates | {"mia_tpr_at_fpr_0.01/loss": 0.1})}}
    leaks = leaks_of(points)[0]
    assert list(leaks)[:2] == ["lira_offline", "lira"] and len(leaks) == len(EVERY) + len(THRESHOLDS)
    assert leaks["lira"].tprs == {0.01: pytest.approx(0.2)} and leaks["loss"].tprs == {}


def test_the_chance_level_is_that_of_the_audits_that_count():
    own = {r: audited(r, EVERY) for r in (1, 2, 3)}
    few, many = chance_level_of(own, {"loss": "threshold"}), chance_level_of(own, common_audits({0: own}))
    assert 0.5 < few < many < 0.55
