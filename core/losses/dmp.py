"""DMP, distillation for membership privacy (Shejwalkar and Houmansadr, AAAI 2021): a student that learns from a teacher.

Part of the members is held out as a reference set. A teacher is trained on the others with cross-entropy; a new network, the
student, is then trained on the reference images alone, with the teacher's outputs as labels. Both happen in one training run: the
teacher is trained in the first epochs and the student in the others, each with its own schedule.
"""

import copy
from dataclasses import replace
from typing import Annotated

from torch import Tensor
from torch.nn import functional as F

from core import workers
from core.data import Images
from core.errors import InputError
from core.knobs import Bounds, knobs
from core.slots import Context, Distillation, Part
from core.space import LogUniform, Uniform


@knobs
class DMP:
    """The student's loss T^2 * KL(teacher | student) at temperature T, averaged over the batch."""

    reference: Annotated[float, Bounds(0.01, 0.99), Uniform(0.1, 0.9)] = 0.5
    """Share of the members that is held out for the student; the teacher is trained on the others."""
    teacher: Annotated[float, Bounds(0.01, 0.99)] = 0.5
    """Share of the epochs in which the teacher is trained."""
    temperature: Annotated[float, Bounds(0.01), LogUniform(0.5, 20.0)] = 1.0
    """Temperature T, by which the logits of both networks are divided."""
    keep: Annotated[float, Bounds(0.01, 1), Uniform(0.25, 1.0)] = 1.0
    """Share of the reference images that is used: those for which the teacher's prediction has the lowest entropy."""
    crl_compat: bool = False
    """Follow the CRL paper's code, which averages over classes too and omits the factor T^2."""

    soft_labels = True

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
        """Bind the loss, with a copy of the network that will hold the teacher."""
        return _DMP(self, context)


class _DMP(Distillation):
    def __init__(self, knobs_: DMP, context: Context):
        super().__init__()
        self.knobs = knobs_
        self.teacher = copy.deepcopy(context.net).requires_grad_(False)
        self.teacher_epochs = knobs_.teacher_epochs(context.epochs)

    def forward(self, logits: Tensor, features: Tensor, labels: Tensor, epoch: int) -> Tensor:
        """Cross-entropy for the teacher; for the student, the divergence from `labels`, which are the teacher's distributions."""
        del features
        if epoch <= self.teacher_epochs:
            return workers.batch_mean(F.cross_entropy(logits, labels, reduction="none"))
        t = self.knobs.temperature
        divergence = F.kl_div(F.log_softmax(logits / t, 1), labels, reduction="none").sum(1)
        return workers.batch_mean(divergence) * (1 / logits.shape[1] if self.knobs.crl_compat else t * t)

    def distillation_data(self, reference: Images, logits: Tensor) -> Images:
        """The reference images, labelled with the teacher's distributions.

        Args:
            reference: reference images; their labels are not used.
            logits: logits of the teacher, [N, C].
        """
        log_p = F.log_softmax(logits, 1)
        entropy = -(log_p.exp() * log_p).sum(1)
        most_certain = entropy.argsort(stable=True)[: max(1, round(self.knobs.keep * len(entropy)))].sort().values
        soft = F.softmax(logits / self.knobs.temperature, 1)
        return replace(reference.at(most_certain), y=soft[most_certain])
