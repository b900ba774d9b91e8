"""The inversion audit: attack a network for every class, and see whether what comes out is nearer to its members than to others.

The paper's "privacy loss" is the L2 distance from a reconstruction to its nearest training image, plotted so that it falls as
networks get more robust; but a small distance is the leak, and a reconstruction that is near to all images of its class has learned
the class, not the members. `inversion_leak` has one direction, LARGER IS WORSE, and a baseline:

    leak = mean of (h - m) / (h + m)

with m the distance to the nearest member of the class, h that to the nearest held-out image of the class, among as many of either.
It is without unit and in [-1, 1]: 1 where the reconstructions are members, 0 in expectation where members and held-out images could
be exchanged, as for a network that has not been trained. (With h alone below the line it would not be: E[m / h] > 1 by symmetry.)
Distances are between pixels, because features of the attacked network know its members whatever the reconstruction is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core import rng
from core.data import Images
from core.errors import InputError, unknown
from core.inversion.acgan import train_generator
from core.inversion.ascent import Inverted, class_logits, constant, gradient_ascent, reached, uniform
from core.inversion.deepdream import deepdream
from core.inversion.nearest import image_distances, last_maps, nearest, parts_of_maps, parts_of_pixels, same_class
from core.rng import PerImage
from core.train import as_float, channel_statistics, predict

Rows = Tensor | np.ndarray
STARTS: dict[str, Callable[[tuple[int, ...], PerImage], Tensor]] = {
    "grey": lambda shape, draw: constant(len(draw.keys), shape),
    "noise": uniform,
    "grey_noise": lambda shape, draw: constant(len(draw.keys), shape, noise=0.1, draw=draw),
}
"""Where an ascent begins; from grey alone, all restarts of a class are the same."""
ATTACKS = ("ascent", "deepdream", "acgan")


@dataclass(frozen=True)
class Reconstructions:
    """What one attack made of a network, for every class and restart; all on the CPU."""

    classes: np.ndarray
    """[K]."""
    images: np.ndarray
    """In [0, 1], float32 [K, c, h, w]."""
    member_rows: np.ndarray
    """Row of the pool of the nearest member by cosine, [K]."""
    numbers: dict[str, np.ndarray]
    """By the names of the metrics without `inversion_`, [K] each; NaN where a class has nothing to compare with."""
    trajectory: np.ndarray
    """The class's logit on the way, [T, K]; one entry for `acgan`."""


@dataclass(frozen=True)
class Inversion:
    """The inversion audit of one network."""

    metrics: dict[str, float]
    """Of the first attack by name; of further ones as `<name>/<attack>`."""
    pictures: dict[str, Reconstructions]
    """By attack."""


