"""Simulated replicates with the errors of real studies: shared images, their interaction with points and networks, members, seeds.

Verdicts and scores are latent normal variables, so that true values are known exactly.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import norm

from core.audits.evidence import MembershipScores
from core.estimates import Measurement
from core.stats import t_quantile

Measured = dict[int, dict[int, dict[str, Measurement]]]
"""Measurements by point, replicate and metric."""
AUDITS = 8
STRENGTHS = np.array([1.0, 0.6, 0.6, 0.2, 0.2, 0.2, 0.1, 0.0])
"""How much each audit finds of a leak."""
SCORE = np.sqrt(0.7**2 + 0.4**2 + 0.3**2 + 0.3**2 + 0.4**2)
"""Standard deviation of an audit's scores."""
LEAK_SEEDS, LEAK_MEMBERS = 0.05, 0.03
"""Relative variation of a leak over seeds, and over members, which points share."""


def shares(
    stream: np.random.Generator, truth: np.ndarray, replicates: int, images: int, members: float = 0.03, seeds: float = 0.03
) -> Measured:
    """Shares of images, such as accuracies, whose true values are `truth`, [points, metrics]; metrics are named by number.

    Args:
        stream: random numbers.
        truth: true shares.
        replicates: replicates of each point.
        images: number of judged images.
        members, seeds: standard deviations of the effects of members, which points share, and of seeds, where an image has 1.
    """
    points, metrics = truth.shape
    threshold = norm.ppf(truth) * np.sqrt(1 + 0.25 + 1 + members**2 + seeds**2)
    image, point = stream.normal(size=(metrics, images)), 0.5 * stream.normal(size=(points, 1, metrics, images))
    image[1:] = 0.7 * image[0] + np.sqrt(1 - 0.7**2) * image[1:]
    drawn = members * stream.normal(size=(replicates, metrics)) + seeds * stream.normal(size=(points, replicates, metrics))
    latent = threshold[:, None, :, None] + image + point + drawn[..., None]
    hits = latent + stream.normal(size=(points, replicates, metrics, images)) > 0
    rows = np.arange(images)
    return {
        p: {r: {str(m): Measurement.of_share(rows, hits[p, r, m]) for m in range(metrics)} for r in range(replicates)}
        for p in range(points)
    }


def audited(
    stream: np.random.Generator, points: int, replicates: int, sizes: tuple[int, int, int], leak: float
) -> dict[int, dict[int, MembershipScores]]:
    """Scores of `AUDITS` audits by point and replicate.

    Args:
        stream: random numbers.
        points, replicates: their numbers.
        sizes: numbers of members, of other images from which members are drawn, and of non-members.
        leak: difference between members and others in the scores of the best audit.
    """
    inside, rest, outside = sizes
    pool, n = inside + rest, inside + outside
    common, audit, point = (stream.normal(size=(k, pool + outside)) for k in (1, AUDITS, points))
    chosen = [np.concatenate([stream.permutation(pool)[:inside], np.arange(pool, pool + outside)]) for _ in range(replicates)]
    shared = LEAK_MEMBERS * stream.normal(size=replicates)
    groups: dict[int, dict[int, MembershipScores]] = {}
    for p in range(points):
        groups[p] = {}
        for r, rows in enumerate(chosen):
            own = leak * np.exp(shared[r] + LEAK_SEEDS * stream.normal()) * STRENGTHS[:, None] * (np.arange(n) < inside)
            scores = 0.7 * common[:, rows] + 0.4 * audit[:, rows] + 0.3 * point[p, rows] + own
            scores += 0.3 * stream.normal(size=n) + 0.4 * stream.normal(size=(AUDITS, n))
            groups[p][r] = MembershipScores.of(rows[:inside], rows[inside:], {str(k): scores[k] for k in range(AUDITS)})
    return groups


def aucs(groups: dict[int, MembershipScores]) -> dict[int, dict[str, Measurement]]:
    """AUC of every audit of a point by replicate."""
    return {
        r: {name: Measurement.of_auc(own.rows, own.member, scores) for name, scores in own.scores.items()}
        for r, own in groups.items()
    }


def true_auc(leak: float, audit: int = 0) -> float:
    """The expected AUC of an audit over seeds and members."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(21)
    leaks = leak * STRENGTHS[audit] * np.exp(np.hypot(LEAK_SEEDS, LEAK_MEMBERS) * nodes)
    return float(weights @ norm.cdf(leaks / SCORE / np.sqrt(2)) / weights.sum())


def student_covers(values: Sequence[float], truth: float) -> bool:
    """Whether Student's interval over the replicates contains the true value."""
    half = t_quantile(0.95, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return bool(abs(np.mean(values) - truth) <= half)
