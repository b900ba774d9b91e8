"""Square attack (Andriushchenko et al. 2020): random search that asks for nothing but logits, Linf (Alg. 2) and L2 (Alg. 3).

It follows no gradient, so that a network which hides its own does not stop it.
"""

import functools

import torch
from torch import Tensor, nn

from core.attacks.ball import Norm, project, step
from core.attacks.gradient import frozen
from core.attacks.losses import cw, fooled
from core.rng import PerImage

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Of 10 000 queries, those after which the share of changed pixels is halved, as in the authors' program."""
BLOCK = 64
"""Queries whose random numbers are drawn at once, which saves most of the calls."""
SPOTS = 1 << 20
"""Positions are drawn as whole numbers below this, then scaled to the room that a window has."""


def square(
    net: nn.Module, x: Tensor, y: Tensor, *, epsilon: float, norm: Norm = "linf", queries: int = 5000, p_init: float = 0.8,
    draw: PerImage,
) -> Tensor:  # fmt: skip
    """Change one square window at a time, at a random place, and keep the change where the margin of the label shrinks.

    Args:
        net: images -> logits; attacked in eval mode, handed back as it came.
        x: images in [0, 1], [B, C, H, W].
        y: labels, [B]; an image that is not seen as its label comes back as it is, and one that is fooled is left at once.
        epsilon: radius of the ball, in units of [0, 1] images.
        norm: "linf" or "l2".
        queries: forward passes of each image, beside the first one of the unattacked image.
        p_init: share of the image that the first windows cover; later ones are smaller, see `window_side`.
        draw: where starts, places and signs come from.

    Returns:
        Images like x: for each, one that fools the network where one was found, else the one of smallest margin.
    """
    x = x.detach()
    best = x.clone()
    if not len(x):
        return best
    with frozen(net, weights=True), torch.no_grad():
        rows = (~fooled(net(x), y)).nonzero().squeeze(1)
        clean, labels, now = x[rows], y[rows], x[rows]
        loss = torch.full((len(rows),), float("-inf"), dtype=x.dtype, device=x.device)
        spots = signs = rows
        for i in range(queries):
            if not len(rows):
                return best
            if i % BLOCK == 0:
                block = draw.named("block", i // BLOCK).at(rows)
                spots, signs = block.integers(SPOTS, BLOCK, 5), block.signs(BLOCK, x.shape[1]).to(x)
            if i == 0:
                begin = draw.named("start").at(rows)
                tried = _stripes(clean, begin, epsilon) if norm == "linf" else _tiles(clean, begin, epsilon)
            else:
                side = window_side(i, queries, p_init, x.shape[2], x.shape[3], norm)
                propose = _propose_linf if norm == "linf" else _propose_l2
                tried = propose(now, clean, spots[:, i % BLOCK], signs[:, i % BLOCK], side, epsilon)
            logits = net(tried)
            hit, height = fooled(logits, labels), cw(logits, labels)
            better = height > loss
            now = torch.where(better.view(-1, 1, 1, 1), tried, now) if i else tried
            loss = torch.where(better, height, loss)
            if hit.any():
                best[rows[hit]] = tried[hit]
                rows, clean, labels, now, loss, spots, signs = (v[~hit] for v in (rows, clean, labels, now, loss, spots, signs))
    best[rows] = now
    return best


def window_side(query: int, queries: int, p_init: float, height: int, width: int, norm: Norm) -> int:
    """Side in pixels of the window of this query, counted from 0: the nearest whole number to sqrt(p * height * width).

    p starts at `p_init` and is halved after `HALVINGS`, rescaled from 10 000 to `queries`. At least 1; in L2, where a window
    has a middle, odd and at least 3; never more than the image has room for.
    """
    p = p_init / 2 ** sum(query * 10_000 // queries > mark for mark in HALVINGS)
    side, room = round((p * height * width) ** 0.5), min(height, width)
    return min(max(side, 1), room) if norm == "linf" else min(max(side, 3) | 1, (room - 1) | 1)


def _stripes(x: Tensor, draw: PerImage, epsilon: float) -> Tensor:
    """The Linf start: every column of every channel up or down by epsilon."""
    return project(x + epsilon * draw.signs(x.shape[1], 1, x.shape[3]).to(x), x, epsilon, "linf")


def _propose_linf(now: Tensor, x: Tensor, spots: Tensor, signs: Tensor, side: int, epsilon: float) -> Tensor:
    """One window per image, every channel of it up or down by epsilon from x."""
    top, left = _place(spots[:, :2], x.shape, side)
    return torch.where(_window(top, left, x.shape, side), project(x + epsilon * signs[:, :, None, None], x, epsilon, "linf"), now)


def _tiles(x: Tensor, draw: PerImage, epsilon: float) -> Tensor:
    """The L2 start: the image tiled, about 5 by 5, with bumps of random signs and directions; of length epsilon in all."""
    n, channels, height, width = x.shape
    side = max(min(height, width) // 5, 1)
    down, across = height // side, width // side
    turned = draw.integers(2, 1, down, 1, across, 1).bool()
    bump = _bump(side, x.dtype, x.device)
    tiles = torch.where(turned, bump.T[:, None, :], bump[:, None, :]) * draw.signs(channels, down, 1, across, 1).to(x)
    offset = torch.zeros_like(x)
    above, before = (height - down * side) // 2, (width - across * side) // 2
    offset[:, :, above : above + down * side, before : before + across * side] = tiles.reshape(
        n, channels, down * side, across * side
    )
    return project(x + step(offset, epsilon, "l2"), x, epsilon, "l2")


def _propose_l2(now: Tensor, x: Tensor, spots: Tensor, signs: Tensor, side: int, epsilon: float) -> Tensor:
    """Two windows per image: the second's share of the perturbation, and what is not used up, go into a bump in the first."""
    n, channels = x.shape[:2]
    offset = now - x
    (top, left), (top2, left2) = _place(spots[:, :2], x.shape, side), _place(spots[:, 2:4], x.shape, side)
    emptied = _window(top2, left2, x.shape, side)
    both = emptied | _window(top, left, x.shape, side)
    unused = (epsilon**2 - offset.flatten(1).square().sum(1)).clamp(min=0)
    room = ((offset.square() * both).sum((2, 3)) + unused.unsqueeze(1) / channels).sqrt()  # [n, channels]

    span = torch.arange(side, device=x.device)
    where = (
        torch.arange(n, device=x.device).view(-1, 1, 1, 1),
        torch.arange(channels, device=x.device).view(-1, 1, 1),
        (top.unsqueeze(1) + span).view(n, 1, side, 1),
        (left.unsqueeze(1) + span).view(n, 1, 1, side),
    )
    bump = _bump(side, x.dtype, x.device)
    bump = torch.where((spots[:, 4] & 1).bool().view(-1, 1, 1, 1), bump.T, bump)
    fresh = signs[:, :, None, None] * bump + _unit(offset[where])
    offset = offset.masked_fill(emptied, 0)
    offset[where] = _unit(fresh) * room[:, :, None, None]
    return project(x + offset, x, epsilon, "l2")


def _unit(v: Tensor) -> Tensor:
    """Every channel of every image scaled to length 1; zero stays zero."""
    return v / v.flatten(2).norm(dim=2).clamp(min=1e-12)[:, :, None, None]


@functools.lru_cache(maxsize=32)
def _bump(side: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Eq. 2 of the paper: a pyramid on the upper half, its negative on the lower, of length 1 in all, [side, side]."""
    half = side // 2
    bump = torch.cat([_pyramid(half, side), -_pyramid(side - half, side)])
    return (bump / bump.norm()).to(device, dtype)


def _pyramid(height: int, width: int) -> Tensor:
    """sum_(j = d .. n) 1 / (j + 1)^2 at the distance d (the larger of both axes') from the middle, [height, width]."""
    last = max(height, width) // 2
    steps = torch.arange(1, last + 2, dtype=torch.float64) ** -2
    levels = steps.flip(0).cumsum(0).flip(0)
    down, across = (torch.arange(size).sub(size // 2).abs() for size in (height, width))
    return levels[torch.maximum(down.unsqueeze(1), across)]


def _place(spots: Tensor, shape: torch.Size, side: int) -> tuple[Tensor, Tensor]:
    """Top and left ends of windows that lie inside the image, [n] each. spots: [n, 2]."""
    return spots[:, 0] * (shape[2] - side + 1) // SPOTS, spots[:, 1] * (shape[3] - side + 1) // SPOTS


def _window(top: Tensor, left: Tensor, shape: torch.Size, side: int) -> Tensor:
    """Which pixels are inside, [n, 1, H, W] bool."""
    down = torch.arange(shape[2], device=top.device) - top.unsqueeze(1)
    across = torch.arange(shape[3], device=top.device) - left.unsqueeze(1)
    return (((down >= 0) & (down < side)).unsqueeze(2) & ((across >= 0) & (across < side)).unsqueeze(1)).unsqueeze(1)
