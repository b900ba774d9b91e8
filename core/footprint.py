"""The memory that a trial needs at least, computed from the shapes of its tensors without allocating them."""

import copy
from typing import NamedTuple

import torch
from torch import nn

from core.attacks.suite import EVAL_BATCH
from core.bound import Bound, steps_per_epoch
from core.config import TrialConfig
from core.data import Images, Parts


class Phase(NamedTuple):
    """A phase of a trial, and the memory that it needs at least, in bytes."""

    name: str
    """Name of the phase, for messages."""
    images: int
    """Images in a batch."""
    per_image: float
    """Bytes per image of the batch."""
    setting: str
    """The setting that limits the batch."""

    @property
    def total(self) -> int:
        """Bytes of the whole batch."""
        return int(self.images * self.per_image)


def footprint(config: TrialConfig, bound: Bound, images: Images, parts: Parts) -> Phase:
    """The phase of a trial that needs the most memory.

    It counts the tensors that autograd keeps for the backward pass. Gradients, buffers of the convolutions and the allocator's
    reserve come on top; for ResNet-18 on 224x224 images, they were a third more.

    Args:
        config: configuration of the trial.
        bound: its network and components.
        images: the pool.
        parts: its parts.
    """
    kept, members, judged = kept_bytes(bound.net, images.shape), len(parts.members), len(parts.judged(config.judge.part))
    both = 0 < float(getattr(bound.perturbation, "alpha", 1.0)) < 1  # clean and perturbed images have a graph each
    training = Phase("training", -(-members // steps_per_epoch(config, members)), kept * (1 + both), "batch_size")
    attacks = Phase("attacks", min(EVAL_BATCH, config.judge.images or judged, judged), kept, "judge.images")
    choosing = Phase("the choice of the epoch", min(EVAL_BATCH, config.selection.images), kept, "selection.images")
    return max(training, attacks, choosing, key=lambda phase: phase.total)


def kept_bytes(net: nn.Module, shape: tuple[int, int, int]) -> float:
    """Bytes per image that autograd keeps for the backward pass, without the network's own parameters and buffers.

    Args:
        net: images -> logits.
        shape: channels, height and width of the images.
    """
    net = copy.deepcopy(net).to("meta").train()
    own = {tensor.untyped_storage()._cdata for tensor in (*net.parameters(), *net.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}  # they are held, so that no address is used twice

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    x = torch.empty((2, *shape), device="meta")  # batch norm needs two values per channel
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        net(x)
    return sum(storage.nbytes() for storage in kept.values()) / len(x)
