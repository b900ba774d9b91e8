"""Audits by other networks: at chance where there is nothing, sure where all is memorised, and controls that notice cheats."""

import functools
import math
from dataclasses import replace

import attack_contract as contract
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from core.audits import fleet, lira, rmia
from core.audits.answers import Answers, ask
from core.audits.gradient_norm import gradient_norm
from core.audits.label_only import boundary_distance
from core.audits.learned import Scored, learned
from core.audits.roc import Roc
from core.audits.scores import SCORES
from core.audits.threshold import threshold_audits
from core.data import Images
from core.train import predict

torch.set_num_threads(1)

N, CLASSES = 5400, 4
OPEN, TEST, SHADOW = np.arange(4000), np.arange(4000, 5000), np.arange(5000, N)
AUDITOR = {"lira", "calibrated", "rmia", "lira_adversarial", "calibrated_adversarial"}
ATTACKER = {"lira_offline", "calibrated_offline", "rmia_offline", "nn", "lira_offline_adversarial"}


def network(state, gain, seed, queries=2, adversarial=True):
    """Answers that differ by image and network, surer by `gain` of the labels of members."""
    common, own = np.random.default_rng(99), np.random.default_rng(seed)
    y, level = common.integers(CLASSES, size=N), common.normal(0, 2, (N, 1, CLASSES))
    logits = level + own.normal(size=(N, queries + 1, CLASSES))
    logits[np.arange(N), :, y] += gain * (state > 0)[:, None]
    logits = logits.astype(np.float32)
    recognised = np.repeat((state > 0)[:, None], queries, 1)
    return Answers(logits[:, :queries], y, state.astype(np.int8), recognised, logits[:, -1] if adversarial else None)


def members(rows, seed, share=0.5):
    """A state: some of the rows are members."""
    state = -np.ones(N, int)
    state[np.random.default_rng(seed).permutation(rows)[: int(share * len(rows))]] = 1
    return state


def sisters(gain, count=4, **knobs):
    """Networks whose members were drawn independently from the same images."""
    return [network(members(OPEN, i, 2 / 3), gain, 10 + i, **knobs) for i in range(count)]


def outsiders(gain, count=2, **knobs):
    """A target and its shadow models, which have seen other images."""
    shadows = [network(members(SHADOW, 20 + i), gain, 30 + i, **knobs) for i in range(count)]
    return [network(members(OPEN, 1), gain, 3, **knobs), *shadows]


def audit_by_sisters(networks):
    return fleet.auditor(networks[0], networks[1:], OPEN, OPEN)


def audit_by_outsiders(networks, **knobs):
    target, *shadows = networks
    return fleet.attacker(target, shadows, JUDGED, SHADOW, **knobs)


JUDGED = np.concatenate([np.flatnonzero(members(OPEN, 1) > 0), TEST])
PROTOCOLS = {"auditor": (sisters, audit_by_sisters), "attacker": (outsiders, audit_by_outsiders)}
protocols = pytest.mark.parametrize("protocol", PROTOCOLS)


@functools.cache
def audited(protocol, gain):
    """An audit of networks that are that much surer of their members."""
    build, run = PROTOCOLS[protocol]
    return run(build(gain))


def chance_error(audit):
    m, n = int(audit.member.sum()), int((~audit.member).sum())
    return math.sqrt((m + n + 1) / (12 * m * n))


# ---- at chance, and above it


@protocols
def test_where_networks_treat_members_like_others_every_audit_is_at_chance(protocol):
    audit = audited(protocol, 0.0)
    rocs = audit.rocs()
    assert set(rocs) == (AUDITOR if protocol == "auditor" else ATTACKER)
    m, n = int(audit.member.sum()), int((~audit.member).sum())
    for name, roc in rocs.items():
        assert abs(roc.auc - 0.5) < 3 * chance_error(audit), name
        for fpr in (0.01, 0.1):
            error = math.sqrt(fpr * (1 - fpr) * (1 / m + 1 / n))
            tied = np.mean(roc.members >= roc.non_members.max())  # RMIA's scores are shares, so many are alike
            assert fpr - roc.tpr_at(fpr) < 3 * error + tied and roc.tpr_at(fpr) - fpr < 3 * error, name
    for name, accuracy in audit.accuracies.items():
        assert abs(accuracy - 0.5) < 3 * math.sqrt(0.25 * (1 / m + 1 / n) / 2), name


