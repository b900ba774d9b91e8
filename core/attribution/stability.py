"""How stable heat maps are: the distance between two maps that should say the same (sparsity paper, Table 2).

A network explains itself stably if the size of the patch, or a perturbation that leaves the answer alone, moves its maps
little. The class is the one that the network gives to the unperturbed image, for all maps of that image.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.attacks.gradient import frozen
from core.attribution.grad_cam import grad_cam
from core.attribution.occlusion import occlusion
from core.regularizers.bpfc import quantise
from core.rng import PerImage

PAIRS = {
    "patch": ("patch", "patch_small"),
    "patch_blur": ("patch", "patch_blurred"),
    "grad_cam_blur": ("grad_cam", "grad_cam_blurred"),
    "grad_cam_quantised": ("grad_cam", "grad_cam_quantised"),
}
"""What is compared. The paper has `patch` and `grad_cam_blur`; a sliding patch over quantised images would cost a third more."""
RADIUS = 2
"""Of the blur's 5x5 kernel, in pixels."""


@dataclass(frozen=True)
class AttributionMaps:
    """Images and their heat maps."""

    images: Tensor
    """[N, c, h, w], in [0, 1]."""
    classes: Tensor
    """What the network calls them, [N]; the maps are of these."""
    maps: dict[str, Tensor]
    """By the names in `PAIRS`, each [N, h, w]."""


def patches(side: int) -> tuple[int, int, int]:
    """Sides of the large and the small patch, and their stride, for images of which the shorter side has so many pixels.

    4, 2 and 2 as in the paper; 2, 1 and 1 below 16 pixels, where 4 would hide a quarter of the digits' 8.
    """
    return (4, 2, 2) if side >= 16 else (2, 1, 1)


def attribution_maps(
    net: nn.Module, x: Tensor, *, draw: PerImage | None = None, sigma: float = 0.5, bits: int = 5, batch_size: int = 256
) -> AttributionMaps:
    """Sliding-patch and Grad-CAM maps of images, and of these images blurred or quantised; a few images do for pictures.

    Args:
        net: images -> logits; handed back as it came. x: images in [0, 1], [N, c, h, w].
        draw: the quantiser's noise, as BPFC trains with; without it the quantiser rounds only, and nothing is random.
        sigma: of the blur, in pixels. bits: that the quantiser drops, 1 to 8; BPFC takes 5 for CIFAR, 6 for Fashion-MNIST and
            7 for MNIST.
        batch_size: images at once in forward passes and Grad-CAM; `occlusion` has a bound of its own.
    """
    with frozen(net), torch.no_grad():
        y = torch.cat([net(part).argmax(1) for part in x.split(batch_size)])
    large, small, stride = patches(min(x.shape[2:]))
    soft, coarse = blurred(x, sigma), quantise(x, bits, noise=0.0 if draw is None else 1.0, draw=draw)
    maps = {
        "patch": occlusion(net, x, y, patch=large, stride=stride),
        "patch_small": occlusion(net, x, y, patch=small, stride=stride),
        "patch_blurred": occlusion(net, soft, y, patch=large, stride=stride),
        "grad_cam": grad_cam(net, x, y, batch_size=batch_size),
        "grad_cam_blurred": grad_cam(net, soft, y, batch_size=batch_size),
        "grad_cam_quantised": grad_cam(net, coarse, y, batch_size=batch_size),
    }
    return AttributionMaps(x, y, maps)


def compared(maps: AttributionMaps) -> dict[str, Tensor]:
    """Each comparison of `PAIRS` on each image, [N] float64, under the names of `attribution_stability`."""
    found: dict[str, Tensor] = {}
    for name, (one, other) in PAIRS.items():
        a, b = maps.maps[one], maps.maps[other]
        found[f"attribution_ssd/{name}"] = ssd(min_max(a), min_max(b))
        found[f"attribution_ssd_raw/{name}"] = ssd(a, b)
        found[f"attribution_rank/{name}"] = rank_correlation(a, b)
        found[f"attribution_constant/{name}"] = (_constant(a) | _constant(b)).double()
    return found


