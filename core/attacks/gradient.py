"""Gradient attacks: FGSM (Goodfellow 2015), I-FGSM (Kurakin 2017), R-FGSM (Tramer 2018) and PGD (Madry 2018), Linf and L2.

They ascend a loss of `core.attacks.losses`, using only the direction of its gradient: a sign or a unit vector per image.
"""

import torch
from torch import Tensor, nn

from core import rng
from core.attacks.ball import Norm, draw_offset, project, step
from core.attacks.contract import attack
from core.attacks.losses import ATTACK_LOSSES, AttackLoss, misclassified
from core.modes import eval_mode, with_autograd
from core.rng import Draw, PerImage


@attack
def fgsm(net: nn.Module, x: Tensor, y: Tensor, *, epsilon: float, norm: Norm = "linf", targeted: bool = False) -> Tensor:
    """One step of length epsilon: x + epsilon * sign(grad), or epsilon * grad / |grad| in L2, clipped to [0, 1].

    Args:
        net: images -> logits; attacked in evaluation mode, and returned to its own mode.
        x: images in [0, 1], [B, C, H, W].
        y: true labels, or with `targeted` the target labels, [B].
        epsilon: length of the step, in units of [0, 1] images.
        norm: "linf" or "l2".
        targeted: move towards y instead of away from it.

    Returns:
        Adversarial images like x.
    """
    return pgd(net, x, y, epsilon=epsilon, steps=1, step_size=epsilon, norm=norm, targeted=targeted)


@attack
def ifgsm(
    net: nn.Module, x: Tensor, y: Tensor, *, epsilon: float, steps: int, norm: Norm = "linf", stop_when_fooled: bool = False
) -> Tensor:
    """I-FGSM: `steps` steps of length epsilon / steps from the image itself, which together can just reach the edge of the ball.

    Args:
        net, x, y, epsilon, norm: see `fgsm`.
        steps, stop_when_fooled: see `pgd`.

    Returns:
        Images like x.
    """
    size = epsilon / max(1, steps)
    return pgd(net, x, y, epsilon=epsilon, steps=steps, step_size=size, norm=norm, stop_when_fooled=stop_when_fooled)


@attack
def rfgsm(
    net: nn.Module, x: Tensor, y: Tensor, *, epsilon: float, start: float, draw: Draw | PerImage, total: bool = True
) -> Tensor:
    """R-FGSM (Tramer 2018): a random signed step of length `start`, then a signed gradient step from there, in Linf.

    Args:
        net, x, y, epsilon: see `fgsm`.
        start: length of the random step.
        draw: source of the random step.
        total: give the gradient step the length epsilon - start, so that the sum stays within epsilon. Otherwise its length is
            epsilon, and only the result is clipped (as in the image pairs of Vivek et al.).

    Returns:
        Images like x.
    """
    begin = x + start * draw.normal(*x.shape[1:]).to(x).sign()
    return fgsm(net, begin.clamp(0, 1), y, epsilon=epsilon - start) if total else fgsm(net, begin, y, epsilon=epsilon)


@attack
def pgd(
    net: nn.Module, x: Tensor, y: Tensor, *, epsilon: float, steps: int, step_size: float | None = None,
    norm: Norm = "linf", loss: str | AttackLoss = "ce", restarts: int = 0, targeted: bool = False,
    draw: Draw | PerImage | None = None, stop_when_fooled: bool = False, skip_misclassified: bool = True,
) -> Tensor:  # fmt: skip
    """Projected gradient ascent: `steps` steepest steps, each followed by a projection onto the ball and onto [0, 1].

    Args:
        net, x, y, epsilon, norm, targeted: see `fgsm`.
        steps: number of steps.
        step_size: length of a step; default 2.5 * epsilon / steps, so that every point of the ball can be reached.
        loss: loss to ascend, a name in `core.attacks.losses.ATTACK_LOSSES` or a function.
        restarts: 0 starts at x. Otherwise each start is drawn uniformly from the ball, and a later start is tried only on images
            that the earlier ones did not fool.
        draw: source of the random starts; required if there are `restarts`.
        stop_when_fooled: for evaluation. Stop on an image as soon as it is misclassified, or, in Linf, as soon as its iteration
            returns to a point that it has visited: steps of constant length on clipped pixels often form a cycle, in which
            further steps find nothing new (Doldo et al. 2025). Otherwise take every step (training).
        skip_misclassified: with random starts and `stop_when_fooled`, return x where the network misclassifies it already. Set
            it to False if every image is known to be classified correctly; this saves a forward pass.

    Returns:
        Images like x: a misclassified one where one was found, otherwise the last iterate.

    Raises:
        ValueError: `restarts` without `draw`.
    """
    if restarts and draw is None:
        raise ValueError("random starts need a draw")
    if not len(x):
        return x.clone()
    attack_loss = ATTACK_LOSSES[loss] if isinstance(loss, str) else loss
    size = (-1 if targeted else 1) * (2.5 * epsilon / max(1, steps) if step_size is None else step_size)
    best, rows = x.clone(), torch.arange(len(x), device=x.device)
    with eval_mode(net, freeze_weights=stop_when_fooled):
        if stop_when_fooled and restarts and skip_misclassified:
            with torch.no_grad():
                rows = rows[~misclassified(net(x), y, targeted)]
        for _ in range(max(1, restarts) if len(rows) else 0):
            start = x
            if restarts and draw is not None:
                start = project(x + draw_offset(draw, x.shape, epsilon, norm).to(x), x, epsilon, norm)
            fooled = _ascend(net, x, y, start, best, rows, epsilon, steps, size, norm, attack_loss, targeted, stop_when_fooled)
            if restarts > 1:
                with torch.no_grad():
                    left = rows[~fooled[rows]]
                    rows = left[~misclassified(net(best[left]), y[left], targeted)] if len(left) else left
            if not len(rows):
                break
    return best


