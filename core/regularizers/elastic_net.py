"""L1, L2 and elastic-net penalties on the kernels of convolutions and linear layers (not biases, not batch norm)."""

from typing import Annotated

import torch
from torch import Tensor, nn

from core.slots import Context
from core.space import Bounds, LogUniform, knobs


@knobs
class NoRegularizer:
    """Nothing is added."""

    def bind(self, context: Context) -> nn.Module:
        """See `core.slots`."""
        del context
        return _Penalty(0.0, 0.0)


@knobs
class ElasticNet:
    """l1 * sum |w| + l2 * sum w^2, summed over every kernel, as Keras' kernel_regularizer does."""

    l1: Annotated[float, Bounds(0), LogUniform(1e-7, 1e-2)] = 1e-5
    """Weight of the absolute values. The paper's 0.01 drives networks of millions of weights to chance."""
    l2: Annotated[float, Bounds(0), LogUniform(1e-6, 1e-1)] = 1e-4
    """Weight of the squares; under SGD the same as weight_decay = 2 * l2 on kernels."""

    def bind(self, context: Context) -> nn.Module:
        """See `core.slots`."""
        del context
        return _Penalty(self.l1, self.l2)


class _Penalty(nn.Module):
    def __init__(self, l1: float, l2: float):
        super().__init__()
        self.l1, self.l2 = l1, l2

    def forward(self, net: nn.Module, x: Tensor, labels: Tensor, epoch: int) -> Tensor:
        del labels, epoch
        total = x.new_zeros(())
        if self.l1 or self.l2:
            for layer in net.modules():
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    w = layer.weight
                    total = total + self.l1 * w.abs().sum() + self.l2 * torch.sum(w * w)
        return total
