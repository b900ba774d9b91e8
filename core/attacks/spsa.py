"""SPSA (Uesato et al. 2018): ascent along gradients that are estimated from logits alone, for networks that hide theirs.

A network that stands against gradient attacks and falls to this one masks its gradients. Useful only with many samples: the
expected cosine of an estimate from n samples with a gradient of D pixels is about sqrt(n / (n + D)).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from core.attacks.ball import Norm, project
from core.attacks.carlini_wagner import Adam
from core.attacks.gradient import frozen
from core.attacks.losses import cw, fooled
from core.rng import PerImage


def spsa(
    net: nn.Module, x: Tensor, y: Tensor, *, epsilon: float, norm: Norm = "linf", samples: int = 128, steps: int = 100,
    delta: float = 0.01, lr: float = 0.01, draw: PerImage, chunk: int = 1024,
) -> Tensor:  # fmt: skip
    """Climb the margin max_{i != y} z_i - z_y from x: an estimated gradient, a step of Adam, the projections on ball and [0, 1].

    An image is left as soon as it is fooled; Adam and the noise are each image's own. A step takes 2 * samples + 1 queries.
    Adam steps about equally far in every pixel, which suits Linf; in L2 it stays behind gradient attacks even with many samples.

    Args:
        net: images -> logits; attacked in eval mode and without gradients, handed back as it came.
        x: images in [0, 1], [B, C, H, W].
        y: their labels, [B].
        epsilon: radius of the ball, in units of [0, 1] images.
        norm: which ball, "linf" or "l2".
        samples: random directions for each estimate; 2048 to 8192 for a check worth the name.
        steps: estimates.
        delta: how far apart the logits are compared, in the same units; the points may lie outside [0, 1].
        lr: Adam's step size, in the same units.
        draw: where the directions come from, for these images; each step has its own stream.
        chunk: at most so many images in a forward pass.

    Returns:
        Images like x: for each the first iterate that fools the network, x itself where that does, else the last iterate.
    """
    x = x.detach()
    best, rows = x.clone(), torch.arange(len(x), device=x.device)
    adv, clean, labels, adam = x, x, y, Adam(x)
    with frozen(net, weights=True), torch.no_grad():
        for step in range(steps if len(x) else 0):
            hit = fooled(torch.cat([net(part) for part in adv.split(chunk)]), labels)
            if hit.any():
                best[rows[hit]] = adv[hit]
                rows, adv, clean, labels = (v[~hit] for v in (rows, adv, clean, labels))
                adam.keep(~hit)
                if not len(rows):
                    return best

            def margin(images: Tensor, of: Tensor, y: Tensor = labels) -> Tensor:
                return cw(net(images), y[of])

            stream = draw.named(step).at(rows)
            slope = estimate(margin, adv, samples=samples, delta=delta, draw=stream, chunk=chunk)
            moved = adv.clone()
            adam.update_(moved, -slope, lr)
            adv = project(moved, clean, epsilon, norm)
    best[rows] = adv
    return best


def estimate(
    loss: Callable[[Tensor, Tensor], Tensor], x: Tensor, *, samples: int, delta: float, draw: PerImage, chunk: int = 1024
) -> Tensor:
    """Gradient of a loss at x from its values: the mean over random signs v of (loss(x + d v) - loss(x - d v)) / (2 d) * v.

    Args:
        loss: (images [M, C, H, W], which of the x each of them is near [M]) -> [M]; a difference that is not finite counts as 0.
        x: points, [B, C, H, W].
        samples: how many v for each of them.
        delta: d.
        draw: where the v come from, for these x, from its beginning; one call for each sample.
        chunk: at most so many images in a call of the loss, but at least 2.

    Returns:
        Estimates like x, without bias but for terms in d^2 times third derivatives of the loss.
    """
    total = torch.zeros_like(x)
    for rows in torch.arange(len(x), device=x.device).split(max(1, chunk // 2)):
        stream = draw.at(rows)
        together = max(1, chunk // (2 * len(rows)))
        for first in range(0, samples, together):
            count = min(together, samples - first)
            of = rows.repeat(count)
            near = x[of]
            signs = torch.cat([stream.signs(*x.shape[1:]) for _ in range(count)]).to(x)  # the same for any `count`
            up, down = loss(torch.cat([near + delta * signs, near - delta * signs]), of.repeat(2)).view(2, -1, 1, 1, 1)
            rise = (up - down).nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
            total[rows] += (rise * signs).unflatten(0, (count, len(rows))).sum(0)
    return total.div_(2 * delta * samples)
