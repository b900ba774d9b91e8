"""The one training loop, for every combination of slots.

    total = alpha * loss(x) + (1 - alpha) * loss(perturbed x) + regularizer

The rows of the global batch are divided among the workers. All random numbers are drawn for the global batch, so they do not
depend on the number of workers. A run can stop after any epoch; a run resumed from its state is bit-identical.
"""

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core import data, memory, nets, rng, workers
from core.config import TrialConfig
from core.data import Images
from core.errors import InputError, TrialError
from core.modes import predict, with_autograd
from core.optimizers.standard import factor
from core.selection import EpochChooser, selected_epoch
from core.slots import Context, Distillation, ExtraBatches, Part, Step, classes_of

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
OnEpoch = Callable[[dict[str, float], Bound], None]
"""Callback after each epoch, with the epoch's row of the curve and everything that was trained."""


@with_autograd
def bind(config: TrialConfig, members: Images, device: torch.device) -> Bound:
    """Build a network with new weights and bind every slot to it; the result depends on the configuration and members alone.

    Raises:
        InputError: a component cannot work with this network or these images.
    """
    config.check_shape(members.shape)
    net = _build_net(config, members, device, "weights")
    context = Context(members.classes, net.dim, members.shape, config.epochs, net)
    slots = {}
    for name in PARTS:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(rng.fold(config.seed, "slot", name))
            slots[name] = getattr(config, name).bind(context).to(device)
    optimizer = config.optimizer.bind(net, len(members.y) / steps_per_epoch(config, len(members.y)))
    return Bound(net=net, optimizer=optimizer, **slots)


def _build_net(config: TrialConfig, members: Images, device: torch.device, stream: str) -> nets.Net:
    """Build and initialise a network; `stream` names its random stream."""
    mean, std = channel_statistics(members.x) if config.normalize else (None, None)
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


