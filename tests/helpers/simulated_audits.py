"""Simulated outputs of networks with and without a leak, and their audits by other networks."""

import functools

import numpy as np
import pytest
import torch

from core.audits import shadow_audits
from core.audits.outputs import ModelOutputs

torch.set_num_threads(1)

N, CLASSES = 5400, 4
CANDIDATES, TEST, SHADOW = np.arange(4000), np.arange(4000, 5000), np.arange(5000, N)
"""Rows that members are drawn from, rows that no network was trained on, and rows of the shadow models."""
AUDITOR = {"lira", "calibrated", "rmia", "lira_adversarial", "calibrated_adversarial"}
"""Names of the audits of the protocol `auditor`."""
ATTACKER = {"lira_offline", "calibrated_offline", "rmia_offline", "nn", "lira_offline_adversarial"}
"""Names of the audits of the protocol `attacker`."""


def network(state, gain, seed, queries=2, adversarial=True):
    """Outputs that differ by image and network; the logit of the label is larger by `gain` for members."""
    common, own = np.random.default_rng(99), np.random.default_rng(seed)
    y, level = common.integers(CLASSES, size=N), common.normal(0, 2, (N, 1, CLASSES))
    logits = level + own.normal(size=(N, queries + 1, CLASSES))
    logits[np.arange(N), :, y] += gain * (state > 0)[:, None]
    logits = logits.astype(np.float32)
    recognised = np.repeat((state > 0)[:, None], queries, 1)
    return ModelOutputs(logits[:, :queries], y, state.astype(np.int8), recognised, logits[:, -1] if adversarial else None)


def members(rows, seed, share=0.5):
    """Memberships in which a random share of the rows are members."""
    state = -np.ones(N, int)
    state[np.random.default_rng(seed).permutation(rows)[: int(share * len(rows))]] = 1
    return state


def replicates(gain, count=4, **knobs):
    """Networks whose members were drawn independently from the same images."""
    return [network(members(CANDIDATES, i, 2 / 3), gain, 10 + i, **knobs) for i in range(count)]


def with_shadow_models(gain, count=2, **knobs):
    """A target and its shadow models, which were trained on other images."""
    shadows = [network(members(SHADOW, 20 + i), gain, 30 + i, **knobs) for i in range(count)]
    return [network(members(CANDIDATES, 1), gain, 3, **knobs), *shadows]


def audit_by_replicates(networks):
    """Audit the first network by the others with the protocol `auditor`."""
    return shadow_audits.auditor(networks[0], networks[1:], CANDIDATES, CANDIDATES)


def audit_by_shadow_models(networks, **knobs):
    """Audit the first network by the others with the protocol `attacker`."""
    target, *shadows = networks
    return shadow_audits.attacker(target, shadows, JUDGED, SHADOW, **knobs)


JUDGED = np.concatenate([np.flatnonzero(members(CANDIDATES, 1) > 0), TEST])
"""Rows that the protocol `attacker` audits: the members of the target, and as non-members `TEST`."""
PROTOCOLS = {"auditor": (replicates, audit_by_replicates), "attacker": (with_shadow_models, audit_by_shadow_models)}
"""The networks and the audit of each protocol."""
protocols = pytest.mark.parametrize("protocol", PROTOCOLS)
"""Parametrises a test over both protocols."""


@functools.cache
def audited(protocol, gain):
    """An audit of networks whose logits of the label are larger by `gain` for members."""
    build, run = PROTOCOLS[protocol]
    return run(build(gain))
