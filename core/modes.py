"""Evaluation mode, and the logits of a network in this mode."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


@contextlib.contextmanager
def eval_mode(net: nn.Module, freeze_weights: bool = False) -> Iterator[None]:
    """Put a network into evaluation mode; on exit, restore the mode of each module. Running statistics are unchanged.

    With `freeze_weights`, parameters require no gradient inside, so that autograd keeps nothing that only they would need.
    """
    modes = [(module, module.training) for module in net.modules()]
    trainable = [p for p in net.parameters() if p.requires_grad] if freeze_weights else []
    net.eval()
    for p in trainable:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for p in trainable:
            p.requires_grad_()


def predict(net: nn.Module, x: Tensor, batch_size: int = 512) -> Tensor:
    """Logits in evaluation mode, float32 [N, C] on the images' device, of uint8 images or of floats in [0, 1]."""
    with eval_mode(net), torch.no_grad():
        return torch.cat([net(as_float(part)).float() for part in x.split(batch_size)])


def as_float(x: Tensor) -> Tensor:
    """Convert uint8 images to floats in [0, 1], channels last in memory; floats keep their values."""
    x = x.to(memory_format=torch.channels_last)
    return x.float().div_(255) if x.dtype == torch.uint8 else x
