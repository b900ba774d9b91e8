"""L1, L2 and elastic-net penalties on the kernels of convolutions and linear layers (not biases, not batch norm).

The paper's experiments are Keras' kernel_regularizer, a sum over each kernel: l1 * sum |w| + l2 * sum w^2. Its text writes
the elastic net as lambda * (a * sum |w| + (1 - a) * sum w^2); both readings are here.
"""

from collections.abc import Iterator
from typing import Annotated

import torch
from torch import Tensor, nn

from core.nets import Net
from core.slots import Context, Part, Step
from core.space import Bounds, LogUniform, Uniform, knobs


@knobs
class NoRegularizer:
    """Nothing is added."""

    per_image = True

    def bind(self, context: Context) -> Part:
        """See `core.slots`."""
        del context
        return _Penalty(0.0, 0.0)


@knobs
class L1:
    """l1 * sum |w|."""

    l1: Annotated[float, Bounds(0), LogUniform(1e-7, 1e-2)] = 1e-5
    """Weight. The paper's 0.01 drives networks of millions of weights to chance."""
    proximal: bool = False
    """Instead of adding the penalty, shrink each weight by lr * l1 after the step, which makes exact zeros (ISTA)."""

    def bind(self, context: Context) -> Part:
        """See `core.slots`."""
        del context
        return _Penalty(self.l1, 0.0, self.proximal)


@knobs
class L2:
    """l2 * sum w^2; under SGD the same as weight_decay = 2 * l2 on kernels."""

    l2: Annotated[float, Bounds(0), LogUniform(1e-6, 1e-1)] = 1e-4
    """Weight."""

    def bind(self, context: Context) -> Part:
        """See `core.slots`."""
        del context
        return _Penalty(0.0, self.l2)


@knobs
class ElasticNet:
    """l1 * sum |w| + l2 * sum w^2, as in Keras; the paper's experiments."""

    l1: Annotated[float, Bounds(0), LogUniform(1e-7, 1e-2)] = 1e-5
    """Weight of the absolute values."""
    l2: Annotated[float, Bounds(0), LogUniform(1e-6, 1e-1)] = 1e-4
    """Weight of the squares."""
    proximal: bool = False
    """As for L1."""

    def bind(self, context: Context) -> Part:
        """See `core.slots`."""
        del context
        return _Penalty(self.l1, self.l2, self.proximal)


@knobs
class ConvexElasticNet:
    """lambda * (a * sum |w| + (1 - a) * sum w^2), the paper's text (Eq. 3)."""

    lambda_: Annotated[float, Bounds(0), LogUniform(1e-6, 1e-2)] = 1e-5
    """Weight of the whole."""
    a: Annotated[float, Bounds(0, 1), Uniform(0.0, 1.0)] = 0.5
    """Share of the absolute values."""
    proximal: bool = False
    """As for L1."""

    def bind(self, context: Context) -> Part:
        """See `core.slots`."""
        del context
        return _Penalty(self.lambda_ * self.a, self.lambda_ * (1 - self.a), self.proximal)


class _Penalty(Part):
    def __init__(self, l1: float, l2: float, proximal: bool = False):
        super().__init__()
        self.l1, self.l2, self.shrinks = l1, l2, proximal and l1 > 0

    def forward(self, step: Step) -> Tensor:
        total = step.x.new_zeros(())
        added = 0.0 if self.shrinks else self.l1
        if added or self.l2:
            for w in kernels(step.net):
                total = total + added * w.abs().sum() + self.l2 * torch.sum(w * w)
        return total

    @torch.no_grad()
    def after_step(self, net: Net, lr: float) -> None:
        if self.shrinks:
            for w in kernels(net):
                w.copy_(w.sign() * (w.abs() - lr * self.l1).clamp_(min=0))


def kernels(net: nn.Module) -> Iterator[Tensor]:
    """The weights of convolutions and linear layers."""
    return (layer.weight for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear))
