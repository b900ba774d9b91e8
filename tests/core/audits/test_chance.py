"""The chance level of the largest AUC, and scores that are stored and permuted."""

import io

import numpy as np
import pytest
from replicated import aucs, audited

from core.audits.chance import chance_level, permuted_aucs
from core.audits.evidence import MembershipScores, permuted_members, stored_scores
from core.audits.roc import Roc
from core.audits.selection import select_audit, selected_chance_level
from core.audits.threshold import leak_metrics, worst_case_auc


def scores(stream: np.random.Generator, audits: int, members: int = 150, others: int = 75, leak: float = 0.0) -> MembershipScores:
    """Independent audits of one network."""
    n = members + others
    named = {str(k): stream.normal(size=n) + leak * (np.arange(n) < members) for k in range(audits)}
    return MembershipScores.of(np.arange(members), np.arange(members, n), named)


def test_the_chance_level_of_one_audit_is_that_of_the_rank_sum_test():
    level = chance_level([scores(np.random.default_rng(0), 1)], permutations=4000)
    exact = 1.96 * np.sqrt((150 + 75 + 1) / (12 * 150 * 75))
    assert level - 0.5 == pytest.approx(exact, rel=0.05)


def test_the_chance_level_of_several_independent_audits_is_that_of_their_maximum_and_copies_add_nothing():
    one = scores(np.random.default_rng(0), 1)
    copies = MembershipScores(one.rows, one.member, {str(k): one.scores["0"] for k in range(8)})
    eight = scores(np.random.default_rng(0), 8)
    levels = [chance_level([group], permutations=4000) - 0.5 for group in (one, copies, eight)]
    assert levels[1] == levels[0]
    assert levels[2] / levels[0] == pytest.approx(2.73 / 1.96, rel=0.05)  # the normal quantile at 1 - 0.05 / 8


def test_one_network_in_twenty_without_a_leak_exceeds_its_chance_level_and_every_one_with_a_leak_does():
    stream, above = np.random.default_rng(0), {0.0: [], 0.8: []}
    for leak, found in above.items():
        for _ in range(200 if not leak else 20):
            group = scores(stream, 5, leak=leak)
            found.append(worst_case_auc(leak_metrics(group.rocs()))["mia_auc"] > chance_level([group]))
    assert 0.02 <= np.mean(above[0.0]) <= 0.085 and all(above[0.8])


def test_the_selected_audit_of_networks_without_a_leak_exceeds_its_chance_level_once_in_twenty():
    stream, above = np.random.default_rng(0), []
    for _ in range(60):
        groups = audited(stream, 1, 2, (200, 100, 100), 0.0)[0]
        selected = select_audit(aucs(groups)).measurements
        mean = np.mean([m.value for m in selected.values()])
        above.append(mean > selected_chance_level({r: [group] for r, group in groups.items()}))
    assert np.mean(above) <= 0.12
    naive = np.mean([max(max(m.value, 1 - m.value) for m in own.values()) for own in aucs(groups).values()])
    assert naive > mean


def test_permuted_aucs_are_the_aucs_of_the_permuted_members():
    group = scores(np.random.default_rng(1), 2)
    permuted = permuted_members([group], 3, seed=4)[0]
    expected = [[Roc.of(s[m], s[~m]).auc for s in group.scores.values()] for m in permuted]
    assert permuted.sum(1).tolist() == [150] * 3
    np.testing.assert_allclose(permuted_aucs([group], 3, 4), expected, atol=1e-12)


def test_an_image_has_the_same_permuted_membership_in_groups_with_the_same_share_of_members():
    stream = np.random.default_rng(0)
    one, other = scores(stream, 1), scores(stream, 1)
    first, second = permuted_members([one, other], 5, seed=0)
    assert (first == second).all()


def test_stored_scores_are_those_that_were_stored():
    groups = {"own": scores(np.random.default_rng(0), 2), "label_only": scores(np.random.default_rng(1), 1, 9, 4)}
    buffer = io.BytesIO()
    np.savez(buffer, **{k: v for prefix, group in groups.items() for k, v in group.arrays(prefix).items()}, rows=np.arange(3))
    read = stored_scores(dict(np.load(io.BytesIO(buffer.getvalue()))))
    assert [set(group.scores) for group in read] == [set(group.scores) for group in groups.values()]
    for group, stored in zip(groups.values(), read, strict=True):
        assert (group.rows == stored.rows).all() and (group.member == stored.member).all()
        assert all((group.scores[name] == stored.scores[name]).all() for name in group.scores)
