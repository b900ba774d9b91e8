"""AdvReg (Nasr, Shokri, Houmansadr, CCS 2018): train against a network that infers membership.

An inference network h receives logits and label. After every epoch, h is trained to distinguish members from a reference set
that the classifier is not trained on; in the next epoch, the loss of the classifier is

    CE + alpha * (mean h(g(x), y) - 0.5)

As in the CRL paper's code, the two are trained in alternating passes, and h with binary cross-entropy. (The hidden layers of h
are trained too, which one widely used public version omits.)
"""

import itertools
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core import workers
from core.errors import InputError
from core.knobs import Bounds, knobs
from core.slots import Context, Part, Step
from core.space import LogUniform, Uniform


@knobs
class AdvReg:
    """A penalty on the confidence with which an inference network recognises members."""

    alpha: Annotated[float, Bounds(0), LogUniform(0.1, 20.0)] = 6.0
    """Weight of the penalty; 6 for CIFAR in public comparisons."""
    reference: Annotated[float, Bounds(0.01, 0.99), Uniform(0.1, 0.5)] = 0.2
    """Share of the members that is held out as examples of non-members. The classifier is not trained on them."""
    lr_h: Annotated[float, Bounds(0), LogUniform(1e-4, 1e-2)] = 1e-3
    """Learning rate of the inference network's Adam."""
    passes: Annotated[int, Bounds(1)] = 1
    """Number of passes of the inference network after each epoch of the classifier."""
    pass_over: Literal["larger", "smaller"] = "larger"
    """A pass ends after all images of the larger of the two sets, members and reference images, or of the smaller, as in the CRL
    paper's code. A step has equally many of both, so from the other set images are drawn again or left out."""
    batch_size_h: Annotated[int, Bounds(2)] = 128
    """Members and reference images per step of the inference network; in the CRL paper's code, twice the classifier's batch
    size."""

    @property
    def held_out(self) -> float:
        """Share of the members that is held out as a reference set."""
        return self.reference

    def check_compatible(self, config) -> None:
        """Reject components that give images two classes, and a student, which is not trained on members.

        Raises:
            InputError: mixup, or a loss with a teacher and a student.
        """
        if hasattr(config.augmentation, "mixes"):
            raise InputError("regularizer=advreg needs one class per image, and mixup gives two; use another augmentation")
        if hasattr(config.loss, "teacher_epochs"):
            raise InputError("regularizer=advreg hides members, and the student of loss=dmp is trained on none; use one of them")

    def bind(self, context: Context) -> Part:
        """Bind the regularizer, with a new inference network and its optimizer."""
        return _AdvReg(self, context.classes)


class _AdvReg(Part):
    def __init__(self, knobs_: AdvReg, classes: int):
        super().__init__()
        self.knobs, self.classes = knobs_, classes
        self.inference = InferenceNet(classes).requires_grad_(False)  # trained by `after_epoch` only
        self.optimizer = self.adam = torch.optim.Adam(self.inference.parameters(), lr=knobs_.lr_h)
        self.accuracy = 0.5

    def forward(self, step: Step) -> Tensor:
        if not self.knobs.alpha:
            return step.x.new_zeros(())
        p_member = torch.sigmoid(self.inference(step.clean.logits, step.classes))
        return self.knobs.alpha * (workers.batch_mean(p_member) - 0.5)

    def after_epoch(self, members: tuple[Tensor, Tensor], reference: tuple[Tensor, Tensor], stream: torch.Generator) -> None:
        """Train the inference network for `passes` passes, with half members per batch, equally on every worker."""
        logits, classes = (torch.cat(pair) for pair in zip(members, reference, strict=True))
        n, m = len(members[1]), len(reference[1])
        half = min(self.knobs.batch_size_h // 2, n, m)
        steps = -(-(max(n, m) if self.knobs.pass_over == "larger" else min(n, m)) // half)
        count = half * steps * self.knobs.passes
        member_rows, reference_rows = _permutations(n, count, stream), n + _permutations(m, count, stream)
        targets = torch.cat([torch.ones(half), torch.zeros(half)]).to(logits)
        accuracies = torch.zeros((), device=logits.device)
        self.inference.requires_grad_(True)
        for i, (member_batch, reference_batch) in enumerate(zip(member_rows.split(half), reference_rows.split(half), strict=True)):
            rows = torch.cat([member_batch, reference_batch]).to(logits.device)
            log_odds = self.inference(logits[rows], classes[rows])
            self.adam.zero_grad()
            F.binary_cross_entropy_with_logits(log_odds, targets).backward()
            self.adam.step()
            if i >= steps * (self.knobs.passes - 1):
                accuracies += ((log_odds > 0) == targets.bool()).float().mean()
        self.inference.requires_grad_(False)
        self.accuracy = accuracies.item() / steps

    def report(self) -> dict[str, float]:
        """Accuracy of the inference network in its last pass, on half members and half reference images."""
        return {"inference_accuracy": self.accuracy}


class InferenceNet(nn.Module):
    """A network that infers membership from the sorted logits and the class of an image."""

    def __init__(self, classes: int):
        super().__init__()
        self.classes = classes
        self.outputs = _mlp(classes, 100, 1024, 512, 64)
        self.labels = _mlp(classes, 100, 512, 64)
        self.both = nn.Linear(128, 1)

    def forward(self, logits: Tensor, classes: Tensor) -> Tensor:
        """Log-odds that each image is a member, [B], from logits [B, C] and classes [B]."""
        code = 2.0 * F.one_hot(classes, self.classes).to(logits.dtype) - 1
        hidden = [self.outputs(logits.sort(1, descending=True).values), self.labels(code)]
        return self.both(torch.cat(hidden, 1)).squeeze(1)


def _mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for into, out in itertools.pairwise(widths):
        layers += [nn.Linear(into, out), nn.ReLU()]
    return nn.Sequential(*layers)


def _permutations(n: int, count: int, stream: torch.Generator) -> Tensor:
    """The first `count` entries of consecutive random permutations of n rows."""
    return torch.cat([torch.randperm(n, generator=stream) for _ in range(-(-count // n))])[:count]
