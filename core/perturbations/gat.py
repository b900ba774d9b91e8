"""GAT, the generative adversarial trainer (Lee, Han, Lee 2017): a generator learns to perturb images, given the gradient.

With F(x)_y the probability of the true class and Delta = dF(x)_y/dx,

    L_G = F(x + G(Delta))_y + c_g |G(Delta)|^2                        (Eq. 9; k steps of Adam, each on an extra batch)
    L_F = alpha CE(x) + (1 - alpha) CE(x + G(Delta))                  (Eq. 10; Delta and G(Delta) are constants)

A perturbation that lowers L_G compared with none has |G(Delta)| <= 1 / sqrt(c_g).

With `delta_scale=batch_std`, the generator reads Delta in units of its root mean square over the batch in training, and over the
last training batches in evaluation, so that the perturbation of an image does not depend on other images, nor on other workers.
"""

from typing import Annotated, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core import workers
from core.knobs import Bounds, knobs
from core.modes import eval_mode, with_autograd
from core.nets import Net
from core.rng import Draw
from core.slots import Context, ExtraBatches, Part
from core.space import Choice, LogUniform, Uniform

MIN_GENERATOR_NORM = 1e-4
"""Mean norm of the perturbation over an epoch below which the generator counts as inactive."""
MOMENTUM = 0.1
"""Weight of a new batch in the running mean of Delta's square, as in PyTorch's batch norm."""


@knobs
class GAT:
    """A perturbation by a generator that is trained against the classifier: six 3x3 and two 1x1 convolutions, then tanh."""

    c_g: Annotated[float, Bounds(0), LogUniform(1e-2, 1e2)] = 1.0
    """Weight of the perturbation's squared L2 norm in the generator's loss."""
    k: Annotated[int, Bounds(0, 100), Choice((1, 2, 3, 5))] = 1
    """Number of generator steps before each step of the classifier."""
    alpha: Annotated[float, Bounds(0, 1), Uniform(0.3, 0.9)] = 0.5
    """Weight of the loss on clean images."""
    lr_g: Annotated[float, Bounds(0), LogUniform(1e-6, 1e-3)] = 1e-6
    """Learning rate of the generator's Adam; with the paper's 1e-6 it learns very slowly."""
    delta_scale: Literal["none", "batch_std", "norm"] = "none"
    """Divisor of Delta at the generator's input: none (the paper), its root mean square over the batch, or its L2 norm per image
    (which removes the information about how steep the classifier is). In evaluation, the batch's value is replaced by the running
    mean over the training batches."""
    width: Annotated[int, Bounds(1), Choice((16, 32, 48, 96))] = 48
    """Number of channels of the generator."""
    clip_train: bool = False
    """Clip perturbed training images to [0, 1]; the paper does not."""

    def bind(self, context: Context) -> Part:
        """Bind the perturbation, with a new generator and its optimizer."""
        return Adversary(self, context)


class GeneratorLoss(NamedTuple):
    """The generator's loss on a batch, and what it consists of."""

    loss: Tensor
    """Mean of F(x + G(Delta))_y + c_g |G(Delta)|^2 over the batch of all workers, a scalar."""
    p_true: Tensor
    """F(x + G(Delta))_y, the probability of the true class of each perturbed image, [B]."""
    flipped: Tensor
    """Number of images whose predicted class the perturbation changes."""


