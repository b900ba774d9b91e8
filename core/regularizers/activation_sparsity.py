"""Activation sparsity: an L1 penalty on the outputs of the hidden units (sparse-coding experiment, Eq. 5)."""

from typing import Annotated

import torch
from torch import Tensor

from core import workers
from core.knobs import Bounds, knobs
from core.nets.activations import activations
from core.slots import Context, Part, Step
from core.space import LogUniform


@knobs
class ActivationSparsity:
    """The penalty lambda * sum_j |a_j| over all rectified units of an image, averaged over the batch."""

    lambda_: Annotated[float, Bounds(0), LogUniform(1e-8, 1e-2)] = 1e-6
    """Weight of the penalty; the paper tries 1e-7 to 1e-4 on 39,200 units."""

    per_image = True

    def bind(self, context: Context) -> Part:
        """Bind the regularizer; see `core.slots`."""
        del context
        return _ActivationSparsity(self.lambda_)


class _ActivationSparsity(Part):
    def __init__(self, lambda_: float):
        super().__init__()
        self.lambda_ = lambda_

    def forward(self, step: Step) -> Tensor:
        if not self.lambda_:
            return step.x.new_zeros(())
        with activations(step.net) as outputs:
            step.clean  # noqa: B018  the forward pass that is recorded; the loss reuses its result
        zeros = step.x.new_zeros(len(step.x))
        per_image = sum((torch.linalg.vector_norm(a, 1, tuple(range(1, a.dim()))) for a in outputs), start=zeros)
        return self.lambda_ * workers.batch_mean(per_image)
