"""Measurements on trained networks for the figures of the inversion paper.

They are called as function(networks, images, device, **settings). `networks` maps `TARGET` to the attacked network, and other names
to networks that only receive its reconstructions. The results are numbers, and arrays as flat lists in C order.

Members are the target's own training images. Held-out images, with which its reconstructions are compared, are `val`, because they
are drawn like the members. The `test` part is the attacker's: it trains the AC-GAN, and adversarial radii are measured on it.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from core.attacks.radius import adversarial_radius
from core.bound import TARGET, Trained
from core.data import Images, Parts
from core.inversion.ascent import class_logits, recorded_iterations
from core.inversion.deepdream import STEPS
from core.inversion.leak import MEMBER, Inversion, Reconstructions, invert
from core.inversion.nearest import iter_last_maps, last_maps, nearest
from core.modes import as_float, predict

Values = dict[str, float | list[float]]
"""Numbers and lists of numbers by name."""
NUMBERS = ("iterations", "success", "logit", "cosine", "l2", "rmse_255", "l2_normalised")
"""Metrics of `invert` that a measurement has in every case, by their names without `inversion_`."""
COMPARED = ("l2_member", "l2_held_out", "leak", "leak_p")
"""Metrics of the comparison of members with held-out images; they prove nothing if the attack starts from a member."""
RADIUS_BATCH = 256
"""Images whose adversarial radii are measured at once."""


def reconstruct(
    networks: Mapping[str, Trained], images: Images, device: torch.device, *, attack: Literal["ascent", "deepdream"] = "ascent",
    classes: str = "", restarts: int = 1, start: str = "grey", iterations: int = 10_000, lr: float = 0.1, neighbours: int = 1,
) -> Values:  # fmt: skip
    """Reconstruct images from the target by the first or second attack of the inversion paper (its Figures 3 to 6 and 8 to 10).

    Args:
        networks, images, device: see the module.
        attack: attack of `core.inversion.leak`; DeepDream has its published settings.
        classes: numbers of the classes to reconstruct, such as `2,7`; all if empty.
        restarts: reconstructions of each class, K in all; from grey they are equal.
        start: `member`, or one of `core.inversion.leak.STARTS`; `image` is one of the test part.
        iterations, lr: settings of the ascent; the paper gives no lr.
        neighbours: number n of members that are compared with each reconstruction.

    Returns:
        Means over the reconstructions, by their names in `core.inversion.leak.invert` without `inversion_` (see `NUMBERS` and
        `COMPARED`). `training_logit`: mean logit of their own class of the members of the reconstructed classes. For each further
        network, `logit/<name>` and `training_logit/<name>`: the same two logits under that network. `moved`: mean L2 distance from
        the start, and `spread`: mean L2 distance of two reconstructions of a class, 0 if it has one; in units of [0, 1] images.
        Lists: `classes` [K], `shape` (c, h, w), `images` and `starts` [K, c, h, w], the `nearest` members by cosine
        [K, n, c, h, w] in this order with their `cosines` and `distances` (L2 in units of [0, 1] images) [K, n], and
        `trajectory`, the mean logit of the class at `trajectory_iterations` [T].
    """
    target, parts = networks[TARGET], _parts(networks, images)
    net = target.bound.net
    chosen = [int(part) for part in classes.split(",")] if classes else list(range(images.classes))
    inversion = invert(
        net, images, parts.members, parts.val, shadow=parts.test, attacks=(attack,), classes=chosen, restarts=restarts,
        iterations=iterations, lr=lr, start=start, seed=target.config.seed, device=device,
    )  # fmt: skip
    found = inversion.pictures[attack]
    members = images.at(parts.members).to(device)
    x, labels = torch.from_numpy(found.images).to(device), torch.from_numpy(found.classes).to(device)
    values: Values = {**_numbers(inversion, NUMBERS if start == MEMBER else (*NUMBERS, *COMPARED))}
    trained_on = members.at(torch.isin(members.y, labels))
    values["training_logit"] = _own_logit(net, trained_on)
    for name, other in networks.items():
        if name != TARGET:
            values[f"logit/{name}"] = class_logits(other.bound.net, x, labels).mean().item()
            values[f"training_logit/{name}"] = _own_logit(other.bound.net, trained_on)
    values["moved"] = (x - torch.from_numpy(found.starts).to(device)).flatten(1).norm(dim=1).mean().item()
    values["spread"] = _spread(x, restarts)
    rows, cosines = _neighbours(net, x, members, neighbours)
    near = as_float(members.x[rows.flatten()]).unflatten(0, rows.shape)
    lists: dict[str, Any] = _pictures(found) | {"starts": _rounded(found.starts), "nearest": _rounded(near.cpu().numpy())}
    lists |= {"cosines": cosines, "distances": (x.unsqueeze(1) - near).flatten(2).norm(dim=2)}
    steps = recorded_iterations(iterations) if attack == "ascent" else range(STEPS, STEPS * len(found.trajectory) + 1, STEPS)
    lists |= {"trajectory": found.trajectory.mean(1), "trajectory_iterations": np.array(steps)}
    return values | {name: _flat(array) for name, array in lists.items()}


def generate(
    networks: Mapping[str, Trained], images: Images, device: torch.device, *, weights: str = "0,1", restarts: int = 1,
    width: int = 64, epochs: int = 200, gan_images: int = 0,
) -> Values:  # fmt: skip
    """Reconstruct images of every class by AC-GANs that the target guides with different weights (inversion paper, Figure 7).

    Args:
        networks, images, device: see the module.
        weights: weights w of the target's loss in the generator's, such as `0,0.1,1`; at 0 the target is not attacked.
        restarts: generated images of each class and weight, K of each weight in all.
        width, epochs: settings of `core.inversion.acgan.train_generator`.
        gan_images: number of real images that train the AC-GAN, at most; 0 is the whole test part.

    Returns:
        For each weight, as it is written: `success/<w>`, `logit/<w>`, `cosine/<w>`, `leak/<w>` and the others of
        `core.inversion.leak.invert` for `acgan`. Lists: `weights` [W], `classes` [K], `shape` (c, h, w), `images` [W, K, c, h, w].
    """
    target, parts = networks[TARGET], _parts(networks, images)
    values: Values = {}
    pictures: list[Reconstructions] = []
    for weight in weights.split(","):
        inversion = invert(
            target.bound.net, images, parts.members, parts.val, shadow=parts.test[: gan_images or None], attacks=("acgan",),
            restarts=restarts, seed=target.config.seed, device=device,
            options={"acgan": {"w": float(weight), "width": width, "epochs": epochs}},
        )  # fmt: skip
        names = (name for name in (*NUMBERS, *COMPARED) if name != "iterations")
        values |= {f"{name}/{weight}": value for name, value in _numbers(inversion, names).items()}
        pictures.append(inversion.pictures["acgan"])
    lists = _pictures(pictures[0]) | {"images": np.concatenate([_rounded(part.images) for part in pictures])}
    lists["weights"] = np.array([float(weight) for weight in weights.split(",")])
    return values | {name: _flat(array) for name, array in lists.items()}


def radius_and_leak(
    networks: Mapping[str, Trained], images: Images, device: torch.device, *, radius_images: int = 500, radius_steps: int = 2000,
    **settings: Any,
) -> Values:  # fmt: skip
    """Measure the adversarial radius of a network beside the similarity of its reconstructions to its members (Figure 11).

    Args:
        networks, images, device: see the module.
        radius_images: number of test images, of which those that are classified correctly are attacked.
        radius_steps: steps of the attack; an image that is never misclassified counts with the whole length of its steps.
        settings: arguments of `reconstruct`.

    Returns:
        The numbers and lists of `reconstruct`, and the median `radius` in L2 in units of [0, 1] images; 0 if no image is classified
        correctly.
    """
    values = reconstruct(networks, images, device, **settings)
    net = networks[TARGET].bound.net
    tested = images.at(_parts(networks, images).test[:radius_images]).to(device)
    right = (predict(net, tested.x).argmax(1) == tested.y).nonzero().squeeze(1)
    step_size = 0.01
    radii = [
        adversarial_radius(net, as_float(tested.x[rows]), tested.y[rows], step_size=step_size, steps=radius_steps)
        for rows in right.split(RADIUS_BATCH)
    ]
    limit = step_size * radius_steps
    return values | {"radius": torch.cat(radii).clamp(max=limit).median().item() if len(right) else 0.0}


def _parts(networks: Mapping[str, Trained], images: Images) -> Parts:
    config = networks[TARGET].config
    return config.parts(images)


def _numbers(inversion: Inversion, names: Any) -> dict[str, float]:
    return {name: inversion.metrics[f"inversion_{name}"] for name in names}


def _own_logit(net: nn.Module, images: Images) -> float:
    """Mean logit of the images' own classes."""
    return predict(net, images.x).gather(1, images.y.unsqueeze(1)).mean().item()


