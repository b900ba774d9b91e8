"""Means of several noisy points, corrected for having been selected or compared (empirical Bayes).

The best of several noisy means is better than its true value (the winner's curse), and a front of noisy means is larger than the
true front. Both vanish if the means are first moved towards their common mean by as much as their spread is explained by noise
(James and Stein 1961; Efron and Morris 1973): with equal points they all become that mean, and points that are far apart compared
with their errors stay where they are.
"""

import numpy as np


def shrink(means: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of points after shrinkage towards their common mean, with the posterior covariance.

    The points are draws from a normal distribution, whose covariance is estimated by moments: the spread of the means minus what
    their errors explain.

    Args:
        means: noisy means, [points, metrics].
        covariance: covariance of their errors, [points, metrics, points, metrics].

    Returns:
        Shrunken means, [points, metrics], and their covariance, shaped as `covariance`.
    """
    points, metrics = means.shape
    if points == 1:
        return means.copy(), covariance.copy()
    centring = np.eye(points) - 1 / points
    spread = (centring @ means).T @ (centring @ means)
    noise = np.einsum("ij,jakb,ik->ab", centring, covariance, centring)
    values, vectors = np.linalg.eigh((spread - noise) / (points - 1))
    between = (vectors * np.clip(values, 0, None)) @ vectors.T
    size = points * metrics
    errors = covariance.reshape(size, size)
    prior = np.kron(np.eye(points), between)
    ones = np.kron(np.ones((points, 1)), np.eye(metrics))
    total = np.linalg.pinv(prior + errors, hermitian=True)
    common_covariance = np.linalg.pinv(ones.T @ total @ ones, hermitian=True)
    common = common_covariance @ ones.T @ total @ means.reshape(size)
    gain = prior @ total
    posterior = ones @ common + gain @ (means.reshape(size) - ones @ common)
    rest = ones - gain @ ones
    spread_left = prior - gain @ prior + rest @ common_covariance @ rest.T
    return posterior.reshape(points, metrics), spread_left.reshape(covariance.shape)
