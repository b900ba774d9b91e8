"""The inversion audit: reconstruct images of every class, and test whether they are nearer to members than to held-out images.

The paper's "privacy loss" is the L2 distance from a reconstruction to its nearest training image, plotted so that it falls as
networks become more robust. But a small distance is a leak, and a reconstruction that is near to all images of its class reveals
the class, not the members. `inversion_leak` has one direction, LARGER IS WORSE, and a baseline:

    leak = mean of (h - m) / (h + m)

with m the distance to the nearest member of the class and h the distance to the nearest held-out image of the class, among equal
numbers of both. It has no unit and is in [-1, 1]: 1 if the reconstructions are members, and 0 in expectation if members and
held-out images are exchangeable, as for an untrained network. (With h alone in the denominator it would not be 0: E[m / h] > 1 by
symmetry.) Distances are between pixels, because features of the attacked network depend on its members for every image.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core import rng
from core.data import Images, channel_statistics
from core.errors import InputError, unknown
from core.inversion.acgan import train_generator
from core.inversion.ascent import Inverted, class_logits, constant, gradient_ascent, reached, uniform
from core.inversion.deepdream import STEPS, deepdream
from core.inversion.nearest import image_distances, iter_last_maps, iter_pixels, last_maps, nearest, same_class
from core.modes import as_float, predict, with_autograd
from core.rng import PerImage

Rows = Tensor | np.ndarray
"""Row numbers in the pool."""
STARTS: dict[str, Callable[[Images, PerImage], Tensor]] = {
    "grey": lambda shadow, draw: constant(len(draw.keys), shadow.shape),
    "noise": lambda shadow, draw: uniform(shadow.shape, draw),
    "grey_noise": lambda shadow, draw: constant(len(draw.keys), shadow.shape, noise=0.1, draw=draw),
    "image": lambda shadow, draw: as_float(shadow.x[draw.integers(len(shadow.y)).to(shadow.y.device)]),
}
"""Starts of the ascent by name, (shadow images, draw) -> images; from plain grey, all restarts of a class are equal."""
MEMBER = "member"
"""Name of a further start, a member of the class; the result shows what the ascent keeps of it (inversion paper, Figure 5)."""
ATTACKS = ("ascent", "deepdream", "acgan")
"""Names of the inversion attacks."""


@dataclass(frozen=True)
class Reconstructions:
    """Images that one attack reconstructed from a network, for every class and restart, K in all."""

    classes: np.ndarray
    """Class of each image, [K]."""
    images: np.ndarray
    """Images in [0, 1], float32 [K, c, h, w]."""
    member_rows: np.ndarray
    """Row in the pool of the nearest member by cosine, [K]."""
    numbers: dict[str, np.ndarray]
    """Values per image, [K], by the name of their metric without `inversion_`; NaN if the class has no images to compare with."""
    trajectory: np.ndarray
    """Logit of the class during the attack, [T, K]: the ascent's at its `recorded_iterations`, one of `acgan`."""
    starts: np.ndarray
    """Images in [0, 1] from which the attack started, float32 [K, c, h, w]; none for `acgan`."""


@dataclass(frozen=True)
class Inversion:
    """The inversion audit of one network."""

    metrics: dict[str, float]
    """Metrics by name; those of the second and later attacks as `<name>/<attack>`."""
    pictures: dict[str, Reconstructions]
    """Reconstructions by attack."""


