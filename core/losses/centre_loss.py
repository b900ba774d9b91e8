"""Centre loss (Wen et al. 2016), and the relaxed centre loss of CRL, added to plain cross-entropy.

    L = cross-entropy + lambda * 0.5 mean |q - c_y|^2

With `alpha_rcl` and `tau_rcl` at 0 this is the centre loss; above 0 it is CRL's relaxed centre loss (`core.losses.crl`) without
ImpRelaxLoss, a variant that the paper's ablation omits.
"""

from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from core import workers
from core.knobs import Bounds, knobs
from core.losses.crl import Centres, relaxed_centre_loss
from core.slots import Context, Part
from core.space import LogUniform, Uniform


@knobs
class CentreLoss:
    """Cross-entropy plus the (relaxed) centre loss."""

    lambda_: Annotated[float, Bounds(0), LogUniform(1e-4, 1.0)] = 0.003
    """Weight of the centre loss; Wen et al. use 0.003."""
    alpha_rcl: Annotated[float, Bounds(0), Uniform(0.0, 1.0)] = 0.0
    """Target of the centre loss as in CRL; 0 never relaxes."""
    tau_rcl: Annotated[float, Bounds(0)] = 0.0
    """Temperature of the normalisation of features and centres; 0 leaves them unchanged."""
    update: Literal["gradient", "class_mean"] = "gradient"
    """Update rule of the centres. `gradient`: SGD with momentum 0.9 and weight decay 5e-4 on the loss, as in CRL's code.
    `class_mean`: by sum_{b in k}(c_k - q_b) / (1 + n_k) times `lr_c`, as Wen et al. do."""
    lr_c: Annotated[float, Bounds(0), LogUniform(1e-4, 0.5)] = 1e-3
    """Learning rate of the centres; Wen et al. use 0.5 with `class_mean`."""

    def bind(self, context: Context) -> Part:
        """Bind the loss, with centres drawn from N(0, 1)."""
        return _CentreLoss(self, context)


class _CentreLoss(Centres):
    def __init__(self, knobs_: CentreLoss, context: Context):
        plain_sgd = {"momentum": 0.0, "decay": 0.0} if knobs_.update == "class_mean" else {}
        super().__init__(context, alpha=knobs_.alpha_rcl, tau=knobs_.tau_rcl, lr=knobs_.lr_c, **plain_sgd)
        self.knobs = knobs_

    def forward(self, logits: Tensor, features: Tensor, labels: Tensor, epoch: int) -> Tensor:
        k = self.knobs
        loss = workers.batch_mean(F.cross_entropy(logits, labels, reduction="none"))
        if k.lambda_ == 0:
            return loss
        by_mean = k.update == "class_mean"
        loss = loss + k.lambda_ * relaxed_centre_loss(
            logits, features, labels, self.centres.detach() if by_mean else self.centres, epoch,
            alpha=float(self.threshold), tau=k.tau_rcl,
        )  # fmt: skip
        return loss + _class_mean_term(self.centres, features, labels) if by_mean else loss


def _class_mean_term(centres: Tensor, features: Tensor, labels: Tensor) -> Tensor:
    """A term of value zero whose gradient by the centres is the class-mean update."""
    member = F.one_hot(labels, len(centres)).to(features.dtype)
    counts = workers.total(member.sum(0))
    update = (member.sum(0).unsqueeze(1) * centres - member.T @ features).detach() / (1 + counts).unsqueeze(1)
    term = workers.count() * torch.sum(centres * update)
    return term - term.detach()
