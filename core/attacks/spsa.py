"""SPSA (Uesato et al. 2018): ascent along gradients that are estimated from logits alone, for networks that hide their gradients.

A network that is robust to gradient attacks but not to this one masks its gradients. It needs many samples: the expected cosine
between an estimate from n samples and a gradient of D pixels is about sqrt(n / (n + D)).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from core.attacks.ball import Norm, project
from core.attacks.carlini_wagner import Adam
from core.attacks.contract import attack
from core.attacks.losses import cw, misclassified
from core.modes import eval_mode
from core.rng import PerImage


@attack
def spsa(
    net: nn.Module, x: Tensor, y: Tensor, *, epsilon: float, norm: Norm = "linf", samples: int = 128, steps: int = 100,
    delta: float = 0.01, lr: float = 0.01, draw: PerImage, chunk: int = 1024,
) -> Tensor:  # fmt: skip
    """Ascend the margin max_{i != y} z_i - z_y from x by Adam on estimated gradients, with projections onto the ball and [0, 1].

    Stops on an image as soon as it is misclassified. Adam and the noise work image by image. A step takes 2 * samples + 1 queries.
    Adam moves every pixel by about the same amount, which suits Linf; in L2 it is weaker than gradient attacks even with many
    samples.

    Args:
        net: images -> logits; attacked in evaluation mode and without gradients, and returned to its own mode.
        x: images in [0, 1], [B, C, H, W].
        y: true labels, [B].
        epsilon: radius of the ball, in units of [0, 1] images.
        norm: "linf" or "l2".
        samples: random directions for each estimate; 2048 to 8192 for a conclusive check.
        steps: number of estimates.
        delta: distance per pixel from the image to the points whose logits are compared; these may lie outside [0, 1].
        lr: step size of Adam, in units of [0, 1] images.
        draw: source of the directions for these images; each step has its own stream.
        chunk: images per forward pass, at most.

    Returns:
        Images like x: the first misclassified iterate of each image (x itself if it is misclassified already), otherwise the last
        iterate.
    """
    best, rows = x.clone(), torch.arange(len(x), device=x.device)
    adv, clean, labels, adam = x, x, y, Adam(x)
    with eval_mode(net, freeze_weights=True), torch.no_grad():
        for step in range(steps if len(x) else 0):
            hit = misclassified(torch.cat([net(part) for part in adv.split(chunk)]), labels)
            if hit.any():
                best[rows[hit]] = adv[hit]
                rows, adv, clean, labels = (v[~hit] for v in (rows, adv, clean, labels))
                adam.keep(~hit)
                if not len(rows):
                    return best

            def margin(images: Tensor, origin: Tensor, y: Tensor = labels) -> Tensor:
                return cw(net(images), y[origin])

            stream = draw.named(step).at(rows)
            gradient = estimate(margin, adv, samples=samples, delta=delta, draw=stream, chunk=chunk)
            moved = adv.clone()
            adam.update_(moved, -gradient, lr)
            adv = project(moved, clean, epsilon, norm)
    best[rows] = adv
    return best


@torch.no_grad()
def estimate(
    loss: Callable[[Tensor, Tensor], Tensor], x: Tensor, *, samples: int, delta: float, draw: PerImage, chunk: int = 1024
) -> Tensor:
    """Estimate the gradient of a loss at x: the mean over random signs v of (loss(x + d v) - loss(x - d v)) / (2 d) * v.

    Args:
        loss: (images [M, C, H, W], index of the x that each of them is near [M]) -> [M]; a difference that is not finite counts
            as 0.
        x: points, [B, C, H, W].
        samples: number of sign vectors v per point.
        delta: d.
        draw: source of the sign vectors for these points, read from its beginning; one call for each sample.
        chunk: images per call of the loss, at most, but at least 2.

    Returns:
        Estimates like x, unbiased up to terms in d^2 times third derivatives of the loss.

    Raises:
        ValueError: no samples.
    """
    if samples < 1:
        raise ValueError(f"an estimate needs 1 sample or more, got {samples}")
    total = torch.zeros_like(x)
    for rows in torch.arange(len(x), device=x.device).split(max(1, chunk // 2)):
        stream = draw.at(rows)
        together = max(1, chunk // (2 * len(rows)))
        for first in range(0, samples, together):
            count = min(together, samples - first)
            origin = rows.repeat(count)
            near = x[origin]
            signs = torch.cat([stream.signs(*x.shape[1:]) for _ in range(count)]).to(x)  # does not depend on `count`
            up, down = loss(torch.cat([near + delta * signs, near - delta * signs]), origin.repeat(2)).view(2, -1, 1, 1, 1)
            difference = (up - down).nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
            total[rows] += (difference * signs).unflatten(0, (count, len(rows))).sum(0)
    return total.div_(2 * delta * samples)