@with_autograd
def invert(
    net: nn.Module, images: Images, members: Rows, others: Rows, *, shadow: Rows | None = None,
    attacks: Sequence[str] = ("ascent",), classes: Sequence[int] | None = None, restarts: int = 4, iterations: int = 1000,
    lr: float = 0.1, start: str = "grey_noise", pooled: bool = False, seed: int = 0,
    options: Mapping[str, Mapping[str, Any]] | None = None, device: torch.device | str | None = None,
) -> Inversion:  # fmt: skip
    """Reconstruct images from a network and compare them with its members.

    Args:
        net: images -> logits; returned to its own mode.
        images: the pool.
        members: rows that the network was trained on.
        others: held-out rows, used by neither the network nor an attack.
        shadow: training rows of `acgan` and starts of `image`, disjoint from members and others.
        attacks: names in `ATTACKS`.
        classes: classes to reconstruct; default all.
        restarts: reconstructions of each class.
        iterations, lr, start: settings of `gradient_ascent`; see `calibrated_lr` and `STARTS`. From `MEMBER` the results are
            near to members from the beginning, so that their leak proves nothing.
        pooled: compare the means of channels instead of whole maps.
        seed: seed of starts, noise and the choice of compared images.
        options: further arguments of `deepdream` and `train_generator`, by attack: `{"acgan": {"w": 10.0}}`.
        device: device to run on; default the pool's.

    Returns:
        Metrics, which are means over reconstructions unless stated otherwise, and pictures. Distances are in units of [0, 1]
        images.
        `inversion_iterations`: median first iteration at which the class is predicted, `iterations` if never (not for `acgan`).
        `inversion_success`: share of reconstructions that the network classifies as their class.
        `inversion_logit`: logit of the class.
        `inversion_cosine`, `inversion_l2`, `inversion_rmse_255`, `inversion_l2_normalised`: similarity or distance to the nearest
        member by cosine, as in the paper; features of different networks cannot be compared.
        `..._same_class`: the same for the nearest member of the class.
        `inversion_l2_member`, `inversion_l2_held_out`: distances to the nearest member and the nearest held-out image of the class
        by pixels, among equal numbers of both.
        `inversion_leak`: mean leak by these two distances, see above; LARGER IS WORSE.
        `inversion_leak_p`: p-value of the leak, see `leak_p`.
        `inversion_leak_features`: leak with 1 - cosine as the distance; it may be positive even for reconstructions that contain
        no information on the members.

    Raises:
        InputError: there is no such attack, start or class; no class has both members and others; an image is in two groups;
            `acgan` or the start `image` has no shadow images; a class has no members to start from.
    """
    for name in attacks:
        if name not in ATTACKS:
            raise unknown("inversion attack", name, ATTACKS)
    if start not in (*STARTS, MEMBER):
        raise unknown("start", start, (*STARTS, MEMBER))
    chosen = list(range(images.classes) if classes is None else classes)
    for c in chosen:
        if not 0 <= c < images.classes:
            raise unknown("class", str(c), map(str, range(images.classes)))
    where = torch.device(device) if device is not None else images.x.device
    rows = {name: torch.as_tensor(part) for name, part in (("members", members), ("others", others))}
    rows["shadow"] = torch.as_tensor(np.empty(0, np.int64) if shadow is None else shadow)
    for what, needed in (("by acgan", "acgan" in attacks), ("from an image", start == "image")):
        if needed and not len(rows["shadow"]):
            raise InputError(f"inversion {what} needs shadow images: rows that are neither members nor others")
    joined = torch.cat(list(rows.values()))
    if len(joined.unique()) < len(joined):
        raise InputError("members, others and shadow images must be disjoint, but a row occurs twice")
    ids = torch.cat([images.ids[part].unique() for part in rows.values()])
    if len(ids.unique()) < len(ids):
        raise InputError("members, others and shadow images must be disjoint, but exact copies of an image are in two of them")
    baseline = Baseline.of(images, rows["members"], rows["others"], seed=seed, device=where)
    mean, std = (v.to(where) for v in channel_statistics(baseline.members.x))

    targets = torch.tensor(chosen, device=where).repeat_interleave(restarts)
    draw = rng.per_image(seed, "inversion", ids=targets * (1 << 20) + torch.arange(restarts, device=where).repeat(len(chosen)))
    shadow_images = images.at(rows["shadow"])
    if start == MEMBER:
        begin = _members_of(targets, baseline.members, draw.named("start"))
    else:
        begin = STARTS[start](shadow_images, draw.named("start")).to(where)
    metrics: dict[str, float] = {}
    pictures = {}
    for i, name in enumerate(attacks):
        settings: dict[str, Any] = dict((options or {}).get(name, {}))
        if name == "ascent":
            inverted = gradient_ascent(net, targets, begin, lr=lr, iterations=iterations)
        elif name == "deepdream":
            inverted = deepdream(net, targets, begin, **{"mean": mean, "std": std, **settings})
        else:
            own = shadow_images.to(where)
            generator = train_generator(net, own.x, own.y, images.classes, **{"seed": seed, **settings})
            generated = generator.sample(targets, draw.named("acgan"))
            logits = class_logits(net, generated, targets)
            inverted = Inverted(generated, torch.full_like(targets, -1), logits, logits.unsqueeze(0))
        never = {"ascent": iterations, "deepdream": inverted.trajectory.shape[0] * settings.get("steps", STEPS)}.get(name)
        starts = begin[:0] if name == "acgan" else begin
        values, reconstructions = _evaluate_reconstructions(net, targets, starts, inverted, baseline, std, pooled, never, seed)
        metrics |= {key + (f"/{name}" if i else ""): value for key, value in values.items()}
        pictures[name] = reconstructions
    return Inversion(metrics, pictures)


