"""DMP, distillation for membership privacy (Shejwalkar and Houmansadr, AAAI 2021): a student that never sees a member.

Part of the members is set aside as a reference set. A teacher is trained on the others with cross-entropy; a fresh
network, the student, is then trained on the reference images alone, on what the teacher says of them. Both happen in one
training run: the first epochs are the teacher's, the last ones the student's, each with a schedule of its own.
"""

import copy
from typing import Annotated

from torch import Tensor
from torch.nn import functional as F

from core import workers
from core.data import Images
from core.errors import InputError
from core.slots import Context, Distilling, Part
from core.space import Bounds, LogUniform, Uniform, knobs


@knobs
class DMP:
    """T^2 * KL(teacher | student) at temperature T, mean over the batch."""

    reference: Annotated[float, Bounds(0.01, 0.99), Uniform(0.1, 0.9)] = 0.5
    """Share of the members that is set aside for the student; the teacher learns from the rest."""
    teacher: Annotated[float, Bounds(0.01, 0.99)] = 0.5
    """Share of the epochs that is the teacher's."""
    temperature: Annotated[float, Bounds(0.01), LogUniform(0.5, 20.0)] = 1.0
    """T, by which both networks' logits are divided."""
    keep: Annotated[float, Bounds(0.01, 1), Uniform(0.25, 1.0)] = 1.0
    """Share of the reference images that is used: those of which the teacher is surest (lowest entropy)."""
    crl_compat: bool = False
    """As in the CRL paper's code: the mean also runs over classes, and there is no T^2."""

    soft_labels = True

    def fits(self, config) -> None:
        """Refuse a run without a student: what it hands out would be the unprotected teacher.

        Raises:
            InputError: training ends before the student's first epoch.
        """
        ends, begins = config.optimizer.last_epoch(config.epochs), max(1, self.teacher_epochs(config.epochs)) + 1
        if ends < begins:
            raise InputError(
                f"loss=dmp hands out the teacher, for training ends after epoch {ends} and the student's first is {begins}; "
                "raise epochs or optimizer.stop_at, or lower loss.teacher"
            )

    def teacher_epochs(self, epochs: int) -> int:
        """How many of the epochs are the teacher's."""
        return min(max(1, round(self.teacher * epochs)), epochs - 1)

    def bind(self, context: Context) -> Part:
        """The loss, with a copy of the network to keep the teacher in."""
        return _DMP(self, context)


class _DMP(Distilling):
    def __init__(self, knobs_: DMP, context: Context):
        super().__init__()
        self.knobs = knobs_
        self.teacher = copy.deepcopy(context.net).requires_grad_(False)
        self.teacher_epochs = knobs_.teacher_epochs(context.epochs)

    def forward(self, logits: Tensor, features: Tensor, labels: Tensor, epoch: int) -> Tensor:
        """Labels are the teacher's distributions in the student's epochs."""
        del features
        if epoch <= self.teacher_epochs:
            return workers.batch_mean(F.cross_entropy(logits, labels, reduction="none"))
        t = self.knobs.temperature
        divergence = F.kl_div(F.log_softmax(logits / t, 1), labels, reduction="none").sum(1)
        return workers.batch_mean(divergence) * (1 / logits.shape[1] if self.knobs.crl_compat else t * t)

    def lessons(self, reference: Images, logits: Tensor) -> Images:
        """The reference images under the teacher's distributions.

        Args:
            reference: images, of which the labels are not used.
            logits: the teacher's, [N, C].
        """
        log_p = F.log_softmax(logits, 1)
        entropy = -(log_p.exp() * log_p).sum(1)
        surest = entropy.argsort(stable=True)[: max(1, round(self.knobs.keep * len(entropy)))].sort().values
        soft = F.softmax(logits / self.knobs.temperature, 1)
        return Images(reference.x[surest], soft[surest], reference.classes)