@protocols
def test_where_networks_are_surer_of_members_every_audit_finds_them(protocol):
    rocs = audited(protocol, 3.0).rocs()
    assert set(rocs) == (AUDITOR if protocol == "auditor" else ATTACKER)
    assert all(roc.auc > 0.75 for roc in rocs.values()), {name: roc.auc for name, roc in rocs.items()}
    sharp = rocs["lira" if protocol == "auditor" else "lira_offline"]
    assert sharp.auc > 0.9  # the images' own level, which hides members from a threshold, is gone


@protocols
def test_answers_without_adversarial_images_are_audited_without_them(protocol):
    build, run = PROTOCOLS[protocol]
    plain = [replace(answers, adversarial=None) for answers in build(3.0)]
    found, full = run(plain), audited(protocol, 3.0)
    assert set(found.scores) == {name for name in full.scores if "adversarial" not in name}
    for name, scores in found.scores.items():
        assert np.array_equal(scores, full.scores[name])
    mixed = run([*build(3.0)[:-1], plain[-1]])
    assert set(mixed.scores) == set(found.scores)


# ---- which numbers go where


def test_the_auditors_scores_are_those_of_its_audits_on_the_images_that_members_were_drawn_from():
    found, (target, *others) = audited("auditor", 3.0), sisters(3.0)
    states, phi = np.stack([o.state for o in others])[:, OPEN], np.stack([o.phi for o in others])
    assert np.array_equal(found.rows, OPEN) and np.array_equal(found.member, target.state[OPEN] > 0)
    np.testing.assert_allclose(found.scores["lira"], lira.online(target.phi[OPEN], phi[:, OPEN], states))
    np.testing.assert_allclose(found.scores["calibrated"], lira.calibrated(target.phi[OPEN], phi[:, OPEN], states))
    first, rest = target.adversarial_phi[OPEN], np.stack([o.adversarial_phi[OPEN] for o in others])
    np.testing.assert_allclose(found.scores["lira_adversarial"], lira.online(first, rest, states))
    np.testing.assert_allclose(found.scores["calibrated_adversarial"], lira.calibrated(first, rest, states))


def probability(answers):
    """Of the true class, for the images as they are."""
    return torch.from_numpy(answers.logits[:, 0]).double().softmax(1).numpy()[np.arange(N), answers.y]


def test_the_auditors_rmia_compares_images_by_what_both_sides_say_of_them():
    target, *others = sisters(3.0)
    states, p, own = np.stack([o.state for o in others]), np.stack([probability(o) for o in others]), probability(target)
    both = [i for i in OPEN if set(states[:, i]) == {-1, 1}]
    found = fleet.auditor(target, others, OPEN, np.array(both)).scores["rmia"]
    usual = {i: (p[states[:, i] > 0, i].mean() + p[states[:, i] < 0, i].mean()) / 2 for i in both}
    ratios = np.array([own[i] / usual[i] for i in both])
    expected = [np.mean(own[i] / usual[i] / ratios >= 1) for i in both[::20]]
    np.testing.assert_allclose(found[both[::20]], expected, atol=1.5 / len(both))
    assert len(both) > 2000 and len(np.unique(found)) > 1000


def test_the_attackers_scores_are_offline_and_its_population_is_the_shadow_models_images():
    found, (target, *shadows) = audited("attacker", 3.0), outsiders(3.0)
    states, phi = np.stack([s.state for s in shadows]), np.stack([s.phi for s in shadows])
    assert np.array_equal(found.rows, JUDGED) and found.member.sum() == 2000 and (~found.member).sum() == 1000
    np.testing.assert_allclose(found.scores["lira_offline"], lira.offline(target.phi[JUDGED], phi[:, JUDGED], states[:, JUDGED]))
    np.testing.assert_allclose(found.scores["calibrated_offline"], (target.phi - phi.mean(0)).mean(1)[JUDGED])
    log_p = np.stack([SCORES["loss"](torch.from_numpy(o.logits[:, 0]), torch.from_numpy(o.y)).numpy() for o in (target, *shadows)])
    usual = rmia.usual_offline(log_p[1:], states)
    expected = rmia.rmia(log_p[0, JUDGED], usual[JUDGED], log_p[0, SHADOW], usual[SHADOW])
    np.testing.assert_allclose(found.scores["rmia_offline"], expected, atol=3 / len(SHADOW))


