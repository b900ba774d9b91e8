"""RSS, regularised single-step adversarial training (Vivek et al., CVPR workshops 2019).

It penalises different logits for the FGSM and the R-FGSM version of an image. The loss of a step is

    CE(g(x_f), y) + lambda * mean |g(x_f) - g(x_r)|^2

x_f are the FGSM images of the perturbation slot, with its epsilon; x_r start at a random corner of a small ball and take a signed
step of full length epsilon from there. Where the network has overfitted to the gradient at x, the two sets of logits differ.
"""

from typing import Annotated

from torch import Tensor

from core import workers
from core.attacks import gradient
from core.errors import InputError
from core.knobs import Bounds, knobs
from core.perturbations.adversarial import FGSM
from core.slots import Context, Part, Step
from core.space import LogUniform, Uniform


@knobs
class RSS:
    """A penalty on the distance between the logits of FGSM and R-FGSM images."""

    lambda_: Annotated[float, Bounds(0), LogUniform(1.0, 100.0)] = 25.0
    """Weight of the penalty: 25 for CIFAR, 5 for MNIST."""
    random_share: Annotated[float, Bounds(0, 1), Uniform(0.03, 0.5)] = 0.25
    """Length of R-FGSM's random step as a share of epsilon: 2/255 of 8/255 for CIFAR, 0.01 of 0.3 for MNIST."""

    # not `per_image`: the two versions of an image are rows of one forward pass, and DP-SGD would clip them separately

    def check_compatible(self, config) -> None:
        """Reject every perturbation except FGSM in Linf.

        Raises:
            InputError: the perturbation slot makes no such images.
        """
        if not isinstance(config.perturbation, FGSM) or config.perturbation.norm != "linf":
            raise InputError("regularizer=rss compares FGSM with R-FGSM images; use perturbation=fgsm, perturbation.norm=linf")

    def bind(self, context: Context) -> Part:
        """Bind the regularizer; see `core.slots`."""
        del context
        return _RSS(self)


class _RSS(Part):
    def __init__(self, knobs_: RSS):
        super().__init__()
        self.knobs = knobs_

    def forward(self, step: Step) -> Tensor:
        k = self.knobs
        if not k.lambda_ or step.perturbed is None:
            return step.x.new_zeros(())
        start = k.random_share * step.radius
        images = gradient.rfgsm(step.net, step.x, step.classes, epsilon=step.radius, start=start, draw=step.draw, total=False)
        logits = step.forward_with_adversarial(images).logits
        return k.lambda_ * workers.batch_mean((step.adversarial.logits - logits).square().sum(1))