def attribution_stability(
    net: nn.Module, x: Tensor, *, draw: PerImage | None = None, sigma: float = 0.5, bits: int = 5
) -> dict[str, float]:
    """Mean distance between two maps of one image; the comparisons are those of `PAIRS`.

    For each, over the images:
    - `attribution_ssd/<name>`: sum of squared differences of the maps scaled to [0, 1]; lower is stabler, at most h x w. Maps
      that are next to constant, as those of a very sure network are, look unstable by it; the next two tell.
    - `attribution_ssd_raw/<name>`: of the maps as they are, in squared units of the score, which differ between networks.
    - `attribution_rank/<name>`: Spearman's rank correlation; higher is stabler.
    - `attribution_constant/<name>`: share of images where one of both maps is constant, as a Grad-CAM that nothing speaks for
      is. Two such maps agree, so where the share is far above 0 the others mean little.

    Args:
        net, x, draw, sigma, bits: as in `attribution_maps`; at least one image.

    Raises:
        ValueError: no images.
    """
    if not len(x):
        raise ValueError("attribution stability needs at least one image, got 0")
    maps = attribution_maps(net, x, draw=draw, sigma=sigma, bits=bits)
    return {name: values.mean().item() for name, values in compared(maps).items()}


def min_max(maps: Tensor) -> Tensor:
    """Each map scaled to [0, 1], (m - min) / (max - min + 1e-7), [N, h, w]; a constant one becomes zeros."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low + 1e-7)


def ssd(a: Tensor, b: Tensor) -> Tensor:
    """Sum over pixels of the squared difference, [N, h, w] and [N, h, w] -> [N] float64.

    Raises:
        ValueError: the shapes differ.
    """
    _same_shape(a, b)
    return (a.double() - b.double()).square().sum((1, 2))


def _constant(maps: Tensor) -> Tensor:
    return maps.amin((1, 2)) == maps.amax((1, 2))


def rank_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's correlation between the pixels of two maps, [N, h, w] and [N, h, w] -> [N] float64 in [-1, 1].

    Tied pixels share their mean rank. Where a map is constant, its pixels have no order and the correlation is undefined: here
    it is 1 if both are (nothing has changed) and 0 if one is.

    Raises:
        ValueError: the shapes differ.
    """
    _same_shape(a, b)
    p, q = _centred_ranks(a), _centred_ranks(b)
    lengths = p.norm(dim=1) * q.norm(dim=1)
    both_constant = (p.norm(dim=1) + q.norm(dim=1)) == 0
    return torch.where(both_constant, 1.0, (p * q).sum(1) / lengths.clamp(min=1e-12))


def _centred_ranks(maps: Tensor) -> Tensor:
    """[N, h, w] -> [N, h * w], mean rank of equal values, less the mean of all ranks."""
    values = maps.double().flatten(1).contiguous()
    ordered = values.sort(1).values
    below, up_to = (torch.searchsorted(ordered, values, right=right) for right in (False, True))
    return (below + up_to - values.shape[1]).double() / 2


def _same_shape(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise ValueError(f"maps of one shape can be compared, got {tuple(a.shape)} and {tuple(b.shape)}")


def blurred(x: Tensor, sigma: float = 0.5) -> Tensor:
    """Gaussian blur with a 5x5 kernel whose weights sum to 1; beyond the border the image is reflected.

    Args:
        x: images, [N, c, h, w], of at least 3x3 pixels. sigma: in pixels; at 0 the images stay as they are.

    Raises:
        ValueError: sigma is negative.
    """
    if sigma < 0:
        raise ValueError(f"sigma is at least 0, got {sigma}")
    if not sigma:
        return x.clone()
    line = torch.exp(-0.5 * (torch.arange(-RADIUS, RADIUS + 1, device=x.device, dtype=torch.float64) / sigma).square())
    line = (line / line.sum()).to(x)
    channels = x.shape[1]
    x = F.pad(x, [RADIUS] * 4, mode="reflect")
    x = F.conv2d(x, line.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(x, line.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
