"""Audits by other networks: at chance without a leak, successful with one, and computed from the documented inputs."""

import functools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from simulated_audits import (
    ATTACKER,
    AUDITOR,
    CANDIDATES,
    JUDGED,
    PROTOCOLS,
    SHADOW,
    TEST,
    N,
    audit_by_replicates,
    audit_by_shadow_models,
    audited,
    protocols,
    replicates,
    with_shadow_models,
)

from core.audits import lira, rmia, shadow_audits
from core.audits.learned import Scored, learned
from core.audits.roc import Roc
from core.audits.scores import SCORES

torch.set_num_threads(1)


def chance_error(audit):
    m, n = int(audit.member.sum()), int((~audit.member).sum())
    return math.sqrt((m + n + 1) / (12 * m * n))


# -- at chance, and above chance ----------------------------------------------------------------------------------------


@protocols
def test_every_audit_is_at_chance_if_outputs_do_not_depend_on_membership(protocol):
    audit = audited(protocol, 0.0)
    rocs = audit.rocs()
    assert set(rocs) == (AUDITOR if protocol == "auditor" else ATTACKER)
    m, n = int(audit.member.sum()), int((~audit.member).sum())
    for name, roc in rocs.items():
        assert abs(roc.auc - 0.5) < 3 * chance_error(audit), name
        for fpr in (0.01, 0.1):
            error = math.sqrt(fpr * (1 - fpr) * (1 / m + 1 / n))
            tied = np.mean(roc.members >= roc.non_members.max())  # RMIA's scores are shares, so many are tied
            assert fpr - roc.tpr_at(fpr) < 3 * error + tied and roc.tpr_at(fpr) - fpr < 3 * error, name
    for name, accuracy in audit.accuracies.items():
        assert abs(accuracy - 0.5) < 3 * math.sqrt(0.25 * (1 / m + 1 / n) / 2), name


@protocols
def test_every_audit_finds_members_if_networks_are_more_confident_on_them(protocol):
    rocs = audited(protocol, 3.0).rocs()
    assert set(rocs) == (AUDITOR if protocol == "auditor" else ATTACKER)
    assert all(roc.auc > 0.75 for roc in rocs.values()), {name: roc.auc for name, roc in rocs.items()}
    likelihood_ratio = rocs["lira" if protocol == "auditor" else "lira_offline"]
    assert likelihood_ratio.auc > 0.9  # it removes the level of each image, which hides members from a threshold


@protocols
def test_outputs_without_adversarial_queries_are_audited_without_them(protocol):
    build, run = PROTOCOLS[protocol]
    plain = [replace(outputs, adversarial=None) for outputs in build(3.0)]
    audit, full = run(plain), audited(protocol, 3.0)
    assert set(audit.scores) == {name for name in full.scores if "adversarial" not in name}
    for name, scores in audit.scores.items():
        assert np.array_equal(scores, full.scores[name])
    mixed = run([*build(3.0)[:-1], plain[-1]])
    assert set(mixed.scores) == set(audit.scores)


# -- inputs of the audits -----------------------------------------------------------------------------------------------


def test_the_scores_of_the_auditor_are_those_of_its_audits_on_the_images_that_members_were_drawn_from():
    audit, (target, *others) = audited("auditor", 3.0), replicates(3.0)
    states, phi = np.stack([o.state for o in others])[:, CANDIDATES], np.stack([o.phi for o in others])
    assert np.array_equal(audit.rows, CANDIDATES) and np.array_equal(audit.member, target.state[CANDIDATES] > 0)
    np.testing.assert_allclose(audit.scores["lira"], lira.online(target.phi[CANDIDATES], phi[:, CANDIDATES], states))
    np.testing.assert_allclose(audit.scores["calibrated"], lira.calibrated(target.phi[CANDIDATES], phi[:, CANDIDATES], states))
    first, rest = target.adversarial_phi[CANDIDATES], np.stack([o.adversarial_phi[CANDIDATES] for o in others])
    np.testing.assert_allclose(audit.scores["lira_adversarial"], lira.online(first, rest, states))
    np.testing.assert_allclose(audit.scores["calibrated_adversarial"], lira.calibrated(first, rest, states))


def probability(outputs):
    """Predicted probability of the label for the original images, [N]."""
    return torch.from_numpy(outputs.logits[:, 0]).double().softmax(1).numpy()[np.arange(N), outputs.y]


