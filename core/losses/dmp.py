"""DMP, distillation for membership privacy (Shejwalkar and Houmansadr, AAAI 2021): a student that learns from a teacher.

A teacher is trained on the members with cross-entropy; a new network, the student, is then trained on other images alone, with
the teacher's outputs as labels. These transfer images are a part of the members that the teacher is not trained on, or images of a
generative network that is trained on the members. Both phases happen in one training run: the teacher is trained in the first
epochs and the student in the others, each with its own schedule.
"""

import copy
from dataclasses import replace
from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from core import rng, workers
from core.data import Images
from core.errors import InputError
from core.inversion.acgan import Generator, train_generator
from core.knobs import Bounds, knobs
from core.slots import Context, Distillation, Part
from core.space import LogUniform, Uniform

SAMPLED = 500
"""Number of images that the generator makes at a time."""


@knobs
class DMP:
    """The student's loss T^2 * KL(teacher | student) at temperature T, averaged over the batch."""

    transfer: Literal["reference", "acgan"] = "reference"
    """Images that the student is trained on: a `reference` set held out from the members, or images of an AC-GAN, for which no
    member is held out. The AC-GAN is trained on the members without the teacher's help; see `core.inversion.acgan`."""
    reference: Annotated[float, Bounds(0.01, 0.99), Uniform(0.1, 0.9)] = 0.5
    """Share of the members that is held out for the student with `transfer=reference`; the teacher is trained on the others."""
    generated: Annotated[float, Bounds(0.01)] = 1.0
    """Number of images of the AC-GAN, as a multiple of the number of members. The CRL paper does not give its number."""
    gan_width: Annotated[int, Bounds(1)] = 64
    """Width of the AC-GAN."""
    gan_epochs: Annotated[int, Bounds(1)] = 200
    """Number of passes of the AC-GAN over the members, as in the CRL paper's code for its GAN."""
    teacher: Annotated[float, Bounds(0.01, 0.99)] = 0.5
    """Share of the epochs in which the teacher is trained."""
    temperature: Annotated[float, Bounds(0.01), LogUniform(0.5, 20.0)] = 1.0
    """Temperature T, by which the logits of both networks are divided."""
    keep: Annotated[float, Bounds(0.01, 1), Uniform(0.25, 1.0)] = 1.0
    """Share of the transfer images that is used: those for which the teacher's prediction has the lowest entropy."""
    crl_compat: bool = False
    """Follow the CRL paper's code, which averages over classes too and omits the factor T^2."""

    soft_labels = True

    @property
    def held_out(self) -> float:
        """Share of the members that is held out as a reference set."""
        return self.reference if self.transfer == "reference" else 0.0

    def check_compatible(self, config) -> None:
        """Reject a run without a student, whose result would be the unprotected teacher.

        Raises:
            InputError: training ends before the student's first epoch.
        """
        ends, begins = config.optimizer.last_epoch(config.epochs), max(1, self.teacher_epochs(config.epochs)) + 1
        if ends < begins:
            raise InputError(
                f"loss=dmp would return the teacher: training ends after epoch {ends}, the student's first epoch is {begins}; "
                "raise epochs or optimizer.stop_at, or lower loss.teacher"
            )

    def teacher_epochs(self, epochs: int) -> int:
        """Number of epochs in which the teacher is trained."""
        return min(max(1, round(self.teacher * epochs)), epochs - 1)

    def bind(self, context: Context) -> Part:
        """Bind the loss, with a copy of the network that will hold the teacher, and with a generator if there is one."""
        return _DMP(self, context)


class _DMP(Distillation):
    def __init__(self, knobs_: DMP, context: Context):
        super().__init__()
        self.knobs = knobs_
        self.teacher = copy.deepcopy(context.net).requires_grad_(False)
        self.teacher_epochs = knobs_.teacher_epochs(context.epochs)
        self.generator: Generator | None = None
        if knobs_.transfer == "acgan":
            self.generator = Generator(context.image_shape, context.classes, width=knobs_.gan_width).requires_grad_(False)

    def forward(self, logits: Tensor, features: Tensor, labels: Tensor, epoch: int) -> Tensor:
        """Cross-entropy for the teacher; for the student, the divergence from `labels`, which are the teacher's distributions."""
        del features
        if epoch <= self.teacher_epochs:
            return workers.batch_mean(F.cross_entropy(logits, labels, reduction="none"))
        t = self.knobs.temperature
        divergence = F.kl_div(F.log_softmax(logits / t, 1), labels, reduction="none").sum(1)
        return workers.batch_mean(divergence) * (1 / logits.shape[1] if self.knobs.crl_compat else t * t)

    def start_student(self, private: Images, seed: int) -> None:
        """Train the generator, if there is one, on the images that the teacher was trained on; the teacher is not queried."""
        if self.generator is None:
            return
        k = self.knobs
        trained = train_generator(
            self.teacher, private.x, private.y, private.classes, w=0.0, epochs=k.gan_epochs, width=k.gan_width, seed=seed
        )
        self.generator.load_state_dict(trained.state_dict())

    def transfer_images(self, private: Images, reference: Images, seed: int) -> Images:
        """The reference set, or images of the trained generator, whose classes are as frequent as each other."""
        if self.generator is None:
            return reference
        ids = torch.arange(max(2, round(self.knobs.generated * len(private.y))))
        classes, draw = ids % private.classes, rng.per_image(seed, "dmp", "transfer", ids=ids)
        parts = [
            self.generator.sample(classes[rows].to(private.x.device), draw.at(rows)).mul_(255).round_().to(torch.uint8)
            for rows in ids.split(SAMPLED)
        ]
        return Images(torch.cat(parts), classes.to(private.y.device), private.classes)

    def distillation_data(self, transfer: Images, logits: Tensor) -> Images:
        """The transfer images, labelled with the teacher's distributions.

        Args:
            transfer: transfer images; their labels are not used.
            logits: logits of the teacher, [N, C].
        """
        log_p = F.log_softmax(logits, 1)
        entropy = -(log_p.exp() * log_p).sum(1)
        most_certain = entropy.argsort(stable=True)[: max(1, round(self.knobs.keep * len(entropy)))].sort().values
        soft = F.softmax(logits / self.knobs.temperature, 1)
        return replace(transfer.at(most_certain), y=soft[most_certain])
