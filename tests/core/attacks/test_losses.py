"""The log-odds margin against softmax, and where softmax rounds."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.attacks.losses import dlr, margin, targeted_dlr

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


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1.0, 1e12])
def test_dlr_does_not_depend_on_the_scale_of_the_logits_and_is_finite_for_equal_ones(scale):
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y, target = torch.arange(6) % 5, (torch.arange(6) + 1) % 5
    torch.testing.assert_close(dlr(scale * logits, y), dlr(logits, y), rtol=1e-9, atol=0)
    torch.testing.assert_close(targeted_dlr(scale * logits, y, target), targeted_dlr(logits, y, target), rtol=1e-9, atol=0)
    equal = torch.zeros(6, 5)
    assert not dlr(equal, y).any() and not targeted_dlr(equal, y, target).any()


def test_dlr_needs_three_classes_and_its_targeted_form_four():
    y = torch.zeros(2, dtype=torch.long)
    with pytest.raises(ValueError, match="needs 3 classes, got 2; use cw"):
        dlr(torch.zeros(2, 2), y)
    with pytest.raises(ValueError, match="needs 4 classes, got 3; use cw"):
        targeted_dlr(torch.zeros(2, 3), y, y + 1)
