"""Gradient attacks: FGSM (Goodfellow 2015) and PGD (Madry 2018), in Linf and L2, untargeted and targeted.

They climb the cross-entropy by its *direction* only: a sign or a unit vector per image. That direction is taken from
`logsumexp_{i != y} z_i - z_y`, of which the cross-entropy is an increasing function. The directions are equal, but the
cross-entropy's own gradient rounds to zero in float32 once a network is sure (p_y = 1), and the attack would then stand
still before an unprotected network and call it robust.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from core.attacks.ball import Norm, draw_offset, project, step
from core.rng import Draw


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


def rfgsm(net: nn.Module, x: Tensor, y: Tensor, *, epsilon: float, start: float, draw: Draw, total: bool = True) -> Tensor:
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
    norm: Norm = "linf", restarts: int = 0, targeted: bool = False, draw: Draw | None = None,
    stop_when_fooled: bool = False,
) -> Tensor:  # fmt: skip
    """Projected gradient ascent: `steps` steepest steps, each followed by the projection on the ball and on [0, 1].

    Args:
        net, x, y, epsilon, norm, targeted: as in `fgsm`.
        steps: how many steps.
        step_size: their length; default 2.5 * epsilon / steps, so that every point of the ball can be reached.
        restarts: 0 starts at x. From 1 on, each start is drawn evenly from the ball, and a later one is tried only on
            images that the earlier ones did not fool.
        draw: where random starts come from; required with `restarts`.
        stop_when_fooled: leave an image as soon as it is fooled (evaluation). Otherwise take every step (training).

    Returns:
        Images like x: for each, one that fools the network where one was found, else the last iterate.

    Raises:
        ValueError: `restarts` without `draw`.
    """
    if restarts and draw is None:
        raise ValueError("random starts need a draw")
    size = 2.5 * epsilon / steps if step_size is None else step_size
    sign = -1.0 if targeted else 1.0
    best = x.clone()
    with frozen(net):
        alive = torch.arange(len(x), device=x.device)
        for _ in range(max(1, restarts)):
            start = x
            if restarts and draw is not None:
                start = project(x + draw_offset(draw, x.shape, epsilon, norm).to(x.dtype), x, epsilon, norm)
            alive = _ascend(net, x, y, start, best, alive, epsilon, steps, sign * size, norm, targeted, stop_when_fooled)
            if restarts > 1 or stop_when_fooled:
                with torch.no_grad():
                    alive = alive[~_is_fooled(net(best[alive]), y[alive], targeted)] if len(alive) else alive
            if not len(alive):
                break
    return best


def _ascend(net, x, y, start, best, alive, epsilon, steps, size, norm, targeted, stop_when_fooled):
    """One run from `start` on the images `alive`, written into `best`; returns those that took every step."""
    adv = start[alive]
    for _ in range(steps):
        gradient, fooled = _climb(net, adv, y[alive], targeted)
        if stop_when_fooled and fooled.any():
            best[alive[fooled]] = adv[fooled]
            alive, adv, gradient = alive[~fooled], adv[~fooled], gradient[~fooled]
            if not len(alive):
                return alive
        adv = project(adv + step(gradient, size, norm), x[alive], epsilon, norm)
    best[alive] = adv
    return alive


def _climb(net: nn.Module, x: Tensor, y: Tensor, targeted: bool) -> tuple[Tensor, Tensor]:
    """The direction in which the loss of y rises, and which images are fooled already."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        logits = net(x)
        (gradient,) = torch.autograd.grad(-margin(logits, y).sum(), x)
    return gradient, _is_fooled(logits.detach(), y, targeted)


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """log p_y - log(1 - p_y) = z_y - logsumexp of the others, without cancellation. logits: [B, C], y: [B] -> [B]."""
    true = y.unsqueeze(1)
    others = logits.scatter(1, true, float("-inf"))
    return logits.gather(1, true).squeeze(1) - others.logsumexp(1)


def _is_fooled(logits: Tensor, y: Tensor, targeted: bool) -> Tensor:
    hit = logits.argmax(1) == y
    return hit if targeted else ~hit


@contextlib.contextmanager
def frozen(net: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, each module's own mode restored after; running statistics do not move."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