def channel_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of uint8 images, or of floats in [0, 1], on the CPU.

    Computed for uint8 images from one histogram per channel, so that no float copy of the pool is made.

    Args:
        x: images, [N, c, h, w].

    Returns:
        Means [c] and standard deviations [c], in units of [0, 1].
    """
    if x.is_floating_point():
        pixels = x.transpose(0, 1).flatten(1).double().cpu()
        return pixels.mean(1).float(), pixels.std(1).float().clamp(min=1e-3)
    levels = torch.arange(256, dtype=torch.float64) / 255
    counts = torch.stack([x[:, c].reshape(-1).bincount(minlength=256).cpu() for c in range(x.shape[1])]).double()
    n = counts.sum(1)
    mean = counts @ levels / n
    variance = (counts * (levels - mean.unsqueeze(1)).square()).sum(1) / (n - 1).clamp(min=1)
    return mean.float(), variance.sqrt().float().clamp(min=1e-3)


@with_autograd
def train(
    config: TrialConfig, members: Images, val: Images, selection: Images | None = None, *, device: torch.device | str = "cpu",
    on_epoch: OnEpoch | None = None, resume: State | None = None, start: Mapping[str, State] | None = None,
) -> Bound:  # fmt: skip
    """Train one network on the members.

    Args:
        config: the recipe.
        members: training images, uint8 or floats in [0, 1].
        val: uint8 images for the validation accuracy and loss of the curve; at most the first 1,000 are used.
        selection: uint8 images that choose the epoch, if `config.selection` requests this.
        device: device to train on.
        on_epoch: called after each epoch with its row of the curve, to which it may add, and everything that was trained. Workers
            may have different callbacks, or none, so it runs inside `workers.alone`.
        resume: state of an unfinished training to continue from.
        start: network and components to start from instead of new ones, as in `Bound.state()["modules"]`. They keep their
            normalisation; the optimizers, the schedule and the curve start anew.

    Returns:
        The trained network with its bound components; those of the chosen epoch, if one is chosen.

    Raises:
        TrialError: the loss of an epoch is not finite.
        InputError: see `bind`.
    """
    device = torch.device(device)
    if device.type == "cpu":
        memory.keep_freed()
    members, val = members.to(device), val.at(torch.arange(min(1000, len(val.y)))).to(device)
    bound = bind(config, members, device)
    if start is not None:
        bound.load_modules(start)
    if resume is not None:
        bound.load(resume)
    training_data = _TrainingData(config, bound, members)
    last_epoch = config.optimizer.last_epoch(config.epochs)
    eligible = range(getattr(bound.loss, "teacher_epochs", 0) + 1, last_epoch + 1)
    chooser = EpochChooser(config.selection, selection.to(device) if selection else None, eligible, config.seed)
    for epoch in range(len(bound.curve) + 1, last_epoch + 1):
        if chooser.has_ended(bound.curve):
            break
        start = time.perf_counter()
        row = _epoch(config, bound, training_data, epoch)
        row |= _validation(bound.net, val) | chooser.measured(bound.net, epoch)
        row["epoch/seconds"] = time.perf_counter() - start
        bound.curve.append(row)
        if selected_epoch(bound.curve) == epoch:
            bound.best = copy.deepcopy(bound.state()["modules"])
        if on_epoch:
            with workers.alone():
                on_epoch(row, bound)
    bound.restore_best()
    return bound


def _validation(net: nn.Module, val: Images) -> dict[str, float]:
    """Accuracy, and the mean cross-entropy if it is finite, of validation images; empty without images."""
    if not len(val.y):
        return {}
    logits = predict(net, val.x)
    loss, accuracy = F.cross_entropy(logits, val.y).item(), (logits.argmax(1) == val.y).double().mean().item()
    return {"epoch/val_accuracy": accuracy} | ({"epoch/val_loss": loss} if math.isfinite(loss) else {})


class _TrainingData:
    """Training data of each epoch: the members without the reference set, or for a student, that set with its teacher's labels."""

    def __init__(self, config: TrialConfig, bound: Bound, members: Images):
        self.config, self.bound, self.members = config, bound, members
        self.private, self.reference = members, members.at(torch.arange(0))
        if config.reference:
            rows = data.hold_out(members.y, members.ids, config.reference, config.seed)
            self.private, self.reference = members.at(rows[0]), members.at(rows[1])
        self.student_data: Images | None = None

    def of(self, epoch: int) -> tuple[Images, int, int]:
        """Images of an epoch, and its place in the schedule: the number of epochs before it, and the schedule's length."""
        loss = self.bound.loss
        if not isinstance(loss, Distillation):
            return self.private, epoch - 1, self.config.epochs
        if epoch <= loss.teacher_epochs:
            return self.private, epoch - 1, loss.teacher_epochs
        if epoch == loss.teacher_epochs + 1:
            loss.teacher.load_state_dict(self.bound.net.state_dict())
            student = _build_net(self.config, self.members, self.members.x.device, "student")
            self.bound.net.load_state_dict(student.state_dict())
            self.bound.optimizer.state.clear()
        if self.student_data is None:
            self.student_data = loss.distillation_data(self.reference, predict(loss.teacher, self.reference.x))
        return self.student_data, epoch - 1 - loss.teacher_epochs, self.config.epochs - loss.teacher_epochs


def _epoch(config: TrialConfig, bound: Bound, training_data: _TrainingData, epoch: int) -> dict[str, float]:
    """Train for one pass over an epoch's images; return its row of the curve."""
    images, position, length = training_data.of(epoch)
    device = images.x.device
    lr = config.optimizer.lr * factor(config.optimizer.schedule, position, length)
    for group in bound.optimizer.param_groups:
        group["lr"] = lr
    for module in bound.modules.values():
        module.train()
    streams = {use: rng.generator(config.seed, use, epoch, device=device) for use in ("augment", "perturb", "regularize", "noise")}
    if hasattr(bound.optimizer, "generator"):
        bound.optimizer.generator = streams["noise"]  # pyright: ignore[reportAttributeAccessIssue]
    extra_batches = _extra_batches(config, bound, images, epoch)
    sums = torch.zeros(3, dtype=torch.float64, device=device)
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):  # dropout draws from the global stream, which is restored
        torch.manual_seed(rng.fold(config.seed, "dropout", epoch, workers.rank()))
        for batch in _batches(len(images.y), config, epoch):
            x, labels = _augmented(bound, images, batch, streams["augment"])
            draws = {use: rng.Draw(streams[use], len(batch), workers.rows(len(batch))) for use in ("perturb", "regularize")}
            bound.perturbation.train_step(bound.net, extra_batches)
            perturbed = bound.perturbation(bound.net, x, classes_of(labels), draws["perturb"]) if len(batch) else None
            radius = getattr(bound.perturbation, "epsilon", 0.0)
            step = Step(bound.net, x, labels, perturbed, draws["regularize"], epoch, radius)
            loss, correct = _update(bound, step, len(batch))
            bound.regularizer.after_step(bound.net, lr)
            sums += torch.stack([loss * len(batch) / workers.count(), correct, correct.new_tensor(len(labels))]).double()
    total_loss, hits, seen = (workers.total(sums)).tolist()
    if not math.isfinite(total_loss):
        raise TrialError(f"loss is {total_loss / max(seen, 1)} in epoch {epoch}; lower optimizer.lr")
    if len(training_data.reference.y) and not isinstance(bound.loss, Distillation):
        groups = (training_data.private, training_data.reference)
        members, reference = ((predict(bound.net, group.x), group.y) for group in groups)
        bound.regularizer.after_epoch(members, reference, rng.generator(config.seed, "inference", epoch))
    extra = {f"epoch/{name}": value for part in bound.parts.values() for name, value in part.report().items()}
    means = {"epoch/loss": total_loss / seen, "epoch/train_accuracy": hits / seen} if seen else {}
    return {"epoch": epoch, **means, **extra}


