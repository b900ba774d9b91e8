"""Inspection of a trained network: model inversion and attribution maps, as metrics and as pictures."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core import rng
from core.attacks.suite import correct
from core.attribution.stability import attribution_maps, compare_maps
from core.config import TrialConfig
from core.data import Images, Parts
from core.errors import InputError
from core.inversion.leak import Reconstructions, invert
from core.modes import as_float, with_autograd
from core.regularizers.bpfc import BPFC

MAX_MAPS = 6
"""Number of images whose attribution maps are kept."""
MAX_GAN_IMAGES = 2000
"""Number of training images of the AC-GAN, at most."""
Pictures = dict[str, np.ndarray]
"""Arrays by name. `inversion/<attack>/...`: `images` and their `nearest` members (uint8 [K, c, h, w]), `classes` [K], `cosine`
and `l2` between an image and its nearest member [K], the final `logit` of the class [K] and its `trajectory` during the attack
[T, K], and the first of the `iterations` at which the class was predicted [K], which `acgan` does not have. `attribution/...`:
`images` (uint8 [n, c, h, w]), `classes` [n], and `maps/<name>` (float32 [n, h, w])."""
INVERSION_NUMBERS = ("cosine", "l2", "logit", "iterations")
"""Numbers of each reconstruction that are kept beside its picture."""


@with_autograd
def inspect_model(
    config: TrialConfig, net: nn.Module, images: Images, parts: Parts, members: np.ndarray, device: torch.device
) -> tuple[dict[str, float], Pictures]:
    """Invert the network and compare its attribution maps, if `config.judge` requests it.

    Args:
        config: configuration of the network.
        net: the network on `device`; returned to its own mode.
        images: the pool.
        parts: the parts of the pool.
        members: rows of the pool that the network was trained on.
        device: device to run on.

    Returns:
        Metrics by name (see `core.inversion.leak` and `core.attribution.stability`), and pictures.
    """
    metrics: dict[str, float] = {}
    pictures: Pictures = {}
    rows = parts.judged(config.judge.part)
    if config.judge.inversion != "none":
        others = parts.non_members(config.judge.part)
        if not len(others):
            raise InputError(
                "judge.inversion needs non-members that are drawn like the members, and the split has none; raise split.val"
            )
        attacks = ("ascent",) if config.judge.inversion == "ascent" else ("ascent", "deepdream", "acgan")
        judge = config.judge
        result = invert(
            net, images, members, others, attacks=attacks, iterations=judge.inversion_iterations, lr=judge.inversion_lr,
            shadow=parts.shadow[:MAX_GAN_IMAGES] if "acgan" in attacks or judge.inversion_start == "image" else None,
            start=judge.inversion_start, restarts=judge.inversion_restarts, seed=config.seed, device=device,
            options={"acgan": {"w": judge.gan_weight, "width": judge.gan_width, "epochs": judge.gan_epochs}},
        )  # fmt: skip
        metrics |= result.metrics
        for name, reconstructions in result.pictures.items():
            pictures |= {f"inversion/{name}/{key}": array for key, array in _arrays(reconstructions, images).items()}
    if config.judge.attribution:
        rows = rows[: config.judge.attribution]
        chosen = images.at(rows).to(device)
        draw = rng.per_image(config.seed, "attribution", ids=torch.from_numpy(rows).to(device))
        default_bits = 7 if chosen.shape[0] == 1 else 5  # the BPFC paper's values for grey and for colour images
        bits = config.regularizer.k if isinstance(config.regularizer, BPFC) else default_bits
        maps = attribution_maps(net, as_float(chosen.x), draw=draw, bits=bits)
        metrics |= {name: values.mean().item() for name, values in compare_maps(maps).items()}
        shown = correct(net, as_float(chosen.x), chosen.y).nonzero().squeeze(1)[:MAX_MAPS]
        pictures |= {"attribution/images": _bytes(maps.images[shown]), "attribution/classes": _numpy(maps.classes[shown])}
        pictures |= {f"attribution/maps/{name}": _numpy(heat[shown].float()) for name, heat in maps.maps.items()}
    return metrics, pictures


def _arrays(reconstructions: Reconstructions, images: Images) -> dict[str, Any]:
    nearest = images.x[torch.from_numpy(reconstructions.member_rows)]
    numbers = {name: values for name, values in reconstructions.numbers.items() if name in INVERSION_NUMBERS}
    return {
        "images": _bytes(torch.from_numpy(reconstructions.images)), "nearest": nearest.contiguous().numpy(),
        "classes": reconstructions.classes, "trajectory": reconstructions.trajectory, **numbers,
    }  # fmt: skip


def _bytes(x: Tensor) -> np.ndarray:
    return _numpy((x * 255).round().clamp(0, 255).to(torch.uint8).contiguous())


def _numpy(x: Tensor) -> np.ndarray:
    return x.detach().cpu().numpy()
