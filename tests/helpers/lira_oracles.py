"""LiRA computed in loops, simulated networks for it, and the AUC of the optimal test."""

import math

import numpy as np
import scipy.stats

from core.audits.roc import Roc


def stream(seed=0):
    """A random generator with this seed."""
    return np.random.default_rng(seed)


def networks(models=9, images=40, queries=3, seed=0, neither=0.1, inside=0.5):
    """phi of a target and of shadow models, which depends on image, query and membership; and the memberships of the models."""
    s = stream(seed)
    state = s.choice([-1, 0, 1], (models, images), p=[1 - neither - inside * (1 - neither), neither, inside * (1 - neither)])
    level, spread = s.normal(0, 3, (images, queries)), s.uniform(0.5, 2, (images, queries))
    noise = np.where(state[:, :, None] > 0, 2.0, 1.0) * s.normal(size=(models, images, queries))
    shadows = level + spread * (noise + 1.5 * (state[:, :, None] > 0))
    return level + spread * s.normal(1, 2, (images, queries)), shadows, state


def common_std(shadows, mask, q):
    """The standard deviation within images, pooled over all images by their degrees of freedom."""
    groups = [shadows[mask[:, n], n, q] for n in range(mask.shape[1])]
    free = sum(len(g) - 1 for g in groups if len(g))
    if free:
        return math.sqrt(sum(((g - g.mean()) ** 2).sum() for g in groups if len(g)) / free)
    return np.std([g.mean() for g in groups if len(g)])


def moments(shadows, mask, n, q, variance):
    """Median and standard deviation of the models in the mask for one query of one image; a common value without models."""
    values, common = shadows[mask[:, n], n, q], common_std(shadows, mask, q)
    std = np.std(values) if variance == "sample" and len(values) > 1 else common
    return (np.median(values) if len(values) else None), std


def median_gap(shadows, state, q):
    """Median, over images that have IN and OUT models, of the difference between both medians."""
    differences = []
    for n in range(state.shape[1]):
        inside, outside = (shadows[state[:, n] == sign, n, q] for sign in (1, -1))
        if len(inside) and len(outside):
            differences.append(np.median(inside) - np.median(outside))
    if differences:
        return np.median(differences)
    return np.median(shadows[state == 1][:, q]) - np.median(shadows[state == -1][:, q])


def reference(target, shadows, state, variance):
    """Online LiRA, image by image and query by query."""
    scores = []
    for n in range(target.shape[0]):
        ratios = []
        for q in range(target.shape[1]):
            mean_in, std_in = moments(shadows, state == 1, n, q, variance)
            mean_out, std_out = moments(shadows, state == -1, n, q, variance)
            gap = median_gap(shadows, state, q)
            mean_in, mean_out = (
                mean_out + gap if mean_in is None else mean_in,
                mean_in - gap if mean_out is None else mean_out,
            )
            log_in = scipy.stats.norm.logpdf(target[n, q], mean_in, std_in)
            ratios.append(log_in - scipy.stats.norm.logpdf(target[n, q], mean_out, std_out))
        scores.append(np.mean(ratios))
    return np.array(scores)


def best_auc(mean, std_in, std_out):
    """AUC of the likelihood ratio of N(mean, std_in) against N(0, std_out), the optimum, by sorting a fine grid by this ratio."""
    grid = np.linspace(-60, 60, 400_001)
    inside, outside = scipy.stats.norm.logpdf(grid, mean, std_in), scipy.stats.norm.logpdf(grid, 0, std_out)
    order = np.argsort(inside - outside)
    p_in, p_out = (np.exp(log[order]) / np.exp(log).sum() for log in (inside, outside))
    return float((p_in * (np.cumsum(p_out) - p_out / 2)).sum())


def gaussian_networks(mean, std_in, std_out, models=128, images=6000, seed=1):
    """Networks with known distributions of phi: Gaussian with a level and a scale per image; half of the images are members."""
    s = stream(seed)
    level, scale = s.normal(0, 5, images), s.uniform(0.2, 5, images)
    member = np.arange(images) < images // 2
    state = np.where(s.random((models, images)).argsort(0) < models // 2, 1, -1)

    def phi(inside):
        return level + scale * np.where(inside, mean + std_in * s.normal(size=inside.shape), std_out * s.normal(size=inside.shape))

    return phi(member), phi(state > 0), state, member


def auc(scores, member):
    """AUC of the scores of members against the other scores."""
    return Roc.of(scores[member], scores[~member]).auc
