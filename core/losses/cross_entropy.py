"""Cross-entropy: the undefended baseline."""

from torch import Tensor
from torch.nn import functional as F

from core import workers
from core.slots import Context, Part
from core.space import knobs


@knobs
class CrossEntropy:
    """Mean of -log p_y; nothing to tune."""

    soft_labels = per_image = True

    def bind(self, context: Context) -> Part:
        """See `core.slots`."""
        del context
        return _CrossEntropy()


class _CrossEntropy(Part):
    def forward(self, logits: Tensor, features: Tensor, labels: Tensor, epoch: int) -> Tensor:
        del features, epoch
        return workers.batch_mean(F.cross_entropy(logits, labels, reduction="none"))
