"""LiRA, the likelihood-ratio attack (Carlini 2022): one Gaussian test per image, whose parameters come from shadow models.

Implemented from the paper. Widely used code differs in two ways: with a fixed variance it takes the standard deviation of both
sides from the IN models, where each side has its own here; and its offline attack is two-sided, where the paper's is one-sided
(see `tails`).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Variance = Literal["auto", "fixed", "sample"]
MIN_MODELS_FOR_SAMPLE_VARIANCE = 64
"""Number of shadow models from which `auto` uses each image's own variance; below, the paper recommends a global one."""
_FLOOR = 1e-6


def online(target: np.ndarray, shadows: np.ndarray, state: np.ndarray, variance: Variance = "auto") -> np.ndarray:
    """The log-likelihood ratio log N(phi; in) - log N(phi; out) per image, averaged over queries; larger for likely members.

    If all or none of the shadow models were trained on an image, it has no OUT or no IN models. The missing mean is then the other
    one, shifted by the median difference over images that have both. With few shadow models, most images are affected.

    Args:
        target: phi (`core.audits.scores.log_odds`) of the audited network, [N] or [N, Q] for Q queries per image.
        shadows: phi of the shadow models, [M, N] or [M, N, Q].
        state: 1 where a shadow model was trained on an image (IN), -1 where it was not (OUT), 0 for neither, [M, N].
            A model counts as neither for an image for which one of its values is not finite.
        variance: "sample" uses each image's own variance; "fixed" uses one variance of the deviations from the images' means,
            separately for IN and OUT; "auto" chooses by the number of models.

    Returns:
        Scores, [N].

    Raises:
        ValueError: there is no IN or no OUT model at all, an image has neither, or a value of the target is NaN.
    """
    target, shadows, state = _prepared(target, shadows, state)
    if not (state > 0).any() or not (state < 0).any():
        raise ValueError("online LiRA needs shadow models that were trained on some of the images and not on others")
    _require_models(state)
    inside, outside = (_side(shadows, mask, _variance(variance, shadows)) for mask in (state > 0, state < 0))
    both = (inside.count > 0) & (outside.count > 0)
    gap = np.median((inside.mean - outside.mean)[both], axis=0) if both.any() else _overall_gap(shadows, state)
    mean_in = np.where((inside.count > 0)[:, None], inside.mean, outside.mean + gap)
    mean_out = np.where((outside.count > 0)[:, None], outside.mean, inside.mean - gap)
    return (_log_density(target, mean_in, inside.std) - _log_density(target, mean_out, outside.std)).mean(1)


def offline(
    target: np.ndarray, shadows: np.ndarray, state: np.ndarray, variance: Variance = "auto", tails: Literal[1, 2] = 1
) -> np.ndarray:
    """-log P(Z > phi) for Z with the OUT models' normal distribution, averaged over queries; larger for likely members.

    For one query, the order is that of the paper's P(Z <= phi). The logarithm of that is bounded by 0, so a query on which the
    network is certain could not outweigh one on which it is not; -log P(Z > phi) combines queries like Fisher's method.

    Args:
        target, shadows, variance: see `online`.
        state: see `online`; every image needs an OUT model.
        tails: 2 returns minus the log-density instead, as some implementations do; unusually low phi then also counts as a sign
            of membership.

    Returns:
        Scores, [N].

    Raises:
        ValueError: an image has no OUT model, or a value of the target is NaN.
    """
    target, shadows, state = _prepared(target, shadows, state)
    outside = _side(shadows, state < 0, _variance(variance, shadows))
    if (outside.count == 0).any():
        raise ValueError(f"{int((outside.count == 0).sum())} images have no shadow model that was not trained on them")
    if tails == 2:
        return -_log_density(target, outside.mean, outside.std).mean(1)
    from scipy.special import log_ndtr

    return -log_ndtr((outside.mean - target) / outside.std).mean(1)


