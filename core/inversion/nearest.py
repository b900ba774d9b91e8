"""Search for the image of a pool that is most similar to a reconstruction: by features of a network, or by pixels."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import unknown
from core.modes import as_float, eval_mode
from core.nets import last_maps_of

BY = ("cosine", "l2")
"""Names of the similarities."""


@dataclass(frozen=True)
class Neighbours:
    """The nearest row of a pool for each of K queries."""

    rows: Tensor
    """Row of the pool, int64 [K]."""
    values: Tensor
    """Cosine or distance between the query and this row, [K]."""


def last_maps(net: nn.Module, x: Tensor, *, pooled: bool = False, batch_size: int = 256) -> Tensor:
    """The last feature maps, after their rectifier, [N, d] (phi of the inversion paper's first metric).

    They are the maps that the network pools; see `core.nets.last_maps_of`.

    Args:
        net: images -> logits; evaluated in evaluation mode, and returned to its own mode.
        x: images, uint8 or in [0, 1], [N, c, h, w].
        pooled: the mean of each channel (d = channels) instead of the whole map (d = channels * height * width).
        batch_size: images per forward pass.

    Raises:
        ValueError: the maps cannot be found.
    """
    return torch.cat(list(iter_last_maps(net, x, pooled=pooled, batch_size=batch_size)))


def iter_last_maps(net: nn.Module, x: Tensor, *, pooled: bool = False, batch_size: int = 256) -> Iterator[Tensor]:
    """`last_maps` in parts, for pools whose features do not fit into memory."""
    (layer, at_input), maps = last_maps_of(net, as_float(x[:1])), []
    for part in x.split(batch_size):
        hook = layer.register_forward_hook(lambda _, inputs, out: maps.append(inputs[0] if at_input else out))
        try:
            with eval_mode(net), torch.no_grad():
                net(as_float(part))
        finally:
            hook.remove()
        last = maps.pop()
        maps.clear()
        yield last.mean((2, 3)) if pooled else last.flatten(1)


def iter_pixels(x: Tensor, *, batch_size: int = 256) -> Iterator[Tensor]:
    """Images, uint8 or in [0, 1], as flat vectors in [0, 1], in parts of [n, d]."""
    return (as_float(part).flatten(1) for part in x.split(batch_size))


def nearest(
    queries: Tensor, pool: Tensor | Iterable[Tensor], *, by: Literal["cosine", "l2"] = "cosine", allowed: Tensor | None = None,
    centre: Tensor | None = None, batch_size: int = 1024,
) -> Neighbours:  # fmt: skip
    """argmax_i cos(q, p_i) (inversion paper, metric 1) or argmin_i |q - p_i|, without holding all similarities in memory.

    Args:
        queries: vectors q, [K, d]; the search runs on their device.
        pool: vectors p, [N, d], or consecutive parts of them.
        by: "cosine" for the similarity, or "l2" for the distance.
        allowed: which rows are candidates for each query, bool [K, N]; `same_class` restricts the search to the class.
        centre: vector that is subtracted from queries and pool first, [d], such as the pool's mean: vectors without negative
            entries, like outputs of a rectifier, all have high cosines.
        batch_size: rows per step, if the pool is one tensor.

    Returns:
        The nearest rows; of rows with equal similarity the first, up to rounding. Values are computed again in float64 from the
        nearest rows, so that a query that is in the pool has cosine 1 and distance 0.

    Raises:
        ValueError: a query has no candidates.
    """
    if by not in BY:
        raise unknown("similarity", by, BY)
    shift = torch.zeros_like(queries[0]) if centre is None else centre
    queries = queries - shift
    best = queries.new_full((len(queries),), -torch.inf)
    rows, winners, at = torch.full_like(best, -1, dtype=torch.long), torch.zeros_like(queries), 0
    for part in pool.split(batch_size) if isinstance(pool, Tensor) else pool:
        if not len(part):
            continue
        part = part - shift
        score = _closeness(queries, part, by)
        if allowed is not None:
            score = score.masked_fill(~allowed[:, at : at + len(part)], -torch.inf)
        top, i = score.max(1)
        better = top > best
        best, rows = torch.where(better, top, best), torch.where(better, at + i, rows)
        winners = torch.where(better.unsqueeze(1), part[i], winners)
        at += len(part)
    if (rows < 0).any():
        raise ValueError("no row of the pool is allowed for a query, so it has no nearest row")
    q, p = queries.double(), winners.double()
    return Neighbours(rows, F.cosine_similarity(q, p).clamp(-1, 1) if by == "cosine" else (q - p).norm(dim=1))


def _closeness(queries: Tensor, part: Tensor, by: str) -> Tensor:
    """A score that is larger for nearer rows, up to a constant for each query, [K, n]."""
    if by == "cosine":
        return F.normalize(queries) @ F.normalize(part).T
    return 2 * queries @ part.T - part.square().sum(1)


def same_class(classes: Tensor, labels: Tensor) -> Tensor:
    """Whether each of the labels [N] of a pool is the class of each query [K], bool [K, N]."""
    return classes.unsqueeze(1) == labels


def image_distances(a: Tensor, b: Tensor, std: Tensor) -> dict[str, Tensor]:
    """The second metric of the inversion paper in three scales, because the paper does not state its scale; float64 [K] each.

    Args:
        a, b: images in [0, 1], [K, c, h, w].
        std: standard deviation of the images' channels, [c].

    Returns:
        `l2`: the norm of the difference. `rmse_255`: its root mean square in grey levels. `l2_normalised`: its norm in units of
        `std`; two unrelated images with d pixel values are about sqrt(2 d) apart, 78 at 3x32x32.
    """
    gap = (a - b).double()
    l2 = gap.flatten(1).norm(dim=1)
    normalised = (gap / std.to(gap).view(-1, 1, 1)).flatten(1).norm(dim=1)
    return {"l2": l2, "rmse_255": 255 * l2 / a[0].numel() ** 0.5, "l2_normalised": normalised}
