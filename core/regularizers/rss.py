"""RSS, regularised single-step adversarial training (Vivek et al., CVPR workshops 2019): FGSM and R-FGSM logits agree.

    CE(g(x_f), y) + lambda * mean |g(x_f) - g(x_r)|^2

x_f are FGSM images (the perturbation slot's, with its epsilon); x_r start at a random corner of a small ball and take a
signed step of full length epsilon from there. Where FGSM overfits the gradient at x, the two sets of logits part.
"""

from typing import Annotated

from torch import Tensor

from core import workers
from core.attacks import gradient
from core.errors import InputError
from core.perturbations.adversarial import FGSM
from core.slots import Context, Part, Step
from core.space import Bounds, LogUniform, Uniform, knobs


@knobs
class RSS:
    """Pairs the logits of FGSM images with those of their R-FGSM twins."""

    lambda_: Annotated[float, Bounds(0), LogUniform(1.0, 100.0)] = 25.0
    """Weight: 25 for CIFAR, 5 for MNIST."""
    random_share: Annotated[float, Bounds(0, 1), Uniform(0.03, 0.5)] = 0.25
    """Length of the twins' random step as a share of epsilon: 2/255 of 8/255 for CIFAR, 0.01 of 0.3 for MNIST."""

    # not `per_image`: an image and its twin are rows of one forward pass, and DP-SGD would clip them one by one

    def fits(self, config) -> None:
        """Refuse any perturbation but signed FGSM.

        Raises:
            InputError: there are no FGSM images to pair.
        """
        if not isinstance(config.perturbation, FGSM) or config.perturbation.norm != "linf":
            raise InputError("regularizer=rss pairs FGSM images with twins; use perturbation=fgsm, perturbation.norm=linf")

    def bind(self, context: Context) -> Part:
        """See `core.slots`."""
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
        twins = gradient.rfgsm(step.net, step.x, step.classes, epsilon=step.radius, start=start, draw=step.draw, total=False)
        theirs = step.beside_adversarial(twins).logits
        return k.lambda_ * workers.batch_mean((step.adversarial.logits - theirs).square().sum(1))
