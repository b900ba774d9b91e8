"""Audits of trained networks: one that has memorised its members, and one that was trained on other images."""

import functools
import math
from dataclasses import replace

import attack_contract as contract
import numpy as np
import torch
from simulated_audits import ATTACKER, AUDITOR, CLASSES
from torch import nn
from torch.nn import functional as F

from core.audits import shadow_audits
from core.audits.evidence import MembershipScores
from core.audits.gradient_norm import gradient_norm
from core.audits.label_only import boundary_distance
from core.audits.outputs import query
from core.audits.roc import Roc
from core.audits.scores import SCORES
from core.audits.threshold import threshold_audits
from core.data import Images
from core.modes import predict

torch.set_num_threads(1)

SIDE = 8


@functools.cache
def pool():
    """Random images with random labels, which can only be memorised."""
    s = torch.Generator().manual_seed(0)
    x = torch.randint(256, (1200, 1, SIDE, SIDE), generator=s, dtype=torch.uint8)
    return Images(x, torch.randint(CLASSES, (1200,), generator=s), CLASSES)


CANDIDATES, TEST, SHADOW, UNRELATED = np.split(np.arange(1200), [480, 720, 1000])


def train_memoriser(rows, seed):
    """Train a network until it has memorised these images of the pool."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Flatten(), nn.Linear(SIDE**2, 128), nn.ReLU(), nn.Linear(128, CLASSES))
    images = pool().at(rows)
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(150):
        optimizer.zero_grad()
        F.cross_entropy(net(images.x.float() / 255), images.y).backward()
        optimizer.step()
    return net


def half(rows, seed):
    return np.sort(np.random.default_rng(seed).permutation(rows)[: len(rows) // 2])


def outputs_of(net, trained):
    return query(net, pool(), trained, np.array([], int), attack=np.r_[CANDIDATES, TEST], epsilon=0.02)


@functools.cache
def trained_networks():
    """The target, two replicates and two shadow models, each with its outputs and members."""
    drawn = [half(CANDIDATES, i) for i in range(3)] + [half(SHADOW, i) for i in range(2)]
    return [(net, outputs_of(net, rows), rows) for i, rows in enumerate(drawn) for net in [train_memoriser(rows, i)]]


def all_audits(net, target):
    """The ROCs of all audits of one network, with the memberships of the target."""
    (_, _, inside), *rest = trained_networks()
    others = [outputs for _, outputs, _ in rest]
    rows = np.concatenate([inside, TEST])
    rocs = shadow_audits.auditor(target, others[:2], CANDIDATES, CANDIDATES).rocs()
    rocs |= shadow_audits.attacker(target, others[2:], rows, SHADOW).rocs()
    sides = [pool().at(side) for side in (inside, TEST)]
    scores = threshold_audits(predict(net, sides[0].x), sides[0].y, predict(net, sides[1].x), sides[1].y)
    rocs |= MembershipScores.of(inside, TEST, scores).rocs()
    rocs["gradient_norm"] = Roc.of(*(gradient_norm(net, side.x, side.y) for side in sides))
    knobs = {"draw": contract.draw(len(sides[0].y)), "steps": 2, "samples": 10}
    rocs["label_only"] = Roc.of(*(boundary_distance(net, side.x, side.y, **knobs) for side in sides))
    return rocs


def test_a_network_that_has_memorised_its_members_is_detected_by_every_audit():
    net, target, _ = trained_networks()[0]
    rocs = all_audits(net, target)
    assert set(rocs) == AUDITOR | ATTACKER | set(SCORES) | {"gradient_norm", "label_only"}
    aucs = {name: round(roc.auc, 3) for name, roc in rocs.items()}
    assert min(aucs.values()) > 0.75, aucs


def test_every_audit_is_at_chance_on_a_network_that_was_trained_on_neither_members_nor_others():
    net = train_memoriser(UNRELATED, 9)
    with_target_members = replace(outputs_of(net, UNRELATED), state=trained_networks()[0][1].state)
    for name, roc in all_audits(net, with_target_members).items():
        m, n = len(roc.members), len(roc.non_members)
        assert abs(roc.auc - 0.5) < 3 * math.sqrt((m + n + 1) / (12 * m * n)), name
