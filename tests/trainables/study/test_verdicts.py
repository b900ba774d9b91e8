"""Verdicts of the confirmation step, from replicates with synthetic evidence."""

import math
from collections.abc import Sequence
from dataclasses import replace

import finished
import numpy as np
import pytest
from confirming import TEST, evidence, replicate

from core.study import Constraint
from trainables.study.outcome import Confirmation, Verdict
from trainables.study.replicates import Replicate
from trainables.study.results import NetworkResult
from trainables.study.trial import Trial
from trainables.study.verdicts import confirmation

METRICS = {"accuracy": 0.8, "robust_accuracy": 0.4, "mia_auc": 0.6}


def replicates(number: int, count: int = 3, flags: dict[str, float] | None = None, **knobs) -> list[Replicate]:
    """Replicates of a point, of which replicate r has the same members as that of every other point."""
    return [replicate(100 * number + r, flags or {}, members_seed=r, **knobs) for r in range(1, count + 1)]


def confirmed(*points: Sequence[Replicate], failed: int = 0, require: Sequence[Constraint] = (), **changes) -> Confirmation:
    """The confirmation of points with these replicates, and with `failed` replicates more that failed."""
    lost = [Replicate(NetworkResult(error="lost"))] * failed
    results = {(n, r): one for n, own in enumerate(points) for r, one in enumerate([*own, *lost], 1)}
    trials = [Trial(n, {}, METRICS) for n in range(len(points))]
    found = confirmation(finished.plan(require=tuple(require), **changes), trials, range(len(points)), results)
    assert found
    return found


def test_a_point_with_an_excluding_flag_leaves_the_front_and_displaces_no_unflagged_point():
    better = replicates(0, accuracy=0.95, robust=0.9, flags={"flag/zero_gradients": 1.0})
    flagged, unflagged = confirmed(better, replicates(1)).points
    assert not flagged.on_front and flagged.verdict is Verdict.LEAVES and flagged.flags == ("zero_gradients",)
    assert unflagged.on_front and unflagged.probability == 1 and unflagged.verdict is Verdict.STAYS


def test_one_flagged_replicate_flags_the_point():
    own = replicates(0)
    own[1] = replace(own[1], result=NetworkResult(metrics={"flag/at_chance": 1.0}))
    assert confirmed(own).points[0].flags == ("at_chance",)


def test_means_are_those_of_the_evidence_over_the_replicates_that_succeeded():
    own = replicates(0)
    (point,) = confirmed(own, failed=2).points
    for name in ("accuracy", "robust_accuracy"):
        assert point.means[name] == pytest.approx(sum(one.shares[name].value for one in own) / 3)
    assert (point.replicates, point.failed) == (3, 2)


def test_the_interval_of_an_accuracy_includes_the_error_of_the_judged_images():
    """Replicates that agree on every image show no variance, but 400 images do: 1.96 sqrt(0.8 x 0.2 / 400) = 0.039."""
    agreeing = [replicate(5)] * 3
    (point,) = confirmed(agreeing).points
    low, high = point.intervals["accuracy"]
    assert (high - low) / 2 == pytest.approx(0.039, abs=0.003)


def test_the_intervals_over_epsilon_include_the_error_of_the_attacked_images():
    """Half of 100 images resist, in both replicates the same ones: 1.96 sqrt(0.5 x 0.5 / 100) = 0.098."""
    resisted = {"robust_at/0.5": np.arange(100) < 80, "robust_at/2": np.arange(100) < 50}
    own = [Replicate.of(NetworkResult(), evidence(5) | resisted) for _ in range(2)]
    point, without = confirmed(own, replicates(1)).points
    assert {multiple: mean for multiple, (mean, _) in point.over_epsilon.items()} == {0.5: 0.8, 2.0: 0.5}
    low, high = point.over_epsilon[2.0][1]
    assert (high - low) / 2 == pytest.approx(0.098, abs=0.006) and (high + low) / 2 == pytest.approx(0.5)
    assert not without.over_epsilon


def test_a_metric_that_one_point_lacks_has_an_interval_from_the_points_that_have_it():
    spent = [replicate(10 + r, {"dp_epsilon": value}) for r, value in enumerate((2.0, 2.2, 2.4))]
    private, other = confirmed(spent, replicates(1), require=[Constraint("dp_epsilon", "<=", 5.0)]).points
    low, high = private.intervals["dp_epsilon"]
    assert private.means["dp_epsilon"] == pytest.approx(2.2) and "dp_epsilon" not in other.means
    assert (high - low) / 2 == pytest.approx(4.303 * 0.2 / 3**0.5, rel=0.01)  # Student's, with two degrees of freedom


