"""Confidence penalty (Pereyra et al. 2017): cross-entropy minus the weighted entropy of the predictions."""

from typing import Annotated

from torch import Tensor
from torch.nn import functional as F

from core import workers
from core.knobs import Bounds, knobs
from core.slots import Context, Part
from core.space import LogUniform


@knobs
class ConfidencePenalty:
    """The loss cross-entropy - alpha * H(p)."""

    alpha: Annotated[float, Bounds(0), LogUniform(0.01, 8.0)] = 0.1
    """Weight of the entropy; 0 is cross-entropy."""

    soft_labels = per_image = True

    def bind(self, context: Context) -> Part:
        """Bind the loss; see `core.slots`."""
        del context
        return _ConfidencePenalty(self.alpha)


class _ConfidencePenalty(Part):
    def __init__(self, alpha: float):
        super().__init__()
        self.alpha = alpha

    def forward(self, logits: Tensor, features: Tensor, labels: Tensor, epoch: int) -> Tensor:
        del features, epoch
        loss = F.cross_entropy(logits, labels, reduction="none")
        if self.alpha:
            log_p = F.log_softmax(logits, 1)
            loss = loss + self.alpha * (log_p.exp() * log_p).sum(1)
        return workers.batch_mean(loss)
