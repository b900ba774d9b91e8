"""Stability of heat maps: the distance between two maps that should be equal (sparsity paper, Table 2).

Maps are stable if they depend little on the size of the patch, and on perturbations that do not change the prediction. All maps of
an image explain the class that the network predicts for the unperturbed image.
"""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.attribution.grad_cam import grad_cam
from core.attribution.occlusion import occlusion
from core.modes import eval_mode, with_autograd
from core.regularizers.bpfc import quantise
from core.rng import PerImage

PAIRS = {
    "patch": ("patch", "patch_small"),
    "patch_blur": ("patch", "patch_blurred"),
    "grad_cam_blur": ("grad_cam", "grad_cam_blurred"),
    "grad_cam_quantised": ("grad_cam", "grad_cam_quantised"),
}
"""Comparisons by name: the two maps of an image that are compared. The paper has `patch` and `grad_cam_blur`; a sliding patch over
quantised images would take a third more time."""
BLUR_RADIUS = 2
"""Radius of the blur's 5x5 kernel, in pixels."""


@dataclass(frozen=True)
class AttributionMaps:
    """Images and their heat maps."""

    images: Tensor
    """Images in [0, 1], [N, c, h, w]."""
    classes: Tensor
    """Predicted classes, which the maps explain, [N]."""
    maps: dict[str, Tensor]
    """Maps by the names in `PAIRS`, [N, h, w]."""


def patches(side: int) -> tuple[int, int, int]:
    """Sides of the large and the small patch, and their stride, for images whose shorter side has `side` pixels.

    4, 2 and 2 as in the paper; 2, 1 and 1 below 16 pixels, where a patch of 4 would hide a quarter of an 8x8 digit.
    """
    return (4, 2, 2) if side >= 16 else (2, 1, 1)


@with_autograd
def attribution_maps(
    net: nn.Module, x: Tensor, *, draw: PerImage | None = None, sigma: float = 0.5, bits: int = 5, batch_size: int = 256,
    pairs: Collection[str] = tuple(PAIRS),
) -> AttributionMaps:  # fmt: skip
    """Sliding-patch and Grad-CAM maps of images, and of the same images blurred or quantised.

    Args:
        net: images -> logits; returned to its own mode.
        x: images in [0, 1], [N, c, h, w].
        draw: source of the quantiser's noise, as in BPFC training; without it the quantiser only rounds, and nothing is random.
        sigma: standard deviation of the blur, in pixels.
        bits: bits that the quantiser drops, 1 to 8; BPFC uses 5 for CIFAR, 6 for Fashion-MNIST and 7 for MNIST.
        batch_size: images per forward pass and per pass of Grad-CAM; `occlusion` has a different bound.
        pairs: names in `PAIRS`; only maps of these comparisons are made.
    """
    with eval_mode(net), torch.no_grad():
        y = torch.cat([net(part).argmax(1) for part in x.split(batch_size)])
    large, small, stride = patches(min(x.shape[2:]))
    smooth, coarse = blurred(x, sigma), quantise(x, bits, noise=0.0 if draw is None else 1.0, draw=draw)
    maps = {
        "patch": lambda: occlusion(net, x, y, patch=large, stride=stride),
        "patch_small": lambda: occlusion(net, x, y, patch=small, stride=stride),
        "patch_blurred": lambda: occlusion(net, smooth, y, patch=large, stride=stride),
        "grad_cam": lambda: grad_cam(net, x, y, batch_size=batch_size),
        "grad_cam_blurred": lambda: grad_cam(net, smooth, y, batch_size=batch_size),
        "grad_cam_quantised": lambda: grad_cam(net, coarse, y, batch_size=batch_size),
    }
    needed = {name for pair in pairs for name in PAIRS[pair]}
    return AttributionMaps(x, y, {name: make() for name, make in maps.items() if name in needed})


def compare_maps(maps: AttributionMaps) -> dict[str, Tensor]:
    """Those comparisons of `PAIRS` for which there are maps, for each image, float64 [N]; see `attribution_stability`."""
    values: dict[str, Tensor] = {}
    for name, (one, other) in PAIRS.items():
        if not {one, other} <= maps.maps.keys():
            continue
        a, b = maps.maps[one], maps.maps[other]
        values[f"attribution_ssd/{name}"] = ssd(min_max(a), min_max(b))
        values[f"attribution_ssd_raw/{name}"] = ssd(a, b)
        values[f"attribution_rank/{name}"] = rank_correlation(a, b)
        values[f"attribution_constant/{name}"] = (_constant(a) | _constant(b)).double()
    return values


