"""Gradient-norm audit (white box): the loss is flat around training images (Nasr 2019; "grad-x" in the CRL paper)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from core.modes import as_float, eval_mode, with_autograd


@with_autograd
def gradient_norm(net: nn.Module, x: Tensor, y: Tensor, *, norm: int = 2, batch_size: int = 512) -> Tensor:
    """Negative norm of each image's input gradient of the cross-entropy; larger means more likely a member.

    Args:
        net: images -> logits; evaluated in evaluation mode, where images do not affect each other, and returned to its own mode.
        x: images, uint8 or in [0, 1], [N, c, h, w].
        y: labels, [N].
        norm: order of the norm, 2 or 1.
        batch_size: images per pass.

    Returns:
        float64, [N].
    """
    lengths = []
    with eval_mode(net, freeze_weights=True):
        for images, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
            images = as_float(images).detach().clone().requires_grad_()
            (gradient,) = torch.autograd.grad(cross_entropy(net(images).float(), labels, reduction="sum"), images)
            lengths.append(torch.linalg.vector_norm(gradient.double().flatten(1), norm, dim=1))
    return -torch.cat(lengths)