def calibrated(target: np.ndarray, shadows: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Difficulty calibration: phi minus the image's mean phi over shadow models (Watson 2022).

    IN models are first corrected by the median difference between IN and OUT over all images. The score estimates one number per
    image, where LiRA estimates two or four, and so needs fewer models.

    Args:
        target, shadows, state: see `online`; without any IN model, nothing is corrected.

    Returns:
        Scores, [N].

    Raises:
        ValueError: an image has neither an IN nor an OUT model, or a value of the target is NaN.
    """
    target, shadows, state = _prepared(target, shadows, state)
    _require_models(state)
    inside, outside = (_side(shadows, mask, "fixed") for mask in (state > 0, state < 0))
    both = (inside.count > 0) & (outside.count > 0)
    gap = np.median((inside.mean - outside.mean)[both], axis=0) if both.any() else _overall_gap(shadows, state)
    counts = inside.count + outside.count
    total = inside.count[:, None] * (inside.average - gap) + outside.count[:, None] * outside.average
    return (target - total / counts[:, None]).mean(1)


@dataclass(frozen=True)
class _Side:
    """Statistics of phi over the IN or the OUT models, per image and query."""

    count: np.ndarray
    """Number of models, [N]."""
    mean: np.ndarray
    """Median over the models, [N, Q]; 0 where there is none."""
    average: np.ndarray
    """Arithmetic mean over the models, [N, Q]; 0 where there is none."""
    std: np.ndarray
    """Standard deviation, [N, Q] or [1, Q]."""


def _side(shadows: np.ndarray, mask: np.ndarray, variance: Variance) -> _Side:
    count = mask.sum(0)
    divisor = np.maximum(count, 1)[:, None]
    kept = np.where(mask[:, :, None], shadows, 0.0)
    average = kept.sum(0) / divisor
    squares = np.where(mask[:, :, None], (shadows - average) ** 2, 0.0).sum(0)
    free = np.maximum(count - 1, 0).sum()
    if free:
        fixed = np.sqrt(squares.sum(0, keepdims=True) / free)
    else:  # with one model per image, only the spread over images is known
        fixed = np.std(average[count > 0], axis=0, keepdims=True) if (count > 0).any() else np.ones((1, shadows.shape[2]))
    std = fixed if variance == "fixed" else np.where((count > 1)[:, None], np.sqrt(squares / divisor), fixed)
    return _Side(count, _median(shadows, mask, count), average, np.maximum(std, _FLOOR))


def _median(shadows: np.ndarray, mask: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Median over the models in the mask, [N, Q]; one sort for all images."""
    n = np.arange(shadows.shape[1])
    lower, upper = np.maximum(count - 1, 0) // 2, np.maximum(count, 1) // 2
    columns = []
    for q in range(shadows.shape[2]):
        ordered = np.sort(np.where(mask, shadows[:, :, q], np.inf).T, axis=1)
        columns.append((ordered[n, lower] + ordered[n, np.minimum(upper, len(shadows) - 1)]) / 2)
    medians = np.stack(columns, 1)
    return np.where((count > 0)[:, None], medians, 0.0)


def _overall_gap(shadows: np.ndarray, state: np.ndarray) -> np.ndarray | float:
    """Difference between the medians of all IN and all OUT values; used where no image has both."""
    groups = [shadows[mask] for mask in (state > 0, state < 0)]
    return np.median(groups[0], axis=0) - np.median(groups[1], axis=0) if all(len(g) for g in groups) else 0.0


def _require_models(state: np.ndarray) -> None:
    """Raise if an image has neither IN nor OUT models."""
    if unknown := int((state == 0).all(0).sum()):
        raise ValueError(f"{unknown} images have no shadow model")


def _log_density(value: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Log-density of a normal distribution, up to the constant log sqrt(2 pi)."""
    return -(((value - mean) / std) ** 2) / 2 - np.log(std)


def _variance(requested: Variance, shadows: np.ndarray) -> Variance:
    return requested if requested != "auto" else ("sample" if len(shadows) >= MIN_MODELS_FOR_SAMPLE_VARIANCE else "fixed")


def _prepared(target: np.ndarray, shadows: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Add an axis for queries if there is none, and remove values that no normal distribution has.

    A model with a value for an image that is not finite counts as neither IN nor OUT for this image. An infinite value of the
    target is replaced by the largest finite one, with its sign: it comes from a probability that was rounded to 0 or 1.
    """
    if target.ndim == 1:
        target, shadows = target[:, None], shadows[:, :, None]
    if bad := int(np.isnan(target).any(1).sum()):
        raise ValueError(f"outputs of the audited network are NaN for {bad} of {len(target)} images")
    finite = np.all(np.isfinite(shadows), axis=2)
    if not finite.all():
        shadows, state = np.where(finite[:, :, None], shadows, 0.0), np.where(finite, state, 0)
    if np.isinf(target).any():
        bound = max(np.abs(shadows).max(initial=0.0), np.abs(target[np.isfinite(target)]).max(initial=0.0))
        target = np.clip(target, -bound, bound)
    return target, shadows, state
