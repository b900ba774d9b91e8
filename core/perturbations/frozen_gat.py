"""A generator that is trained against a frozen classifier (Lee, Han, Lee 2017, section 4.2), with early stopping.

The classifier does not change, so that the generator can approach its optimum; where the probability of the true class is linear
in the image, with gradient Delta, that is G(Delta) = -Delta / (2 c_g).
"""

import copy
from typing import Annotated, NamedTuple

import torch
from torch import Tensor, nn

from core import rng
from core.attacks.suite import EVAL_BATCH
from core.data import Images
from core.knobs import Bounds, knobs
from core.modes import as_float, eval_mode, with_autograd
from core.nets import Net
from core.perturbations.gat import GAT, Adversary, probability_gradient
from core.slots import Context


@knobs
class GeneratorTraining:
    """Effort of training a generator against a frozen classifier; the paper states none of the values."""

    epochs: Annotated[int, Bounds(1)] = 200
    """Largest number of passes over the training images."""
    patience: Annotated[int, Bounds(1)] = 20
    """Number of epochs without a lower validation loss after which training stops."""
    batch_size: Annotated[int, Bounds(1)] = 128
    """Number of images per step."""


class FittedGenerator(NamedTuple):
    """A trained generator and the course of its training."""

    adversary: Adversary
    """The perturbation of the epoch with the lowest validation loss."""
    losses: list[float]
    """Validation loss after each epoch: the mean of Eq. 9."""

    @property
    def best_epoch(self) -> int:
        """The epoch whose generator is kept, counted from 1."""
        return 1 + self.losses.index(min(self.losses))


def new_adversary(net: Net, members: Images, settings: GAT, seed: int) -> Adversary:
    """An untrained generator for the images of a network, with its own random stream."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.fold(seed, "generator"))
        part = settings.bind(Context(members.classes, net.dim, members.shape, 1, net))
    assert isinstance(part, Adversary)
    return part.to(members.x.device)


@with_autograd
def fit_generator(
    adversary: Adversary, net: Net, members: Images, val: Images, training: GeneratorTraining, seed: int = 0
) -> FittedGenerator:
    """Train a generator against a frozen classifier until its loss on validation images has stopped falling (section 4.2).

    Args:
        adversary: the perturbation to train in place, with `k` steps of its Adam for each batch of members.
        net: images in [0, 1] -> logits; neither its parameters and buffers nor their gradients are changed.
        members: training images of the generator, uint8.
        val: images whose mean generator loss decides when to stop, and which epoch to keep.
        training: the effort.
        seed: seed of the order of the images.

    Returns:
        The generator of the epoch with the lowest validation loss, and the losses.

    Raises:
        ValueError: there are no members or no validation images.
    """
    if not len(members.y) or not len(val.y):
        raise ValueError(f"training a generator needs members and validation images, got {len(members.y)} and {len(val.y)}")
    losses: list[float] = []
    best = copy.deepcopy(adversary.state_dict())
    steps = -(-len(members.y) // training.batch_size)
    for epoch in range(1, training.epochs + 1):
        adversary.train()
        for rows in torch.randperm(len(members.y), generator=rng.generator(seed, "generator", epoch)).tensor_split(steps):
            batch = members.at(rows.to(members.x.device))
            x, classes = as_float(batch.x), batch.y
            adversary.train_step(net, lambda x=x, classes=classes: (x, classes))
        losses.append(mean_loss(adversary, net, val))
        kept = losses.index(min(losses))
        if kept == len(losses) - 1:
            best = copy.deepcopy(adversary.state_dict())
        elif len(losses) - 1 - kept >= training.patience:
            break
    adversary.load_state_dict(best)
    return FittedGenerator(adversary, losses)


@with_autograd
def mean_loss(adversary: Adversary, net: Net, images: Images) -> float:
    """Mean of the generator's loss, Eq. 9, over images in evaluation mode."""
    total = 0.0
    with eval_mode(adversary), torch.no_grad():
        for x, y in zip(images.x.split(EVAL_BATCH), images.y.split(EVAL_BATCH), strict=True):
            total += adversary.generator_loss(net, as_float(x), y).loss.item() * len(y)
    return total / len(images.y)


@with_autograd
def generated(adversary: Adversary, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The images x + G(Delta), clipped to [0, 1], in evaluation mode.

    Args:
        adversary: a trained generator.
        net: images -> logits; returned to its own mode.
        x: images in [0, 1], [N, c, h, w].
        y: true labels, [N].
    """
    found = []
    with eval_mode(adversary), torch.no_grad():
        for part, labels in zip(x.split(EVAL_BATCH), y.split(EVAL_BATCH), strict=True):
            found.append((part + adversary.offset(probability_gradient(net, part, labels)[0])).clamp(0, 1))
    return torch.cat(found)
