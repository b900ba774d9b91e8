"""What a filling of a slot is, what it is told when it is bound to one network, and what it sees of a training step.

A filling is a `knobs` dataclass with one method `bind(context)`, which returns a `Part`:

    loss           part(logits [B, C], features [B, d], labels, epoch) -> scalar
    perturbation   part(net, x [B, c, h, w], classes [B], draw) -> images like x, or None where there is nothing to add;
                   with an attribute `alpha`, the weight of the loss on the clean images
    regularizer    part(step) -> scalar
    augmentation   part(x, labels, draw) -> images and labels

Labels are classes, int64 [B], or distributions over classes, float [B, C]; only losses that say `soft_labels` get the
latter. Images of an augmentation have pixels in 0..255. Epochs count from 1. Whatever is a mean over the batch is taken
with `core.workers.batch_mean`.

What a filling may say of itself, next to its knobs:

    soft_labels    a loss that takes distributions over classes
    per_image      what it adds for an image depends on this image and the network alone, so that DP-SGD can clip it
    reference      a share of the members that it needs apart from those that are trained on
    fits(config)   raises InputError for a configuration in which it makes no sense
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from core.data import Images
from core.nets import Net
from core.rng import Draw

Fresh = Callable[[], tuple[Tensor, Tensor]]
"""This worker's share of another batch of members: images in [0, 1], and their classes."""


@dataclass(frozen=True)
class Context:
    """What a filling may know about the network that it is bound to."""

    classes: int
    features: int
    """Length d of the feature vector that the network's head reads."""
    image_shape: tuple[int, int, int]
    """Channels, height, width."""
    epochs: int
    """How many there will be."""
    net: Net
    """The network itself, before training."""


class Part(nn.Module):
    """A bound filling. What it learns by itself is stepped by its `optimizer`; both are in the checkpoint.

    The hooks do nothing unless a method needs them.
    """

    optimizer: torch.optim.Optimizer | None = None

    def practise(self, net: Net, fresh: Fresh) -> None:
        """Before a step: a perturbation may train itself on batches of its own."""

    def after_step(self, net: Net, lr: float) -> None:
        """After a step with that learning rate: a regularizer may move the weights."""

    def after_epoch(self, members: tuple[Tensor, Tensor], reference: tuple[Tensor, Tensor], stream: torch.Generator) -> None:
        """After an epoch: a regularizer with a reference set gets logits [N, C] and classes [N] of it and of the members."""

    def report(self) -> dict[str, float]:
        """Numbers for the epoch's row of the curve; the same on every worker. Counting starts anew."""
        return {}


class Distilling(Part):
    """A loss with two phases: the network of the first `teacher_epochs` becomes the teacher of a new one."""

    teacher: Net
    teacher_epochs: int

    def lessons(self, reference: Images, logits: Tensor) -> Images:
        """What the student learns from: reference images, and distributions made of the teacher's logits [N, C] as labels."""
        raise NotImplementedError


class Outputs(NamedTuple):
    """What the network makes of a batch."""

    logits: Tensor
    features: Tensor


class Step:
    """One batch on its way through one update. What several slots want to see is computed once, when it is first asked for."""

    def __init__(
        self, net: Net, x: Tensor, labels: Tensor, perturbed: Tensor | None, draw: Draw, epoch: int, radius: float = 0.0
    ):  # fmt: skip
        """`x`, `perturbed`: images in [0, 1], [B, c, h, w], `radius` apart. `draw`: noise for the regularizer."""
        self.net, self.x, self.labels, self.perturbed, self.draw, self.epoch = net, x, labels, perturbed, draw, epoch
        self.radius = radius

    @cached_property
    def clean(self) -> Outputs:
        """Of the images themselves."""
        return self.forward(self.x)

    @cached_property
    def adversarial(self) -> Outputs:
        """Of the perturbed images."""
        assert self.perturbed is not None
        return self.forward(self.perturbed)

    def forward(self, images: Tensor) -> Outputs:
        """Of other images."""
        features = self.net.features(images)
        return Outputs(self.net.head(features), features)

    def beside_adversarial(self, images: Tensor) -> Outputs:
        """Of other images, in one forward pass with the perturbed ones, so that batch norm sees them together."""
        assert self.perturbed is not None
        both = self.forward(torch.cat([self.perturbed, images]))
        count = len(self.perturbed)
        self.adversarial = Outputs(*(part[:count] for part in both))
        return Outputs(*(part[count:] for part in both))

    @property
    def classes(self) -> Tensor:
        """The likeliest class of each label, int64 [B]."""
        return classes_of(self.labels)


def classes_of(labels: Tensor) -> Tensor:
    """int64 [B], from classes or from distributions over them."""
    return labels if labels.dim() == 1 else labels.argmax(1)


class Filling(Protocol):
    """The one thing that losses, perturbations, regularizers and augmentations have in common."""

    def bind(self, context: Context) -> Part:
        """The filling as a module for one network."""
        ...