def test_rmia_of_the_auditor_uses_the_mean_of_in_and_out_models():
    target, *others = replicates(3.0)
    states, p, own = np.stack([o.state for o in others]), np.stack([probability(o) for o in others]), probability(target)
    both = [i for i in CANDIDATES if set(states[:, i]) == {-1, 1}]
    scores = shadow_audits.auditor(target, others, CANDIDATES, np.array(both)).scores["rmia"]
    marginal = {i: (p[states[:, i] > 0, i].mean() + p[states[:, i] < 0, i].mean()) / 2 for i in both}
    ratios = np.array([own[i] / marginal[i] for i in both])
    expected = [np.mean(own[i] / marginal[i] / ratios >= 1) for i in both[::20]]
    np.testing.assert_allclose(scores[both[::20]], expected, atol=1.5 / len(both))
    assert len(both) > 2000 and len(np.unique(scores)) > 1000


def test_the_scores_of_the_attacker_are_offline_and_its_population_is_the_shadow_pool():
    audit, (target, *shadows) = audited("attacker", 3.0), with_shadow_models(3.0)
    states, phi = np.stack([s.state for s in shadows]), np.stack([s.phi for s in shadows])
    assert np.array_equal(audit.rows, JUDGED) and audit.member.sum() == 2000 and (~audit.member).sum() == 1000
    np.testing.assert_allclose(audit.scores["lira_offline"], lira.offline(target.phi[JUDGED], phi[:, JUDGED], states[:, JUDGED]))
    np.testing.assert_allclose(audit.scores["calibrated_offline"], (target.phi - phi.mean(0)).mean(1)[JUDGED])
    log_p = np.stack([SCORES["loss"](torch.from_numpy(o.logits[:, 0]), torch.from_numpy(o.y)).numpy() for o in (target, *shadows)])
    marginal = rmia.marginal_offline(log_p[1:], states)
    expected = rmia.rmia(log_p[0, JUDGED], marginal[JUDGED], log_p[0, SHADOW], marginal[SHADOW])
    np.testing.assert_allclose(audit.scores["rmia_offline"], expected, atol=3 / len(SHADOW))


@protocols
def test_learned_accuracies_use_the_pooled_outputs_of_the_other_networks(protocol):
    build, _ = PROTOCOLS[protocol]
    audit, (target, *others) = audited(protocol, 3.0), build(3.0)
    rows, other_rows = (CANDIDATES, CANDIDATES) if protocol == "auditor" else (JUDGED, SHADOW)
    for name in SCORES:
        columns = zip(*((o.score(name, other_rows), o.state[other_rows] > 0, o.y[other_rows]) for o in others), strict=True)
        pooled = Scored(*(np.concatenate(c) for c in columns))
        one, per_class = learned(Scored(target.score(name, rows), target.state[rows] > 0, target.y[rows]), pooled)
        assert audit.accuracies[f"{protocol}/{name}"] == one and audit.accuracies[f"{protocol}/{name}/per_class"] == per_class
    assert len(audit.accuracies) == 2 * len(SCORES)


def test_only_the_neural_attack_depends_on_the_seed():
    networks = [replace(outputs, adversarial=None) for outputs in with_shadow_models(3.0)]
    one, other = (audit_by_shadow_models(networks, seed=seed).scores for seed in (0, 1))
    assert np.array_equal(one["nn"], audited("attacker", 3.0).scores["nn"])
    assert not np.array_equal(one["nn"], other["nn"])
    assert np.array_equal(one["lira_offline"], other["lira_offline"])


def test_shadow_models_and_targets_that_were_trained_on_the_same_images_are_rejected():
    target, *shadows = with_shadow_models(0.0)
    for row, state in ((JUDGED[0], 1), (TEST[5], 1), (TEST[5], 0)):
        overlapping = shadows[1].state.copy()
        overlapping[row] = state
        with pytest.raises(ValueError, match="were trained on the same images"):
            audit_by_shadow_models([target, shadows[0], replace(shadows[1], state=overlapping)])
    overlapping = target.state.copy()
    overlapping[SHADOW[3]] = 1
    with pytest.raises(ValueError, match="were trained on the same images"):
        audit_by_shadow_models([replace(target, state=overlapping), *shadows])


