"""Verdicts of the confirmation step, from replicates written by hand."""

import numpy as np
import pytest

from core.study import trilemma
from trainables.study.outcome import Confirmed
from trainables.study.results import NetworkResult
from trainables.study.trial import Trial
from trainables.study.verdicts import verdicts

OBJECTIVES = trilemma(10)


def replicates(accuracy: float, robust: float, auc: float, spread: float = 0.0, **flags: float) -> list[dict[str, float]]:
    """Metrics of three replicates, whose means are given."""
    offsets = np.array([-1.0, 0.0, 1.0]) * spread
    return [{"accuracy": accuracy + d, "robust_accuracy": robust + d, "mia_auc": auc - d, **flags} for d in offsets]


def verdicts_of(*groups: list[dict[str, float]], failed: int = 0) -> list[Confirmed]:
    """Verdicts on points with these replicates, and with `failed` replicates that failed."""
    results = {}
    for i, group in enumerate(groups):
        results |= {(i, r): NetworkResult(metrics=metrics) for r, metrics in enumerate(group)}
        results |= {(i, len(group) + r): NetworkResult(error="lost") for r in range(failed)}
    return verdicts([Trial(number=i, params={}) for i in range(len(groups))], results, OBJECTIVES)


def test_a_point_with_an_excluding_flag_leaves_the_front_and_displaces_no_unflagged_point():
    flagged, unflagged = verdicts_of(
        replicates(0.9, 0.9, 0.5, 0.001, **{"flag/zero_gradients": 1.0}), replicates(0.8, 0.4, 0.6, 0.001)
    )
    assert not flagged.on_front and flagged.probability == 0 and flagged.flags == ("zero_gradients",)
    assert unflagged.on_front and unflagged.probability == 1


def test_one_flagged_replicate_flags_the_point():
    group = replicates(0.9, 0.9, 0.5)
    group[1]["flag/at_chance"] = 1.0
    assert verdicts_of(group)[0].flags == ("at_chance",)


def test_means_and_student_intervals_are_over_the_replicates_that_succeeded():
    (point,) = verdicts_of(replicates(0.8, 0.4, 0.6, 0.1), failed=2)
    assert point.means == pytest.approx({"accuracy": 0.8, "robust_accuracy": 0.4, "mia_auc": 0.6})
    assert point.intervals["accuracy"] == pytest.approx((0.8 - 0.2484, 0.8 + 0.2484), abs=1e-4)  # t = 4.303, sd 0.1, n = 3
    assert (point.replicates, point.failed) == (3, 2)


def test_a_dominated_point_leaves_the_front_and_noise_makes_the_verdict_uncertain():
    precise = verdicts_of(replicates(0.8, 0.4, 0.6, 0.001), replicates(0.7, 0.3, 0.7, 0.001))
    noisy = verdicts_of(replicates(0.8, 0.4, 0.6, 0.1), replicates(0.7, 0.3, 0.7, 0.1))
    assert [p.on_front for p in precise] == [True, False] and precise[1].probability == 0
    assert not noisy[1].on_front and 0.05 < noisy[1].probability < 0.95


def test_without_points_there_are_no_verdicts():
    assert verdicts_of() == []
