"""Gradient-norm audit (white box): the loss is flat where a network was trained (Nasr 2019; CRL paper's "grad-x")."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from core.attacks.gradient import frozen
from core.train import as_float


def gradient_norm(net: nn.Module, x: Tensor, y: Tensor, *, norm: int = 2, batch_size: int = 512) -> Tensor:
    """Minus the length of each image's input gradient of the cross-entropy; larger means more likely a member.

    Args:
        net: images -> logits; asked in evaluation mode, where no image sees another, and handed back as it came.
        x: uint8 or [0, 1] images, [N, c, h, w]. y: labels, [N].
        norm: 2 or 1.

    Returns:
        float64, [N].
    """
    lengths = []
    with frozen(net, weights=True):
        for images, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
            images = as_float(images).detach().clone().requires_grad_()
            (gradient,) = torch.autograd.grad(cross_entropy(net(images).float(), labels, reduction="sum"), images)
            lengths.append(torch.linalg.vector_norm(gradient.double().flatten(1), norm, dim=1))
    return -torch.cat(lengths)
