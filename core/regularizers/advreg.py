"""AdvReg (Nasr, Shokri, Houmansadr, CCS 2018): train against a network that guesses membership.

An inference network h sees logits and label. After every epoch it learns to tell members from a reference set that the
classifier is not trained on; in the next epoch the classifier pays for what h believes:

    CE + alpha * (mean h(g(x), y) - 0.5)

In the form of the CRL paper's code: alternating passes, binary cross-entropy for h. (Its hidden layers are trained here; in
one much used public version they are not.)
"""

import itertools
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core import workers
from core.errors import InputError
from core.slots import Context, Part, Step
from core.space import Bounds, LogUniform, Uniform, knobs

BATCH = 128


@knobs
class AdvReg:
    """The inference network and the price of being recognised."""

    alpha: Annotated[float, Bounds(0), LogUniform(0.1, 20.0)] = 6.0
    """Weight of the inference network's gain; 6 for CIFAR in public comparisons."""
    reference: Annotated[float, Bounds(0.01, 0.99), Uniform(0.1, 0.5)] = 0.2
    """Share of the members that is set aside as examples of non-members. The classifier is not trained on them."""
    lr_h: Annotated[float, Bounds(0), LogUniform(1e-4, 1e-2)] = 1e-3
    """Learning rate of the inference network's Adam."""

    def fits(self, config) -> None:
        """Refuse what leaves the inference network without classes or without a reference set of its own.

        Raises:
            InputError: mixup, or a loss that sets images aside, too.
        """
        if hasattr(config.augmentation, "mixes"):
            raise InputError("regularizer=advreg reads the class of an image, and mixup gives it two; use another augmentation")
        if getattr(config.loss, "reference", 0):
            raise InputError("regularizer=advreg and loss=dmp both set a reference set aside; use one of them")

    def bind(self, context: Context) -> Part:
        """The inference network with its optimizer."""
        return _AdvReg(self, context.classes)


class _AdvReg(Part):
    def __init__(self, knobs_: AdvReg, classes: int):
        super().__init__()
        self.knobs, self.classes = knobs_, classes
        self.inference = InferenceNet(classes).requires_grad_(False)  # learns in passes of its own only
        self.optimizer = self.adam = torch.optim.Adam(self.inference.parameters(), lr=knobs_.lr_h)
        self.hits = 0.5

    def forward(self, step: Step) -> Tensor:
        if not self.knobs.alpha:
            return step.x.new_zeros(())
        belief = torch.sigmoid(self.inference(step.clean.logits, step.classes))
        return self.knobs.alpha * (workers.batch_mean(belief) - 0.5)

    def after_epoch(self, members: tuple[Tensor, Tensor], reference: tuple[Tensor, Tensor], stream: torch.Generator) -> None:
        """One pass over the larger set, in batches of which half are members. Every worker does the same."""
        logits, classes = (torch.cat(pair) for pair in zip(members, reference, strict=True))
        n, m = len(members[1]), len(reference[1])
        half = min(BATCH // 2, n, m)
        steps = -(-max(n, m) // half)
        ours, theirs = _endless(n, half * steps, stream), n + _endless(m, half * steps, stream)
        answer = torch.cat([torch.ones(half), torch.zeros(half)]).to(logits)
        hits = torch.zeros((), device=logits.device)
        self.inference.requires_grad_(True)
        for some, others in zip(ours.split(half), theirs.split(half), strict=True):
            rows = torch.cat([some, others]).to(logits.device)
            guess = self.inference(logits[rows], classes[rows])
            self.adam.zero_grad()
            F.binary_cross_entropy_with_logits(guess, answer).backward()
            self.adam.step()
            hits += ((guess > 0) == answer.bool()).float().mean()
        self.inference.requires_grad_(False)
        self.hits = hits.item() / steps

    def report(self) -> dict[str, float]:
        """How often the inference network was right in its last pass, on half members and half reference images."""
        return {"inference_accuracy": self.hits}


class InferenceNet(nn.Module):
    """Logits [B, C], sorted, and classes [B] -> log-odds that the image is a member, [B]."""

    def __init__(self, classes: int):
        super().__init__()
        self.classes = classes
        self.outputs = _mlp(classes, 100, 1024, 512, 64)
        self.labels = _mlp(classes, 100, 512, 64)
        self.both = nn.Linear(128, 1)

    def forward(self, logits: Tensor, classes: Tensor) -> Tensor:
        """See the class."""
        code = 2.0 * F.one_hot(classes, self.classes).to(logits.dtype) - 1
        seen = [self.outputs(logits.sort(1, descending=True).values), self.labels(code)]
        return self.both(torch.cat(seen, 1)).squeeze(1)


def _mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for into, out in itertools.pairwise(widths):
        layers += [nn.Linear(into, out), nn.ReLU()]
    return nn.Sequential(*layers)


def _endless(n: int, count: int, stream: torch.Generator) -> Tensor:
    """`count` row numbers below n: whole shuffles, one after the other."""
    return torch.cat([torch.randperm(n, generator=stream) for _ in range(-(-count // n))])[:count]
