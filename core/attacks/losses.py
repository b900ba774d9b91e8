"""Attack losses: functions (logits [B, C], labels [B]) -> [B], larger for images closer to being misclassified.

    ce     log(1 - p_y) - log p_y, an increasing function of the cross-entropy: it has the same steepest directions and orders
           images in the same way, but does not round to a constant in float32 when the network is certain (p_y = 1)
    cw     max_{i != y} z_i - z_y, the margin of Carlini and Wagner (2017)
    dlr    the margin divided by z_(1) - z_(3), which makes it invariant to rescaling the logits (Croce and Hein 2020, Eq. 7)

`cw` is positive (or 0 for ties) exactly for misclassified images; with two classes, so is `ce`.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

AttackLoss = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]
"""(net, images that require a gradient, their logits, labels) -> [B]."""


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """log p_y - log(1 - p_y) = z_y - logsumexp of the other logits, without cancellation. logits: [B, C], y: [B] -> [B]."""
    true, others = _separate(logits, y)
    return true - others.logsumexp(1)


def cw(logits: Tensor, y: Tensor) -> Tensor:
    """max_{i != y} z_i - z_y, [B]."""
    true, others = _separate(logits, y)
    return others.amax(1) - true


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """(max_{i != y} z_i - z_y) / (z_(1) - z_(3)), [B], with z_(i) the i-th largest logit.

    Raises:
        ValueError: fewer than three classes.
    """
    if logits.shape[1] < 3:
        raise ValueError(f"the DLR loss needs 3 classes, got {logits.shape[1]}; use cw")
    top = logits.topk(3, 1).values
    return cw(logits, y) / _nonzero(top[:, 0] - top[:, 2])


def targeted_dlr(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """(z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2), [B] (Croce and Hein 2020, Eq. 8).

    Raises:
        ValueError: fewer than four classes.
    """
    if logits.shape[1] < 4:
        raise ValueError(f"the targeted DLR loss needs 4 classes, got {logits.shape[1]}; use cw")
    top = logits.topk(4, 1).values
    gap = logits.gather(1, target.unsqueeze(1)) - logits.gather(1, y.unsqueeze(1))
    return gap.squeeze(1) / _nonzero(top[:, 0] - (top[:, 2] + top[:, 3]) / 2)


def _nonzero(scale: Tensor) -> Tensor:
    """The scale, or 1 where all logits that it compares are equal."""
    return torch.where(scale > 0, scale, 1)


def _separate(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The label's logit [B], and the logits with -inf in its place [B, C]."""
    true = y.unsqueeze(1)
    return logits.gather(1, true).squeeze(1), logits.scatter(1, true, float("-inf"))


ATTACK_LOSSES: dict[str, AttackLoss] = {
    "ce": lambda net, x, logits, y: -margin(logits, y),
    "cw": lambda net, x, logits, y: cw(logits, y),
    "dlr": lambda net, x, logits, y: dlr(logits, y),
}


def misclassified(logits: Tensor, y: Tensor, targeted: bool = False) -> Tensor:
    """Which images are not classified as y, or with `targeted`, which are, [B] bool."""
    hit = logits.argmax(1) == y
    return hit if targeted else ~hit
