"""HopSkipJump (Chen 2020): a walk along the decision boundary that uses predicted labels only, L2."""

import torch
from torch import Tensor, nn

from core.attacks.contract import attack
from core.modes import eval_mode
from core.rng import PerImage

_HALVINGS = 12
_TRIES = 32


@attack
def hop_skip_jump(
    net: nn.Module, x: Tensor, y: Tensor, *, draw: PerImage, steps: int = 8, samples: int = 50, chunk: int = 1024
) -> Tensor:
    """Move from an image of another class towards x, always staying misclassified.

    Each step estimates the boundary's normal from the predicted labels of `samples * sqrt(t)` points nearby, moves along it, and
    returns to the boundary by bisection on the line to x. A step may lead to a point that is farther from x than the one before.

    Args:
        net: images -> logits, of which only the argmax is used; returned to its own mode.
        x: images in [0, 1], [B, C, H, W].
        y: true labels, [B].
        draw: source of directions and starts for these images; each step has its own stream.
        steps: number of steps.
        samples: number of directions in the first step.
        chunk: images per forward pass, at most.

    Returns:
        Images like x in [0, 1] with another class than y, the nearest of the boundary points that were reached; x itself if it is
        misclassified already or if no start was found.
    """
    best = x.clone()
    if not len(x):
        return best
    with eval_mode(net, freeze_weights=True), torch.no_grad():

        def fooled(images: Tensor, labels: Tensor) -> Tensor:
            parts = zip(images.split(chunk), labels.split(chunk), strict=True)
            return torch.cat([net(part).argmax(1) != own for part, own in parts])

        rows = (~fooled(x, y)).nonzero().squeeze(1)
        near, started = _starts(fooled, x[rows], y[rows], draw.at(rows))
        rows, near = rows[started], near[started]
        if not len(rows):
            return best
        clean, labels = x[rows], y[rows]
        near = _to_boundary(fooled, near, clean, labels)
        far, size = _length(near - clean), clean[0].numel()
        nearest, shortest = near, far
        for t in range(1, steps + 1):
            reach = (0.1 if t == 1 else 1 / size**0.5) * far  # wide at first, as in the paper; sqrt(d) suits the halvings here
            normal = _normal(fooled, near, labels, reach, round(samples * t**0.5), draw.named("around", t).at(rows), chunk)
            near = _to_boundary(fooled, _walk(fooled, near, normal, far / t**0.5, labels), clean, labels)
            far = _length(near - clean)
            closer = far < shortest
            nearest, shortest = torch.where(closer, near, nearest), torch.where(closer, far, shortest)
    best[rows] = nearest
    return best


def _starts(fooled, x: Tensor, y: Tensor, draw: PerImage) -> tuple[Tensor, Tensor]:
    """Random images of another class than y (uniform noise, in every other try a single colour), and whether one was found."""
    start, started = x.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for attempt in range(_TRIES):
        left = (~started).nonzero().squeeze(1)
        if not len(left):
            break
        noise = draw.named("start", attempt).at(left).uniform(*x.shape[1:]).to(x)
        if attempt % 2:  # some networks give all uniform noise one class, but not all single colours
            shade = noise.mean((2, 3), keepdim=True).sub(0.5).mul(noise[0, 0].numel() ** 0.5).add(0.5)  # as wide on every shape
            noise = shade.clamp(0, 1).expand(-1, *x.shape[1:])
        hit = fooled(noise, y[left])
        start[left[hit]], started[left[hit]] = noise[hit], True
    return start, started


def _to_boundary(fooled, far: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Misclassified points on the lines from the misclassified points `far` to x, moved towards x by bisection."""
    low, high = torch.zeros(len(x), 1, 1, 1).to(x), torch.ones(len(x), 1, 1, 1).to(x)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        hit = fooled(x + middle * (far - x), y).view(-1, 1, 1, 1)
        low, high = torch.where(hit, low, middle), torch.where(hit, middle, high)
    return torch.where(high < 1, x + high * (far - x), far)  # x + (far - x) may round to another point than far


def _normal(fooled, near: Tensor, y: Tensor, reach: Tensor, samples: int, draw: PerImage, chunk: int) -> Tensor:
    """Unit vectors into the misclassified side: means of random directions, weighted by their labels less the labels' mean."""
    votes, total, balance = torch.zeros_like(near), torch.zeros_like(near), torch.zeros(len(near), 1, 1, 1).to(near)
    for _ in range(samples):
        direction = draw.normal(*near.shape[1:]).to(near)
        direction = direction / _length(direction)
        side = fooled((near + reach * direction).clamp(0, 1), y).view(-1, 1, 1, 1).to(near)
        votes, total, balance = votes + (2 * side - 1) * direction, total + direction, balance + 2 * side - 1
    one_sided = balance.abs() == samples  # then subtracting the mean would leave nothing
    normal = torch.where(one_sided, votes, votes - balance / samples * total)
    return normal / torch.where((length := _length(normal)) > 0, length, 1)


def _walk(fooled, near: Tensor, normal: Tensor, size: Tensor, y: Tensor) -> Tensor:
    """Take a step along the normal, halved until it ends on the misclassified side; if it never does, the image is unchanged."""
    moved, left = near.clone(), torch.arange(len(near), device=near.device)
    for _ in range(_HALVINGS):
        candidates = (near[left] + size[left] * normal[left]).clamp(0, 1)
        hit = fooled(candidates, y[left])
        moved[left[hit]] = candidates[hit]
        left, size = left[~hit], size / 2
        if not len(left):
            break
    return moved


def _length(v: Tensor) -> Tensor:
    return v.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
