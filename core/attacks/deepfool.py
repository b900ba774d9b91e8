"""DeepFool (Moosavi-Dezfooli et al. 2016): a small L2 perturbation, by steps to the nearest linearised class boundary."""

import torch
from torch import Tensor, nn

from core.attacks.contract import attack
from core.attacks.losses import misclassified
from core.modes import eval_mode

MIN_STEP = 1e-4
"""Minimum length of a step: ever smaller steps towards a boundary would be lost in rounding before they cross it."""


@attack
def deepfool(net: nn.Module, x: Tensor, y: Tensor, *, steps: int = 50, overshoot: float = 0.02, candidates: int = 10) -> Tensor:
    """Add up steps r = |f_k - f_y| / |w|^2 * w, with w = grad f_k - grad f_y, for the class k whose boundary is nearest.

    The next step starts at x + (1 + overshoot) * (the sum so far), clipped to [0, 1], until the image is misclassified. Steps are
    at least `MIN_STEP` long. Classes are compared by their logits; classes with the same gradient as y are ignored.

    Args:
        net: images -> logits; attacked in evaluation mode, and returned to its own mode.
        x: images in [0, 1], [B, C, H, W].
        y: true labels, [B].
        steps: maximum number of steps.
        overshoot: step beyond the boundary, as a share of the perturbation.
        candidates: number of classes to consider, including the label: those with the largest logits at x.

    Returns:
        Images like x: the first misclassified iterate of each image (x itself if it is misclassified already), otherwise the last
        iterate.

    Raises:
        ValueError: fewer than two candidates.
    """
    if candidates < 2:
        raise ValueError(f"candidates must be at least 2, got {candidates}")
    best, rows = x.clone(), torch.arange(len(x), device=x.device)
    adv, clean, labels, total = x, x, y, torch.zeros_like(x)
    flat = torch.zeros(len(x), dtype=torch.bool, device=x.device)  # images without a usable gradient
    rivals = None
    with eval_mode(net, freeze_weights=True):
        for _ in range(steps if len(x) else 0):
            point, logits = _forward(net, adv)
            if rivals is None:
                others = logits.detach().scatter(1, labels.unsqueeze(1), float("-inf"))
                rivals = others.topk(min(candidates, logits.shape[1]) - 1, 1).indices
            done = flat | misclassified(logits.detach(), labels)
            finished = int(done.sum())
            if finished == len(rows) or finished * rivals.shape[1] > len(rows) - finished:
                # One more forward pass of the remaining images costs less than backward passes that include the finished ones.
                best[rows[done]] = adv[done]
                rows, adv, clean, labels, total, flat, rivals = (
                    v[~done] for v in (rows, adv, clean, labels, total, flat, rivals)
                )
                if not len(rows):
                    return best
                done = flat  # all False
                point, logits = _forward(net, adv)
            direction, length = _nearest_boundary(point, logits, labels, rivals)
            flat = done | length.isinf()
            length = length.clamp(MIN_STEP, 1e6).masked_fill(flat, 0).to(x)  # finite even where the network is almost flat
            total = total + length.view(-1, 1, 1, 1) * direction
            adv = (clean + (1 + overshoot) * total).clamp_(0, 1)
    best[rows] = adv
    return best


def _forward(net: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """A leaf tensor with the values of x, and its logits [B, C] with a graph."""
    point = x.detach().requires_grad_()
    with torch.enable_grad():
        return point, net(point)


def _nearest_boundary(point: Tensor, logits: Tensor, y: Tensor, rivals: Tensor) -> tuple[Tensor, Tensor]:
    """Direction and distance to the nearest linearised boundary between y and one of the classes `rivals` [B, K].

    One backward pass for each of the K classes; never more than two gradients are in memory.

    Returns:
        Unit vectors like `point`, and float64 distances [B], infinite if every class has the same gradient as y.
    """
    nearest = torch.full((len(point),), float("inf"), dtype=torch.float64, device=point.device)
    direction = torch.zeros_like(point)
    if not logits.requires_grad:  # the network detaches its input
        return direction, nearest
    true = y.unsqueeze(1)
    for k in range(rivals.shape[1]):  # none if the network has a single class
        rival = rivals[:, k : k + 1]
        towards = torch.zeros_like(logits).scatter_(1, rival, 1).scatter_(1, true, -1)
        (gradient,) = torch.autograd.grad(
            logits, point, towards, retain_graph=k + 1 < rivals.shape[1], allow_unused=True, materialize_grads=True
        )
        gradient = gradient.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
        norm = torch.linalg.vector_norm(gradient, dim=(1, 2, 3), dtype=torch.float64)  # float32 squares underflow early
        gap = (logits.detach().gather(1, true) - logits.detach().gather(1, rival)).squeeze(1).abs()
        distance = gap / norm
        closer = (norm > 0) & (distance < nearest)
        nearest = torch.where(closer, distance, nearest)
        unit = gradient / norm.to(gradient).view(-1, 1, 1, 1)
        direction = torch.where(closer.view(-1, 1, 1, 1), unit, direction)
    return direction, nearest
