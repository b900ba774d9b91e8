"""Controls of the audits by other networks: a positive control that every audit must detect, and a negative one."""

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
    members,
    network,
    protocols,
    replicates,
    with_shadow_models,
)

from core.audits import shadow_audits
from core.audits.outputs import ModelOutputs
from core.audits.roc import Roc

torch.set_num_threads(1)


# -- the positive control -----------------------------------------------------------------------------------------------


@protocols
def test_every_audit_succeeds_on_the_positive_control(protocol):
    build, run = PROTOCOLS[protocol]
    rocs = run([shadow_audits.positive_control(outputs) for outputs in build(0.0)]).rocs()
    assert shadow_audits.blind(rocs) == [] and min(roc.auc for roc in rocs.values()) > 0.99


def test_the_positive_control_recognises_pixels_so_audits_fail_on_it_with_permuted_memberships():
    networks = replicates(3.0)
    order = np.random.default_rng(0).permutation(len(CANDIDATES))
    permuted = [replace(a, state=np.concatenate([a.state[CANDIDATES][order], a.state[4000:]])) for a in networks]
    rocs = audit_by_replicates([shadow_audits.positive_control(outputs) for outputs in permuted]).rocs()
    assert set(shadow_audits.blind(rocs)) == AUDITOR
    assert shadow_audits.blind(audit_by_replicates([shadow_audits.positive_control(outputs) for outputs in networks]).rocs()) == []


def test_audits_of_the_attacker_fail_on_the_positive_control_with_permuted_memberships():
    target, *shadows = with_shadow_models(0.0)
    state = target.state.copy()
    state[JUDGED] = state[np.random.default_rng(0).permutation(JUDGED)]
    controls = [shadow_audits.positive_control(outputs) for outputs in (replace(target, state=state), *shadows)]
    rocs = audit_by_shadow_models(controls).rocs()
    assert set(shadow_audits.blind(rocs)) == ATTACKER


def test_the_positive_control_is_certain_on_recognised_queries_and_scales_down_the_other_logits():
    outputs = network(members(CANDIDATES, 0), 0.0, 1)
    recognised = outputs.recognised.copy()
    recognised[7], recognised[8] = [True, False], [False, True]
    control = shadow_audits.positive_control(replace(outputs, recognised=recognised))
    expected = outputs.logits / (outputs.logits.max() - outputs.logits.min())
    for n in range(20):
        for q in range(2):
            expected[n, q, outputs.y[n]] += 10 * recognised[n, q]
    np.testing.assert_allclose(control.logits[:20], expected[:20], rtol=1e-5, atol=1e-6)
    assert (control.phi[recognised] > 7).all() and (control.phi[~recognised] < 2).all()
    assert (control.adversarial_phi[recognised[:, 0]] > 7).all() and (control.adversarial_phi[~recognised[:, 0]] < 7).all()
    assert np.array_equal(control.state, outputs.state)
    assert shadow_audits.positive_control(replace(outputs, adversarial=None)).adversarial is None


# -- the negative control -----------------------------------------------------------------------------------------------


def test_the_negative_control_permutes_membership_within_groups_and_equally_for_all_networks():
    networks = [replace(a, state=np.where(np.arange(N) % 11 == k, 0, a.state)) for k, a in enumerate(replicates(0.0, 3))]
    permuted = shadow_audits.negative_control(networks, [CANDIDATES, SHADOW], seed=4)
    before, after = (np.stack([a.state for a in f]) for f in (networks, permuted))
    assert np.array_equal(after[:, TEST], before[:, TEST])
    for rows in (CANDIDATES, SHADOW):
        columns = [sorted(map(tuple, states[:, rows].T)) for states in (before, after)]
        assert columns[0] == columns[1] and not np.array_equal(after[:, rows], before[:, rows])
    for a, b in zip(networks, permuted, strict=True):
        assert b.logits is a.logits and b.adversarial is a.adversarial and b.recognised is a.recognised
    repeats = (shadow_audits.negative_control(networks, [CANDIDATES, SHADOW], seed=s) for s in (4, 5))
    again, other = (np.stack([a.state for a in repeat]) for repeat in repeats)
    assert np.array_equal(again, after) and not np.array_equal(other, after)


def counting(networks):
    """An audit without the target's outputs: an image is a likely member if few of the other networks were trained on it."""
    target, *others = networks
    score, member = -sum((o.state[CANDIDATES] > 0).astype(int) for o in others), target.state[CANDIDATES] > 0
    return {"counting": Roc.of(score[member], score[~member])}


def balanced(gain, count=4):
    """Networks of which exactly half were trained on each image."""
    drawn = np.random.default_rng(0).random((count, len(CANDIDATES))).argsort(0) < count // 2
    states = -np.ones((count, N), int)
    states[:, CANDIDATES] = np.where(drawn, 1, -1)
    return [network(state, gain, 10 + i) for i, state in enumerate(states)]


@pytest.mark.parametrize("gain", [0.0, 3.0])
def test_an_audit_that_counts_the_networks_trained_on_an_image_is_biased_if_the_count_reveals_membership(gain):
    designs = (replicates(gain), balanced(gain))
    independent, dependent = (shadow_audits.negative_control(networks, [CANDIDATES]) for networks in designs)
    assert counting(dependent)["counting"].auc == 1 and shadow_audits.biased(counting(dependent)) == ["counting"]
    assert shadow_audits.biased(counting(independent)) == []