class Adversary(Part):
    """A generator bound to one network, and its training.

    Like batch norm, it uses statistics of the batch in training mode, and stored ones in evaluation mode.
    """

    mean_square: Tensor

    def __init__(self, knobs_: GAT, context: Context):
        super().__init__()
        self.knobs, self.alpha = knobs_, knobs_.alpha
        self.generator = build_generator(context.image_shape[0], knobs_.width)
        self.optimizer = self.adam = torch.optim.Adam(self.generator.parameters(), lr=knobs_.lr_g)
        if knobs_.delta_scale == "batch_std":
            # Exponentially decaying sums over training batches: of the mean square of Delta's pixels, and of the batches' weights.
            self.register_buffer("mean_square", torch.zeros(2))
        self._reset_counts()

    def forward(self, net: Net, x: Tensor, classes: Tensor, draw: Draw) -> Tensor:
        """The images with the generator's perturbation; no gradient flows through it."""
        del draw
        with torch.no_grad():
            offset = self.offset(probability_gradient(net, x, classes)[0])
        self._count("norms", _squares(offset).sqrt().sum(), x.new_tensor(float(len(x))))
        return self._added(x, offset)

    @with_autograd
    def train_step(self, net: Net, extra_batches: ExtraBatches) -> None:
        """Take k steps on the generator's loss, Eq. 9."""
        for _ in range(self.knobs.k):
            x, classes = extra_batches()
            terms = self.generator_loss(net, x, classes)
            gradients = torch.autograd.grad(terms.loss, list(self.generator.parameters()))
            for parameter, gradient in zip(self.generator.parameters(), gradients, strict=True):
                parameter.grad = gradient
            workers.average_gradients(self.generator.parameters())
            self.adam.step()
            self._count("scores", terms.p_true.detach().sum(), terms.flipped, x.new_tensor(float(len(x))))

    def generator_loss(self, net: nn.Module, x: Tensor, classes: Tensor) -> GeneratorLoss:
        """The generator's loss on a batch, Eq. 9, as a function of the generator's parameters.

        Args:
            net: images -> logits; in evaluation mode inside.
            x: images in [0, 1], [B, c, h, w].
            classes: true classes, [B].
        """
        delta, before = probability_gradient(net, x, classes)
        with eval_mode(net):
            offset = self.offset(delta)
            log_p = F.log_softmax(net(self._added(x, offset)), 1)
        p_true = log_p.exp().gather(1, classes.unsqueeze(1)).squeeze(1)
        loss = workers.batch_mean(p_true) + self.knobs.c_g * workers.batch_mean(_squares(offset))
        return GeneratorLoss(loss, p_true, (log_p.argmax(1) != before).sum())

    def report(self) -> dict[str, float]:
        """Mean norm of the training perturbations, and their success on the generator's own batches."""
        norm, seen = workers.total(self.norms).tolist()
        p_true, flipped, tried = workers.total(self.scores.to(self.norms.device)).tolist()
        self._reset_counts()
        metrics = {"generator_norm": norm / seen} if seen else {}
        return metrics | ({"generator_p_true": p_true / tried, "generator_flipped": flipped / tried} if tried else {})

    def offset(self, delta: Tensor) -> Tensor:
        """The generator's perturbation G(Delta) of images whose probability gradient is Delta, like Delta."""
        return self.generator(self.scaled(delta))

    def scaled(self, delta: Tensor) -> Tensor:
        """Delta, divided according to `delta_scale`.

        Raises:
            ValueError: evaluation mode with `batch_std`, but the generator has seen no training batch.
        """
        match self.knobs.delta_scale:
            case "batch_std":
                return delta / (self._delta_square(delta).sqrt() + 1e-20)
            case "norm":
                return delta / (_squares(delta).sqrt().view(-1, 1, 1, 1) + 1e-20)
        return delta

    def _delta_square(self, delta: Tensor) -> Tensor:
        """Mean square of Delta's pixels: in training mode that of this batch, which is recorded; otherwise the running mean."""
        if self.training:
            square = workers.batch_mean(_squares(delta)) / delta.shape[1:].numel()
            self.mean_square.lerp_(torch.stack([square, torch.ones_like(square)]).to(self.mean_square), MOMENTUM)
            return square
        if not self.mean_square[1]:
            raise ValueError("delta_scale=batch_std needs a trained generator: this one has no statistics of training batches")
        return self.mean_square[0] / self.mean_square[1]

    def _added(self, x: Tensor, offset: Tensor) -> Tensor:
        return (x + offset).clamp(0, 1) if self.knobs.clip_train else x + offset

    def _count(self, name: str, *values: Tensor) -> None:
        """Add to sums that stay on the device, so that no step waits for a transfer."""
        values_ = torch.stack([v.double() for v in values])
        setattr(self, name, getattr(self, name).to(values_.device) + values_)

    def _reset_counts(self) -> None:
        self.norms, self.scores = torch.zeros(2, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)


def build_generator(channels: int, width: int = 48) -> nn.Sequential:
    """Build the paper's generator (Table 1), which has 107,763 weights for RGB at width 48.

    It starts with Xavier weights and zero biases, so that G(0) = 0.
    """
    plan = [(channels, 3)] + [(width, 3)] * 5 + [(width, 1)]
    layers: list[nn.Module] = []
    for into, kernel in plan:
        layers += [nn.Conv2d(into, width, kernel, padding=kernel // 2), nn.ReLU(inplace=True)]
    layers += [nn.Conv2d(width, channels, 1), nn.Tanh()]
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType]
    return nn.Sequential(*layers)


@with_autograd
def probability_gradient(net: nn.Module, x: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Delta = dF(x)_y / dx in evaluation mode, like x, and the predicted classes, [B].

    The gradient of the cross-entropy is -Delta / p_y.
    """
    with eval_mode(net), torch.enable_grad():
        x = x.detach().requires_grad_()
        log_p = F.log_softmax(net(x), 1)
        p_true = log_p.gather(1, classes.unsqueeze(1)).exp().sum()
        (gradient,) = torch.autograd.grad(p_true, x, allow_unused=True, materialize_grads=True)
    return gradient, log_p.argmax(1)


def _squares(images: Tensor) -> Tensor:
    return images.flatten(1).square().sum(1)
