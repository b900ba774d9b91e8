"""Histograms of the gap between the two highest probabilities, for networks with known outputs."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from core import data
from core.bound import TARGET, Trained
from core.config import TrialConfig
from core.data import Images
from core.evaluation.prediction_gaps import prediction_gaps, top_two_gap

torch.set_num_threads(1)


def test_the_gap_is_the_highest_minus_the_second_highest_probability():
    logits = torch.tensor([[math.log(5), math.log(3), math.log(2)], [0.0, 0.0, 0.0], [0.0, 800.0, -800.0]])
    assert top_two_gap(logits).tolist() == pytest.approx([0.5 - 0.3, 0.0, 1.0])


class GapOfFirstPixel(nn.Module):
    """Three classes; the two highest probabilities differ by the first pixel, a gap in [0, 1], and the third is 0."""

    def forward(self, x):
        gap = x.flatten(1)[:, 0].double()
        p = torch.stack([(1 - gap) / 2, torch.zeros_like(gap), (1 + gap) / 2], 1)
        return (p + 1e-12).log().float()


def measured(config: TrialConfig, gaps, bins: int) -> dict:
    """The histograms of a network whose gap on image i of a pool is gaps[i], in units of 1/255."""
    x = torch.zeros(len(gaps), 1, 4, 4, dtype=torch.uint8)
    x[:, 0, 0, 0], x[:, 0, 3, 3] = torch.as_tensor(gaps), torch.arange(len(gaps))
    images = Images(x, torch.arange(len(gaps)) % 2, 2)
    return prediction_gaps({TARGET: Trained(config, SimpleNamespace(net=GapOfFirstPixel()))}, images, "cpu", bins=bins)


def pool(count: int) -> Images:
    """Different images in two classes, split like those of `measured`."""
    return Images(torch.arange(count, dtype=torch.uint8).view(count, 1, 1, 1), torch.arange(count) % 2, 2)


def test_members_and_non_members_have_their_own_histogram():
    """Members have gaps of 0.9, and 0.7 for every third; all others 0.1, and 0.7 for every third: a third of both overlaps."""
    config = TrialConfig.of({"split.members": 24, "split.val": 12, "split.test": 24, "split.shadow": 0, "judge.part": "test"})
    parts = data.split(pool(60), config.split)
    gaps = np.zeros(60, dtype=np.uint8)
    gaps[parts.members], gaps[parts.test], gaps[parts.val] = 230, 25, 128
    gaps[parts.members[::3]] = gaps[parts.test[::3]] = 179
    values = measured(config, gaps, 5)
    assert values["gap_edges"] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert values["gap_members"] == pytest.approx([0, 0, 0, 1 / 3, 2 / 3])
    assert values["gap_non_members"] == pytest.approx([2 / 3, 0, 0, 1 / 3, 0])
    assert values["gap_overlap"] == pytest.approx(1 / 3)
    assert values["gap_mean_members"] == pytest.approx((230 * 2 + 179) / 3 / 255, abs=1e-5)
    assert values["gap_mean_non_members"] == pytest.approx((25 * 2 + 179) / 3 / 255, abs=1e-5)


def test_images_that_a_component_holds_out_are_not_counted():
    config = TrialConfig.of({"regularizer": "advreg", "regularizer.reference": 0.5, "split.members": 0.5, "split.shadow": 0})
    images = pool(80)
    members = data.split(images, config.split).members
    kept, reference = data.hold_out(images.y[members], images.ids[members], 0.5, config.seed)
    gaps = np.full(80, 51, dtype=np.uint8)
    gaps[members[kept]], gaps[members[reference]] = 255, 0
    values = measured(config, gaps, 10)
    assert (values["gap_mean_members"], values["gap_mean_non_members"]) == pytest.approx((1.0, 0.2), abs=1e-5)
    assert values["gap_overlap"] == 0.0
