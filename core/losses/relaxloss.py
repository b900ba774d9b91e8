"""RelaxLoss (Chen, Yu, Fritz, ICLR 2022): keep the training loss near a target instead of near zero.

Epochs alternate between descending to the target from above and ascending back to it from below, where the loss is the batch
mean of the cross-entropy; in the ascending epochs, soft labels flatten the distribution over the incorrect classes.
"""

from typing import Annotated, Literal

from torch import Tensor
from torch.nn import functional as F

from core import workers
from core.knobs import Bounds, knobs
from core.slots import Context, Part
from core.space import LogUniform, Uniform

Variant = Literal["official", "official_tabular", "crl_baseline"]


@knobs
class RelaxLoss:
    """RelaxLoss in three published versions, which are different methods; report the version with each result."""

    alpha: Annotated[float, Bounds(0), LogUniform(0.05, 3.0)] = 1.0
    """Target of the mean cross-entropy, nats (1.0 for CIFAR-10 with ResNet-20, 0.4 with VGG11-BN)."""
    variant: Variant = "official"
    """`official`: the authors' image code, epochs from 0, gradient ascent on relaxing epochs. `official_tabular`: their
    code for tabular data, without the ascent. `crl_baseline`: the same formula with epochs from 1, the CRL paper's baseline."""
    upper: Annotated[float, Bounds(0, 1), Uniform(0.1, 1.0)] = 1.0
    """Cap of the soft label's true-class entry."""
    detach_soft: bool = False
    """Treat soft labels as constants, as the paper's text does; the published code lets the gradient through."""

    def bind(self, context: Context) -> Part:
        """Bind the loss; see `core.slots`."""
        del context
        return _RelaxLoss(self)


class _RelaxLoss(Part):
    def __init__(self, knobs_: RelaxLoss):
        super().__init__()
        self.knobs = knobs_

    def forward(self, logits: Tensor, features: Tensor, labels: Tensor, epoch: int) -> Tensor:
        del features
        k = self.knobs
        cross_entropy = F.cross_entropy(logits, labels, reduction="none")
        mean = workers.batch_mean(cross_entropy)
        even = epoch % 2 == 0 if k.variant == "crl_baseline" else epoch % 2 == 1  # the official implementations count from 0
        if even:
            return (mean - k.alpha).abs()
        if mean.item() > k.alpha:
            return mean
        soft = soft_label_cross_entropy(logits, labels, upper=k.upper, detach=k.detach_soft)
        if k.variant != "official":
            return workers.batch_mean(soft)
        misclassified = (logits.argmax(1) != labels).to(soft.dtype)
        return workers.batch_mean(misclassified * soft - cross_entropy)


def soft_label_cross_entropy(logits: Tensor, labels: Tensor, *, upper: float, detach: bool, scored: Tensor | None = None) -> Tensor:
    """Soft-label cross-entropy -sum_i t_i log p_i, with t_y = min(p_y, upper) and the remaining mass spread evenly.

    The soft labels are those of RelaxLoss Eq. 5 and CRL Eq. 8.

    Args:
        logits: logits that the soft labels t are made from, [B, C].
        labels: true classes, [B].
        upper: cap of t_y.
        detach: treat t as a constant.
        scored: logits that give p, [B, C]; CRL passes normalised ones. Default: `logits`.

    Returns:
        Nats per image, [B].
    """
    true = labels.unsqueeze(1)
    p_true = F.softmax(logits, 1).gather(1, true).clamp(max=upper)
    if detach:
        p_true = p_true.detach()
    p_other = (1 - p_true) / (logits.shape[1] - 1)
    target = p_other.expand_as(logits).scatter(1, true, p_true)
    return -(target * F.log_softmax(logits if scored is None else scored, 1)).sum(1)