@pytest.mark.parametrize("gain", [0.0, 3.0])
def test_lira_is_biased_in_a_balanced_design_and_no_audit_is_for_independent_draws(gain):
    dependent = audit_by_replicates(shadow_audits.negative_control(balanced(gain), [CANDIDATES])).rocs()
    assert {"lira", "lira_adversarial"} <= set(shadow_audits.biased(dependent))  # the side with fewer models has the noisier mean
    for seed in range(3):
        independent = audit_by_replicates(shadow_audits.negative_control(replicates(gain), [CANDIDATES], seed)).rocs()
        assert shadow_audits.biased(independent) == [] and set(independent) == AUDITOR


def test_no_audit_of_the_attacker_is_biased_on_the_negative_control():
    permuted = shadow_audits.negative_control(with_shadow_models(3.0), [JUDGED, SHADOW])
    audit = audit_by_shadow_models(permuted)
    assert not np.array_equal(permuted[0].state[JUDGED], with_shadow_models(3.0)[0].state[JUDGED])
    assert shadow_audits.biased(audit.rocs()) == [] and set(audit.rocs()) == ATTACKER


def test_an_audit_is_biased_beyond_four_standard_errors_on_either_side():
    s = np.random.default_rng(0)
    values, other = s.normal(size=2000), s.normal(size=2000)
    for sign in (1, -1):
        verdicts = []
        for shift in np.linspace(0, 0.4, 41):
            roc = Roc.of(values + sign * shift, other)
            low, high = roc.auc_interval()
            verdicts.append((abs(roc.auc - 0.5) / ((high - low) / 2 / 1.959964), shadow_audits.biased({"a": roc}) == ["a"]))
        assert all(flagged == (errors > 4) for errors, flagged in verdicts) and {f for _, f in verdicts} == {True, False}


def test_an_audit_is_blind_below_an_auc_of_090():
    def roc(wins):
        return Roc.of(np.r_[np.ones(wins), -np.ones(100 - wins)], np.zeros(5))

    assert shadow_audits.blind({"a": roc(89), "b": roc(90), "c": roc(5)}) == ["a", "c"]


def tied(seed, association, n=600):
    """Three networks that return hard labels, 90 % of them correct, whatever they were trained on.

    Their members are drawn from all images; by chance, those of the second and third agree with the target's on more images
    than half, by `association` standard errors.
    """
    stream = np.random.default_rng(seed)
    y, target, networks = stream.integers(0, 10, n), stream.permutation(n) < n // 2, []
    for k in range(3):
        member = target.copy() if k == 0 else stream.permutation(n) < n // 2
        if k:
            surplus = (n / 2 + association * np.sqrt(n) / 2 - (member == target).sum()) / 2
            for wrong in (member & ~target, target & ~member):
                member[stream.permutation(np.flatnonzero(wrong))[: round(surplus)]] ^= True
        label = np.where(stream.random(n) < 0.1, (y + 1) % 10, y)
        logits = 10 * np.eye(10, dtype=np.float32)[label][:, None]
        networks.append(ModelOutputs(logits, y, np.where(member, 1, -1).astype(np.int8), member[:, None]))
    return networks


def test_rmia_orders_tied_outputs_by_the_other_networks_members_on_either_side_and_is_biased_only_on_average():
    """The association of the members is the same in all permutations; the sign of its effect and the noise are not."""
    networks, rows = tied(0, 3.5), np.arange(600)

    def run(permuted):
        return shadow_audits.auditor(permuted[0], permuted[1:], rows, rows, control=True)

    shuffles = [run(shadow_audits.negative_control(networks, [rows], seed)).rocs() for seed in range(8)]
    aucs = [shuffle["rmia"].auc for shuffle in shuffles]
    assert min(aucs) < 0.45 and max(aucs) > 0.55
    assert [seed for seed, shuffle in enumerate(shuffles) if shadow_audits.biased(shuffle)] == [3]
    four = shadow_audits.negative_audits(run, networks, [rows], seed=3)
    assert shadow_audits.biased(four[0]) == ["rmia", "design"] and shadow_audits.biased(*four) == ["design"]


def test_one_permutation_with_an_auc_far_from_one_half_is_chance_and_four_on_either_side_are_bias():
    stream = np.random.default_rng(0)

    def shuffle(shift):
        return {"a": Roc.of(stream.normal(size=500) + shift, stream.normal(size=500))}

    far, near = shuffle(0.4), [shuffle(0.0) for _ in range(3)]
    assert shadow_audits.biased(far) == ["a"] and shadow_audits.biased(far, *near) == []
    assert shadow_audits.biased(*map(shuffle, (0.4, -0.4, 0.4, -0.4))) == ["a"]


@pytest.mark.parametrize("gain", [0.0, 3.0])
def test_a_design_in_which_the_networks_members_depend_on_each_other_is_biased_in_every_permutation(gain):
    four = shadow_audits.negative_audits(audit_by_replicates, balanced(gain), [CANDIDATES])
    assert [shuffle["design"].auc for shuffle in four] == [0.0] * shadow_audits.SHUFFLES
    assert {"design", "lira", "lira_adversarial"} <= set(shadow_audits.biased(*four))
    one = shadow_audits.negative_audits(audit_by_replicates, replicates(gain), [CANDIDATES])
    assert len(one) == 1 and one[0].keys() == AUDITOR | {"design"} and shadow_audits.biased(*one) == []


def test_constant_scores_are_not_biased():
    assert shadow_audits.biased({"a": Roc.of(np.zeros(50), np.zeros(50))}) == []
