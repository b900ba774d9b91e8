"""Gradient attacks: FGSM (Goodfellow 2015), I-FGSM (Kurakin 2017), R-FGSM (Tramer 2018) and PGD (Madry 2018), Linf and L2.

They climb a loss of `core.attacks.losses` by its *direction* only: a sign or a unit vector per image.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from core import rng
from core.attacks.ball import Norm, draw_offset, project, step
from core.attacks.losses import LOSSES, Loss, fooled
from core.rng import Draw, PerImage


def fgsm(net: nn.Module, x: Tensor, y: Tensor, *, epsilon: float, norm: Norm = "linf", targeted: bool = False) -> Tensor:
    """One step of length epsilon: x + epsilon * sign(grad), or epsilon * grad / |grad| in L2, clipped to [0, 1].

    Args:
        net: images -> logits; attacked in eval mode, handed back as it came.
        x: images in [0, 1], [B, C, H, W].
        y: labels to leave, or with `targeted` the labels to reach, [B].
        epsilon: length of the step, in units of [0, 1] images.
        norm: "linf" or "l2".
        targeted: move towards y instead of away.

    Returns:
        Images like x.
    """
    return pgd(net, x, y, epsilon=epsilon, steps=1, step_size=epsilon, norm=norm, targeted=targeted)


def ifgsm(
    net: nn.Module, x: Tensor, y: Tensor, *, epsilon: float, steps: int, norm: Norm = "linf", stop_when_fooled: bool = False
) -> Tensor:
    """I-FGSM: `steps` steps of length epsilon / steps from the image itself, so that their sum just reaches the ball's edge.

    Args:
        net, x, y, epsilon, norm: as in `fgsm`. steps, stop_when_fooled: as in `pgd`.

    Returns:
        Images like x.
    """
    size = epsilon / steps
    return pgd(net, x, y, epsilon=epsilon, steps=steps, step_size=size, norm=norm, stop_when_fooled=stop_when_fooled)


def rfgsm(
    net: nn.Module, x: Tensor, y: Tensor, *, epsilon: float, start: float, draw: Draw | PerImage, total: bool = True
) -> Tensor:
    """R-FGSM (Tramer 2018): a random signed step of length `start`, then a signed gradient step from there, in Linf.

    Args:
        net, x, y, epsilon: as in `fgsm`.
        start: length of the random step.
        draw: where its normal numbers come from.
        total: the gradient step has length epsilon - start, so that the sum stays within epsilon; without it, its length is
            epsilon, and only the result is clipped (Vivek et al.'s twin images).

    Returns:
        Images like x.
    """
    begin = x + start * draw.normal(*x.shape[1:]).to(x).sign()
    return fgsm(net, begin.clamp(0, 1), y, epsilon=epsilon - start) if total else fgsm(net, begin, y, epsilon=epsilon)


def pgd(
    net: nn.Module, x: Tensor, y: Tensor, *, epsilon: float, steps: int, step_size: float | None = None,
    norm: Norm = "linf", loss: str | Loss = "ce", restarts: int = 0, targeted: bool = False,
    draw: Draw | PerImage | None = None, stop_when_fooled: bool = False, ask_first: bool = True,
) -> Tensor:  # fmt: skip
    """Projected gradient ascent: `steps` steepest steps, each followed by the projection on the ball and on [0, 1].

    Args:
        net, x, y, epsilon, norm, targeted: as in `fgsm`.
        steps: how many steps.
        step_size: their length; default 2.5 * epsilon / steps, so that every point of the ball can be reached.
        loss: what to climb, a name in `core.attacks.losses.LOSSES` or a function.
        restarts: 0 starts at x. From 1 on, each start is drawn evenly from the ball, and a later one is tried only on
            images that the earlier ones did not fool.
        draw: where random starts come from; required with `restarts`.
        stop_when_fooled: for judging. Leave an image as soon as it is fooled, or, in Linf, as soon as its iteration is back
            at a point where it has been: steps of one length on pixels that are clipped often run in circles, and no
            further step would find anything new (Doldo et al. 2025). Otherwise take every step (training).
        ask_first: with random starts and `stop_when_fooled`, leave x where it is fooled as it is. Those who know that it is
            right everywhere save a forward pass.

    Returns:
        Images like x: for each, one that fools the network where one was found, else the last iterate.

    Raises:
        ValueError: `restarts` without `draw`.
    """
    if restarts and draw is None:
        raise ValueError("random starts need a draw")
    if not len(x):
        return x.clone()
    climb = LOSSES[loss] if isinstance(loss, str) else loss
    size = (-1 if targeted else 1) * (2.5 * epsilon / steps if step_size is None else step_size)
    best, rows = x.clone(), torch.arange(len(x), device=x.device)
    with frozen(net, weights=stop_when_fooled):
        if stop_when_fooled and restarts and ask_first:  # what is fooled without being moved is not moved
            with torch.no_grad():
                rows = rows[~fooled(net(x), y, targeted)]
        for _ in range(max(1, restarts) if len(rows) else 0):
            start = x
            if restarts and draw is not None:
                start = project(x + draw_offset(draw, x.shape, epsilon, norm).to(x), x, epsilon, norm)
            found = _ascend(net, x, y, start, best, rows, epsilon, steps, size, norm, climb, targeted, stop_when_fooled)
            if restarts > 1:
                with torch.no_grad():
                    left = rows[~found[rows]]
                    rows = left[~fooled(net(best[left]), y[left], targeted)] if len(left) else left
            if not len(rows):
                break
    return best


def _ascend(net, x, y, start, best, rows, epsilon, steps, size, norm, climb, targeted, stop_when_fooled):
    """One run from `start` on the images `rows`, written into `best`; returns which images were seen to be fooled, [N] bool."""
    found = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    adv, clean, labels = start[rows], x[rows], y[rows]
    been = _Been(adv, steps) if stop_when_fooled and norm == "linf" else None
    for _ in range(steps):
        gradient, hit = slope(net, adv, labels, climb, targeted)
        if stop_when_fooled and hit.any():
            best[rows[hit]] = adv[hit]
            found[rows[hit]] = True
            rows, adv, clean, labels, gradient = (v[~hit] for v in (rows, adv, clean, labels, gradient))
            if been:
                been.keep(~hit)
            if not len(rows):
                return found
        adv = project(adv + step(gradient, size, norm), clean, epsilon, norm)
        if been and (again := been.again(adv)).any():
            best[rows[again]] = adv[again]
            rows, adv, clean, labels = (v[~again] for v in (rows, adv, clean, labels))
            been.keep(~again)
            if not len(rows):
                return found
    best[rows] = adv
    return found


class _Been:
    """The points where each image's iteration has been, as 64-bit fingerprints."""

    def __init__(self, x: Tensor, steps: int):
        self.weights = rng.words(x[0].numel(), x.device)
        self.points = self._fingerprints(x).unsqueeze(1)

    def again(self, x: Tensor) -> Tensor:
        """Which images are back where they were, [B] bool; the others' points are noted."""
        now = self._fingerprints(x).unsqueeze(1)
        back = (self.points == now).any(1)
        self.points = torch.cat([self.points, now], 1)
        return back

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the images."""
        self.points = self.points[rows]

    def _fingerprints(self, x: Tensor) -> Tensor:
        bits = x.flatten(1).contiguous().view(torch.int32 if x.dtype == torch.float32 else torch.int64)
        return (bits.long() * self.weights).sum(1)


def slope(net: nn.Module, x: Tensor, y: Tensor, climb: Loss, targeted: bool = False) -> tuple[Tensor, Tensor]:
    """The gradient of the loss by the images, like x (zero where it is NaN), and which of them are fooled already, [B] bool."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        logits = net(x)
        rise = climb(net, x, logits, y).sum()
        gradient = torch.zeros_like(x)
        if rise.requires_grad:  # a network may cut its input off
            (gradient,) = torch.autograd.grad(rise, x, allow_unused=True, materialize_grads=True)
    return gradient.nan_to_num_(nan=0.0), fooled(logits.detach(), y, targeted)


@contextlib.contextmanager
def frozen(net: nn.Module, weights: bool = False) -> Iterator[None]:
    """Evaluation mode inside, each module's own mode restored after; running statistics do not move.

    With `weights`, these ask for no gradient inside, which saves autograd from keeping what only they would need.
    """
    modes = [(module, module.training) for module in net.modules()]
    asking = [p for p in net.parameters() if p.requires_grad] if weights else []
    net.eval()
    for p in asking:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for p in asking:
            p.requires_grad_()
