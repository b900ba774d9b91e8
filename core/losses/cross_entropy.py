"""Cross-entropy: the undefended baseline."""

from torch import Tensor, nn
from torch.nn import functional as F

from core import workers
from core.slots import Context
from core.space import knobs


@knobs
class CrossEntropy:
    """Mean of -log p_y; nothing to tune."""

    def bind(self, context: Context) -> nn.Module:
        """The loss as a module; see `core.losses`."""
        del context
        return _CrossEntropy()


class _CrossEntropy(nn.Module):
    def forward(self, logits: Tensor, features: Tensor, labels: Tensor, epoch: int) -> Tensor:
        del features, epoch
        return workers.batch_mean(F.cross_entropy(logits, labels, reduction="none"))
