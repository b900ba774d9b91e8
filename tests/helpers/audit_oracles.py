"""Random logits and scores for tests of membership audits, and a score computed from its definition."""

import math

import numpy as np
import torch
from hypothesis import strategies as st


def naive_modified_entropy(logits, y):
    """-M by its definition, for logits for which float64 exponentials are accurate."""
    total = []
    for row, label in zip(logits.double().numpy(), y.tolist(), strict=True):
        p = np.exp(row) / np.exp(row).sum()
        m = -(1 - p[label]) * math.log(p[label])
        m -= sum(p[i] * math.log(1 - p[i]) for i in range(len(p)) if i != label)
        total.append(-m)
    return np.array(total)


def logits_and_labels(n=64, classes=7, scale=2.0, seed=0):
    """Random logits and labels."""
    stream = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, classes, generator=stream), torch.randint(classes, (n,), generator=stream)


def tied_groups(min_size=1):
    """A strategy of the integer scores of two groups, with many ties."""
    group = st.lists(st.integers(-3, 3), min_size=min_size, max_size=30)
    return st.tuples(group, group)