def invert(
    net: nn.Module, images: Images, members: Rows, others: Rows, *, shadow: Rows | None = None,
    attacks: Sequence[str] = ("ascent",), restarts: int = 4, iterations: int = 1000, lr: float = 0.1, start: str = "grey_noise",
    pooled: bool = False, seed: int = 0, options: Mapping[str, Mapping[str, Any]] | None = None,
    device: torch.device | str | None = None,
) -> Inversion:  # fmt: skip
    """Attack a network and compare what comes out with its members.

    Args:
        net: images -> logits; handed back as it came. images: the pool.
        members: rows that it was trained on. others: rows that it was not, and that no attack sees.
        shadow: rows that `acgan` learns from; neither members nor others.
        attacks: names in `ATTACKS`. restarts: reconstructions of each class.
        iterations, lr, start: of `gradient_ascent`, see `calibrated_lr` and `STARTS`.
        pooled: search in the channels' means instead of whole maps.
        seed: of starts, noise and of the images that are compared.
        options: further arguments of `deepdream` and `train_generator`, by attack: `{"acgan": {"w": 10.0}}`.
        device: where; default the pool's.

    Returns:
        Metrics, means over reconstructions unless said otherwise, and pictures. Distances are in units of [0, 1] images.
        `inversion_iterations`: median first iteration as the class, `iterations` where never (not for `acgan`).
        `inversion_success`: share that the network takes for the class. `inversion_logit`: of the class.
        `inversion_cosine`, `inversion_l2`, `inversion_rmse_255`, `inversion_l2_normalised`: to the nearest member by cosine, as in
        the paper; features of different networks do not compare. `..._same_class`: where it must be of the class.
        `inversion_l2_member`, `inversion_l2_held_out`: to the nearest of the class by pixels, among as many of either.
        `inversion_leak`: what these two say, see above; LARGER IS WORSE. `inversion_leak_p`: how often chance leaks as much, see
        `leak_p`. `inversion_leak_features`: the same with 1 - cosine for the distance; members may stand out there
        even for a reconstruction that knows nothing of them.

    Raises:
        InputError: an attack or start that does not exist; no class with both members and others; rows in two parts; `acgan`
            without shadow images.
    """
    for name in attacks:
        if name not in ATTACKS:
            raise unknown("inversion attack", name, ATTACKS)
    if start not in STARTS:
        raise unknown("start", start, STARTS)
    where = torch.device(device) if device is not None else images.x.device
    rows = {name: torch.as_tensor(part) for name, part in (("members", members), ("others", others))}
    if "acgan" in attacks:
        if shadow is None or not len(shadow):
            raise InputError("inversion by acgan needs shadow images: rows that are neither members nor others")
        rows["shadow"] = torch.as_tensor(shadow)
    joined = torch.cat(list(rows.values()))
    if len(joined.unique()) < len(joined):
        raise InputError("a row is twice among members, others and shadow images; what is compared must be disjoint")
    baseline = Baseline.of(images, rows["members"], rows["others"], seed=seed, device=where)
    mean, std = (v.to(where) for v in channel_statistics(baseline.members.x))

    classes = torch.arange(images.classes, device=where).repeat_interleave(restarts)
    draw = rng.per_image(seed, "inversion", ids=classes * (1 << 20) + torch.arange(restarts, device=where).repeat(images.classes))
    begin = STARTS[start](images.shape, draw.named("start")).to(where)
    metrics: dict[str, float] = {}
    pictures = {}
    for i, name in enumerate(attacks):
        own: dict[str, Any] = dict((options or {}).get(name, {}))
        if name == "ascent":
            found = gradient_ascent(net, classes, begin, lr=lr, iterations=iterations)
        elif name == "deepdream":
            found = deepdream(net, classes, begin, **{"mean": mean, "std": std, **own})
        else:
            seen = images.at(rows["shadow"]).to(where)
            generator = train_generator(net, seen.x, seen.y, images.classes, **{"seed": seed, **own})
            made = generator.sample(classes, draw.named("acgan"))
            logits = class_logits(net, made, classes)
            found = Inverted(made, torch.full_like(classes, -1), logits, logits.unsqueeze(0))
        never = {"ascent": iterations, "deepdream": found.trajectory.shape[0] * own.get("steps", 10)}.get(name)
        values, reconstructions = _judged(net, classes, found, baseline, std, pooled, never, seed)
        metrics |= {key + (f"/{name}" if i else ""): value for key, value in values.items()}
        pictures[name] = reconstructions
    return Inversion(metrics, pictures)


@dataclass(frozen=True)
class Baseline:
    """Members and held-out images, and as many of either in each class that are compared."""

    members: Images
    others: Images
    rows: Tensor
    """Of the pool, of the members, [M]."""
    compared_members: Tensor
    """bool, [M]."""
    compared_others: Tensor
    """bool, [O]; as many of each class as `compared_members`."""

    @classmethod
    def of(cls, images: Images, members: Rows, others: Rows, *, seed: int, device: torch.device | str = "cpu") -> "Baseline":
        """Draw as many members as held-out images of each class, evenly; nearest of more is nearer.

        Raises:
            InputError: no class has both.
        """
        groups = [torch.as_tensor(rows).cpu() for rows in (members, others)]
        labels = [images.y.cpu()[rows] for rows in groups]
        chosen = [torch.zeros(len(y), dtype=torch.bool) for y in labels]
        for c in range(images.classes):
            count = min(int((y == c).sum()) for y in labels)
            for which, y in enumerate(labels):
                of_class = (y == c).nonzero().squeeze(1)
                order = torch.randperm(len(of_class), generator=rng.generator(seed, "compared", c, which))
                chosen[which][of_class[order[:count]]] = True
        if not chosen[0].any():
            raise InputError("no class has both members and held-out images, so there is nothing to compare")
        where = torch.device(device)
        parts = [images.at(rows.to(images.x.device)).to(where) for rows in groups]
        return cls(parts[0], parts[1], groups[0], chosen[0].to(where), chosen[1].to(where))


def leak(member: Tensor, held_out: Tensor) -> Tensor:
    """(h - m) / (h + m) of distances, 0 where both are 0; in [-1, 1], larger is worse, and swapping the two turns its sign."""
    total = held_out + member
    return torch.where(total > 0, (held_out - member) / total.clamp(min=torch.finfo(total.dtype).tiny), 0.0)


