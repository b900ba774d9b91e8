"""RMIA, the robust membership-inference attack (Zarifzadeh 2024): compare an image's likelihood ratio with other images' ratios."""

import numpy as np


def rmia(
    target: np.ndarray, marginal: np.ndarray, population_target: np.ndarray, population_marginal: np.ndarray, gamma: float = 1.0
) -> np.ndarray:
    """Share of population images z with LR(x, z) = [p(x|net) / p(x)] / [p(z|net) / p(z)] >= gamma.

    Args:
        target: log p(x|net), the log-probability of the true class under the audited network, [N].
        marginal: log p(x), from `marginal_online` or `marginal_offline`, [N].
        population_target, population_marginal: the same for the population images, [K].
        gamma: threshold of the likelihood ratio. The paper uses 2 with a soft-margin signal; with plain probabilities, 2 would
            leave most images tied.

    Returns:
        Scores in [0, 1], larger for likely members, [N].

    Raises:
        ValueError: the population is empty, or a ratio is NaN.
    """
    with np.errstate(invalid="ignore"):  # reported below
        ratios, own = np.sort(population_target - population_marginal), target - marginal
    if not len(ratios):
        raise ValueError("RMIA needs at least one population image")
    if bad := int(np.isnan(own).sum() + np.isnan(ratios).sum()):
        raise ValueError(f"RMIA: the likelihood ratios of {bad} images are NaN")
    return np.searchsorted(ratios, own - np.log(gamma), side="right") / len(ratios)


def marginal_offline(shadows: np.ndarray, state: np.ndarray, a: float = 0.3) -> np.ndarray:
    """log p(x) = log of ((1 + a) mean_OUT + (1 - a)) / 2, where the IN models are approximated by a line through (1, 1).

    Args:
        shadows: log-probabilities of the true class under the shadow models, [M, N].
        state: membership; see `core.audits.lira.online`, [M, N].
        a: slope of the line (paper: 0.3).

    Returns:
        log p(x), [N]; an image without OUT models gets the mean of the OUT means over all images.
    """
    mean, count = _mean(shadows, state < 0)
    mean = np.where(count > 0, mean, mean[count > 0].mean() if (count > 0).any() else 1.0)
    return np.log(((1 + a) * mean + (1 - a)) / 2)


def marginal_online(shadows: np.ndarray, state: np.ndarray) -> np.ndarray:
    """log p(x) = log of (mean_IN + mean_OUT) / 2; a missing mean is estimated from the other one.

    Args:
        shadows, state: see `marginal_offline`.

    Returns:
        log p(x), [N]; an image without any model gets the mean over the other images.
    """
    (inside, n_in), (outside, n_out) = _mean(shadows, state > 0), _mean(shadows, state < 0)
    both = (n_in > 0) & (n_out > 0)
    if both.any():
        gap = (inside - outside)[both].mean()
    else:  # with one shadow model, only the difference between the two groups of images is known
        gap = inside[n_in > 0].mean() - outside[n_out > 0].mean() if (n_in > 0).any() and (n_out > 0).any() else 0.0
    inside, outside = np.where(n_in > 0, inside, outside + gap), np.where(n_out > 0, outside, inside - gap)
    mean, known = (inside + outside) / 2, n_in + n_out > 0
    mean = np.where(known, mean, mean[known].mean() if known.any() else 1.0)
    return np.log(np.clip(mean, 1e-12, 1.0))


def _mean(shadows: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean probability over the models in the mask, without those of no probability (NaN, above 1), and their number, [N] each."""
    mask = mask & (shadows < np.inf)
    count = mask.sum(0)
    return np.where(mask, np.exp(shadows), 0.0).sum(0) / np.maximum(count, 1), count
