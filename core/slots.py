"""Interfaces of the slots: what a component of each slot receives and returns in a training step.

A component is a `knobs` dataclass with one method `bind(context)`, which returns a `Part`, a module that is called as follows:

    loss           part(logits [B, C], features [B, d], labels, epoch) -> scalar
    perturbation   part(net, x [B, c, h, w], classes [B], draw) -> images like x, or None if nothing is perturbed;
                   its attribute `alpha` is the weight of the loss on the clean images
    regularizer    part(step) -> scalar
    augmentation   part(x, labels, draw) -> images and labels

Labels are classes, int64 [B], or distributions over classes, float [B, C]; only losses with `soft_labels` receive the latter.
Images of an augmentation have pixels in 0..255. Epochs count from 1. Every mean over the batch is taken with
`core.workers.batch_mean`, so that it is the same with several workers. In evaluation mode a part uses stored statistics instead.

Optional class attributes and methods of a component:

    soft_labels                 the loss accepts distributions over classes
    per_image                   the contribution of an image depends on this image and the network alone (required by DP-SGD)
    held_out                    share of the members that is held out as a reference set
    check_compatible(config)    raises InputError for a configuration that the component cannot work with
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

ExtraBatches = Callable[[], tuple[Tensor, Tensor]]
"""Returns this worker's share of a further batch of members: images in [0, 1], and their classes."""


@dataclass(frozen=True)
class Context:
    """Properties of the network that a component is bound to, and of its training run."""

    classes: int
    features: int
    """Length d of the feature vector that the network's head reads."""
    image_shape: tuple[int, int, int]
    """Channels, height, width."""
    epochs: int
    """Number of training epochs."""
    net: Net
    """The network, before training."""


class Part(nn.Module):
    """A component bound to one network.

    Where a component trains parameters, `optimizer` steps them; both are part of the checkpoint. The hooks do nothing by default.
    """

    optimizer: torch.optim.Optimizer | None = None

    def train_step(self, net: Net, extra_batches: ExtraBatches) -> None:
        """Hook before each step of the network: a perturbation may train itself on extra batches."""

    def after_step(self, net: Net, lr: float) -> None:
        """Hook after each step of the network, taken with learning rate `lr`: a regularizer may change the weights."""

    def after_epoch(self, members: tuple[Tensor, Tensor], reference: tuple[Tensor, Tensor], stream: torch.Generator) -> None:
        """Hook after each epoch of a run with a reference set: logits [N, C] and classes [N] of members and reference images."""

    def report(self) -> dict[str, float]:
        """Metrics for the epoch's row of the curve, equal on every worker; resets their counters."""
        return {}


class Distillation(Part):
    """A loss with two phases: the network of the first `teacher_epochs` becomes the teacher of a new network."""

    teacher: Net
    teacher_epochs: int

    def start_student(self, private: Images, seed: int) -> None:
        """Hook after the teacher's last epoch, with the images it was trained on: a loss may train a generator of further images.

        What it trains is part of the checkpoint, so a resumed run does not call it again.
        """

    def transfer_images(self, private: Images, reference: Images, seed: int) -> Images:
        """The images that the teacher labels for the student: the reference set, unless a loss makes its own."""
        del private, seed
        return reference

    def distillation_data(self, transfer: Images, logits: Tensor) -> Images:
        """The student's training data: transfer images, labelled with distributions made of the teacher's logits [N, C]."""
        raise NotImplementedError


class Outputs(NamedTuple):
    """Logits and features of a batch."""

    logits: Tensor
    features: Tensor


class Step:
    """One batch during one update. Forward passes that several slots need are computed once, on first access."""

    def __init__(
        self, net: Net, x: Tensor, labels: Tensor, perturbed: Tensor | None, draw: Draw, epoch: int, radius: float = 0.0
    ):  # fmt: skip
        """`x` and `perturbed` are images in [0, 1], [B, c, h, w], at most `radius` apart. `draw` is the regularizer's noise."""
        self.net, self.x, self.labels, self.perturbed, self.draw, self.epoch = net, x, labels, perturbed, draw, epoch
        self.radius = radius

    @cached_property
    def clean(self) -> Outputs:
        """Outputs for the clean images."""
        return self.forward(self.x)

    @cached_property
    def adversarial(self) -> Outputs:
        """Outputs for the perturbed images."""
        assert self.perturbed is not None
        return self.forward(self.perturbed)

    def forward(self, images: Tensor) -> Outputs:
        """Outputs for other images."""
        features = self.net.features(images)
        return Outputs(self.net.head(features), features)

    def forward_with_adversarial(self, images: Tensor) -> Outputs:
        """Outputs for other images, from one forward pass with the perturbed ones, so that batch norm sees them together."""
        assert self.perturbed is not None
        both = self.forward(torch.cat([self.perturbed, images]))
        count = len(self.perturbed)
        self.adversarial = Outputs(*(part[:count] for part in both))
        return Outputs(*(part[count:] for part in both))

    @property
    def classes(self) -> Tensor:
        """The most likely class of each label, int64 [B]."""
        return classes_of(self.labels)


def classes_of(labels: Tensor) -> Tensor:
    """Classes, int64 [B], from classes or from distributions over them."""
    return labels if labels.dim() == 1 else labels.argmax(1)


class Component(Protocol):
    """The interface that losses, perturbations, regularizers and augmentations share."""

    def bind(self, context: Context) -> Part:
        """Bind the component to one network."""
        ...
