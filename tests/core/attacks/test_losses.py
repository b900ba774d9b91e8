"""The log-odds margin against softmax, and where softmax rounds."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.attacks.losses import margin

torch.set_num_threads(1)


@given(st.integers(0, 999), st.integers(2, 12), st.sampled_from([0.1, 1.0, 10.0]))
@settings(max_examples=25, deadline=None)
def test_margin_is_the_log_odds_of_the_label(seed, classes, scale):
    logits = scale * torch.randn(8, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    y = torch.arange(8) % classes
    p = logits.softmax(1)
    others = torch.stack([row[[i for i in range(classes) if i != label]].sum() for row, label in zip(p, y.tolist(), strict=True)])
    expected = p.gather(1, y[:, None]).squeeze(1).log() - others.log()  # 1 - p_y without cancellation
    torch.testing.assert_close(margin(logits, y), expected, rtol=1e-9, atol=1e-9)


def test_margin_is_exact_if_the_probability_rounds_to_one():
    logits = torch.tensor([[1000.0, 0.0, 0.0], [0.0, 1000.0, 0.0]])
    margins = margin(logits, torch.tensor([0, 0]))
    torch.testing.assert_close(margins, torch.tensor([1000 - math.log(2), -1000.0]))
