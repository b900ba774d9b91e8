"""Inversion by an auxiliary-classifier GAN that is guided by the target network (inversion paper, third attack; Odena 2017).

    L_D = BCE(D(x), 1) + BCE(D(G(y, n)), 0) + CE(D_class(x), y_x)         (the class term on real images only)
    L_G = BCE(D(G(y, n)), 1) + w * CE(T(G(y, n)), y)                      (T is the frozen target; D_class is not used)

Real images are the attacker's shadow data, never the target's training images.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core import rng
from core.errors import TrialError
from core.modes import as_float, eval_mode, with_autograd
from core.rng import PerImage


class Generator(nn.Module):
    """A class and noise -> an image in [0, 1]: seven transposed convolutions with ReLU between them, and a sigmoid.

    At 32x32: one 4x4 from a single position, three 4x4 of stride 2, three 3x3. Smaller images have fewer of stride 2; a size that
    is not a multiple is cropped from the next larger one. The paper gives no widths; these are 8, 4, 2, 1, 1, 1/2 times `width`.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, nz: int = 100, width: int = 64):
        super().__init__()
        channels, self.height, self.width = shape
        self.classes, self.nz = classes, nz
        doublings = min(3, max(0, (min(self.height, self.width) // 4).bit_length() - 1))
        base = (-(-self.height // 2**doublings), -(-self.width // 2**doublings))
        plan = [8 * width, 4 * width, 2 * width, width, width, max(1, width // 2)]
        layers: list[nn.Module] = [nn.ConvTranspose2d(classes + nz, plan[0], base)]
        for i, (into, out) in enumerate(zip(plan, [*plan[1:], channels], strict=True)):
            kernel, stride = (4, 2) if i < doublings else (3, 1)
            layers += [nn.ReLU(inplace=True), nn.ConvTranspose2d(into, out, kernel, stride, padding=1)]
        for layer in layers:
            if isinstance(layer, nn.ConvTranspose2d):
                incoming = layer.weight[:, 0].numel() / (layer.stride[0] ** 2 if layer is not layers[0] else base[0] * base[1])
                nn.init.normal_(layer.weight, std=(2 / incoming) ** 0.5)  # He et al. 2015, as there is no batch norm
                nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType]
        self.layers = nn.Sequential(*layers)

    def forward(self, classes: Tensor, noise: Tensor) -> Tensor:
        """Images in [0, 1], [B, c, h, w], from classes [B] and normal noise [B, nz]."""
        code = torch.cat([F.one_hot(classes, self.classes).to(noise), noise], 1)
        return self.layers(code[:, :, None, None])[:, :, : self.height, : self.width].sigmoid()

    def sample(self, classes: Tensor, draw: PerImage) -> Tensor:
        """One image in [0, 1] for each of the classes [B], [B, c, h, w]; `draw` is the source of their noise."""
        with eval_mode(self), torch.no_grad():
            return self(classes, draw.normal(self.nz).to(classes.device))


class Discriminator(nn.Module):
    """Images in [0, 1] -> logit of being real [B] and logits of the classes [B, C].

    Seven blocks of 5x5 convolution, batch norm, LeakyReLU and dropout.
    """

    def __init__(
        self, shape: tuple[int, int, int], classes: int, width: int = 64, dropout: float = 0.5, noise: torch.Generator | None = None
    ):
        super().__init__()
        channels, height, width_ = shape
        plan = [max(1, width // 4), max(1, width // 2), width, 2 * width, 4 * width, 8 * width, 8 * width]
        layers: list[nn.Module] = []
        for into, out, stride in zip([channels, *plan], plan, (2, 1, 2, 1, 2, 1, 1), strict=False):
            layers += [nn.Conv2d(into, out, 5, stride, padding=2), nn.BatchNorm2d(out), nn.LeakyReLU(0.2), _Dropout(dropout, noise)]
        self.layers = nn.Sequential(*layers, nn.Flatten())
        positions = -(-height // 8) * -(-width_ // 8)
        self.real, self.kind = nn.Linear(plan[-1] * positions, 1), nn.Linear(plan[-1] * positions, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logit of being real, [B], and logits of the classes, [B, C]."""
        features = self.layers(2 * x - 1)
        return self.real(features).squeeze(1), self.kind(features)


class _Dropout(nn.Module):
    """Dropout whose noise comes from a given stream; PyTorch's uses the global stream."""

    def __init__(self, share: float, stream: torch.Generator | None):
        super().__init__()
        self.share, self.stream = share, stream

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.share:
            return x
        kept = torch.rand(x.shape, generator=self.stream, device=x.device) >= self.share
        return x * kept / (1 - self.share)


@with_autograd
def train_generator(
    target: nn.Module, images: Tensor, labels: Tensor, classes: int, *, w: float = 1.0, epochs: int = 200, batch_size: int = 100,
    nz: int = 100, width: int = 64, lr: float = 2e-4, dropout: float = 0.5, seed: int = 0,
) -> Generator:  # fmt: skip
    """Train a generator against real images and a target network; global random state is neither used nor changed.

    Each step updates D on real and generated images, then G on newly generated ones, whose classes are drawn uniformly.

    Args:
        target: images -> logits; in evaluation mode during training, returned to its own mode, and never given a gradient.
        images: shadow data, uint8 or in [0, 1], [N, c, h, w], N at least 2; training runs on their device.
        labels: labels of the shadow data, [N].
        classes: number of classes.
        w: weight of the target's loss; at 0 the target is never queried.
        epochs: passes over the shadow data.
        batch_size: images per step; an incomplete last batch is left out, unless it is the only one.
        nz: length of the noise vector.
        width: see `Generator`; the discriminator's blocks have 1/4, 1/2, 1, 2, 4, 8, 8 times `width` channels.
        lr: learning rate of both Adam optimizers, whose beta_1 is 0.5.
        dropout: dropout rate of the discriminator.
        seed: seed of weights and noise.

    Raises:
        ValueError: fewer than 2 images.
        TrialError: a weight of the generator is not finite after training.
    """
    if len(images) < 2:
        raise ValueError(f"the discriminator's batch norm needs 2 images or more, got {len(images)}")
    device, size = images.device, min(batch_size, len(images))
    stream = rng.generator(seed, "acgan", "noise", device=device)
    generator, discriminator = _build(tuple(images.shape[1:]), classes, nz, width, dropout, seed, device)
    g, d = list(generator.parameters()), list(discriminator.parameters())
    adam_g, adam_d = (torch.optim.Adam(p, lr=lr, betas=(0.5, 0.999)) for p in (g, d))

    def generate() -> tuple[Tensor, Tensor]:
        targets = torch.randint(classes, (size,), generator=stream, device=device)
        return generator(targets, torch.randn(size, nz, generator=stream, device=device)), targets

    def step(adam: torch.optim.Adam, weights: list[nn.Parameter], loss: Tensor) -> None:
        for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):  # no gradient for other weights
            weight.grad = gradient
        adam.step()

    with eval_mode(target, freeze_weights=True):
        for _ in range(epochs):
            order = torch.randperm(len(images), generator=stream, device=device)
            for rows in order[: len(order) // size * size].split(size):
                real, kinds = discriminator(as_float(images[rows]))
                with torch.no_grad():
                    generated = generate()[0]
                loss = _bce(real, 1.0) + _bce(discriminator(generated)[0], 0.0) + F.cross_entropy(kinds, labels[rows])
                step(adam_d, d, loss)
                generated, targets = generate()
                loss = _bce(discriminator(generated)[0], 1.0)
                if w:
                    loss = loss + w * F.cross_entropy(target(generated), targets)
                step(adam_g, g, loss)
    if not all(p.isfinite().all() for p in g):
        raise TrialError("the generator diverged; lower its lr or w")
    return generator.eval()


def _build(shape, classes, nz, width, dropout, seed, device) -> tuple[Generator, Discriminator]:
    """A generator and a discriminator with weights from the stream `acgan/weights`."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(rng.fold(seed, "acgan", "weights"))  # `torch.manual_seed` would also seed GPUs
        generator = Generator(shape, classes, nz, width)
        discriminator = Discriminator(shape, classes, width, dropout, rng.generator(seed, "acgan", "dropout", device=device))
    return generator.to(device), discriminator.to(device)


def _bce(logits: Tensor, truth: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, truth))
