"""Label smoothing (Szegedy et al. 2016): part of the target's mass is spread evenly over all classes."""

from typing import Annotated

from torch import Tensor
from torch.nn import functional as F

from core import workers
from core.knobs import Bounds, knobs
from core.slots import Context, Part
from core.space import Uniform


@knobs
class LabelSmoothing:
    """The loss (1 - epsilon) * cross-entropy + epsilon * mean over classes of -log p_i."""

    epsilon: Annotated[float, Bounds(0, 1), Uniform(0.01, 0.9)] = 0.1
    """Share of the mass that is spread; 0 is cross-entropy."""

    soft_labels = per_image = True

    def bind(self, context: Context) -> Part:
        """Bind the loss; see `core.slots`."""
        del context
        return _LabelSmoothing(self.epsilon)


class _LabelSmoothing(Part):
    def __init__(self, epsilon: float):
        super().__init__()
        self.epsilon = epsilon

    def forward(self, logits: Tensor, features: Tensor, labels: Tensor, epoch: int) -> Tensor:
        del features, epoch
        return workers.batch_mean(F.cross_entropy(logits, labels, reduction="none", label_smoothing=self.epsilon))
