"""Training on perturbed images: random noise, FGSM (Goodfellow 2015), R-FGSM (Tramer 2018), PGD (Madry 2018).

The loss of a step is alpha * L(x) + (1 - alpha) * L(x'). The perturbed images x' are made in evaluation mode with the current
weights and are constants in the update. With epsilon = 0 none are made, so a sweep over epsilon includes ordinary training.
"""

from typing import Annotated

from torch import Tensor, nn

from core.attacks import gradient
from core.attacks.ball import Norm, step
from core.knobs import Bounds, knobs
from core.rng import Draw
from core.slots import Context, Part
from core.space import Choice, Uniform

RADIUS = Bounds(0, 1, "; images are in [0, 1], so write 8/255 and not 8; only norm=l2 has longer ones", l2=True)
"""Legal radii and step sizes: at most 1 in Linf, the whole range of a pixel; in L2 any, up to the size of the images."""


@knobs
class NoPerturbation:
    """No perturbation: the loss is computed on the clean images alone."""

    per_image = True

    def bind(self, context: Context) -> Part:
        """Bind the perturbation; see `core.slots`."""
        del context
        return _Adversary(1.0, 0.0, lambda net, x, y, draw: x)


@knobs
class Noise:
    """Random noise of a fixed length, a control for adversarial images: epsilon * sign(n), or n / |n| * epsilon in L2."""

    epsilon: Annotated[float, RADIUS, Uniform(0.0, 8 / 255)] = 8 / 255
    """Length of the noise; 0 is ordinary training."""
    norm: Norm = "linf"
    """Norm in which the length is measured."""
    alpha: Annotated[float, Bounds(0, 1)] = 0.5
    """Weight of the loss on clean images."""

    per_image = True

    def bind(self, context: Context) -> Part:
        """Bind the perturbation; see `core.slots`."""
        del context

        def add_noise(net: nn.Module, x: Tensor, y: Tensor, draw: Draw) -> Tensor:
            del net, y
            return (x + step(draw.normal(*x.shape[1:]).to(x), self.epsilon, self.norm)).clamp(0, 1)

        return _Adversary(self.alpha, self.epsilon, add_noise)


@knobs
class FGSM:
    """FGSM: one signed (Linf) or normalised (L2) gradient step, a weak attack to which a network may overfit."""

    epsilon: Annotated[float, RADIUS, Uniform(0.0, 8 / 255)] = 8 / 255
    """Length of the step."""
    norm: Norm = "linf"
    """Norm of the ball."""
    alpha: Annotated[float, Bounds(0, 1)] = 0.5
    """Weight of the loss on clean images."""

    per_image = True

    def bind(self, context: Context) -> Part:
        """Bind the perturbation; see `core.slots`."""
        del context

        def attack(net: nn.Module, x: Tensor, y: Tensor, draw: Draw) -> Tensor:
            del draw
            return gradient.fgsm(net, x, y, epsilon=self.epsilon, norm=self.norm)

        return _Adversary(self.alpha, self.epsilon, attack)


@knobs
class RFGSM:
    """R-FGSM: FGSM from a random corner of a smaller ball, so that masking the gradient at the image itself does not help."""

    epsilon: Annotated[float, RADIUS, Uniform(0.0, 8 / 255)] = 8 / 255
    """Radius of the Linf ball."""
    random_share: Annotated[float, Bounds(0, 1), Uniform(0.1, 0.75)] = 0.25
    """Share of epsilon that the random step takes (2/255 of 8/255); the length of the signed gradient step is the remainder."""
    alpha: Annotated[float, Bounds(0, 1)] = 0.5
    """Weight of the loss on clean images."""

    per_image = True

    def bind(self, context: Context) -> Part:
        """Bind the perturbation; see `core.slots`."""
        del context

        def attack(net: nn.Module, x: Tensor, y: Tensor, draw: Draw) -> Tensor:
            start = self.random_share * self.epsilon
            return gradient.rfgsm(net, x, y, epsilon=self.epsilon, start=start, draw=draw)

        return _Adversary(self.alpha, self.epsilon, attack)


@knobs
class PGD:
    """PGD: several projected gradient steps from a random start."""

    epsilon: Annotated[float, RADIUS, Uniform(0.0, 8 / 255)] = 8 / 255
    """Radius of the ball; 0 is ordinary training."""
    norm: Norm = "linf"
    """Norm of the ball."""
    steps: Annotated[int, Bounds(1), Choice((3, 7, 10, 20))] = 7
    """Number of gradient steps per batch."""
    step_size: Annotated[float, RADIUS] = 0.0
    """Length of a step; 0 means 2.5 * epsilon / steps, which scales with epsilon in a sweep."""
    random_start: bool = True
    """Start from a point drawn uniformly from the ball instead of from the image."""
    alpha: Annotated[float, Bounds(0, 1)] = 0.0
    """Weight of the loss on clean images; 0 is Madry's recipe."""

    per_image = True

    def bind(self, context: Context) -> Part:
        """Bind the perturbation; see `core.slots`."""
        del context

        def attack(net: nn.Module, x: Tensor, y: Tensor, draw: Draw) -> Tensor:
            return gradient.pgd(
                net, x, y, epsilon=self.epsilon, steps=self.steps, step_size=self.step_size or None, norm=self.norm,
                restarts=int(self.random_start), draw=draw,
            )  # fmt: skip

        return _Adversary(self.alpha, self.epsilon, attack)


class _Adversary(Part):
    def __init__(self, alpha: float, epsilon: float, attack):
        super().__init__()
        self.alpha, self.epsilon, self.attack = alpha, epsilon, attack

    def forward(self, net: nn.Module, x: Tensor, y: Tensor, draw: Draw) -> Tensor | None:
        return self.attack(net, x, y, draw).detach() if self.epsilon else None
