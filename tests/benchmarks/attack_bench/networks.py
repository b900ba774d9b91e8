"""The networks that attacks are compared on, and the images that they are attacked with."""

import copy
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from attack_bench.implementations import our_pgd
from torch import Tensor, nn

from core import data, rng
from core.bound import Bound, bind
from core.config import TrialConfig
from core.data import Images
from core.modes import as_float, predict
from core.space import Value
from core.train import train

SMALL, BIG = "allconv", "resnet18"


@dataclass(frozen=True)
class Training:
    """The training of a network."""

    changes: dict[str, Value]
    """Settings that differ from the defaults."""
    images: int
    """Number of members."""
    after: str = ""
    """Name of the network whose training is continued; empty starts from new weights."""


_SMALL: dict[str, Value] = {"net": "allconv", "net.width": 16, "optimizer": "adam", "augmentation": "crop_flip"}
_BIG: dict[str, Value] = {"net": "resnet18", "optimizer": "sgd", "optimizer.lr": 0.02, "batch_size": 32}
_PGD: dict[str, Value] = {"perturbation": "pgd", "optimizer.lr": 1e-3}
_BPFC: dict[str, Value] = {"regularizer": "bpfc", "regularizer.growth": 3.0, "optimizer.lr": 1e-3}
NATURAL, ROBUST, BPFC = f"{SMALL} natural", f"{SMALL} PGD-trained", f"{SMALL} BPFC"
BIG_NATURAL, BIG_ROBUST = f"{BIG} natural", f"{BIG} PGD-trained"
TRAININGS = {
    NATURAL: Training({**_SMALL, "epochs": 12, "optimizer.lr": 3e-3}, 8000),
    ROBUST: Training({**_SMALL, **_PGD, "epochs": 20, "perturbation.steps": 3}, 8000, NATURAL),
    BPFC: Training({**_SMALL, **_BPFC, "epochs": 20}, 8000, NATURAL),
    BIG_NATURAL: Training({**_BIG, "epochs": 4}, 512),
    BIG_ROBUST: Training({**_BIG, **_PGD, "epochs": 6, "perturbation.steps": 2, "optimizer.lr": 0.01}, 512, BIG_NATURAL),
}  # fmt: skip
"""Trainings by name of the network."""
EPSILON = {NATURAL: 2 / 255, ROBUST: 8 / 255, BPFC: 8 / 255, BIG_NATURAL: 2 / 255, BIG_ROBUST: 2 / 255}
"""Radii at which PGD fools some of the images and not all."""


class Target:
    """A network and the images that it is attacked on."""

    def __init__(self, name: str, net: nn.Module, images: Images, epsilon: float):
        self.name, self.net, self.epsilon, self.images = name, net.eval(), epsilon, images
        self.contiguous_net = copy.deepcopy(net).to(memory_format=torch.contiguous_format)
        """The network with contiguous weights, which other libraries receive."""
        self.x, self.y = as_float(images.x), images.y

    def rows(self, rows: Tensor) -> "Target":
        """The same network with some of the images."""
        return Target(self.name, self.net, self.images.at(rows), self.epsilon)

    def first(self, count: int) -> "Target":
        """The same network with the first images."""
        return self.rows(torch.arange(min(count, len(self.y))))

    def with_net(self, net: nn.Module) -> "Target":
        """The same images for another network."""
        other = copy.copy(self)
        other.net = net
        return other

    def correct(self, x: Tensor) -> Tensor:
        """Which of the images, replaced by x, are classified correctly, [N] bool."""
        return predict(self.net, x.to(memory_format=torch.channels_last)).argmax(1) == self.y


class Networks:
    """The trained networks, cached in a folder."""

    def __init__(self, folder: Path, images: Images):
        self.folder, self.images = folder, images
        self.parts = data.split(images)
        folder.mkdir(parents=True, exist_ok=True)

    def bound(self, name: str) -> Bound:
        """A network with the state of its training, which another training can continue."""
        training = TRAININGS[name]
        config, members = TrialConfig.of(training.changes), self.images.at(self.parts.members[: training.images])
        earlier = TRAININGS[training.after] if training.after else None
        path = self.folder / f"{name.replace(' ', '-')}-{rng.fold(0, repr((training, earlier, len(self.images.y)))):x}.pt"
        if path.is_file():
            bound = bind(config, members, torch.device("cpu"))
            bound.load(torch.load(path, weights_only=True))
            return bound
        resume = self.bound(training.after).state() if training.after else None
        start = time.process_time()
        bound = train(config, members, self.images.at(self.parts.val), resume=resume)
        torch.save(bound.state(), path)
        accuracy = bound.curve[-1]["epoch/val_accuracy"]
        print(f"trained {name} in {time.process_time() - start:.0f} CPU s, accuracy {accuracy:.1%}", flush=True)
        return bound

    def target(self, name: str, count: int, select: str = "") -> Target:
        """A network with `count` test images.

        Args:
            name: name of the network.
            count: number of images.
            select: which images; "correct" are those that are classified correctly, "robust" those that are so after PGD-20.
        """
        net = self.bound(name).net
        target = Target(name, net, self.images.at(self.parts.test), EPSILON[name])
        if select:
            candidates = target.first(4096 if name.startswith(SMALL) else 256)
            keep = candidates.correct(candidates.x)
            if select == "robust":
                keep &= candidates.correct(our_pgd(20)(candidates))
            target = candidates.rows(keep.nonzero().squeeze(1))
        if len(target.y) < count:
            raise SystemExit(f"{name}: {count} images are needed, and only {len(target.y)} are {select}; train it for longer")
        return target.first(count)
