"""Square attack (Andriushchenko et al. 2020): random search that uses logits only, Linf (Algorithm 2) and L2 (Algorithm 3).

It uses no gradient, so it also works on networks that mask their gradients.

Windows shrink on a schedule for 10,000 queries. For fewer it can be compressed, as in the authors' program, or cut off, as in
AutoAttack. Images that remain correct under the compressed / the cut-off one, two seeds (tests/benchmarks/bench_square.py):

    network                  norm, radius    correct    100 queries    500 queries    5,000 queries
    digits, 8x8              Linf 0.1            112        71 / 69        48 / 58          48 / 48
                             L2 0.5              112        80 / 71        62 / 58          55 / 55
    MNIST                    Linf 0.1            124        86 / 69        57 / 57
                             L2 1.0              124       114 / 93        96 / 89
    CIFAR-10                 Linf 2/255           52        43 / 40        36 / 36
                             L2 0.25              52        50 / 43        44 / 42
    CIFAR-10, PGD-trained    Linf 6/255           40        34 / 32        28 / 27
    together                                     616      478 / 417      371 / 367        103 / 103

With 100 queries the one that is cut off is stronger everywhere, because large windows make the first progress; the suite `quick`
uses it. With 500 or more the two are equally strong, except in Linf on images as small as the digits, where single pixels matter
and the compressed one is stronger; it is the default.
"""

import functools

import torch
from torch import Tensor, nn

from core.attacks.ball import Norm, project, step
from core.attacks.contract import attack
from core.attacks.losses import cw, misclassified
from core.modes import eval_mode
from core.rng import PerImage

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries, out of 10 000, after which the share of changed pixels is halved, as in the authors' program."""
BLOCK = 64
"""Number of queries whose random numbers are drawn at once, which saves most of the calls."""
SPOTS = 1 << 20
"""Positions are drawn as integers below this number, then scaled to the range of positions of a window."""


@attack
def square(
    net: nn.Module, x: Tensor, y: Tensor, *, epsilon: float, norm: Norm = "linf", queries: int = 5000, p_init: float = 0.8,
    rescale: bool = True, draw: PerImage,
) -> Tensor:  # fmt: skip
    """Change a square window at a random position in each query, and keep the change if it reduces the label's margin.

    Args:
        net: images -> logits; attacked in evaluation mode, and returned to its own mode.
        x: images in [0, 1], [B, C, H, W].
        y: true labels, [B]; images that are misclassified already are returned unchanged.
        epsilon: radius of the ball, in units of [0, 1] images.
        norm: "linf" or "l2".
        queries: forward passes per image at most, in addition to one for the clean image; an image that is misclassified needs no
            more.
        p_init: share of the image that the first windows cover; later windows are smaller, see `window_side`.
        rescale: compress the schedule of 10,000 queries into `queries`, so that the last windows are the smallest, as in the
            authors' program. Otherwise it is cut off after `queries`, as in AutoAttack.
        draw: source of starts, positions and signs.

    Returns:
        Images like x: a misclassified one where one was found, otherwise the one of smallest margin.
    """
    best = x.clone()
    if not len(x):
        return best
    with eval_mode(net, freeze_weights=True), torch.no_grad():
        rows = (~misclassified(net(x), y)).nonzero().squeeze(1)
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
                side = window_side(i, queries if rescale else 10_000, p_init, x.shape[2], x.shape[3], norm)
                propose = _propose_linf if norm == "linf" else _propose_l2
                tried = propose(now, clean, spots[:, i % BLOCK], signs[:, i % BLOCK], side, epsilon)
            logits = net(tried)
            hit, value = misclassified(logits, labels), cw(logits, labels)
            better = value > loss
            now = torch.where(better.view(-1, 1, 1, 1), tried, now) if i else tried
            loss = torch.where(better, value, loss)
            if hit.any():
                best[rows[hit]] = tried[hit]
                rows, clean, labels, now, loss, spots, signs = (v[~hit] for v in (rows, clean, labels, now, loss, spots, signs))
    best[rows] = now
    return best


