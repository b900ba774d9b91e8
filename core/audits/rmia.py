"""RMIA, the robust membership-inference attack (Zarifzadeh 2024): is the image likelier under the network than other images are?"""

import numpy as np


def rmia(
    target: np.ndarray, usual: np.ndarray, population_target: np.ndarray, population_usual: np.ndarray, gamma: float = 1.0
) -> np.ndarray:
    """The share of population images z with LR(x, z) = [p(x|net) / p(x)] / [p(z|net) / p(z)] >= gamma.

    Args:
        target: log p(x|net), the log-probability of the true class under the audited network, [N].
        usual: log p(x), from `usual_online` or `usual_offline`, [N].
        population_target, population_usual: the same of the images to compare with, [K].
        gamma: how much likelier. The paper takes 2 with a soft-margin signal; on plain probabilities that leaves most images tied.

    Returns:
        In [0, 1], larger means more likely a member, [N].
    """
    ratios = np.sort(population_target - population_usual)
    return np.searchsorted(ratios, target - usual - np.log(gamma), side="right") / len(ratios)


def usual_offline(shadows: np.ndarray, state: np.ndarray, a: float = 0.3) -> np.ndarray:
    """log p(x) = log of ((1 + a) mean_OUT + (1 - a)) / 2: what the IN models would say is taken as a line through (1, 1).

    Args:
        shadows: log-probabilities of the true class under the shadow models, [M, N]. state: as in `core.audits.lira`, [M, N].
        a: slope of that line (paper: 0.3).

    Returns:
        [N]; an image without OUT models gets their mean as that over all images.
    """
    mean, count = _mean(shadows, state < 0)
    mean = np.where(count > 0, mean, mean[count > 0].mean() if (count > 0).any() else 1.0)
    return np.log(((1 + a) * mean + (1 - a)) / 2)


def usual_online(shadows: np.ndarray, state: np.ndarray) -> np.ndarray:
    """log p(x) = log of (mean_IN + mean_OUT) / 2; an image that lacks one side gets it from the other.

    Args:
        shadows, state: as in `usual_offline`.

    Returns:
        [N].
    """
    (inside, n_in), (outside, n_out) = _mean(shadows, state > 0), _mean(shadows, state < 0)
    both = (n_in > 0) & (n_out > 0)
    if both.any():
        gap = (inside - outside)[both].mean()
    else:  # one shadow model: how the two groups of images differ is all there is
        gap = inside[n_in > 0].mean() - outside[n_out > 0].mean() if (n_in > 0).any() and (n_out > 0).any() else 0.0
    inside, outside = np.where(n_in > 0, inside, outside + gap), np.where(n_out > 0, outside, inside - gap)
    return np.log(np.clip((inside + outside) / 2, 1e-12, 1.0))


def _mean(shadows: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean probability over the models in the mask, and how many they are, [N] each."""
    count = mask.sum(0)
    return np.where(mask, np.exp(shadows), 0.0).sum(0) / np.maximum(count, 1), count
