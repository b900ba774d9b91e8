"""LiRA, the likelihood-ratio attack (Carlini 2022): one Gaussian test per image, with shadow models for the parameters.

Written from the paper. Common code of it takes the deviation of both sides from the IN models where the variance is fixed, and
both tails where the paper's offline attack takes one; here each side has its own, and `tails` says how many.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Variance = Literal["auto", "fixed", "sample"]
MANY = 64
"""Shadow models from which on `auto` trusts each image's own variance (the paper: a global one is better below)."""
_FLOOR = 1e-6


def online(target: np.ndarray, shadows: np.ndarray, state: np.ndarray, variance: Variance = "auto") -> np.ndarray:
    """log N(phi; in) - log N(phi; out) per image, averaged over queries; larger means more likely a member.

    An image that all or none of the shadow models were trained on lacks one side. Its mean is then the other one's, moved by the
    median difference over images that have both: with a handful of shadow models most images are such.

    Args:
        target: phi (`core.audits.scores.log_odds`) of the audited network, [N] or [N, Q] for Q queries of each image.
        shadows: of the shadow models, [M, N] or [M, N, Q].
        state: 1 where a shadow model was trained on an image, -1 where not, 0 for neither, [M, N].
        variance: "sample" is each image's own; "fixed" one for all images, IN and OUT apart, of
            what is left when each image's mean is taken off; "auto" by the number of models.

    Returns:
        [N].

    Raises:
        ValueError: the shadow models have no IN or no OUT at all, or an image has neither.
    """
    target, shadows = _queries(target, shadows)
    if not (state > 0).any() or not (state < 0).any():
        raise ValueError("online LiRA needs shadow models that were trained on some of the images and not on others")
    _refuse_unknown(state)
    inside, outside = (_side(shadows, mask, _variance(variance, shadows)) for mask in (state > 0, state < 0))
    both = (inside.count > 0) & (outside.count > 0)
    gap = np.median((inside.mean - outside.mean)[both], axis=0) if both.any() else _overall(shadows, state)
    mean_in = np.where((inside.count > 0)[:, None], inside.mean, outside.mean + gap)
    mean_out = np.where((outside.count > 0)[:, None], outside.mean, inside.mean - gap)
    return (_log_density(target, mean_in, inside.std) - _log_density(target, mean_out, outside.std)).mean(1)


def offline(
    target: np.ndarray, shadows: np.ndarray, state: np.ndarray, variance: Variance = "auto", tails: Literal[1, 2] = 1
) -> np.ndarray:
    """-log P(Z > phi) for Z normal as the OUT models are, averaged over queries; larger means more likely a member.

    For one query that is the order of the paper's P(Z <= phi). The logarithm of that would end at 0, though, and a query which
    the network is sure of could not outweigh one that it does not know; so these p-values are combined as Fisher's are.

    Args:
        target, shadows, variance: as in `online`. state: images without any OUT model are refused.
        tails: 2 gives minus the log-density instead, as some implementations do; it takes unusually *low* phi for a member, too.

    Returns:
        [N].

    Raises:
        ValueError: an image without OUT model.
    """
    target, shadows = _queries(target, shadows)
    outside = _side(shadows, state < 0, _variance(variance, shadows))
    if (outside.count == 0).any():
        raise ValueError(f"{int((outside.count == 0).sum())} images have no shadow model that was not trained on them")
    if tails == 2:
        return -_log_density(target, outside.mean, outside.std).mean(1)
    from scipy.special import log_ndtr

    return -log_ndtr((outside.mean - target) / outside.std).mean(1)


def calibrated(target: np.ndarray, shadows: np.ndarray, state: np.ndarray) -> np.ndarray:
    """phi less what is usual for the image (Watson 2022), for shadow models that were trained on some of the images.

    The usual is the mean over shadow models, each IN one corrected by the median difference between IN and OUT over all images.
    It estimates one number per image where LiRA estimates two or four, so it needs fewer models.

    Args:
        target, shadows, state: as in `online`; with no IN model at all nothing is corrected.

    Returns:
        [N].

    Raises:
        ValueError: an image for which there is neither IN nor OUT model.
    """
    target, shadows = _queries(target, shadows)
    _refuse_unknown(state)
    inside, outside = (_side(shadows, mask, "fixed") for mask in (state > 0, state < 0))
    both = (inside.count > 0) & (outside.count > 0)
    gap = np.median((inside.mean - outside.mean)[both], axis=0) if both.any() else _overall(shadows, state)
    counts = inside.count + outside.count
    total = inside.count[:, None] * (inside.average - gap) + outside.count[:, None] * outside.average
    return (target - total / counts[:, None]).mean(1)


@dataclass(frozen=True)
class _Side:
    """Of the IN or of the OUT models, per image and query."""

    count: np.ndarray
    """[N]."""
    mean: np.ndarray
    """Median over the models, [N, Q]; 0 where there is none."""
    average: np.ndarray
    """[N, Q], likewise."""
    std: np.ndarray
    """[N, Q] or [1, Q]."""


def _side(shadows: np.ndarray, mask: np.ndarray, variance: Variance) -> _Side:
    count = mask.sum(0)
    some = np.maximum(count, 1)[:, None]
    kept = np.where(mask[:, :, None], shadows, 0.0)
    average = kept.sum(0) / some
    squares = np.where(mask[:, :, None], (shadows - average) ** 2, 0.0).sum(0)
    free = np.maximum(count - 1, 0).sum()
    if free:
        fixed = np.sqrt(squares.sum(0, keepdims=True) / free)
    else:  # one model an image: how images differ is all there is
        fixed = np.std(average[count > 0], axis=0, keepdims=True) if (count > 0).any() else np.ones((1, shadows.shape[2]))
    std = fixed if variance == "fixed" else np.where((count > 1)[:, None], np.sqrt(squares / some), fixed)
    return _Side(count, _median(shadows, mask, count), average, np.maximum(std, _FLOOR))


def _median(shadows: np.ndarray, mask: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Over the models in the mask, [N, Q]; all images in one sort."""
    n = np.arange(shadows.shape[1])
    lower, upper = np.maximum(count - 1, 0) // 2, np.maximum(count, 1) // 2
    columns = []
    for q in range(shadows.shape[2]):
        ordered = np.sort(np.where(mask, shadows[:, :, q], np.inf).T, axis=1)
        columns.append((ordered[n, lower] + ordered[n, np.minimum(upper, len(shadows) - 1)]) / 2)
    medians = np.stack(columns, 1)
    return np.where((count > 0)[:, None], medians, 0.0)


def _overall(shadows: np.ndarray, state: np.ndarray) -> np.ndarray | float:
    """The difference between all IN and all OUT values, where no image has both."""
    groups = [shadows[mask] for mask in (state > 0, state < 0)]
    return np.median(groups[0], axis=0) - np.median(groups[1], axis=0) if all(len(g) for g in groups) else 0.0


def _refuse_unknown(state: np.ndarray) -> None:
    """Of an image that served every shadow model otherwise, or none, nothing can be said."""
    if unknown := int((state == 0).all(0).sum()):
        raise ValueError(f"{unknown} images have no shadow model")


def _log_density(value: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Of a normal distribution, less log sqrt(2 pi)."""
    return -(((value - mean) / std) ** 2) / 2 - np.log(std)


def _variance(asked: Variance, shadows: np.ndarray) -> Variance:
    return asked if asked != "auto" else ("sample" if len(shadows) >= MANY else "fixed")


def _queries(target: np.ndarray, shadows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """With an axis for queries."""
    return (target[:, None], shadows[:, :, None]) if target.ndim == 1 else (target, shadows)
