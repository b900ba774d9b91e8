"""Confirmed points written by hand, and replicates from synthetic evidence."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from core.estimates import Estimates, Measurement
from core.stats import Interval
from trainables.study.outcome import Confirmation, Confirmed, ContrastAnswer
from trainables.study.replicates import Replicate
from trainables.study.results import NetworkResult

TEST, CLASSES = np.arange(1000, 1400), 10
"""Rows of the judged images, and the number of classes."""
THRESHOLDS = ("confidence", "entropy", "loss", "modified_entropy")
"""Names of audits in the synthetic evidence."""


def point(number: int, means: Mapping[str, float], half: float = 0.02, **changes) -> Confirmed:
    """A confirmed point of three replicates with these means, of which each interval has a half-width.

    Args:
        number: number of the trial.
        means: means by metric.
        half: half-width of the intervals; may be infinite.
        changes: further fields; by default it is on the front with a probability of 0.5.
    """
    intervals = {name: Interval(value - half, value + half) for name, value in means.items()}
    fields = {"replicates": 3, "probability": 0.5, "on_front": True, "shrunk": dict(means), "shrunk_intervals": intervals}
    return Confirmed(**fields | {"number": number, "means": dict(means), "intervals": intervals} | changes)


def confirmation(points: Sequence[Confirmed], contrasts: Sequence[ContrastAnswer] = (), **changes) -> Confirmation:
    """The confirmation of these points, with estimates that have about their intervals."""
    metrics = sorted(set.intersection(*(set(p.means) for p in points)))
    measured = {
        p.number: {
            r: {name: Measurement.of_value(mean + offset * _half(p, name) * 0.7) for name, mean in p.means.items()}
            for r, offset in ((1, -1), (2, 0), (3, 1))
        }
        for p in points
    }
    fields = {"hypervolume": (0.5, Interval(0.4, 0.6)), "seconds_per_replicate": 60.0}
    return Confirmation(tuple(points), Estimates.of(measured, metrics), contrasts=tuple(contrasts), **fields | changes)


def _half(p: Confirmed, name: str) -> float:
    """Half-width of an interval, or a small one if it is infinite."""
    half = p.intervals[name].high - p.means[name]
    return half if math.isfinite(half) else 0.02


def evidence(
    seed: int, accuracy: float = 0.8, robust: float = 0.4, leak: float = 0.0, members_seed: int = 0, rows: np.ndarray = TEST
) -> dict[str, np.ndarray]:
    """Synthetic per-image evidence about a network, in the format of its stored files.

    Args:
        seed: seed of the network.
        accuracy: probability that an image is classified correctly.
        robust: probability that an image is robust under the stronger of two attacks.
        leak: shift of the members' scores in standard deviations; 0 is no leak.
        members_seed: seed of the draw of members.
        rows: rows of the judged images.
    """
    own, draw = np.random.default_rng([seed, 1]), np.random.default_rng([members_seed, 2])
    labels = np.random.default_rng(0).integers(CLASSES, size=len(rows))
    correct, strong = own.random(len(rows)) < accuracy, own.random(len(rows)) < robust / accuracy
    logits = np.eye(CLASSES)[np.where(correct, labels, (labels + 1) % CLASSES)]
    members = np.sort(draw.permutation(1000)[:500])
    audited, member = np.concatenate([members, rows]), np.arange(500 + len(rows)) < 500
    scores = {name: own.normal(size=len(audited)) + leak * member for name in THRESHOLDS}
    arrays = {"rows": rows, "labels": labels, "logits": logits, "robust/fgsm": correct, "robust/pgd": correct & strong}
    return arrays | {"own/rows": audited, "own/member": member} | {f"own/{name}": score for name, score in scores.items()}


def replicate(seed: int, flags: Mapping[str, float] = {}, seconds: float = 1.0, **knobs) -> Replicate:
    """A replicate with synthetic evidence; see `evidence` for the knobs."""
    return Replicate.of(NetworkResult(metrics=dict(flags), seconds=seconds), evidence(seed, **knobs))
