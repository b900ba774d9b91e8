"""The one training loop, for every combination of slots.

    total = alpha * loss(x) + (1 - alpha) * loss(perturbed x) + regularizer

The global batch is shared out over workers by rows; all random numbers are drawn for the global batch, so they do not
depend on the number of workers. A run can stop at any epoch's end and go on from its state to the same bits.
"""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from core import memory, nets, rng, workers
from core.attacks.gradient import frozen
from core.config import TrialConfig
from core.data import Images
from core.errors import InputError, TrialError
from core.optimizers import factor
from core.slots import Context

NO_SYNC = (
    "batch norm over several CPU workers would use each worker's own statistics; "
    "use --workers-per-trial 0 or 1, or a net without batch norm (convnet, allconv)"
)
State = dict[str, Any]
OnEpoch = Callable[[dict[str, float], Callable[[], State]], None]


@dataclass
class Bound:
    """A configuration bound to one network: everything that training changes."""

    net: nets.Net
    loss: nn.Module
    perturbation: nn.Module
    regularizer: nn.Module
    augmentation: nn.Module
    optimizer: torch.optim.Optimizer
    curve: list[dict[str, float]] = field(default_factory=list)
    """One row per finished epoch: `epoch`, `epoch/loss`, `epoch/train_accuracy`, `epoch/val_accuracy`."""

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The parts that may hold parameters or buffers."""
        return {name: getattr(self, name) for name in ("net", "loss", "perturbation", "regularizer", "augmentation")}

    @property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """The network's optimizer, and those that slots bring along."""
        own = {name: getattr(m, "optimizer", None) for name, m in self.modules.items()}
        return {"net": self.optimizer} | {name: opt for name, opt in own.items() if opt is not None}

    def state(self) -> State:
        """All of it as tensors and plain data, readable with `torch.load(weights_only=True)`.

        The tensors are the live ones: write them out, or copy them, before training goes on.
        """
        return {
            "curve": self.curve,
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
        }

    def load(self, state: State) -> None:
        """Go back to a state."""
        self.curve = [dict(row) for row in state["curve"]]
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(copy.deepcopy(state["optimizers"][name]))  # torch would share its tensors


