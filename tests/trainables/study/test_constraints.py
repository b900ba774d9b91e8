"""Constraints on the front of an outcome and on confirmed points."""

import finished
import pytest
from confirming import replicate

from core.study import Constraint, trilemma
from trainables.study.outcome import Outcome
from trainables.study.trial import Trial
from trainables.study.verdicts import confirmation

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
    trials = [Trial(number=n, params={}, metrics=row(0.9, 0.5)) for n in (0, 1)]
    density = {(0, 1): 0.31, (0, 2): 0.29, (1, 1): 0.41, (1, 2): 0.39}
    replicates = {(n, r): replicate(10 * n + r, {"density": value}, robust=0.3 + 0.2 * n) for (n, r), value in density.items()}
    plan = finished.plan(require=(Constraint.of("accuracy>=0.5"), Constraint.of("density<=0.35")))
    found = confirmation(plan, trials, [0, 1], replicates)
    assert found and [point.on_front for point in found.points] == [True, False]
    assert [point.verdict for point in found.points] == ["stays", "leaves"]
    assert found.points[0].means["density"] == pytest.approx(0.3)
    without = confirmation(finished.plan(), trials, [0, 1], replicates)
    assert without and without.points[1].verdict == "stays"
