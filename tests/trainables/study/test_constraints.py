"""Constraints on the front of an outcome and on confirmed points."""

import pytest

from core.study import Constraint, trilemma
from trainables.study.outcome import Outcome
from trainables.study.results import NetworkResult
from trainables.study.trial import Trial
from trainables.study.verdicts import verdicts

ACCURATE = (Constraint.of("accuracy>=0.8"),)


def row(accuracy: float, robust: float, mia: float = 0.6, **more: float) -> dict[str, float]:
    """Metrics of a trial."""
    return {"accuracy": accuracy, "robust_accuracy": robust, "mia_auc": mia, **more}


def test_the_hypervolume_is_that_of_the_trials_that_meet_the_constraints():
    trials = [Trial(0, {}, row(0.7, 0.9)), Trial(1, {}, row(0.9, 0.4))]
    without = Outcome("s-1", "s", "?", trilemma(10), {}, 2, trials=trials)
    constrained = Outcome("s-1", "s", "?", trilemma(10), {}, 2, trials=trials, require=ACCURATE)
    feasible = Outcome("s-1", "s", "?", trilemma(10), {}, 2, trials=trials[1:])
    assert constrained.hypervolume() == feasible.hypervolume() < without.hypervolume()
    assert constrained.hypervolume_curve() == [0.0, feasible.hypervolume()]


def test_the_means_of_a_confirmed_point_must_meet_the_constraints():
    points = [Trial(number=n, params={}) for n in (0, 1)]
    metrics = {
        (0, 1): row(0.83, 0.5, density=0.4), (0, 2): row(0.79, 0.5, density=0.2),
        (1, 1): row(0.81, 0.6, density=0.4), (1, 2): row(0.77, 0.6, density=0.4),
    }  # fmt: skip
    results = {key: NetworkResult(metrics=m) for key, m in metrics.items()}
    confirmed = verdicts(points, results, trilemma(10), (*ACCURATE, Constraint.of("density<=0.35")))
    assert [point.on_front for point in confirmed] == [True, False]
    assert [point.probability for point in confirmed] == [1.0, 0.0]
    assert confirmed[0].means["density"] == pytest.approx(0.3)
