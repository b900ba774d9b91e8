"""Training on other images than the members': random noise, FGSM (Goodfellow 2015), R-FGSM (Tramer 2018), PGD (Madry 2018).

The loss of a step is alpha * L(x) + (1 - alpha) * L(x'). Images are made in evaluation mode from the current weights
and are constants for the update. With epsilon = 0 nothing is made, so a sweep over epsilon contains ordinary training.
"""

from typing import Annotated

from torch import Tensor, nn

from core.attacks import gradient
from core.attacks.ball import Norm, step
from core.rng import Draw
from core.slots import Context, Part
from core.space import Bounds, Choice, Uniform, knobs

IN_PIXELS = "; images are in [0, 1], so write 8/255 and not 8"


@knobs
class NoPerturbation:
    """The loss sees the images as they are."""

    per_image = True

    def bind(self, context: Context) -> Part:
        """See `core.slots`."""
        del context
        return _Adversary(1.0, 0.0, lambda net, x, y, draw: x)


@knobs
class Noise:
    """Random noise of a fixed length, the control for adversarial images: epsilon * sign(n), or n / |n| * epsilon in L2."""

    epsilon: Annotated[float, Bounds(0, 3, IN_PIXELS), Uniform(0.0, 8 / 255)] = 8 / 255
    """Its length; 0 is ordinary training."""
    norm: Norm = "linf"
    """What length means."""
    alpha: Annotated[float, Bounds(0, 1)] = 0.5
    """Weight of the loss on clean images."""

    per_image = True

    def bind(self, context: Context) -> Part:
        """See `core.slots`."""
        del context

        def disturb(net: nn.Module, x: Tensor, y: Tensor, draw: Draw) -> Tensor:
            del net, y
            return (x + step(draw.normal(*x.shape[1:]).to(x), self.epsilon, self.norm)).clamp(0, 1)

        return _Adversary(self.alpha, self.epsilon, disturb)


@knobs
class FGSM:
    """One signed (Linf) or normalised (L2) gradient step; strong enough to train on, weak enough to be overfitted."""

    epsilon: Annotated[float, Bounds(0, 3, IN_PIXELS), Uniform(0.0, 8 / 255)] = 8 / 255
    """Length of the step."""
    norm: Norm = "linf"
    """Which ball."""
    alpha: Annotated[float, Bounds(0, 1)] = 0.5
    """Weight of the loss on clean images."""

    per_image = True

    def bind(self, context: Context) -> Part:
        """See `core.slots`."""
        del context

        def attack(net: nn.Module, x: Tensor, y: Tensor, draw: Draw) -> Tensor:
            del draw
            return gradient.fgsm(net, x, y, epsilon=self.epsilon, norm=self.norm)

        return _Adversary(self.alpha, self.epsilon, attack)


@knobs
class RFGSM:
    """FGSM from a random corner of a smaller ball, so that the network cannot hide the gradient at the image itself."""

    epsilon: Annotated[float, Bounds(0, 1, IN_PIXELS), Uniform(0.0, 8 / 255)] = 8 / 255
    """Radius of the Linf ball."""
    random_share: Annotated[float, Bounds(0, 1), Uniform(0.1, 0.75)] = 0.25
    """Share of epsilon that the random step takes (2/255 of 8/255); the signed gradient step takes the rest."""
    alpha: Annotated[float, Bounds(0, 1)] = 0.5
    """Weight of the loss on clean images."""

    per_image = True

    def bind(self, context: Context) -> Part:
        """See `core.slots`."""
        del context

        def attack(net: nn.Module, x: Tensor, y: Tensor, draw: Draw) -> Tensor:
            start = self.random_share * self.epsilon
            return gradient.rfgsm(net, x, y, epsilon=self.epsilon, start=start, draw=draw)

        return _Adversary(self.alpha, self.epsilon, attack)


@knobs
class PGD:
    """Several projected steps from a random start."""

    epsilon: Annotated[float, Bounds(0, 3, IN_PIXELS), Uniform(0.0, 8 / 255)] = 8 / 255
    """Radius of the ball; 0 is ordinary training."""
    norm: Norm = "linf"
    """Which ball."""
    steps: Annotated[int, Bounds(1), Choice((3, 7, 10, 20))] = 7
    """Gradient steps per batch."""
    step_size: Annotated[float, Bounds(0, 1, IN_PIXELS)] = 0.0
    """Length of a step; 0 means 2.5 * epsilon / steps, which keeps its meaning while epsilon is swept."""
    random_start: bool = True
    """Start from a point drawn evenly from the ball instead of from the image."""
    alpha: Annotated[float, Bounds(0, 1)] = 0.0
    """Weight of the loss on clean images; 0 is Madry's recipe."""

    per_image = True

    def bind(self, context: Context) -> Part:
        """See `core.slots`."""
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
