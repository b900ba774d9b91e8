"""The choice of a training's epoch: the last one, or the best by clean or adversarial accuracy on images set aside for this.

These images are a part of `val` and nothing else: no metric and no audit uses them, since the chosen network is better on them
than on others. After each epoch that may be chosen, the curve's row has `epoch/selection`, the share of these images that is
classified correctly, under the attacks if there are any. The network of the first epoch with the highest share is the result.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from core import workers
from core.attacks.ball import Norm
from core.attacks.named import attacks_of
from core.attacks.suite import correct, run_suite
from core.data import Images
from core.errors import InputError
from core.knobs import Bounds, knobs
from core.modes import as_float
from core.perturbations.adversarial import RADIUS
from core.rng import fold


@knobs
class LastEpoch:
    """No choice: the result is the network of the last epoch."""

    images = 0


@knobs
class ByAccuracy:
    """The epoch with the highest accuracy, optionally with early stopping."""

    images: Annotated[int, Bounds(1)] = 100
    """Number of images of `val` that choose the epoch, stratified over classes; they are used for nothing else."""
    last: Annotated[int, Bounds(0)] = 0
    """Number of epochs at the end of the training that may be chosen; 0 is all."""
    patience: Annotated[int, Bounds(0)] = 0
    """Early stopping: training ends after this number of epochs in a row without a better one; 0 is never."""

    def correct(self, net: nn.Module, x: Tensor, y: Tensor, *, seed: int, ids: Tensor) -> Tensor:
        """Which images count for a network, [N] bool.

        Args:
            net: images -> logits; returned to its own mode.
            x: images in [0, 1], [N, c, h, w].
            y: labels, [N].
            seed: seed of all noise.
            ids: numbers of the images, which determine their noise, int64 [N].
        """
        del seed, ids
        return correct(net, x, y)


@knobs
class ByAttack(ByAccuracy):
    """The epoch with the highest accuracy under attacks.

    BPFC (Addepalli et al. 2020) chooses by I-FGSM: among all epochs with 7 steps for CIFAR-10, and among the last 30 epochs with
    40 steps for (Fashion-)MNIST.
    """

    attack: str = "ifgsm:steps=7"
    """Attacks with their settings, such as `ifgsm:steps=7` or `fgsm+pgd:steps=20:restarts=2`, as for `judge.attacks`; an image
    counts if it is classified correctly under each of them. See `core.attacks.named`."""
    norm: Norm = "linf"
    """Norm of the attacks."""
    epsilon: Annotated[float, RADIUS] = 8 / 255
    """Radius of the attacks, in units of [0, 1] images; at most 1 in Linf."""

    def check(self) -> None:
        """Reject unknown attacks, an attack that is not defined in the norm, and a choice without any attack."""
        if not attacks_of(self.attack, norm=self.norm):
            raise InputError("attack names no attack; use for example attack=ifgsm:steps=7, or selection=accuracy")

    def correct(self, net: nn.Module, x: Tensor, y: Tensor, *, seed: int, ids: Tensor) -> Tensor:
        """Which images are classified correctly, also under each attack, [N] bool; see `ByAccuracy.correct`."""
        attacks = attacks_of(self.attack, norm=self.norm)
        return run_suite(net, x, y, attacks, epsilon=self.epsilon, norm=self.norm, seed=seed, ids=ids).worst


class EpochChooser:
    """Measures the networks of a training by which its epoch is chosen.

    All workers count the correct images of all, so they choose the same epoch.
    """

    def __init__(self, selection: Any, images: Images | None, eligible: range, seed: int):
        """Prepare for one training.

        Args:
            selection: `TrialConfig.selection`.
            images: the uint8 images that were set aside, on the device of the network.
            eligible: the epochs of the training, counted from 1; of a student's, without those of its teacher.
            seed: seed of the training, from which the attacks' own random stream is derived; it is the same for all epochs.

        Raises:
            ValueError: an epoch is to be chosen, and there are no images.
        """
        if selection.images and not (images and len(images.y)):
            raise ValueError("this configuration chooses the epoch by images that are not given")
        self.selection, self.images = selection, images if selection.images else None
        self.eligible = eligible[-selection.last :] if selection.images else range(0)
        self.seed = fold(seed, "selection")

    def has_ended(self, curve: Sequence[Mapping[str, float]]) -> bool:
        """Whether training ends early after the rows of a curve, because there was no better epoch for `patience` epochs."""
        patience, chosen = getattr(self.selection, "patience", 0), selected_epoch(curve)
        return patience > 0 and chosen is not None and len(curve) - chosen >= patience

    def measured(self, net: nn.Module, epoch: int) -> dict[str, float]:
        """`epoch/selection` of the network after an epoch; empty if this epoch cannot be chosen."""
        if not self.images or epoch not in self.eligible:
            return {}
        own = self.images.at(torch.arange(len(self.images.y))[workers.rows(len(self.images.y))])
        count = torch.zeros((), dtype=torch.float64, device=own.x.device)
        if len(own.y):
            with workers.alone():
                count += self.selection.correct(net, as_float(own.x), own.y, seed=self.seed, ids=own.ids).sum()
        return {"epoch/selection": workers.total(count).item() / len(self.images.y)}


def selected_epoch(curve: Sequence[Mapping[str, float]]) -> int | None:
    """The first epoch of a curve with the highest `epoch/selection`; None if no row has it."""
    rows = [row for row in curve if "epoch/selection" in row]
    return int(max(rows, key=lambda row: row["epoch/selection"])["epoch"]) if rows else None


SELECTIONS = {"none": LastEpoch, "accuracy": ByAccuracy, "attack": ByAttack}
"""The ways to choose the epoch, by name."""
