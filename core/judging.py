"""The settings of the evaluation, `judge.*`. They do not affect the training."""

from typing import Annotated, Literal

from core.attacks.ball import Norm
from core.attacks.named import attacks_of
from core.errors import InputError
from core.knobs import Bounds, knobs
from core.perturbations.adversarial import RADIUS
from core.space import LogUniform


@knobs
class Judge:
    """Settings of the evaluation: how a trained network is attacked and audited."""

    part: Literal["val", "test", "both"] = "val"
    """Non-members to evaluate on. A sweep uses `val`; only the confirmation step uses `test`."""
    norm: Norm = "linf"
    """Norm of the threat model."""
    epsilon: Annotated[float, RADIUS] = 8 / 255
    """Radius of the threat model, in units of [0, 1] images; at most 1 in Linf."""
    suite: Literal["none", "quick", "standard", "strong"] = "quick"
    """Attack suite; see `core.attacks.suite`. `none` runs only the attacks that `attacks` lists."""
    attacks: str = ""
    """Further attacks with their settings, such as `fgsm+pgd:steps=1000:step_size=2/255`; each runs on all images that are
    attacked. See `core.attacks.named`."""
    steps: Annotated[int, Bounds(1)] = 20
    """Number of PGD steps; some attacks of a suite take twice as many."""
    restarts: Annotated[int, Bounds(1)] = 1
    """Number of random starts of PGD; later ones run only on images that are still classified correctly."""
    images: Annotated[int, Bounds(0)] = 1000
    """Number of images to attack at most; 0 is all. Accuracy and audits always use all images."""
    audits: Literal["scores", "standard", "full"] = "scores"
    """`scores`: scores from one forward pass. `standard`: also gradient norms, adversarial queries, and outputs stored for audits
    by other networks. `full`: also the label-only distance to the boundary, on `images`. A network that masks its confidence gets
    the label-only audit with every setting, on few images."""
    inversion: Literal["none", "ascent", "all"] = "none"
    """Reconstruct images of each class from the weights: by gradient ascent, or also by DeepDream and an AC-GAN."""
    inversion_iterations: Annotated[int, Bounds(1), LogUniform(1000, 10000)] = 1000
    """Number of steps of the gradient ascent."""
    inversion_lr: Annotated[float, Bounds(0), LogUniform(1e-4, 10)] = 0.1
    """Step size of the gradient ascent, in units of [0, 1] images times the gradient of the class's logit."""
    inversion_start: Literal["grey", "noise", "grey_noise", "image"] = "grey_noise"
    """Start of the gradient ascent: plain grey, uniform noise, grey with some noise, or an image of the shadow models, which is
    neither a member nor compared with the result. From plain grey, all restarts of a class are equal."""
    inversion_restarts: Annotated[int, Bounds(1)] = 4
    """Number of reconstructions of each class."""
    gan_weight: Annotated[float, Bounds(0), LogUniform(1e-2, 1e2)] = 1.0
    """Weight w of the network's loss in that of the AC-GAN's generator; at 0 the network is not attacked."""
    gan_width: Annotated[int, Bounds(1)] = 16
    """Width of the AC-GAN: 64 as published."""
    gan_epochs: Annotated[int, Bounds(1)] = 10
    """Number of passes of the AC-GAN over its images: 200 as published."""
    nn_lr: Annotated[float, Bounds(0), LogUniform(1e-3, 1e-1)] = 0.1
    """Initial learning rate of the neural audit by shadow models; the CRL paper's code has 0.01 for ResNet-18 and for SVHN."""
    attribution: Annotated[int, Bounds(0)] = 0
    """Number of images whose attribution maps are compared; 0 is none."""

    @property
    def measures_distances(self) -> bool:
        """Whether distances to misclassification are measured, which takes longer than the suites of a sweep."""
        return self.suite in ("standard", "strong")

    def check(self) -> None:
        """Reject unknown attacks, an attack that is not defined in the norm, and an evaluation without any attack."""
        listed = attacks_of(self.attacks, norm=self.norm)
        if self.suite == "none" and not listed:
            raise InputError("suite=none runs no attack unless attacks lists one, such as attacks=pgd:steps=20")