def _members_of(classes: Tensor, members: Images, draw: PerImage) -> Tensor:
    """A member of each of the classes [K], drawn with replacement; floats in [0, 1], [K, c, h, w]."""
    position, rows = draw.uniform().to(classes.device), torch.empty_like(classes)
    for c in classes.unique():
        of_class = (members.y == c).nonzero().squeeze(1)
        if not len(of_class):
            raise InputError(f"class {int(c)} has no members to start from")
        rows[classes == c] = of_class[(position[classes == c] * len(of_class)).long()]
    return as_float(members.x[rows])


@dataclass(frozen=True)
class Baseline:
    """Members and held-out images, and the choice of those that are compared: equal numbers of both in each class."""

    members: Images
    """The M members."""
    others: Images
    """The O held-out images."""
    rows: Tensor
    """Rows of the members in the pool, [M]."""
    compared_members: Tensor
    """Which members are compared, bool [M]."""
    compared_others: Tensor
    """Which held-out images are compared, bool [O]; as many of each class as `compared_members`."""

    @classmethod
    def of(cls, images: Images, members: Rows, others: Rows, *, seed: int, device: torch.device | str = "cpu") -> "Baseline":
        """Draw equal numbers of members and held-out images of each class: in a larger group, the nearest image is nearer.

        Raises:
            InputError: no class has both members and held-out images.
        """
        groups = [torch.as_tensor(rows).cpu() for rows in (members, others)]
        labels = [images.y.cpu()[rows] for rows in groups]
        chosen = [torch.zeros(len(y), dtype=torch.bool) for y in labels]
        for c in range(images.classes):
            count = min(int((y == c).sum()) for y in labels)
            for group, y in enumerate(labels):
                of_class = (y == c).nonzero().squeeze(1)
                order = torch.randperm(len(of_class), generator=rng.generator(seed, "compared", c, group))
                chosen[group][of_class[order[:count]]] = True
        if not chosen[0].any():
            raise InputError("no class has both members and held-out images, so there is nothing to compare")
        where = torch.device(device)
        parts = [images.at(rows.to(images.x.device)).to(where) for rows in groups]
        return cls(parts[0], parts[1], groups[0], chosen[0].to(where), chosen[1].to(where))


def leak(member: Tensor, held_out: Tensor) -> Tensor:
    """(h - m) / (h + m) for distances m to members and h to held-out images, 0 if both are 0; in [-1, 1], larger is worse.

    Swapping the two distances changes the sign.
    """
    total = held_out + member
    return torch.where(total > 0, (held_out - member) / total.clamp(min=torch.finfo(total.dtype).tiny), 0.0)


def pixel_leak(x: Tensor, classes: Tensor, baseline: Baseline) -> tuple[Tensor, Tensor]:
    """L2 distances to the nearest compared member and to the nearest compared held-out image of the class.

    Args:
        x: images in [0, 1], [K, c, h, w].
        classes: classes of the images, [K], each with images to compare with.
        baseline: members and held-out images.

    Returns:
        Both distances in units of [0, 1] images, float64 [K].
    """
    pairs = ((baseline.members, baseline.compared_members), (baseline.others, baseline.compared_others))
    member, held_out = (
        nearest(x.flatten(1), iter_pixels(part.x), by="l2", allowed=same_class(classes, part.y) & compared).values
        for part, compared in pairs
    )
    return member, held_out