def _augmented(bound: Bound, images: Images, batch: Tensor, stream: torch.Generator) -> tuple[Tensor, Tensor]:
    """This worker's share of a batch after augmentation: floats in [0, 1], and labels."""
    own = workers.rows(len(batch))
    whole = getattr(bound.augmentation, "whole_batch", False)
    rows = (batch if whole else batch[own]).to(images.x.device)
    draw = rng.Draw(stream, len(batch), slice(None) if whole else own)
    pixels = images.x[rows] * 255 if images.x.is_floating_point() else images.x[rows]
    x, labels = bound.augmentation(pixels, images.y[rows], draw)
    if whole:
        x, labels = x[own], labels[own]
    return x.to(memory_format=torch.channels_last).float().div_(255), labels


def _extra_batches(config: TrialConfig, bound: Bound, images: Images, epoch: int) -> ExtraBatches:
    """Further batches, shuffled and augmented independently of those that the network is trained on."""
    order = rng.generator(config.seed, "fresh", epoch)
    augment = rng.generator(config.seed, "fresh", "augment", epoch, device=images.x.device)
    steps = steps_per_epoch(config, len(images.y))
    left: list[Tensor] = []

    def draw() -> tuple[Tensor, Tensor]:
        if not left:
            left.extend(torch.randperm(len(images.y), generator=order).tensor_split(steps))
        batch = left.pop()
        x, labels = _augmented(bound, images, batch, augment)
        return x, classes_of(labels)

    return draw


def _update(bound: Bound, step: Step, count: int) -> tuple[Tensor, Tensor]:
    """Take one step on a global batch of `count` images.

    Returns:
        The loss, and the number of this worker's images that were classified correctly before the step; on the clean images if a
        slot uses them, otherwise on the perturbed ones.
    """
    alpha = float(bound.perturbation.alpha) if step.perturbed is not None else 1.0  # pyright: ignore[reportArgumentType]
    loss = correct = step.x.new_zeros(())
    for optimizer in bound.optimizers.values():
        optimizer.zero_grad(set_to_none=True)
    with getattr(bound.optimizer, "recording", contextlib.nullcontext)():
        if count:  # a Poisson batch may be empty
            total = bound.regularizer(step)
            for weight, name in ((alpha, "clean"), (1 - alpha, "adversarial")):
                if weight:
                    logits, features = getattr(step, name)
                    total = total + weight * bound.loss(logits, features, step.labels, step.epoch)
            loss = total.detach()
            seen = step.clean if "clean" in vars(step) else step.adversarial
            correct = (seen.logits.detach().argmax(1) == step.classes).sum()
            scale = getattr(bound.optimizer, "scale", None)
            (total * scale(count) if scale else total).backward()
    workers.average_gradients(p for module in bound.modules.values() for p in module.parameters())
    for optimizer in bound.optimizers.values():
        optimizer.step()
    return loss, correct


def _batches(n: int, config: TrialConfig, epoch: int) -> Iterator[Tensor]:
    """Shuffled row numbers in batches whose sizes differ by at most one, so that none is too small for batch norm.

    For DP-SGD, every batch contains each row with the same probability (Poisson sampling), as its accountant assumes.
    """
    stream, steps = rng.generator(config.seed, "order", epoch), steps_per_epoch(config, n)
    if getattr(config.optimizer, "poisson", False):
        return ((torch.rand(n, generator=stream) * steps < 1).nonzero().squeeze(1) for _ in range(steps))
    return iter(torch.randperm(n, generator=stream).tensor_split(steps))
