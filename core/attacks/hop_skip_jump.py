"""HopSkipJump (Chen 2020): a walk along the decision boundary by an attacker who is told labels only, L2."""

import torch
from torch import Tensor, nn

from core.attacks.gradient import frozen
from core.rng import PerImage

_HALVINGS = 12
_TRIES = 32


def hop_skip_jump(
    net: nn.Module, x: Tensor, y: Tensor, *, draw: PerImage, steps: int = 8, samples: int = 50, chunk: int = 1024
) -> Tensor:
    """From an image of another class towards x, always on the wrong side of the boundary.

    A step estimates the boundary's normal from the labels of `samples * sqrt(t)` points around, walks along it, and halves its way
    back to the boundary on the line to x.

    Args:
        net: images -> logits, of which only the largest one's place is used; handed back as it came.
        x: images in [0, 1], [B, C, H, W]. y: their labels, [B].
        draw: where directions and starts come from, for these images; each step has its own stream.
        steps: of the walk. samples: directions in the first step. chunk: at most so many images in a forward pass.

    Returns:
        Images like x in [0, 1], of another class than y; x itself where that is already the case, and where none was found.
    """
    x = x.detach()
    best = x.clone()
    if not len(x):
        return best
    with frozen(net, weights=True), torch.no_grad():

        def wrong(images: Tensor, labels: Tensor) -> Tensor:
            parts = zip(images.split(chunk), labels.split(chunk), strict=True)
            return torch.cat([net(part).argmax(1) != own for part, own in parts])

        rows = (~wrong(x, y)).nonzero().squeeze(1)
        near, found = _starts(wrong, x[rows], y[rows], draw.at(rows))
        rows, near = rows[found], near[found]
        if not len(rows):
            return best
        clean, labels = x[rows], y[rows]
        near = _to_boundary(wrong, near, clean, labels)
        size = clean[0].numel()
        for t in range(1, steps + 1):
            far = _length(near - clean)
            reach = (0.1 if t == 1 else 1 / size**0.5) * far  # wide at first, as in the paper; sqrt(d) suits the halvings here
            normal = _normal(wrong, near, labels, reach, round(samples * t**0.5), draw.named("around", t).at(rows), chunk)
            near = _to_boundary(wrong, _walk(wrong, near, normal, far / t**0.5, labels), clean, labels)
    best[rows] = near
    return best


def _starts(wrong, x: Tensor, y: Tensor, draw: PerImage) -> tuple[Tensor, Tensor]:
    """Uniform noise, else a mixture of x with it, that is of another class; and for which images there is such."""
    start, found = x.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for attempt in range(_TRIES):
        left = (~found).nonzero().squeeze(1)
        if not len(left):
            break
        noise = draw.named("start", attempt).at(left).uniform(*x.shape[1:]).to(x)
        if attempt % 2:  # all uniform noise is alike to some networks; single colours are not
            noise = noise.mean((2, 3), keepdim=True).sub(0.5).mul(noise.shape[-1]).add(0.5).clamp(0, 1).expand(-1, *x.shape[1:])
        hit = wrong(noise, y[left])
        start[left[hit]], found[left[hit]] = noise[hit], True
    return start, found


def _to_boundary(wrong, far: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The nearest point to x on the line from `far`, which is wrong, that halving finds to be wrong too."""
    low, high = torch.zeros(len(x), 1, 1, 1).to(x), torch.ones(len(x), 1, 1, 1).to(x)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        hit = wrong(x + middle * (far - x), y).view(-1, 1, 1, 1)
        low, high = torch.where(hit, low, middle), torch.where(hit, middle, high)
    return x + high * (far - x)


def _normal(wrong, near: Tensor, y: Tensor, reach: Tensor, samples: int, draw: PerImage, chunk: int) -> Tensor:
    """The unit direction into the wrong side: the mean of random directions, weighed by their labels less the labels' mean."""
    votes, total, ups = torch.zeros_like(near), torch.zeros_like(near), torch.zeros(len(near), 1, 1, 1).to(near)
    for _ in range(samples):
        way = draw.normal(*near.shape[1:]).to(near)
        way = way / _length(way)
        side = wrong((near + reach * way).clamp(0, 1), y).view(-1, 1, 1, 1).to(near)
        votes, total, ups = votes + (2 * side - 1) * way, total + way, ups + 2 * side - 1
    one_sided = ups.abs() == samples  # then there is no mean to take off
    normal = torch.where(one_sided, votes, votes - ups / samples * total)
    return normal / _length(normal).clamp(min=1e-12)


def _walk(wrong, near: Tensor, normal: Tensor, size: Tensor, y: Tensor) -> Tensor:
    """A step that is halved until it ends on the wrong side; none where no step does."""
    moved, left = near.clone(), torch.arange(len(near), device=near.device)
    for _ in range(_HALVINGS):
        there = (near[left] + size[left] * normal[left]).clamp(0, 1)
        hit = wrong(there, y[left])
        moved[left[hit]] = there[hit]
        left, size = left[~hit], size / 2
        if not len(left):
            break
    return moved


def _length(v: Tensor) -> Tensor:
    return v.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
