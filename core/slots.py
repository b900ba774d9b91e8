"""What a filling of a slot is, and what it is told when it is bound to one network.

A filling is a `knobs` dataclass with one method `bind(context)`. What `bind` returns for each slot:

    loss           module(logits [B, C], features [B, d], labels [B], epoch) -> scalar
    perturbation   module(net, x [B, c, h, w], labels [B], draw) -> images like x, or None where there is nothing to add;
                   with an attribute `alpha`, the weight of the loss on the clean images
    regularizer    module(net, x, labels, epoch) -> scalar
    augmentation   module(x, draw) -> images like x

Epochs count from 1. A module may hold parameters; one that does has an attribute `optimizer` that steps them, and both
are in the checkpoint. Whatever is a mean over the batch is taken with `core.workers.batch_mean`.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn


@dataclass(frozen=True)
class Context:
    """What a filling may know about the network that it is bound to."""

    classes: int
    features: int
    """Length d of the feature vector that the network's head reads."""
    image_shape: tuple[int, int, int]
    """Channels, height, width."""
    device: torch.device


class Filling(Protocol):
    """The one thing that losses, perturbations, regularizers and augmentations have in common."""

    def bind(self, context: Context) -> nn.Module:
        """The filling as a module for one network."""
        ...