def test_a_dominated_point_leaves_the_front_and_equal_points_are_undecided():
    better, worse = confirmed(replicates(0, accuracy=0.9, robust=0.6), replicates(1, accuracy=0.6, robust=0.3, leak=0.6)).points
    assert (better.verdict, worse.verdict) == (Verdict.STAYS, Verdict.LEAVES)
    equal = confirmed(*(replicates(n, leak=0.5) for n in range(4))).points
    assert {point.verdict for point in equal} == {Verdict.UNDECIDED}
    assert not all(point.on_front for point in equal)  # by their means, some leave


def test_with_a_single_replicate_of_each_point_nothing_is_decided():
    points = confirmed(replicates(0, 1, accuracy=0.9, robust=0.6), replicates(1, 1, accuracy=0.6, robust=0.3, leak=0.6)).points
    assert {point.verdict for point in points} == {Verdict.UNDECIDED}
    assert points[0].intervals["accuracy"] == (0.0, 1.0)


def test_a_point_that_misses_a_constraint_by_less_than_its_error_is_undecided():
    own = replicates(0, accuracy=0.8, robust=0.6), replicates(1, accuracy=0.7, robust=0.3, leak=0.6)
    bounds = {0.7: Verdict.STAYS, 0.9: Verdict.LEAVES}
    for bound, verdict in bounds.items():
        assert confirmed(*own, require=[Constraint("accuracy", ">=", bound)]).points[0].verdict is verdict
    mean = confirmed(*own).points[0].means["accuracy"]
    for bound in (mean - 0.005, mean + 0.005):
        assert confirmed(*own, require=[Constraint("accuracy", ">=", bound)]).points[0].verdict is Verdict.UNDECIDED


def test_the_leak_of_a_network_without_one_is_not_above_its_chance_level():
    honest, leaking = confirmed(replicates(0), replicates(1, leak=0.4)).points
    assert not honest.resolved and 0.5 <= honest.chance <= 0.55
    assert leaking.resolved and leaking.means["mia_auc"] == pytest.approx(0.61, abs=0.03)
    low, high = leaking.intervals["mia_auc"]
    assert low < 0.611 < high  # the AUC of two normal scores 0.4 standard deviations apart is 0.611
    assert leaking.audits and leaking.tiers.keys() == {"threshold"} and leaking.tiers["threshold"][0] == leaking.means["mia_auc"]


def test_shrunken_objectives_of_equal_points_are_nearly_equal():
    points = confirmed(*(replicates(n, leak=0.5) for n in range(6))).points
    for name in ("accuracy", "robust_accuracy"):
        spread = max(p.means[name] for p in points) - min(p.means[name] for p in points)
        shrunk = max(p.shrunk[name] for p in points) - min(p.shrunk[name] for p in points)
        assert shrunk < 0.7 * spread


def test_a_replicate_without_an_objective_counts_as_failed():
    own = replicates(0)
    for i, one in enumerate(own[:2]):
        own[i] = replace(one, result=NetworkResult(metrics={"density": 0.3}))
    objectives = (*finished.plan().objectives[:2], replace(finished.plan().objectives[2], metric="density"))
    (point,) = confirmed(own, objectives=objectives).points
    assert (point.replicates, point.failed) == (2, 1) and math.isnan(point.chance)


def test_baselines_and_points_that_are_not_confirmed_are_listed_with_the_reason():
    trials = [
        Trial(0, {}, METRICS), Trial(1, {}, METRICS, baseline="plain"), Trial(2, {}, METRICS),
        Trial(3, {}, error="it diverged", baseline="unstable"),
    ]  # fmt: skip
    lost = Replicate(NetworkResult(error="audit: no network.pt"))
    results = {(n, r): replicate(10 * n + r) for n in (0, 1) for r in (1, 2)} | {(2, 1): lost}
    found = confirmation(finished.plan(), trials, [2, 0], results)
    assert found and [(point.number, point.from_front) for point in found.points] == [(0, True), (1, False)]
    assert found.not_confirmed == {2: "every replicate failed: audit: no network.pt", 3: "it diverged"}


def test_without_a_replicate_that_succeeded_there_is_no_confirmation():
    results = {(0, 1): Replicate(NetworkResult(error="lost"))}
    assert confirmation(finished.plan(), [Trial(0, {}, METRICS)], [0], results) is None
    assert confirmation(finished.plan(), [], [], {}) is None


def test_the_cost_of_a_replicate_is_the_mean_over_those_that_succeeded():
    assert confirmed([replicate(1, seconds=10), replicate(2, seconds=20)], failed=1).seconds_per_replicate == 15


def test_the_images_of_the_evidence_are_the_judged_ones():
    assert len(replicate(0).shares["accuracy"].rows) == len(TEST) == 400
