"""L1, L2 and elastic-net penalties on the kernels of convolutions and linear layers (not biases, not batch norm).

The paper's experiments use Keras' kernel_regularizer, a sum over each kernel: l1 * sum |w| + l2 * sum w^2. Its text defines the
elastic net as lambda * (a * sum |w| + (1 - a) * sum w^2). Both versions are implemented.
"""

from collections.abc import Iterator
from typing import Annotated

import torch
from torch import Tensor, nn

from core.knobs import Bounds, knobs
from core.nets import Net
from core.slots import Context, Part, Step
from core.space import LogUniform, Uniform


@knobs
class NoRegularizer:
    """No regularizer: nothing is added to the loss."""

    per_image = True

    def bind(self, context: Context) -> Part:
        """Bind the regularizer; see `core.slots`."""
        del context
        return _Penalty(0.0, 0.0)


@knobs
class L1:
    """The penalty l1 * sum |w|."""

    l1: Annotated[float, Bounds(0), LogUniform(1e-7, 1e-2)] = 1e-5
    """Weight of the penalty. The paper's 0.01 drives networks with millions of weights to chance accuracy."""
    proximal: bool = False
    """Shrink each weight by lr * l1 after the step instead of adding the penalty, which makes exact zeros (ISTA)."""

    def bind(self, context: Context) -> Part:
        """Bind the regularizer; see `core.slots`."""
        del context
        return _Penalty(self.l1, 0.0, self.proximal)


@knobs
class L2:
    """The penalty l2 * sum w^2; under SGD it equals weight_decay = 2 * l2 on the kernels."""

    l2: Annotated[float, Bounds(0), LogUniform(1e-6, 1e-1)] = 1e-4
    """Weight of the penalty."""

    def bind(self, context: Context) -> Part:
        """Bind the regularizer; see `core.slots`."""
        del context
        return _Penalty(0.0, self.l2)


@knobs
class ElasticNet:
    """The penalty l1 * sum |w| + l2 * sum w^2, as in Keras and in the paper's experiments."""

    l1: Annotated[float, Bounds(0), LogUniform(1e-7, 1e-2)] = 1e-5
    """Weight of the absolute values."""
    l2: Annotated[float, Bounds(0), LogUniform(1e-6, 1e-1)] = 1e-4
    """Weight of the squares."""
    proximal: bool = False
    """Shrink weights after the step instead of adding the l1 part, as in `L1`."""

    def bind(self, context: Context) -> Part:
        """Bind the regularizer; see `core.slots`."""
        del context
        return _Penalty(self.l1, self.l2, self.proximal)


@knobs
class ConvexElasticNet:
    """The penalty lambda * (a * sum |w| + (1 - a) * sum w^2), as in the paper's text (Eq. 3)."""

    lambda_: Annotated[float, Bounds(0), LogUniform(1e-6, 1e-2)] = 1e-5
    """Weight of the penalty."""
    a: Annotated[float, Bounds(0, 1), Uniform(0.0, 1.0)] = 0.5
    """Share of the absolute values in the penalty."""
    proximal: bool = False
    """Shrink weights after the step instead of adding the l1 part, as in `L1`."""

    def bind(self, context: Context) -> Part:
        """Bind the regularizer; see `core.slots`."""
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