def attribution_stability(
    net: nn.Module, x: Tensor, *, draw: PerImage | None = None, sigma: float = 0.5, bits: int = 5
) -> dict[str, float]:
    """Mean distance between two maps of one image; the comparisons are those of `PAIRS`.

    Means over the images, for each comparison:
    - `attribution_ssd/<name>`: sum of squared differences of the maps scaled to [0, 1]; lower is more stable, at most h x w.
      Almost constant maps, which very confident networks have, appear unstable by it; the next two metrics do not have this flaw.
    - `attribution_ssd_raw/<name>`: sum of squared differences of the unscaled maps, in squared units of the score, which differ
      between networks.
    - `attribution_rank/<name>`: Spearman's rank correlation; higher is more stable.
    - `attribution_constant/<name>`: share of images for which one of the two maps is constant, like a Grad-CAM map in which no
      position raises the class's logit. Two such maps agree, so the other metrics mean little if the share is far above 0.

    Args:
        net, x, draw, sigma, bits: see `attribution_maps`; at least one image.

    Raises:
        ValueError: no images.
    """
    if not len(x):
        raise ValueError("attribution stability needs at least one image, got 0")
    maps = attribution_maps(net, x, draw=draw, sigma=sigma, bits=bits)
    return {name: values.mean().item() for name, values in compare_maps(maps).items()}


def min_max(maps: Tensor) -> Tensor:
    """Each map scaled to [0, 1], (m - min) / (max - min + 1e-7), [N, h, w]; a constant map becomes zero."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low + 1e-7)


def ssd(a: Tensor, b: Tensor) -> Tensor:
    """Sum over pixels of the squared difference, [N, h, w] and [N, h, w] -> float64 [N].

    Raises:
        ValueError: the shapes differ.
    """
    _same_shape(a, b)
    return (a.double() - b.double()).square().sum((1, 2))


def _constant(maps: Tensor) -> Tensor:
    return maps.amin((1, 2)) == maps.amax((1, 2))


def rank_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's rank correlation between the pixels of two maps, [N, h, w] and [N, h, w] -> float64 [N] in [-1, 1].

    Tied pixels share their mean rank. If a map is constant, the correlation is undefined; it is then taken as 1 if both maps are
    constant (nothing has changed) and as 0 if one is.

    Raises:
        ValueError: the shapes differ.
    """
    _same_shape(a, b)
    p, q = _centred_ranks(a), _centred_ranks(b)
    lengths = p.norm(dim=1) * q.norm(dim=1)
    both_constant = (p.norm(dim=1) + q.norm(dim=1)) == 0
    return torch.where(both_constant, 1.0, (p * q).sum(1) / lengths.clamp(min=1e-12))


def _centred_ranks(maps: Tensor) -> Tensor:
    """Ranks of the pixels less their mean, [N, h, w] -> [N, h * w]; equal values share their mean rank."""
    values = maps.double().flatten(1).contiguous()
    ordered = values.sort(1).values
    below, up_to = (torch.searchsorted(ordered, values, right=right) for right in (False, True))
    return (below + up_to - values.shape[1]).double() / 2


def _same_shape(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise ValueError(f"the maps must have the same shape, got {tuple(a.shape)} and {tuple(b.shape)}")


def blurred(x: Tensor, sigma: float = 0.5) -> Tensor:
    """Gaussian blur with a 5x5 kernel whose weights sum to 1; the image is reflected at its border.

    Args:
        x: images of at least 3x3 pixels, [N, c, h, w].
        sigma: standard deviation in pixels; at 0 the images are unchanged.

    Raises:
        ValueError: sigma is negative.
    """
    if sigma < 0:
        raise ValueError(f"sigma must be at least 0, got {sigma}")
    if not sigma:
        return x.clone()
    line = torch.exp(-0.5 * (torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1, device=x.device, dtype=torch.float64) / sigma).square())
    line = (line / line.sum()).to(x)
    channels = x.shape[1]
    x = F.pad(x, [BLUR_RADIUS] * 4, mode="reflect")
    x = F.conv2d(x, line.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(x, line.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
