"""What attacks climb: functions (logits [B, C], labels [B]) -> [B], larger where the image is closer to being fooled.

    ce     log(1 - p_y) - log p_y, an increasing function of the cross-entropy: the same steepest directions and the same
           order of images, but it does not round to a constant in float32 once the network is sure (p_y = 1)
    cw     max_{i != y} z_i - z_y, the margin of Carlini and Wagner (2017)
    dlr    the same over z_(1) - z_(3), which no rescaling of the logits can change (Croce and Hein 2020, Eq. 7)

`ce` and `cw` are above zero (`cw`: or at it) exactly for fooled images of a network with two classes; for more classes, `cw`.
"""

from collections.abc import Callable

from torch import Tensor, nn

Loss = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]
"""(net, images that carry a gradient, their logits, labels) -> [B]; for attacks that want to see more than logits."""


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """log p_y - log(1 - p_y) = z_y - logsumexp of the others, without cancellation. logits: [B, C], y: [B] -> [B]."""
    true, others = _apart(logits, y)
    return true - others.logsumexp(1)


def cw(logits: Tensor, y: Tensor) -> Tensor:
    """max_{i != y} z_i - z_y, [B]."""
    true, others = _apart(logits, y)
    return others.amax(1) - true


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """(max_{i != y} z_i - z_y) / (z_(1) - z_(3)), [B], with z_(i) the i-th largest logit.

    Raises:
        ValueError: fewer than three classes.
    """
    if logits.shape[1] < 3:
        raise ValueError(f"the DLR loss needs 3 classes, there are {logits.shape[1]}; use cw")
    top = logits.topk(3, 1).values
    return cw(logits, y) / (top[:, 0] - top[:, 2] + 1e-12)


def targeted_dlr(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """(z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2), [B] (Croce and Hein 2020, Eq. 8).

    Raises:
        ValueError: fewer than four classes.
    """
    if logits.shape[1] < 4:
        raise ValueError(f"the targeted DLR loss needs 4 classes, there are {logits.shape[1]}; use cw")
    top = logits.topk(4, 1).values
    gap = logits.gather(1, target.unsqueeze(1)) - logits.gather(1, y.unsqueeze(1))
    return gap.squeeze(1) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + 1e-12)


def _apart(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The label's logit [B], and the logits with -inf in its place [B, C]."""
    true = y.unsqueeze(1)
    return logits.gather(1, true).squeeze(1), logits.scatter(1, true, float("-inf"))


LOSSES: dict[str, Loss] = {
    "ce": lambda net, x, logits, y: -margin(logits, y),
    "cw": lambda net, x, logits, y: cw(logits, y),
    "dlr": lambda net, x, logits, y: dlr(logits, y),
}


def fooled(logits: Tensor, y: Tensor, targeted: bool = False) -> Tensor:
    """Which images are not seen as y, or with `targeted` are, [B] bool."""
    hit = logits.argmax(1) == y
    return hit if targeted else ~hit