def window_side(query: int, queries: int, p_init: float, height: int, width: int, norm: Norm) -> int:
    """Side in pixels of the window of a query, counted from 0: sqrt(p * height * width), rounded.

    p starts at `p_init` and is halved after each of the `HALVINGS`, compressed from 10 000 to `queries`. The side is at least 1; in
    L2, where a window has a middle pixel, it is odd and at least 3. It never exceeds the image.
    """
    p = p_init / 2 ** sum(query * 10_000 // queries > mark for mark in HALVINGS)
    side, room = round((p * height * width) ** 0.5), min(height, width)
    return min(max(side, 1), room) if norm == "linf" else min(max(side, 3) | 1, (room - 1) | 1)


def _stripes(x: Tensor, draw: PerImage, epsilon: float) -> Tensor:
    """The Linf start: each column of each channel is moved up or down by epsilon."""
    return project(x + epsilon * draw.signs(x.shape[1], 1, x.shape[3]).to(x), x, epsilon, "linf")


def _propose_linf(now: Tensor, x: Tensor, spots: Tensor, signs: Tensor, side: int, epsilon: float) -> Tensor:
    """Linf proposal: in one window per image, each channel is moved up or down by epsilon from x."""
    top, left = _place(spots[:, :2], x.shape, side)
    return torch.where(_window(top, left, x.shape, side), project(x + epsilon * signs[:, :, None, None], x, epsilon, "linf"), now)


def _tiles(x: Tensor, draw: PerImage, epsilon: float) -> Tensor:
    """The L2 start: about 5 by 5 tiles with bumps of random signs and directions, of total length epsilon."""
    n, channels, height, width = x.shape
    side = max(min(height, width) // 5, 1)
    down, across = height // side, width // side
    turned = draw.integers(2, 1, down, 1, across, 1).bool()
    bump = _bump(side, x.dtype, x.device)
    tiles = torch.where(turned, bump.T[:, None, :], bump[:, None, :]) * draw.signs(channels, down, 1, across, 1).to(x)
    offset = torch.zeros_like(x)
    top, left = (height - down * side) // 2, (width - across * side) // 2
    offset[:, :, top : top + down * side, left : left + across * side] = tiles.reshape(
        n, channels, down * side, across * side
    )
    return project(x + step(offset, epsilon, "l2"), x, epsilon, "l2")


def _propose_l2(now: Tensor, x: Tensor, spots: Tensor, signs: Tensor, side: int, epsilon: float) -> Tensor:
    """L2 proposal: move the perturbation of one window, and the unused part of epsilon, into a bump in another window."""
    n, channels = x.shape[:2]
    offset = now - x
    (top, left), (top2, left2) = _place(spots[:, :2], x.shape, side), _place(spots[:, 2:4], x.shape, side)
    emptied = _window(top2, left2, x.shape, side)
    both = emptied | _window(top, left, x.shape, side)
    unused = (epsilon**2 - offset.flatten(1).square().sum(1)).clamp(min=0)
    norms = ((offset.square() * both).sum((2, 3)) + unused.unsqueeze(1) / channels).sqrt()  # [n, channels]

    span = torch.arange(side, device=x.device)
    window = (
        torch.arange(n, device=x.device).view(-1, 1, 1, 1),
        torch.arange(channels, device=x.device).view(-1, 1, 1),
        (top.unsqueeze(1) + span).view(n, 1, side, 1),
        (left.unsqueeze(1) + span).view(n, 1, 1, side),
    )
    bump = _bump(side, x.dtype, x.device)
    bump = torch.where((spots[:, 4] & 1).bool().view(-1, 1, 1, 1), bump.T, bump)
    proposed = signs[:, :, None, None] * bump + _unit(offset[window])
    offset = offset.masked_fill(emptied, 0)
    offset[window] = _unit(proposed) * norms[:, :, None, None]
    return project(x + offset, x, epsilon, "l2")


def _unit(v: Tensor) -> Tensor:
    """Each channel of each image scaled to length 1; zero stays zero."""
    return v / torch.where((length := v.flatten(2).norm(dim=2)) > 0, length, 1)[:, :, None, None]


@functools.lru_cache(maxsize=32)
def _bump(side: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The bump of Eq. 2: a pyramid on the upper half and its negative on the lower half, of total length 1, [side, side]."""
    half = side // 2
    bump = torch.cat([_pyramid(half, side), -_pyramid(side - half, side)])
    return (bump / bump.norm()).to(device, dtype)


def _pyramid(height: int, width: int) -> Tensor:
    """sum_(j = d .. n) 1 / (j + 1)^2 at distance d from the middle (the larger one of both axes), [height, width]."""
    last = max(height, width) // 2
    steps = torch.arange(1, last + 2, dtype=torch.float64) ** -2
    levels = steps.flip(0).cumsum(0).flip(0)
    down, across = (torch.arange(size).sub(size // 2).abs() for size in (height, width))
    return levels[torch.maximum(down.unsqueeze(1), across)]


def _place(spots: Tensor, shape: torch.Size, side: int) -> tuple[Tensor, Tensor]:
    """Top and left coordinates of windows that lie inside the image, [n] each; `spots` is [n, 2]."""
    return spots[:, 0] * (shape[2] - side + 1) // SPOTS, spots[:, 1] * (shape[3] - side + 1) // SPOTS


def _window(top: Tensor, left: Tensor, shape: torch.Size, side: int) -> Tensor:
    """Which pixels are inside the windows, [n, 1, H, W] bool."""
    down = torch.arange(shape[2], device=top.device) - top.unsqueeze(1)
    across = torch.arange(shape[3], device=top.device) - left.unsqueeze(1)
    return (((down >= 0) & (down < side)).unsqueeze(2) & ((across >= 0) & (across < side)).unsqueeze(1)).unsqueeze(1)