@protocols
def test_learned_accuracies_use_the_other_networks_in_one_heap(protocol):
    build, _ = PROTOCOLS[protocol]
    found, (target, *others) = audited(protocol, 3.0), build(3.0)
    rows, theirs = (OPEN, OPEN) if protocol == "auditor" else (JUDGED, SHADOW)
    for name in SCORES:
        heap = Scored(
            *(
                np.concatenate(c)
                for c in zip(*((o.score(name, theirs), o.state[theirs] > 0, o.y[theirs]) for o in others), strict=True)
            )
        )
        one, per_class = learned(Scored(target.score(name, rows), target.state[rows] > 0, target.y[rows]), heap)
        assert found.accuracies[f"{protocol}/{name}"] == one and found.accuracies[f"{protocol}/{name}/per_class"] == per_class
    assert len(found.accuracies) == 2 * len(SCORES)


def test_the_attackers_network_depends_on_its_seed_alone():
    networks = [replace(answers, adversarial=None) for answers in outsiders(3.0)]
    one, other = (audit_by_outsiders(networks, seed=seed).scores for seed in (0, 1))
    assert np.array_equal(one["nn"], audited("attacker", 3.0).scores["nn"])
    assert not np.array_equal(one["nn"], other["nn"])
    assert np.array_equal(one["lira_offline"], other["lira_offline"])


def test_shadow_models_that_saw_audited_images_and_targets_that_saw_theirs_are_refused():
    target, *shadows = outsiders(0.0)
    for row, state in ((JUDGED[0], 1), (TEST[5], 1), (TEST[5], 0)):
        seen = shadows[1].state.copy()
        seen[row] = state
        with pytest.raises(ValueError, match="have seen the same images"):
            audit_by_outsiders([target, shadows[0], replace(shadows[1], state=seen)])
    seen = target.state.copy()
    seen[SHADOW[3]] = 1
    with pytest.raises(ValueError, match="have seen the same images"):
        audit_by_outsiders([replace(target, state=seen), *shadows])


def test_images_that_served_the_target_or_all_others_otherwise_are_left_out():
    networks = sisters(3.0, count=3)
    states = [answers.state.copy() for answers in networks]
    own, everyone, one_other = (np.arange(k, k + 20) for k in (0, 20, 40))
    states[0][own] = 0
    for state in states[1:]:
        state[everyone] = 0
    states[1][one_other] = 0
    found = audit_by_sisters([replace(a, state=s) for a, s in zip(networks, states, strict=True)])
    assert np.array_equal(found.rows, OPEN[40:]) and all(len(scores) == len(OPEN) - 40 for scores in found.scores.values())
    assert all(roc.auc > 0.75 for roc in found.rocs().values())


# ---- networks that were really trained


SMALL = 8


@functools.cache
def pool():
    """Random images with random labels: what there is to learn is by heart."""
    s = torch.Generator().manual_seed(0)
    x = torch.randint(256, (1200, 1, SMALL, SMALL), generator=s, dtype=torch.uint8)
    return Images(x, torch.randint(CLASSES, (1200,), generator=s), CLASSES)


SMALL_OPEN, SMALL_TEST, SMALL_SHADOW, ELSEWHERE = np.split(np.arange(1200), [480, 720, 1000])


def by_heart(rows, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Flatten(), nn.Linear(SMALL**2, 128), nn.ReLU(), nn.Linear(128, CLASSES))
    images = pool().at(rows)
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(150):
        optimizer.zero_grad()
        F.cross_entropy(net(images.x.float() / 255), images.y).backward()
        optimizer.step()
    return net


