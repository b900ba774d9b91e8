"""Cross-entropy: the undefended baseline."""

from torch import Tensor
from torch.nn import functional as F

from core import workers
from core.knobs import knobs
from core.slots import Context, Part


@knobs
class CrossEntropy:
    """The mean of -log p_y, without settings."""

    soft_labels = per_image = True

    def bind(self, context: Context) -> Part:
        """Bind the loss; see `core.slots`."""
        del context
        return _CrossEntropy()


class _CrossEntropy(Part):
    def forward(self, logits: Tensor, features: Tensor, labels: Tensor, epoch: int) -> Tensor:
        del features, epoch
        return workers.batch_mean(F.cross_entropy(logits, labels, reduction="none"))
