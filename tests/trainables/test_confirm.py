"""The verdicts of confirm, from made-up replicates."""

import numpy as np
import pytest

from core.config import trilemma
from trainables import confirm
from trainables.outcome import Trial

OBJECTIVES = trilemma(10)


def replicates(accuracy: float, robust: float, auc: float, spread: float = 0.0, **flags: float) -> list[dict[str, float]]:
    offsets = np.array([-1.0, 0.0, 1.0]) * spread
    return [{"accuracy": accuracy + d, "robust_accuracy": robust + d, "mia_auc": auc - d, **flags} for d in offsets]


def verdicts(*groups, failed=0):
    results = {}
    for i, group in enumerate(groups):
        results |= {(i, r): {"metrics": metrics, "error": ""} for r, metrics in enumerate(group)}
        results |= {(i, len(group) + r): {"metrics": {}, "error": "lost"} for r in range(failed)}
    return confirm.verdicts([Trial(number=i, params={}) for i in range(len(groups))], results, OBJECTIVES)


def test_a_flagged_point_leaves_the_front_says_why_and_pushes_no_honest_point_off():
    flagged, honest = verdicts(replicates(0.9, 0.9, 0.5, 0.001, **{"flag/zero_gradients": 1.0}), replicates(0.8, 0.4, 0.6, 0.001))
    assert not flagged.on_front and flagged.probability == 0 and flagged.flags == ("zero_gradients",)
    assert honest.on_front and honest.probability == 1


def test_one_flagged_replicate_is_enough():
    group = replicates(0.9, 0.9, 0.5)
    group[1]["flag/at_chance"] = 1.0
    assert verdicts(group)[0].flags == ("at_chance",)


def test_means_and_student_intervals_over_replicates():
    (point,) = verdicts(replicates(0.8, 0.4, 0.6, 0.1), failed=2)
    assert point.means == pytest.approx({"accuracy": 0.8, "robust_accuracy": 0.4, "mia_auc": 0.6})
    assert point.intervals["accuracy"] == pytest.approx((0.8 - 0.2484, 0.8 + 0.2484), abs=1e-4)  # t = 4.303, sd 0.1, n = 3
    assert (point.replicates, point.failed) == (3, 2)


def test_a_dominated_point_leaves_the_front_and_noise_makes_it_uncertain():
    sure = verdicts(replicates(0.8, 0.4, 0.6, 0.001), replicates(0.7, 0.3, 0.7, 0.001))
    noisy = verdicts(replicates(0.8, 0.4, 0.6, 0.1), replicates(0.7, 0.3, 0.7, 0.1))
    assert [p.on_front for p in sure] == [True, False] and sure[1].probability == 0
    assert not noisy[1].on_front and 0.05 < noisy[1].probability < 0.95


def test_nothing_to_judge():
    assert verdicts() == []
