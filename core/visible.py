"""What can be seen of a trained network, not only counted: what its weights show of its classes, and how it explains itself."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core import rng
from core.attacks.suite import right
from core.attribution.stability import attribution_maps, compared
from core.config import TrialConfig
from core.data import Images, Parts
from core.inversion.leak import Reconstructions, invert
from core.regularizers.bpfc import BPFC
from core.train import as_float

SHOWN = 6
"""Images whose heat maps are kept."""
SHADOWS = 2000
"""Images that an AC-GAN learns from, at most."""
ACGAN = {"width": 16, "epochs": 10}
"""Of the generator in a trial, which is one of many; `core.inversion.acgan` itself has the paper's 64 and 200."""
Pictures = dict[str, np.ndarray]
"""`inversion/<attack>/...`: `images` and `nearest` members (uint8 [K, c, h, w]), `classes` [K], `cosine` and `l2` to these [K].
`attribution/images` (uint8 [n, c, h, w]), `attribution/classes` [n], `attribution/maps/<name>` (float32 [n, h, w])."""


def look(
    config: TrialConfig, net: nn.Module, images: Images, parts: Parts, members: np.ndarray, device: torch.device
) -> tuple[dict[str, float], Pictures]:
    """Invert the network, and draw and compare its heat maps, as far as `config.judge` asks for it.

    Args:
        config: of the network. net: on `device`, handed back as it came. images: the pool. parts: of the pool.
        members: rows that it was trained on. device: where.

    Returns:
        Metrics by name, see `core.inversion.leak` and `core.attribution.stability`, and pictures.
    """
    metrics: dict[str, float] = {}
    pictures: Pictures = {}
    rows = parts.judged(config.judge.part)
    if config.judge.inversion != "none":
        attacks = ("ascent",) if config.judge.inversion == "ascent" else ("ascent", "deepdream", "acgan")
        found = invert(
            net, images, members, rows, shadow=parts.shadow[:SHADOWS] if "acgan" in attacks else None, attacks=attacks,
            iterations=config.judge.inversion_iterations, lr=config.judge.inversion_lr, seed=config.seed, device=device,
            options={"acgan": ACGAN},
        )  # fmt: skip
        metrics |= found.metrics
        for name, made in found.pictures.items():
            pictures |= {f"inversion/{name}/{key}": array for key, array in _arrays(made, images).items()}
    if config.judge.attribution:
        rows = rows[: config.judge.attribution]
        some = images.at(rows).to(device)
        draw = rng.per_image(config.seed, "attribution", ids=torch.from_numpy(rows).to(device))
        usual = 7 if some.shape[0] == 1 else 5  # BPFC's own, for grey and for colour images
        bits = config.regularizer.k if isinstance(config.regularizer, BPFC) else usual
        maps = attribution_maps(net, as_float(some.x), draw=draw, bits=bits)
        metrics |= {name: values.mean().item() for name, values in compared(maps).items()}
        shown = right(net, as_float(some.x), some.y).nonzero().squeeze(1)[:SHOWN]
        pictures |= {"attribution/images": _bytes(maps.images[shown]), "attribution/classes": _numpy(maps.classes[shown])}
        pictures |= {f"attribution/maps/{name}": _numpy(heat[shown].float()) for name, heat in maps.maps.items()}
    return metrics, pictures


def _arrays(made: Reconstructions, images: Images) -> dict[str, Any]:
    nearest = images.x[torch.from_numpy(made.member_rows)]
    return {
        "images": _bytes(torch.from_numpy(made.images)), "nearest": nearest.contiguous().numpy(), "classes": made.classes,
        "cosine": made.numbers["cosine"], "l2": made.numbers["l2"],
    }  # fmt: skip


def _bytes(x: Tensor) -> np.ndarray:
    return _numpy((x * 255).round().clamp(0, 255).to(torch.uint8).contiguous())


def _numpy(x: Tensor) -> np.ndarray:
    return x.detach().cpu().numpy()
