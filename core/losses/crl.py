"""CRL, center-based relaxed learning (Fang and Kim, UAI 2024): RelaxLoss on normalised logits plus relaxed class centres.

    L = ImpRelaxLoss(g) + lambda * RelaxedCentreLoss(q)

g are logits, q features, c_k learnable class centres. Each part alternates over epochs as RelaxLoss does, with its
own threshold. Where the paper's equations and the authors' code differ, this follows the code: epoch parity is
tested before the threshold (the gradients are the same), Eq. 4 has no leading minus, and Algorithm 1's tau_rcl in
ImpRelaxLoss is tau_rce.
"""

import math
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core import workers
from core.errors import InputError
from core.knobs import Bounds, knobs
from core.losses.relaxloss import soft_label_cross_entropy
from core.slots import Context, Part
from core.space import LogUniform, Uniform

_TINY = 1e-7  # keeps the gradient of a norm finite at zero, as in the authors' code


@knobs
class CRL:
    """The sum of both relaxed losses, with class centres."""

    alpha_rce: Annotated[float, Bounds(0), LogUniform(0.1, 1.8)] = 0.5
    """Target of the mean cross-entropy of normalised logits, nats. 0 never relaxes."""
    tau_rce: Annotated[float, Bounds(0), LogUniform(1e-3, 0.2)] = 0.05
    """Temperature of the logit normalisation g / (1 + tau |g|)."""
    lambda_: Annotated[float, Bounds(0), LogUniform(1e-3, 10.0)] = 0.1
    """Weight of the relaxed centre loss."""
    alpha_rcl: Annotated[float, Bounds(0), Uniform(0.3, 1.0)] = 0.6
    """Target of the centre loss, as a share of 0.5 mean |c_n|^2, its value for features at the origin and the initial
    centres. (The paper's threshold is absolute; a share keeps its meaning at every network width and temperature.)"""
    tau_rcl: Annotated[float, Bounds(0), LogUniform(1e-2, 2.0)] = 1.0
    """Temperature of the normalisation of features and centres."""
    upper: Annotated[float, Bounds(0, 1), Uniform(0.1, 1.0)] = 1.0
    """Cap of p_y in the soft labels of ImpRelaxLoss."""
    upper_cl: Annotated[float, Bounds(0, 1), Uniform(0.1, 1.0)] = 1.0
    """Cap of p_y in the relaxed centre loss."""
    lr_c: Annotated[float, Bounds(0), LogUniform(1e-4, 0.5)] = 1e-3
    """Learning rate of the centres: SGD, momentum 0.9, weight decay 5e-4, constant."""
    detach_soft: bool = False
    """Treat the soft labels of ImpRelaxLoss as constants."""
    detach_p: bool = False
    """Treat p_y in the relaxed centre loss as a constant."""

    def bind(self, context: Context) -> Part:
        """Bind the loss, with centres drawn from N(0, 1).

        Raises:
            InputError: normalised logits cannot reach a cross-entropy as low as `alpha_rce`, so nothing would ever relax.
        """
        check_reachable(self.alpha_rce, self.tau_rce, context.classes)
        return _CRL(self, context)


@knobs
class ImpRelaxLoss:
    """The first half of CRL alone: RelaxLoss on normalised logits, no centres (the ablation of Fig. 7)."""

    alpha_rce: Annotated[float, Bounds(0), LogUniform(0.1, 1.8)] = 0.5
    """Target of the mean cross-entropy, as in `CRL`."""
    tau_rce: Annotated[float, Bounds(0), LogUniform(1e-3, 0.2)] = 0.05
    """Temperature of the logit normalisation, as in `CRL`."""
    upper: Annotated[float, Bounds(0, 1), Uniform(0.1, 1.0)] = 1.0
    """Cap of p_y in the soft labels, as in `CRL`."""
    detach_soft: bool = False
    """Treat the soft labels as constants, as in `CRL`."""

    def bind(self, context: Context) -> Part:
        """Bind the loss; see `core.slots`.

        Raises:
            InputError: `alpha_rce` cannot be reached; see `CRL.bind`.
        """
        check_reachable(self.alpha_rce, self.tau_rce, context.classes)
        return _ImpRelaxLoss(self)


class _ImpRelaxLoss(Part):
    def __init__(self, knobs_: ImpRelaxLoss):
        super().__init__()
        self.knobs = knobs_

    def forward(self, logits: Tensor, features: Tensor, labels: Tensor, epoch: int) -> Tensor:
        del features
        k = self.knobs
        return improved_relax_loss(logits, labels, epoch, alpha=k.alpha_rce, tau=k.tau_rce, upper=k.upper, detach=k.detach_soft)


