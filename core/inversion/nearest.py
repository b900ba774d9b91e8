"""Which image of a pool a reconstruction resembles: by the cosine of a network's last convolution, or pixel by pixel."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.attacks.gradient import frozen
from core.density import activations
from core.errors import unknown
from core.train import as_float

BY = ("cosine", "l2")


@dataclass(frozen=True)
class Neighbours:
    """The nearest of a pool for each query."""

    rows: Tensor
    """Into the pool, int64 [K]."""
    values: Tensor
    """Cosine, or distance, to it; [K]."""


def last_maps(net: nn.Module, x: Tensor, *, pooled: bool = False, batch_size: int = 256) -> Tensor:
    """phi of the inversion paper's first metric: the last convolution's output after its rectifier, [N, d].

    Of branches side by side (GoogLeNet), it is the last branch's.

    Args:
        net: in eval mode meanwhile, handed back as it came. x: uint8 or [0, 1] images, [N, c, h, w].
        pooled: the mean of each channel (d = channels) instead of the whole map (d = channels * height * width).

    Raises:
        ValueError: no rectifier of the network gives out a map.
    """
    return torch.cat(list(parts_of_maps(net, x, pooled=pooled, batch_size=batch_size)))


def parts_of_maps(net: nn.Module, x: Tensor, *, pooled: bool = False, batch_size: int = 256) -> Iterator[Tensor]:
    """`last_maps` part by part, for pools whose features would not fit into memory."""
    for part in x.split(batch_size):
        with frozen(net), torch.no_grad(), activations(net) as heard:
            net(as_float(part))
            maps = [a for a in heard if a.ndim == 4]
            if not maps:
                raise ValueError("the network has no rectifier after a convolution, so it has no last map")
            features = maps[-1].mean((2, 3)) if pooled else maps[-1].flatten(1)
        yield features


def parts_of_pixels(x: Tensor, *, batch_size: int = 256) -> Iterator[Tensor]:
    """Images, uint8 or [0, 1], as flat vectors of [0, 1], part by part, [n, d]."""
    return (as_float(part).flatten(1) for part in x.split(batch_size))


def nearest(
    queries: Tensor, pool: Tensor | Iterable[Tensor], *, by: Literal["cosine", "l2"] = "cosine", allowed: Tensor | None = None,
    centre: Tensor | None = None, batch_size: int = 1024,
) -> Neighbours:  # fmt: skip
    """argmax_i cos(q, p_i) (inversion paper, metric 1), or argmin_i |q - p_i|, without ever holding all similarities.

    Args:
        queries: [K, d], where the search runs. pool: [N, d], or parts of it in order.
        by: cosine or distance.
        allowed: which rows each query may have, bool [K, N]; `same_class` for the class-restricted variant.
        centre: taken from both first, [d], such as the pool's mean: vectors without negative entries, as a rectifier gives them
            out, all have high cosines.
        batch_size: rows at a time, where the pool is one tensor.

    Returns:
        The nearest; the first row of several at the same similarity, up to rounding. Values are computed anew in float64 from the
        nearest, so that a query that is in the pool has cosine 1 and distance 0.

    Raises:
        ValueError: there is no row that some query may have.
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
        raise ValueError("a query may have no row of the pool, so it has no nearest")
    q, p = queries.double(), winners.double()
    return Neighbours(rows, F.cosine_similarity(q, p).clamp(-1, 1) if by == "cosine" else (q - p).norm(dim=1))


def _closeness(queries: Tensor, part: Tensor, by: str) -> Tensor:
    """Larger is nearer, up to a constant for each query; [K, n]."""
    if by == "cosine":
        return F.normalize(queries) @ F.normalize(part).T
    return 2 * queries @ part.T - part.square().sum(1)


def same_class(classes: Tensor, labels: Tensor) -> Tensor:
    """Which of a pool's labels [N] are each query's class [K]; bool [K, N]."""
    return classes.unsqueeze(1) == labels


def image_distances(a: Tensor, b: Tensor, std: Tensor) -> dict[str, Tensor]:
    """The inversion paper's second metric in the three scales that its numbers may have been in; float64 [K] each.

    Args:
        a, b: images in [0, 1], [K, c, h, w]. std: of the images' channels, [c].

    Returns:
        `l2`: the norm. `rmse_255`: root mean square in grey levels. `l2_normalised`: the norm in units of `std`, in which two
        unrelated images with d pixels are about sqrt(2 d) apart, 78 at 3x32x32.
    """
    gap = (a - b).double()
    l2 = gap.flatten(1).norm(dim=1)
    normalised = (gap / std.to(gap).view(-1, 1, 1)).flatten(1).norm(dim=1)
    return {"l2": l2, "rmse_255": 255 * l2 / a[0].numel() ** 0.5, "l2_normalised": normalised}