def half(rows, seed):
    return np.sort(np.random.default_rng(seed).permutation(rows)[: len(rows) // 2])


def answers_by(net, trained):
    nobody = np.array([], int)
    return ask(net, pool(), trained, nobody, attack=np.r_[SMALL_OPEN, SMALL_TEST], epsilon=0.02)


@functools.cache
def trained_fleet():
    """The target, two sisters and two shadow models, each with its members."""
    drawn = [half(SMALL_OPEN, i) for i in range(3)] + [half(SMALL_SHADOW, i) for i in range(2)]
    return [(net, answers_by(net, rows), rows) for i, rows in enumerate(drawn) for net in [by_heart(rows, i)]]


def every_audit(net, target):
    """Of one network that is believed to have members of its own, all audits there are."""
    (_, _, inside), *rest = trained_fleet()
    others = [answers for _, answers, _ in rest]
    rows = np.concatenate([inside, SMALL_TEST])
    rocs = fleet.auditor(target, others[:2], SMALL_OPEN, SMALL_OPEN).rocs()
    rocs |= fleet.attacker(target, others[2:], rows, SMALL_SHADOW).rocs()
    sides = [pool().at(side) for side in (inside, SMALL_TEST)]
    rocs |= threshold_audits(predict(net, sides[0].x), sides[0].y, predict(net, sides[1].x), sides[1].y)
    rocs["gradient_norm"] = Roc.of(*(gradient_norm(net, side.x, side.y) for side in sides))
    walks = {"draw": contract.draw(len(sides[0].y)), "steps": 2, "samples": 10}
    rocs["label_only"] = Roc.of(*(boundary_distance(net, side.x, side.y, **walks) for side in sides))
    return rocs


def test_a_network_that_knows_its_members_by_heart_is_caught_by_every_audit():
    net, target, _ = trained_fleet()[0]
    rocs = every_audit(net, target)
    assert set(rocs) == AUDITOR | ATTACKER | set(SCORES) | {"gradient_norm", "label_only"}
    found = {name: round(roc.auc, 3) for name, roc in rocs.items()}
    assert min(found.values()) > 0.75, found


def test_a_network_that_saw_neither_members_nor_others_is_at_chance_in_every_audit():
    net = by_heart(ELSEWHERE, 9)
    asked = answers_by(net, ELSEWHERE)
    believed = replace(asked, state=trained_fleet()[0][1].state)
    for name, roc in every_audit(net, believed).items():
        m, n = len(roc.members), len(roc.non_members)
        assert abs(roc.auc - 0.5) < 3 * math.sqrt((m + n + 1) / (12 * m * n)), name


# ---- controls


@protocols
def test_every_audit_catches_the_twins_that_memorise(protocol):
    build, run = PROTOCOLS[protocol]
    rocs = run([fleet.memorising(answers) for answers in build(0.0)]).rocs()
    assert fleet.misses(rocs) == [] and min(roc.auc for roc in rocs.values()) > 0.99


def test_twins_know_images_by_their_pixels_so_permuted_memberships_are_noticed():
    networks = sisters(3.0)
    order = np.random.default_rng(0).permutation(len(OPEN))
    moved = [replace(a, state=np.concatenate([a.state[OPEN][order], a.state[4000:]])) for a in networks]
    rocs = audit_by_sisters([fleet.memorising(answers) for answers in moved]).rocs()
    assert set(fleet.misses(rocs)) == AUDITOR
    assert fleet.misses(audit_by_sisters([fleet.memorising(answers) for answers in networks]).rocs()) == []


def test_the_attacker_notices_permuted_memberships_too():
    target, *shadows = outsiders(0.0)
    state = target.state.copy()
    state[JUDGED] = state[np.random.default_rng(0).permutation(JUDGED)]
    rocs = audit_by_outsiders([fleet.memorising(answers) for answers in (replace(target, state=state), *shadows)]).rocs()
    assert set(fleet.misses(rocs)) == ATTACKER


def test_a_twin_is_sure_of_recognised_queries_and_keeps_a_faint_trace_of_its_own_answers():
    answers = network(members(OPEN, 0), 0.0, 1)
    known = answers.recognised.copy()
    known[7], known[8] = [True, False], [False, True]
    twin = fleet.memorising(replace(answers, recognised=known))
    expected = answers.logits / (answers.logits.max() - answers.logits.min())
    for n in range(20):
        for q in range(2):
            expected[n, q, answers.y[n]] += 10 * known[n, q]
    np.testing.assert_allclose(twin.logits[:20], expected[:20], rtol=1e-5, atol=1e-6)
    assert (twin.phi[known] > 7).all() and (twin.phi[~known] < 2).all()
    assert (twin.adversarial_phi[known[:, 0]] > 7).all() and (twin.adversarial_phi[~known[:, 0]] < 7).all()
    assert np.array_equal(twin.state, answers.state) and fleet.memorising(replace(answers, adversarial=None)).adversarial is None


def test_shuffling_hands_membership_on_in_the_same_way_for_all_and_within_the_groups():
    networks = [replace(a, state=np.where(np.arange(N) % 11 == k, 0, a.state)) for k, a in enumerate(sisters(0.0, 3))]
    moved = fleet.shuffled(networks, [OPEN, SHADOW], seed=4)
    before, after = (np.stack([a.state for a in f]) for f in (networks, moved))
    assert np.array_equal(after[:, TEST], before[:, TEST])
    for rows in (OPEN, SHADOW):
        columns = [sorted(map(tuple, states[:, rows].T)) for states in (before, after)]
        assert columns[0] == columns[1] and not np.array_equal(after[:, rows], before[:, rows])
    for a, b in zip(networks, moved, strict=True):
        assert b.logits is a.logits and b.adversarial is a.adversarial and b.recognised is a.recognised
    again, other = (np.stack([a.state for a in fleet.shuffled(networks, [OPEN, SHADOW], seed=s)]) for s in (4, 5))
    assert np.array_equal(again, after) and not np.array_equal(other, after)


def counting(networks):
    """An audit that never asks the target: the fewer of the others were trained on an image, the more likely this one was."""
    target, *others = networks
    score, member = -sum((o.state[OPEN] > 0).astype(int) for o in others), target.state[OPEN] > 0
    return {"counting": Roc.of(score[member], score[~member])}


def balanced(gain, count=4):
    """Networks such that each image is a member of exactly half of them."""
    drawn = np.random.default_rng(0).random((count, len(OPEN))).argsort(0) < count // 2
    states = -np.ones((count, N), int)
    states[:, OPEN] = np.where(drawn, 1, -1)
    return [network(state, gain, 10 + i) for i, state in enumerate(states)]


@pytest.mark.parametrize("gain", [0.0, 3.0])
def test_an_audit_that_counts_how_often_others_were_trained_on_an_image_is_biased_where_that_gives_membership_away(gain):
    fair, unfair = (fleet.shuffled(networks, [OPEN]) for networks in (sisters(gain), balanced(gain)))
    assert counting(unfair)["counting"].auc == 1 and fleet.biased(counting(unfair)) == ["counting"]
    assert fleet.biased(counting(fair)) == []


@pytest.mark.parametrize("gain", [0.0, 3.0])
def test_lira_itself_is_found_biased_in_a_balanced_design_and_no_audit_for_independent_draws(gain):
    unfair = audit_by_sisters(fleet.shuffled(balanced(gain), [OPEN])).rocs()
    assert {"lira", "lira_adversarial"} <= set(fleet.biased(unfair))  # the side with fewer models has the noisier mean
    for seed in range(3):
        fair = audit_by_sisters(fleet.shuffled(sisters(gain), [OPEN], seed)).rocs()
        assert fleet.biased(fair) == [] and set(fair) == AUDITOR


def test_no_audit_of_the_attacker_is_biased_where_membership_is_shuffled():
    moved = fleet.shuffled(outsiders(3.0), [JUDGED, SHADOW])
    audit = audit_by_outsiders(moved)
    assert not np.array_equal(moved[0].state[JUDGED], outsiders(3.0)[0].state[JUDGED])
    assert fleet.biased(audit.rocs()) == [] and set(audit.rocs()) == ATTACKER


def test_an_audit_is_biased_beyond_four_standard_errors_on_either_side():
    s = np.random.default_rng(0)
    values, other = s.normal(size=2000), s.normal(size=2000)
    for sign in (1, -1):
        verdicts = []
        for shift in np.linspace(0, 0.4, 41):
            roc = Roc.of(values + sign * shift, other)
            low, high = roc.auc_interval()
            verdicts.append((abs(roc.auc - 0.5) / ((high - low) / 2 / 1.959964), fleet.biased({"a": roc}) == ["a"]))
        assert all(flagged == (errors > 4) for errors, flagged in verdicts) and {f for _, f in verdicts} == {True, False}


def test_an_audit_misses_below_an_auc_of_090():
    def roc(wins):
        return Roc.of(np.r_[np.ones(wins), -np.ones(100 - wins)], np.zeros(5))

    assert fleet.misses({"a": roc(89), "b": roc(90), "c": roc(5)}) == ["a", "c"]


def test_scores_that_are_all_alike_are_no_bias():
    assert fleet.biased({"a": Roc.of(np.zeros(50), np.zeros(50))}) == []