def test_images_in_the_reference_set_of_the_target_or_of_all_others_are_left_out():
    networks = replicates(3.0, count=3)
    states = [outputs.state.copy() for outputs in networks]
    of_target, of_all_others, of_one_other = (np.arange(k, k + 20) for k in (0, 20, 40))
    states[0][of_target] = 0
    for state in states[1:]:
        state[of_all_others] = 0
    states[1][of_one_other] = 0
    audit = audit_by_replicates([replace(a, state=s) for a, s in zip(networks, states, strict=True)])
    assert np.array_equal(audit.rows, CANDIDATES[40:])
    assert all(len(scores) == len(CANDIDATES) - 40 for scores in audit.scores.values())
    assert all(roc.auc > 0.75 for roc in audit.rocs().values())


# -- outputs that are not finite ----------------------------------------------------------------------------------------


def quick(protocol):
    """The networks and the audit of a protocol; the neural attack takes few steps."""
    build, run = PROTOCOLS[protocol]
    return build, functools.partial(run, control=True) if protocol == "attacker" else run


@protocols
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_an_output_of_another_network_that_is_not_finite_changes_only_the_evidence_about_its_image(protocol, bad):
    """As if the image were in the reference set of this network, whose images are ignored."""
    build, run = quick(protocol)
    target, first, *others = build(3.0)
    row = int(JUDGED[0]) if protocol == "attacker" else 5
    logits, state = first.logits.copy(), first.state.copy()
    logits[row, 0, 1], state[row] = bad, 0
    planted = run([target, replace(first, logits=logits), *others])
    assert planted.left_out == 1 and all(np.isfinite(scores).all() for scores in planted.scores.values())
    assert min(roc.auc for roc in planted.rocs().values()) > 0.6
    if protocol == "auditor":
        ignored = run([target, replace(first, state=state), *others])
        assert planted.accuracies == ignored.accuracies and ignored.left_out == 0
        for name, scores in planted.scores.items():
            np.testing.assert_array_equal(scores, ignored.scores[name])


@protocols
def test_an_image_about_which_no_other_network_has_a_finite_output_is_not_audited(protocol):
    build, run = quick(protocol)
    target, *others = build(0.0)
    row = int(JUDGED[0])
    planted = [replace(other, logits=np.where((np.arange(N) == row)[:, None, None], np.inf, other.logits)) for other in others]
    audit = run([target, *planted])
    assert row not in audit.rows and row in run([target, *others]).rows
    assert audit.left_out == len(others) and all(np.isfinite(scores).all() for scores in audit.scores.values())
    with pytest.raises(ValueError, match="no image to audit"):
        run([target, *(replace(other, logits=np.full_like(other.logits, np.nan)) for other in others)])


@protocols
@pytest.mark.parametrize("field", ["logits", "adversarial"])
def test_outputs_of_the_audited_network_that_are_not_finite_are_rejected_with_their_number(protocol, field):
    build, run = quick(protocol)
    target, *others = build(0.0)
    values = getattr(target, field).copy()
    values.reshape(N, -1)[[3, 8], 0] = np.inf
    with pytest.raises(ValueError, match=f"audited network are not finite for 2 of {N} images"):
        run([replace(target, **{field: values}), *others])


@protocols
def test_both_controls_remain_sound_if_an_output_of_another_network_is_infinite(protocol):
    build, run = quick(protocol)
    target, first, *others = build(0.0)
    logits = first.logits.copy()
    logits[5, 0, 1] = np.inf
    networks = [target, replace(first, logits=logits), *others]
    assert shadow_audits.blind(run([shadow_audits.positive_control(outputs) for outputs in networks]).rocs()) == []
    groups = [JUDGED, SHADOW] if protocol == "attacker" else [CANDIDATES]
    assert shadow_audits.biased(run(shadow_audits.negative_control(networks, groups)).rocs()) == []


def test_the_negative_control_of_few_images_is_not_called_biased_by_chance():
    """With 4 members and 2 non-members, 2 of 15 permutations separate them."""
    separated = {"a": Roc.of([3, 4, 5, 6], [1, 2])}
    assert shadow_audits.biased(separated) == []
    assert shadow_audits.biased({"a": Roc.of(np.arange(200) + 100, np.arange(200))}) == ["a"]