class Centres(Part):
    """A learnable centre per class, drawn from N(0, 1), and the absolute threshold of the relaxed centre loss."""

    threshold: Tensor

    def __init__(self, context: Context, *, alpha: float, tau: float, lr: float, momentum: float = 0.9, decay: float = 5e-4):
        """Draw the centres.

        Args:
            context: see `core.slots`.
            alpha: threshold, as a share of 0.5 mean |c_n|^2.
            tau: temperature of the normalisation.
            lr, momentum, decay: settings of the centres' SGD; `decay` is its weight decay.
        """
        super().__init__()
        self.centres = nn.Parameter(torch.randn(context.classes, context.features))
        at_origin = 0.5 * normalise(self.centres.detach(), tau).square().sum(1).mean()
        self.register_buffer("threshold", alpha * at_origin)
        self.optimizer = torch.optim.SGD([self.centres], lr=lr, momentum=momentum, weight_decay=decay)


class _CRL(Centres):
    def __init__(self, knobs_: CRL, context: Context):
        super().__init__(context, alpha=knobs_.alpha_rcl, tau=knobs_.tau_rcl, lr=knobs_.lr_c)
        self.knobs = knobs_

    def forward(self, logits: Tensor, features: Tensor, labels: Tensor, epoch: int) -> Tensor:
        k = self.knobs
        loss = improved_relax_loss(logits, labels, epoch, alpha=k.alpha_rce, tau=k.tau_rce, upper=k.upper, detach=k.detach_soft)
        if k.lambda_ == 0:
            return loss
        return loss + k.lambda_ * relaxed_centre_loss(
            logits, features, labels, self.centres, epoch,
            alpha=float(self.threshold), tau=k.tau_rcl, upper=k.upper_cl, detach=k.detach_p,
        )  # fmt: skip


def normalise(v: Tensor, tau: float) -> Tensor:
    """Normalise rows to v / (1 + tau |v|) (Eq. 5), which keeps directions and keeps norms below 1 / tau; v: [B, n]."""
    if tau == 0:
        return v
    return v / (1 + tau * (v.square().sum(1, keepdim=True) + _TINY**2).sqrt())


def improved_relax_loss(
    logits: Tensor, labels: Tensor, epoch: int, *, alpha: float, tau: float, upper: float = 1.0, detach: bool = False
) -> Tensor:
    """RelaxLoss on normalised logits, with soft labels from the raw ones (Eqs. 7 to 9).

    Args:
        logits: raw logits, [B, C].
        labels: true classes, [B].
        epoch: epoch, counted from 1; the loss floods in even epochs, and descends or relaxes in odd ones.
        alpha: target of the mean cross-entropy.
        tau: temperature of the normalisation.
        upper, detach: see `core.losses.relaxloss.soft_label_cross_entropy`.

    Returns:
        A scalar.
    """
    scored = normalise(logits, tau)
    cross_entropy = workers.batch_mean(F.cross_entropy(scored, labels, reduction="none"))
    if epoch % 2 == 0:
        return (cross_entropy - alpha).abs()
    if cross_entropy.item() > alpha:
        return cross_entropy
    return workers.batch_mean(soft_label_cross_entropy(logits, labels, upper=upper, detach=detach, scored=scored))


def relaxed_centre_loss(
    logits: Tensor, features: Tensor, labels: Tensor, centres: Tensor, epoch: int,
    *, alpha: float, tau: float, upper: float = 1.0, detach: bool = False,
) -> Tensor:  # fmt: skip
    """The relaxed centre loss (Eq. 4, Algorithm 1).

    It pulls features to their class centre until the loss is alpha, then to the segment between the origin and the centre.

    Args:
        logits: raw logits, [B, C], which give p_y.
        features: features, [B, d].
        labels: true classes, [B].
        centres: class centres, [C, d].
        epoch: epoch, counted from 1.
        alpha: absolute threshold of 0.5 mean |q_n - c_n|^2.
        tau: temperature of the normalisation of features and centres.
        upper: cap of p_y.
        detach: treat p_y as a constant.

    Returns:
        A scalar.
    """
    q = normalise(features, tau)
    to_centre = (q - normalise(centres, tau)[labels]).square().sum(1)
    mean = workers.batch_mean(to_centre) / 2
    if epoch % 2 == 0:
        return (mean - alpha).abs()
    if mean.item() > alpha:
        return mean
    p_true = F.softmax(logits, 1).gather(1, labels.unsqueeze(1)).squeeze(1).clamp(max=upper)
    if detach:
        p_true = p_true.detach()
    return workers.batch_mean(p_true * to_centre + (1 - p_true) * q.square().sum(1)) / 2


def check_reachable(alpha: float, tau: float, classes: int) -> None:
    """Reject a threshold that normalised logits cannot reach, with which nothing would ever relax.

    Raises:
        InputError: `alpha` is not above the lowest cross-entropy that can be reached.
    """
    floor = cross_entropy_floor(tau, classes)
    if 0 < alpha <= floor:
        raise InputError(
            f"loss.tau_rce={tau:g} keeps the cross-entropy of {classes} classes above {floor:.3g}, so "
            f"loss.alpha_rce={alpha:g} never relaxes; lower tau_rce or raise alpha_rce"
        )


def cross_entropy_floor(tau: float, classes: int) -> float:
    """The lowest cross-entropy that logits of norm below 1 / tau can reach, in nats."""
    if tau == 0:
        return 0.0
    return math.log1p((classes - 1) * math.exp(-math.sqrt(classes / (classes - 1)) / tau))
