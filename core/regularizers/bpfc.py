"""BPFC, bit plane feature consistency (Addepalli et al., CVPR 2020): penalise different logits for full and quantised images.

An image q(x) without its low k bits (and with noise of half a coarse level's width) keeps its main content. The loss of a step is

    CE(g(x), y) + lambda * |g(x) - g(q(x))|^2                                     (Algorithm 1)

where lambda grows at each quarter of the run. A step takes two forward passes and one backward pass, and no gradient by the input.
"""

from typing import Annotated, Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from core import workers
from core.knobs import Bounds, knobs
from core.slots import Context, Part, Step
from core.space import Choice, IntRange, LogUniform


@knobs
class BPFC:
    """A penalty on the distance between the logits of full and quantised images."""

    k: Annotated[int, Bounds(1, 8), IntRange(1, 7)] = 5
    """Number of low bits that are dropped: 5 for CIFAR, 6 for Fashion-MNIST, 7 for MNIST."""
    lambda_: Annotated[float, Bounds(0), LogUniform(0.1, 50.0)] = 1.0
    """Weight in the first quarter: 1 for CIFAR, 25 for Fashion-MNIST, 30 for MNIST."""
    growth: Annotated[float, Bounds(1), Choice((1.0, 3.0, 5.0, 9.0, 15.0))] = 9.0
    """Factor by which lambda grows at each quarter of the epochs: 9 for CIFAR, 1 for the others."""
    noise: Annotated[float, Bounds(0), Choice((0.0, 0.5, 1.0, 2.0))] = 1.0
    """Half-width of the noise before quantisation, in units of 2^(k-2) grey levels; 0 is ablation A1."""
    quantiser: Literal["bit_planes", "uniform_noise"] = "bit_planes"
    """Quantiser q: `bit_planes`, or ablation A2, `uniform_noise`, which is x + U(-2^(k-1), 2^(k-1)) / 255."""
    distance: Literal["l2sq", "l1", "cosine"] = "l2sq"
    """Distance between the logits; `l1` is ablation A3, which masks gradients."""
    stop_gradient: Literal["none", "clean", "quantised"] = "none"
    """Branch that is treated as a constant."""

    @property
    def per_image(self) -> bool:
        """Whether DP-SGD can be used; see `core.slots`.

        Opacus matches forward to backward passes, last first. A clean forward pass that has no backward pass would be mismatched.
        """
        return self.stop_gradient != "clean"

    def bind(self, context: Context) -> Part:
        """Bind the regularizer; see `core.slots`."""
        return _BPFC(self, context.epochs)


class _BPFC(Part):
    def __init__(self, knobs_: BPFC, epochs: int):
        super().__init__()
        self.knobs, self.epochs = knobs_, epochs

    def forward(self, step: Step) -> Tensor:
        k = self.knobs
        if not k.lambda_:
            return step.x.new_zeros(())
        if k.quantiser == "bit_planes":
            images = quantise(step.x, k.k, k.noise, step.draw)
        else:
            images = (step.x + (2 * step.draw.uniform(*step.x.shape[1:]).to(step.x) - 1) * (2 ** (k.k - 1) / 255)).clamp(0, 1)
        quantised = step.forward(images).logits  # first, so that batch norm ends on the clean images
        clean = step.clean.logits
        if k.stop_gradient == "clean":
            clean = clean.detach()
        elif k.stop_gradient == "quantised":
            quantised = quantised.detach()
        return self.weight(step.epoch) * workers.batch_mean(distance(clean, quantised, k.distance))

    def weight(self, epoch: int) -> float:
        """Weight of the penalty in an epoch (from 1): lambda, which grows after the (0-based) epochs E/4, E/2 and 3E/4."""
        passed = sum(4 * (epoch - 1) > quarter * self.epochs for quarter in (1, 2, 3))
        return self.knobs.lambda_ * self.knobs.growth**passed


class Uniform01(Protocol):
    """A source of the quantiser's noise: a `Draw`, or another source of numbers in [0, 1) in the shape of a batch."""

    def uniform(self, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), [B, *shape], or [1, *shape] for the same noise on every image."""
        ...


def quantise(x: Tensor, k: int, noise: float = 1.0, draw: Uniform01 | None = None) -> Tensor:
    """Drop the low k bits of images: add noise to round(255 x) and move it to the middle of its cell of 2^k levels.

    Args:
        x: images in [0, 1], [B, c, h, w].
        k: bits to drop, 1 to 8.
        noise: half-width of the noise, in units of 2^(k-2) levels.
        draw: source of the noise; required unless `noise` is 0.

    Returns:
        Images in [0, 1] like x; a constant with respect to x.
    """
    levels = (255 * x.detach()).round()
    if noise:
        assert draw is not None
        levels = levels + (2 * draw.uniform(*x.shape[1:]).to(x) - 1) * (noise * 2 ** (k - 2))
    cell = 2**k
    return (levels - torch.remainder(levels, cell) + cell / 2).clamp_(0, 255).div_(255)


def distance(a: Tensor, b: Tensor, kind: str) -> Tensor:
    """The distance between rows of logits, [B, C] and [B, C] -> [B]; `kind` as in `BPFC.distance`."""
    match kind:
        case "l2sq":
            return (a - b).square().sum(1)
        case "l1":
            return (a - b).abs().sum(1)
    return 1 - F.cosine_similarity(a, b)