def _spread(x: Tensor, restarts: int) -> float:
    """Mean L2 distance of two of the reconstructions of a class, which are consecutive; 0 if each class has one."""
    groups = x.flatten(1).double().split(restarts)
    return float(np.mean([torch.pdist(group).mean().item() for group in groups])) if restarts > 1 else 0.0


def _neighbours(net: nn.Module, x: Tensor, members: Images, count: int) -> tuple[Tensor, Tensor]:
    """Rows of the members that are most similar to each image by the network's features, nearest first, and cosines, [K, count]."""
    queries = last_maps(net, x)
    allowed = torch.ones(len(x), len(members.y), dtype=torch.bool, device=x.device)
    rows, cosines = [], []
    for _ in range(min(count, len(members.y))):
        found = nearest(queries, iter_last_maps(net, members.x), allowed=allowed)
        allowed[torch.arange(len(x), device=x.device), found.rows] = False
        rows.append(found.rows)
        cosines.append(found.values)
    return torch.stack(rows, 1), torch.stack(cosines, 1)


def _pictures(found: Reconstructions) -> dict[str, np.ndarray]:
    return {"classes": found.classes, "shape": np.array(found.images.shape[1:]), "images": _rounded(found.images)}


def _rounded(images: np.ndarray) -> np.ndarray:
    """Images with four decimals, a fortieth of a grey level, which halves the length of their text."""
    return np.round(images.astype(np.float64), 4)


def _flat(array: np.ndarray | Tensor) -> list[float]:
    values = array.cpu().numpy() if isinstance(array, Tensor) else array
    return values.astype(np.float64).ravel().tolist()