def pixel_leak(x: Tensor, classes: Tensor, baseline: Baseline) -> tuple[Tensor, Tensor]:
    """L2 distances to the nearest compared member and to the nearest compared held-out image of the class.

    Args:
        x: images in [0, 1], [K, c, h, w]. classes: [K]; all of them with images to compare.

    Returns:
        Both in units of [0, 1] images, float64 [K].
    """
    pairs = ((baseline.members, baseline.compared_members), (baseline.others, baseline.compared_others))
    member, held_out = (
        nearest(x.flatten(1), parts_of_pixels(part.x), by="l2", allowed=same_class(classes, part.y) & some).values
        for part, some in pairs
    )
    return member, held_out


def leak_p(x: Tensor, classes: Tensor, baseline: Baseline, *, draws: int = 199, seed: int = 0) -> float:
    """How often chance leaks as much: the p-value of the mean leak when members and held-out images of a class are shuffled.

    Reconstructions that resemble each other have the same nearest image, so their leaks rise and fall together, and the usual
    interval of the mean would be far too narrow; this test holds the reconstructions as they are.

    Args:
        x, classes, baseline: as in `pixel_leak`. draws: shuffles. seed: of these.

    Returns:
        (1 + shuffles that leak as much or more) / (1 + draws): small where members are nearer than by chance.
    """
    stream = rng.generator(seed, "inversion", "shuffles")
    pairs = ((baseline.members, baseline.compared_members), (baseline.others, baseline.compared_others))
    sums = torch.zeros(draws + 1, dtype=torch.float64, device=x.device)  # the first is not shuffled
    for c in classes.unique():
        pool = torch.cat([as_float(part.x[some & (part.y == c)]).flatten(1) for part, some in pairs])
        gaps = torch.cdist(x[classes == c].flatten(1), pool, compute_mode="donot_use_mm_for_euclid_dist").double()
        half = len(pool) // 2
        for draw in range(draws + 1):
            order = torch.randperm(len(pool), generator=stream) if draw else torch.arange(len(pool))
            order = order.to(x.device)
            sums[draw] += leak(gaps[:, order[:half]].amin(1), gaps[:, order[half:]].amin(1)).sum()
    return (1 + (sums[1:] >= sums[0]).sum().item()) / (1 + draws)


def _judged(
    net: nn.Module, classes: Tensor, found: Inverted, baseline: Baseline, std: Tensor, pooled: bool, never: int | None, seed: int
) -> tuple[dict[str, float], Reconstructions]:
    x, members, others = found.images, baseline.members, baseline.others
    both = torch.stack([(same_class(classes, part.y)).any(1) for part in (members, others)]).all(0)  # classes that can be compared
    features, count = last_maps(net, x, pooled=pooled), len(x)

    # one pass over the members: nearest of all, nearest of the class (of all, where it has none), nearest of the compared
    of_class = same_class(classes, members.y)
    fair = of_class & baseline.compared_members
    allowed = torch.cat([torch.ones_like(of_class), of_class | ~of_class.any(1, keepdim=True), fair[both]])
    queries = torch.cat([features, features, features[both]])
    search = nearest(queries, parts_of_maps(net, members.x, pooled=pooled), allowed=allowed)
    near, near_class, near_fair = (
        (search.rows[part], search.values[part]) for part in (slice(count), slice(count, 2 * count), slice(2 * count, None))
    )
    fair_others = (same_class(classes, others.y) & baseline.compared_others)[both]
    far = nearest(features[both], parts_of_maps(net, others.x, pooled=pooled), allowed=fair_others)
    member, held_out = pixel_leak(x[both], classes[both], baseline)

    numbers = {} if never is None else {"iterations": reached(found.first, never).double()}
    numbers |= {
        "success": (predict(net, x).argmax(1) == classes).double(), "logit": found.logits.double(), "cosine": near[1],
        **image_distances(x, as_float(members.x[near[0]]), std),
        "cosine_same_class": near_class[1], "l2_same_class": image_distances(x, as_float(members.x[near_class[0]]), std)["l2"],
    }  # fmt: skip
    compared = {
        "l2_member": member, "l2_held_out": held_out, "leak": leak(member, held_out),
        "leak_features": leak(1 - near_fair[1], 1 - far.values),
    }  # fmt: skip
    metrics = {name: v.median() if name == "iterations" else v.mean() for name, v in (numbers | compared).items()}
    metrics["leak_p"] = torch.tensor(leak_p(x[both], classes[both], baseline, seed=seed), dtype=torch.float64)
    for name, value in compared.items():
        numbers[name] = torch.full_like(numbers["logit"], torch.nan).masked_scatter(both, value)
    return {f"inversion_{name}": value.item() for name, value in metrics.items()}, Reconstructions(
        classes.cpu().numpy(), x.float().cpu().numpy(), baseline.rows[near[0].cpu()].numpy(),
        {name: v.cpu().numpy() for name, v in numbers.items()}, found.trajectory.cpu().numpy(),
    )  # fmt: skip
