"""Everything that a training updates: a network, the components that are bound to it, and its optimizer."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn

from core import data, nets, rng, workers
from core.config import TrialConfig
from core.data import Images
from core.errors import InputError
from core.modes import with_autograd
from core.slots import Context, Part

NO_SYNC = (
    "batch norm over several CPU workers would use each worker's own statistics; "
    "use --workers-per-trial 0 or 1, or a net without batch norm (convnet, allconv, mlenet, net_a)"
)
PARTS = ("loss", "perturbation", "regularizer", "augmentation")
"""Slots whose components are bound as modules."""
State = dict[str, Any]
"""Tensors and plain data, readable with `torch.load(weights_only=True)`."""


@dataclass
class Bound:
    """A configuration bound to one network: everything that training updates."""

    net: nets.Net
    loss: Part
    perturbation: Part
    regularizer: Part
    augmentation: Part
    optimizer: torch.optim.Optimizer
    curve: list[dict[str, float]] = field(default_factory=list)
    """One row per finished epoch: `epoch`, `epoch/loss`, `epoch/train_accuracy`, `epoch/val_accuracy`, `epoch/val_loss` (the
    cross-entropy of clean images), `epoch/seconds`; without those of training if no image was sampled (DP-SGD), and without those
    of validation if there are no validation images. With a choice of the epoch also `epoch/selection`; see `core.selection`."""
    best: dict[str, State] | None = None
    """During a training that chooses its epoch: states of the modules after the best epoch so far."""

    @property
    def parts(self) -> dict[str, Part]:
        """The bound components by slot."""
        return {name: getattr(self, name) for name in PARTS}

    @property
    def modules(self) -> dict[str, nn.Module]:
        """All modules that may hold parameters or buffers."""
        return {"net": self.net, **self.parts}

    @property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """The network's optimizer, and those of the components that train parameters."""
        own = {name: part.optimizer for name, part in self.parts.items()}
        return {"net": self.optimizer} | {name: opt for name, opt in own.items() if opt is not None}

    def state(self) -> State:
        """The checkpoint of the run so far.

        Its tensors are shared with the training run: write or copy them before training continues.
        """
        return {
            "curve": self.curve,
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            **({"best": self.best} if self.best else {}),
        }

    def load(self, state: State) -> None:
        """Restore a state."""
        self.curve, self.best = [dict(row) for row in state["curve"]], state.get("best")
        self.load_modules(state["modules"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(copy.deepcopy(state["optimizers"][name]))  # torch would share its tensors

    def load_modules(self, modules: Mapping[str, State]) -> None:
        """Restore the network and the components from `state()["modules"]`; the optimizers and the curve are unchanged."""
        for name, module in self.modules.items():
            module.load_state_dict(modules[name])

    def restore_best(self) -> None:
        """Restore the modules in `best`, if there are any."""
        if self.best:
            self.load_modules(self.best)
        self.best = None


class Trained(NamedTuple):
    """A trained network with its configuration, for measurements on several networks."""

    config: TrialConfig
    bound: Bound


TARGET = "target"
"""Name of the measured network among the networks that a measurement receives."""


@with_autograd
def bind(config: TrialConfig, members: Images, device: torch.device) -> Bound:
    """Build a network with new weights and bind every slot to it; the result depends on the configuration and members alone.

    Raises:
        InputError: a component cannot work with this network or these images.
    """
    config.check_shape(members.shape)
    net = build_net(config, members, device, "weights")
    context = Context(members.classes, net.dim, members.shape, config.epochs, net)
    slots = {}
    for name in PARTS:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(rng.fold(config.seed, "slot", name))
            slots[name] = getattr(config, name).bind(context).to(device)
    optimizer = config.optimizer.bind(net, len(members.y) / steps_per_epoch(config, len(members.y)))
    return Bound(net=net, optimizer=optimizer, **slots)


def build_net(config: TrialConfig, members: Images, device: torch.device, stream: str) -> nets.Net:
    """Build and initialise a network; `stream` names its random stream."""
    mean, std = data.channel_statistics(members.x) if config.normalize else (None, None)
    with torch.random.fork_rng(devices=[]):  # layers draw their initial weights from the global stream
        torch.manual_seed(rng.fold(config.seed, stream))
        net = nets.build(config.net, members.shape, members.classes, mean, std)
    if nets.has_batch_norm(net) and workers.count() > 1:
        if device.type != "cuda":
            raise InputError(NO_SYNC)
        net = workers.synchronised(net)
    return net.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def steps_per_epoch(config: TrialConfig, images: int) -> int:
    """Number of batches in an epoch over `images` images."""
    return -(-images // config.batch_size)
