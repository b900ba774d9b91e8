"""Stability of attribution over images (sparsity paper, Section 4.3: Table 2, Figures 4 and 5)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from core.attribution.stability import PAIRS, attribution_maps, blurred, compare_maps, min_max
from core.bound import TARGET, Trained
from core.data import Images
from core.modes import as_float

COMPARED = ("patch", "grad_cam_blur")
"""The paper's comparisons: patches of 4 and of 2 pixels, and Grad-CAM of an image and of the image blurred."""


def attribution_distances(
    networks: Mapping[str, Trained], images: Images, device: torch.device | str, *, count: int = 1000, shown: int = 0,
    sigma: float = 0.5,
) -> dict[str, float | list[float]]:  # fmt: skip
    """Squared distances between attribution maps that should be equal, over images and for one image that is shown.

    Args:
        networks: the trained network, as `TARGET`.
        images: the pool.
        device: device of the network.
        count: number of images: the first of the part that `judge.part` names.
        shown: number of the image that is shown, below `count`.
        sigma: standard deviation of the blur, in pixels.

    Returns:
        For each comparison of `COMPARED`:
        - `ssd/<name>`, `ssd_sd/<name>`: mean and standard deviation over images of the sum of squared differences of the maps,
          each scaled to [0, 1], as the paper's numbers seem to be;
        - `rank/<name>`: mean rank correlation of the maps;
        - `constant/<name>`: share of images for which one of the maps is constant;
        - `shown/ssd/<name>`: the sum of squared differences of the image that is shown.

        And of this image, as series: `shown/shape` (channels, height, width), `shown/image`, `shown/blurred`, and
        `shown/<map>`, the maps scaled to [0, 1], by the names in `core.attribution.stability.PAIRS`.

    Raises:
        ValueError: there is no image with the number `shown`.
    """
    config, bound = networks[TARGET]
    parts = config.parts(images)
    x = as_float(images.at(parts.judged(config.judge.part)[:count]).to(torch.device(device)).x)
    if not 0 <= shown < len(x):
        raise ValueError(f"shown must be 0 to {len(x) - 1}, the images that are compared, got {shown}")
    maps = attribution_maps(bound.net, x, sigma=sigma, pairs=COMPARED)
    compared, values = compare_maps(maps), dict[str, float | list[float]]()
    for name in COMPARED:
        distances = compared[f"attribution_ssd/{name}"]
        values |= {
            f"ssd/{name}": distances.mean().item(), f"ssd_sd/{name}": distances.std(correction=0).item(),
            f"rank/{name}": compared[f"attribution_rank/{name}"].mean().item(),
            f"constant/{name}": compared[f"attribution_constant/{name}"].mean().item(),
            f"shown/ssd/{name}": distances[shown].item(),
        }  # fmt: skip
        values |= {f"shown/{one}": _series(min_max(maps.maps[one][shown : shown + 1])) for one in PAIRS[name]}
    one = x[shown : shown + 1]
    pictures = {"shown/image": _series(one), "shown/blurred": _series(blurred(one, sigma))}
    return {**values, **pictures, "shown/shape": [float(size) for size in images.shape]}


def _series(values: Tensor) -> list[float]:
    """All values of a tensor in order, with four digits, which suffice to draw them."""
    return [round(value, 4) for value in values.flatten().tolist()]