def _ascend(net, x, y, start, best, rows, epsilon, steps, size, norm, attack_loss, targeted, stop_when_fooled):
    """Run once from `start` on the images `rows`, and write the results into `best`; return which were misclassified, [N] bool."""
    fooled = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    adv, clean, labels = start[rows], x[rows], y[rows]
    visited = _VisitedPoints(adv) if stop_when_fooled and norm == "linf" else None
    for _ in range(steps):
        gradient, hit = gradient_step(net, adv, labels, attack_loss, targeted)
        if stop_when_fooled and hit.any():
            best[rows[hit]] = adv[hit]
            fooled[rows[hit]] = True
            rows, adv, clean, labels, gradient = (v[~hit] for v in (rows, adv, clean, labels, gradient))
            if visited:
                visited.keep(~hit)
            if not len(rows):
                return fooled
        adv = project(adv + step(gradient, size, norm), clean, epsilon, norm)
        if visited and (again := visited.revisited(adv)).any():
            best[rows[again]] = adv[again]
            rows, adv, clean, labels = (v[~again] for v in (rows, adv, clean, labels))
            visited.keep(~again)
            if not len(rows):
                return fooled
    best[rows] = adv
    return fooled


class _VisitedPoints:
    """The points that each image's iteration has visited, as 64-bit fingerprints."""

    def __init__(self, x: Tensor):
        self.weights = rng.words(x[0].numel(), x.device)
        self.points = self._fingerprints(x).unsqueeze(1)

    def revisited(self, x: Tensor) -> Tensor:
        """Record the current points; return which images have visited theirs before, [B] bool."""
        now = self._fingerprints(x).unsqueeze(1)
        back = (self.points == now).any(1)
        self.points = torch.cat([self.points, now], 1)
        return back

    def keep(self, rows: Tensor) -> None:
        """Keep only these images."""
        self.points = self.points[rows]

    def _fingerprints(self, x: Tensor) -> Tensor:
        bits = x.flatten(1).contiguous().view(torch.int32 if x.dtype == torch.float32 else torch.int64)
        return (bits.long() * self.weights).sum(1)


def gradient_step(net: nn.Module, x: Tensor, y: Tensor, loss: AttackLoss, targeted: bool = False) -> tuple[Tensor, Tensor]:
    """The same as `input_gradient`, for loops inside functions that are decorated already."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        logits = net(x)
        total = loss(net, x, logits, y).sum()
        gradient = torch.zeros_like(x)
        if total.requires_grad:  # not if the network detaches its input
            (gradient,) = torch.autograd.grad(total, x, allow_unused=True, materialize_grads=True)
    return gradient.nan_to_num_(nan=0.0), misclassified(logits.detach(), y, targeted)


@with_autograd
def input_gradient(net: nn.Module, x: Tensor, y: Tensor, loss: AttackLoss, targeted: bool = False) -> tuple[Tensor, Tensor]:
    """The gradient of a loss by the images, like x (0 in place of NaN), and which images are misclassified already, [B] bool."""
    return gradient_step(net, x, y, loss, targeted)
