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

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core import data, memory, rng, workers
from core.bound import Bound, State, bind, build_net, steps_per_epoch
from core.config import TrialConfig
from core.data import Images
from core.errors import TrialError
from core.modes import predict, with_autograd
from core.optimizers.standard import factor
from core.selection import EpochChooser, selected_epoch
from core.slots import Distillation, ExtraBatches, Step, classes_of

OnEpoch = Callable[[dict[str, float], Bound], None]
"""Callback after each epoch, with the epoch's row of the curve and everything that was trained."""


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
        begun = time.perf_counter()
        row = _epoch(config, bound, training_data, epoch)
        row |= _validation(bound.net, val) | chooser.measured(bound.net, epoch)
        row["epoch/seconds"] = time.perf_counter() - begun
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
            student = build_net(self.config, self.members, self.members.x.device, "student")
            self.bound.net.load_state_dict(student.state_dict())
            self.bound.optimizer.state.clear()
            loss.start_student(self.private, self.config.seed)
        if self.student_data is None:
            transfer = loss.transfer_images(self.private, self.reference, self.config.seed)
            self.student_data = loss.distillation_data(transfer, predict(loss.teacher, transfer.x))
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