def bind(config: TrialConfig, members: Images, device: torch.device) -> Bound:
    """The network with fresh weights and every slot bound to it; a function of the seed and the members alone.

    Raises:
        InputError: a slot cannot work with this network or these images.
    """
    mean, std = channel_statistics(members.x) if config.normalize else (None, None)
    with torch.random.fork_rng(devices=[]):  # layers draw their initial weights from the global stream
        torch.manual_seed(rng.fold(config.seed, "weights"))
        net = nets.build(config.net, members.shape, members.classes, mean, std)
    if nets.has_batch_norm(net) and workers.count() > 1:
        if device.type != "cuda":
            raise InputError(NO_SYNC)
        net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    net = net.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    context = Context(members.classes, net.dim, members.shape, torch.device("cpu"))
    slots = {}
    for name in ("loss", "perturbation", "regularizer", "augmentation"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(rng.fold(config.seed, "slot", name))
            slots[name] = getattr(config, name).bind(context).to(device)
    return Bound(net=net, optimizer=config.optimizer.bind(net.parameters()), **slots)


def channel_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel of uint8 images, [N, c, h, w] -> [c] and [c] in units of [0, 1], on the CPU.

    From a histogram per channel, so that no float copy of the pool is made.
    """
    levels = torch.arange(256, dtype=torch.float64) / 255
    counts = torch.stack([x[:, c].reshape(-1).bincount(minlength=256).cpu() for c in range(x.shape[1])]).double()
    n = counts.sum(1)
    mean = counts @ levels / n
    variance = (counts * (levels - mean.unsqueeze(1)).square()).sum(1) / (n - 1)
    return mean.float(), variance.sqrt().float().clamp(min=1e-3)


def train(
    config: TrialConfig, members: Images, val: Images, *, device: torch.device | str = "cpu",
    on_epoch: OnEpoch | None = None, resume: State | None = None,
) -> Bound:  # fmt: skip
    """Train one network on the members.

    Args:
        config: the recipe.
        members, val: uint8 images; `val` only for the curve (at most 1,000 of it).
        device: where to train.
        on_epoch: called after each epoch with its row of the curve and a function that returns the state.
        resume: a state to go on from.

    Returns:
        The trained network with its slots.

    Raises:
        TrialError: the loss of an epoch is not finite.
        InputError: as `bind`.
    """
    device = torch.device(device)
    if device.type == "cpu":
        memory.keep_freed()
    members, val = members.to(device), val.at(torch.arange(min(1000, len(val.y)))).to(device)
    bound = bind(config, members, device)
    if resume is not None:
        bound.load(resume)
    for epoch in range(len(bound.curve) + 1, config.epochs + 1):
        start = time.perf_counter()
        row = _epoch(config, bound, members, epoch)
        row |= {"epoch/val_accuracy": accuracy(bound.net, val), "epoch/seconds": time.perf_counter() - start}
        bound.curve.append(row)
        if on_epoch:
            on_epoch(row, bound.state)
    return bound


def _epoch(config: TrialConfig, bound: Bound, members: Images, epoch: int) -> dict[str, float]:
    """One pass over the members."""
    device = members.x.device
    for group in bound.optimizer.param_groups:
        group["lr"] = config.optimizer.lr * factor(config.optimizer.schedule, epoch - 1, config.epochs)
    for module in bound.modules.values():
        module.train()
    streams = {use: rng.generator(config.seed, use, epoch, device=device) for use in ("augment", "perturb")}
    sums = torch.zeros(2, dtype=torch.float64, device=device)
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):  # dropout draws from the global stream, which must not leak out
        torch.manual_seed(rng.fold(config.seed, "dropout", epoch, workers.rank()))
        for batch in _batches(len(members.y), config, epoch):
            rows = workers.rows(len(batch))
            draws = {use: rng.Draw(stream, len(batch), rows) for use, stream in streams.items()}
            mine = batch[rows].to(device)
            x = bound.augmentation(members.x[mine], draws["augment"])
            x = x.to(memory_format=torch.channels_last).float().div_(255)
            loss, correct = _step(bound, x, members.y[mine], draws["perturb"], epoch)
            sums += torch.stack([loss * len(batch) / workers.count(), correct]).double()
    sums = workers.total(sums) / len(members.y)
    mean_loss, train_accuracy = sums.tolist()
    if not torch.isfinite(sums).all():
        raise TrialError(f"loss is {mean_loss} in epoch {epoch}; lower optimizer.lr")
    return {"epoch": epoch, "epoch/loss": mean_loss, "epoch/train_accuracy": train_accuracy}


def _step(bound: Bound, x: Tensor, y: Tensor, draw: rng.Draw, epoch: int) -> tuple[Tensor, Tensor]:
    """One update; the global batch's loss, and how many of this worker's images were right before it.

    Right on the clean images where the loss sees them, else on the perturbed ones.
    """
    perturbed = bound.perturbation(bound.net, x, y, draw)
    alpha = float(bound.perturbation.alpha) if perturbed is not None else 1.0  # pyright: ignore[reportArgumentType]
    total = bound.regularizer(bound.net, x, y, epoch)
    logits = None
    for weight, images in ((alpha, x), (1 - alpha, perturbed)):
        if weight and images is not None:
            features = bound.net.features(images)
            out = bound.net.head(features)
            total = total + weight * bound.loss(out, features, y, epoch)
            logits = out if logits is None else logits
    for optimizer in bound.optimizers.values():
        optimizer.zero_grad(set_to_none=True)
    total.backward()
    workers.average_gradients(p for module in bound.modules.values() for p in module.parameters())
    for optimizer in bound.optimizers.values():
        optimizer.step()
    assert logits is not None
    return total.detach(), (logits.detach().argmax(1) == y).sum()


def _batches(n: int, config: TrialConfig, epoch: int) -> Iterator[Tensor]:
    """Shuffled row numbers, in batches of equal size to one row, so that none is too small for batch norm."""
    order = torch.randperm(n, generator=rng.generator(config.seed, "order", epoch))
    return iter(order.tensor_split(-(-n // config.batch_size)))


def predict(net: nn.Module, x: Tensor, batch_size: int = 512) -> Tensor:
    """Logits of uint8 or [0, 1] images, evaluation mode, float32, [N, C] on the images' device."""
    with frozen(net), torch.no_grad():
        return torch.cat([net(as_float(part)).float() for part in x.split(batch_size)])


def as_float(x: Tensor) -> Tensor:
    """uint8 images as floats in [0, 1], channels last; floats as they are."""
    x = x.to(memory_format=torch.channels_last)
    return x.float().div_(255) if x.dtype == torch.uint8 else x


def accuracy(net: nn.Module, images: Images) -> float:
    """Share of images classified right."""
    return (predict(net, images.x).argmax(1) == images.y).double().mean().item()