def leak_p(x: Tensor, classes: Tensor, baseline: Baseline, *, draws: int = 199, seed: int = 0) -> float:
    """The p-value of the mean leak, by permutation of the members and held-out images of each class.

    Reconstructions that resemble each other have the same nearest image, so their leaks are correlated, and the usual interval of
    the mean would be far too narrow; this test keeps the reconstructions fixed.

    Args:
        x, classes, baseline: see `pixel_leak`.
        draws: number of permutations.
        seed: seed of the permutations.

    Returns:
        (1 + number of permutations with at least this leak) / (1 + draws): small if members are nearer than by chance.
    """
    stream = rng.generator(seed, "inversion", "shuffles")
    pairs = ((baseline.members, baseline.compared_members), (baseline.others, baseline.compared_others))
    sums = torch.zeros(draws + 1, dtype=torch.float64, device=x.device)  # the first is not permuted
    for c in classes.unique():
        pool = torch.cat([as_float(part.x[compared & (part.y == c)]).flatten(1) for part, compared in pairs])
        gaps = torch.cdist(x[classes == c].flatten(1), pool, compute_mode="donot_use_mm_for_euclid_dist").double()
        half = len(pool) // 2
        for draw in range(draws + 1):
            order = torch.randperm(len(pool), generator=stream) if draw else torch.arange(len(pool))
            order = order.to(x.device)
            sums[draw] += leak(gaps[:, order[:half]].amin(1), gaps[:, order[half:]].amin(1)).sum()
    return (1 + (sums[1:] >= sums[0]).sum().item()) / (1 + draws)


def _evaluate_reconstructions(
    net: nn.Module, classes: Tensor, starts: Tensor, inverted: Inverted, baseline: Baseline, std: Tensor, pooled: bool,
    never: int | None, seed: int,
) -> tuple[dict[str, float], Reconstructions]:  # fmt: skip
    """Metrics of one attack's images, and the images with their values and nearest members."""
    x, members, others = inverted.images, baseline.members, baseline.others
    both = torch.stack([(same_class(classes, part.y)).any(1) for part in (members, others)]).all(0)  # classes that can be compared
    features, count = last_maps(net, x, pooled=pooled), len(x)

    # One pass over the members finds the nearest of all, the nearest of the class (of all, if the class has none), and the nearest
    # of those that are compared.
    of_class = same_class(classes, members.y)
    compared_members = of_class & baseline.compared_members
    allowed = torch.cat([torch.ones_like(of_class), of_class | ~of_class.any(1, keepdim=True), compared_members[both]])
    queries = torch.cat([features, features, features[both]])
    search = nearest(queries, iter_last_maps(net, members.x, pooled=pooled), allowed=allowed)
    near, near_class, near_compared = (
        (search.rows[part], search.values[part]) for part in (slice(count), slice(count, 2 * count), slice(2 * count, None))
    )
    compared_others = (same_class(classes, others.y) & baseline.compared_others)[both]
    far = nearest(features[both], iter_last_maps(net, others.x, pooled=pooled), allowed=compared_others)
    member, held_out = pixel_leak(x[both], classes[both], baseline)

    numbers = {} if never is None else {"iterations": reached(inverted.first, never).double()}
    numbers |= {
        "success": (predict(net, x).argmax(1) == classes).double(), "logit": inverted.logits.double(), "cosine": near[1],
        **image_distances(x, as_float(members.x[near[0]]), std),
        "cosine_same_class": near_class[1], "l2_same_class": image_distances(x, as_float(members.x[near_class[0]]), std)["l2"],
    }  # fmt: skip
    compared = {
        "l2_member": member, "l2_held_out": held_out, "leak": leak(member, held_out),
        "leak_features": leak(1 - near_compared[1], 1 - far.values),
    }  # fmt: skip
    metrics = {name: v.median() if name == "iterations" else v.mean() for name, v in (numbers | compared).items()}
    metrics["leak_p"] = torch.tensor(leak_p(x[both], classes[both], baseline, seed=seed), dtype=torch.float64)
    for name, value in compared.items():
        numbers[name] = torch.full_like(numbers["logit"], torch.nan).masked_scatter(both, value)
    return {f"inversion_{name}": value.item() for name, value in metrics.items()}, Reconstructions(
        classes.cpu().numpy(), x.float().cpu().numpy(), baseline.rows[near[0].cpu()].numpy(),
        {name: v.cpu().numpy() for name, v in numbers.items()}, inverted.trajectory.cpu().numpy(),
        starts.float().cpu().numpy(),
    )  # fmt: skip
