"""DeepFool (Moosavi-Dezfooli et al. 2016): a small L2 perturbation, by steps to the nearest linearised class boundary."""

import torch
from torch import Tensor, nn

from core.attacks.gradient import frozen
from core.attacks.losses import fooled

SHORTEST = 1e-4
"""Length of the shortest step: ever smaller ones towards a boundary would be lost in rounding before they cross it."""


def deepfool(net: nn.Module, x: Tensor, y: Tensor, *, steps: int = 50, overshoot: float = 0.02, candidates: int = 10) -> Tensor:
    """Add up steps r = |f_k - f_y| / |w|^2 * w, with w = grad f_k - grad f_y, of the class k whose boundary is nearest.

    The next step starts at x + (1 + overshoot) * (the sum so far), clipped to [0, 1], until that image is fooled. Steps are at
    least `SHORTEST` long. Classes are compared by their logits; classes whose gradient is that of y are left out.

    Args:
        net: images -> logits; attacked in eval mode, handed back as it came.
        x: images in [0, 1], [B, C, H, W].
        y: their labels, [B].
        steps: at most so many.
        overshoot: how far beyond the boundary, as a share of the perturbation.
        candidates: consider the label and this many classes less one, those with the largest logits at x.

    Returns:
        Images like x: for each the first iterate that fools the network, x itself where that does, else the last iterate.

    Raises:
        ValueError: fewer than two candidates.
    """
    if candidates < 2:
        raise ValueError(f"candidates must be at least 2, got {candidates}")
    x = x.detach()
    best, rows = x.clone(), torch.arange(len(x), device=x.device)
    adv, clean, labels, total = x, x, y, torch.zeros_like(x)
    still = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    rivals = None
    with frozen(net, weights=True):
        for _ in range(steps if len(x) else 0):
            point, logits = _logits(net, adv)
            if rivals is None:
                others = logits.detach().scatter(1, labels.unsqueeze(1), float("-inf"))
                rivals = others.topk(min(candidates, logits.shape[1]) - 1, 1).indices
            done = still | fooled(logits.detach(), labels)
            over = int(done.sum())
            if over == len(rows) or over * rivals.shape[1] > len(rows) - over:
                # One more forward pass of the others costs less than backward passes that take along those that are done.
                best[rows[done]] = adv[done]
                rows, adv, clean, labels, total, still, rivals = (
                    v[~done] for v in (rows, adv, clean, labels, total, still, rivals)
                )
                if not len(rows):
                    return best
                done = still  # of none
                point, logits = _logits(net, adv)
            direction, length = _nearest(point, logits, labels, rivals)
            still = done | length.isinf()
            length = length.clamp(SHORTEST, 1e6).masked_fill(still, 0).to(x)  # a finite one, however flat the network
            total = total + length.view(-1, 1, 1, 1) * direction
            adv = (clean + (1 + overshoot) * total).clamp_(0, 1)
    best[rows] = adv
    return best


def _logits(net: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """A leaf to take gradients by, and its logits [B, C]."""
    point = x.detach().requires_grad_()
    with torch.enable_grad():
        return point, net(point)


def _nearest(point: Tensor, logits: Tensor, y: Tensor, rivals: Tensor) -> tuple[Tensor, Tensor]:
    """To the nearest linearised boundary between y and one of the classes `rivals` [B, K].

    One backward pass for each of the K classes, and never more than two gradients in memory.

    Returns:
        Unit vectors like `point`, and float64 distances [B]: infinite where no class has a gradient of its own.
    """
    nearest = torch.full((len(point),), float("inf"), dtype=torch.float64, device=point.device)
    direction = torch.zeros_like(point)
    if not logits.requires_grad:  # a network may cut its input off
        return direction, nearest
    true = y.unsqueeze(1)
    for k, rival in enumerate(rivals.split(1, 1)):
        towards = torch.zeros_like(logits).scatter_(1, rival, 1).scatter_(1, true, -1)
        (slope,) = torch.autograd.grad(
            logits, point, towards, retain_graph=k + 1 < rivals.shape[1], allow_unused=True, materialize_grads=True
        )
        slope = slope.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
        norm = torch.linalg.vector_norm(slope, dim=(1, 2, 3), dtype=torch.float64)  # float32 squares underflow early
        gap = (logits.detach().gather(1, true) - logits.detach().gather(1, rival)).squeeze(1).abs()
        distance = gap / norm
        closer = (norm > 0) & (distance < nearest)
        nearest = torch.where(closer, distance, nearest)
        unit = slope / norm.to(slope).view(-1, 1, 1, 1)
        direction = torch.where(closer.view(-1, 1, 1, 1), unit, direction)
    return direction, nearest
