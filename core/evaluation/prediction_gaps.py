"""Distances of predictions from a tie of two classes, for members and non-members (Figure 6 of the CRL paper)."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from core.bound import TARGET, Trained
from core.data import Images
from core.evaluation.stored import finite_logits, member_rows


def prediction_gaps(
    networks: Mapping[str, Trained], images: Images, device: torch.device | str, *, bins: int = 20
) -> dict[str, float | list[float]]:
    """Histograms of the highest minus the second-highest predicted probability, of members and of non-members.

    The gap is 0 on the decision boundary and 1 for a certain prediction; the CRL paper calls it the distance to the boundary.

    Args:
        networks: `target` is the network, with its configuration.
        images: the pool.
        device: device to run on.
        bins: number of bins of equal width between 0 and 1.

    Returns:
        `gap_edges`, the bins + 1 edges; `gap_members` and `gap_non_members`, the share of the images in each bin;
        `gap_mean_members` and `gap_mean_non_members`, the mean gaps; and `gap_overlap`, the sum over bins of the smaller of the
        two shares: 1 if the histograms are equal and 0 if they are disjoint.

    Raises:
        TrialError: a logit is not finite.
    """
    config, bound = networks[TARGET]
    parts = config.parts(images)
    groups = {"members": member_rows(config, images, parts)[0], "non_members": parts.non_members(config.judge.part)}
    edges = np.linspace(0, 1, bins + 1)
    values: dict[str, float | list[float]] = {"gap_edges": edges.tolist()}
    shares = []
    for name, rows in groups.items():
        gaps = top_two_gap(finite_logits(bound.net, images.x[rows].to(device))).cpu().numpy()
        shares.append(np.histogram(gaps, edges)[0] / len(gaps))
        values[f"gap_{name}"] = shares[-1].tolist()
        values[f"gap_mean_{name}"] = float(gaps.mean())
    values["gap_overlap"] = float(np.minimum(*shares).sum())
    return values


def top_two_gap(logits: Tensor) -> Tensor:
    """The highest minus the second-highest probability of each row of logits, float64, [N, C] -> [N] in [0, 1]."""
    first, second = logits.double().softmax(1).topk(2).values.T
    return first - second
