"""Answers to contrasts, from estimates of points whose replicates are written by hand."""

import math
from collections.abc import Mapping

import finished
import numpy as np
import pytest
from confirming import point

from core.estimates import Estimates, Measurement
from core.study import Contrast, trilemma
from trainables.study.contrasts import answer, answers
from trainables.study.trial import Trial

OBJECTIVES = trilemma(10)
NAMES = [o.metric for o in OBJECTIVES]
LEAK = Contrast("Does it leak less?", "defended", "plain", "mia_auc")
MATCHED = Contrast("Does it leak less at the same accuracy?", {"loss": "crl"}, "plain", "mia_auc", matched="accuracy")


def estimates(points: Mapping[int, tuple[float, float, float]], spread: float = 0.002) -> Estimates[int]:
    """Estimates of points with these means of the objectives, of which three replicates deviate by `spread` each way.

    The deviations of two points are uncorrelated.
    """
    offsets = [
        np.array([(-1, 1, 0), (0, -1, 1), (1, 0, -1)]),
        np.array([(1, 1, -2), (-2, 1, 1), (1, -2, 1)]) / 3**0.5,
    ]
    return Estimates.of({
        number: {
            r: {name: Measurement.of_value(mean + spread * offset) for name, mean, offset in zip(NAMES, means, own, strict=True)}
            for r, own in enumerate(offsets[number % 2])
        }
        for number, means in points.items()
    }, NAMES)  # fmt: skip


def answered(control: tuple[float, float, float], treatment: tuple[float, float, float], contrast=LEAK, spread: float = 0.002):
    """The answer to a contrast of points 0, the control, and 1, the treatment."""
    return answer(contrast, OBJECTIVES, estimates({0: control, 1: treatment}, spread), treatment=1, control=0)


def test_a_contrast_is_answered_by_the_side_on_which_the_interval_of_the_difference_lies():
    assert answered((0.9, 0.3, 0.70), (0.9, 0.3, 0.60)).answer == "yes"  # less is better
    assert answered((0.9, 0.3, 0.60), (0.9, 0.3, 0.70)).answer == "no"
    assert answered((0.9, 0.3, 0.62), (0.9, 0.3, 0.60), spread=0.05).answer == "undecided"
    robust = Contrast("Is it more robust?", "defended", "plain", "robust_accuracy")
    assert answered((0.9, 0.3, 0.6), (0.9, 0.4, 0.6), robust).answer == "yes"  # more is better


def test_a_difference_that_is_certainly_within_the_margin_is_a_no():
    equal = answered((0.9, 0.3, 0.6), (0.9, 0.3, 0.6))
    low, high = equal.differences["mia_auc"].interval
    assert -0.01 < low < 0 < high < 0.01 and equal.answer == "no"
    assert answered((0.9, 0.3, 0.6), (0.9, 0.3, 0.6), Contrast("?", "a", "b", "mia_auc", margin=0.001)).answer == "undecided"


def test_the_differences_are_treatment_minus_control_for_every_objective():
    found = answered((0.9, 0.3, 0.70), (0.85, 0.5, 0.60))
    assert {name: d.value for name, d in found.differences.items()} == pytest.approx(
        {"accuracy": -0.05, "robust_accuracy": 0.2, "mia_auc": -0.1}
    )


def test_a_treatment_that_is_worse_in_the_matched_metric_answers_no_yes():
    assert answered((0.9, 0.3, 0.70), (0.901, 0.3, 0.60), MATCHED).answer == "yes"
    assert answered((0.9, 0.3, 0.70), (0.80, 0.3, 0.60), MATCHED).answer == "undecided"
    assert answered((0.8, 0.3, 0.70), (0.90, 0.3, 0.60), MATCHED).answer == "yes"  # better in both
    assert answered((0.8, 0.3, 0.60), (0.90, 0.3, 0.70), MATCHED).answer == "undecided"


def study(**changes):
    """A plan with both contrasts, trials and confirmed points: a control, two points with CRL, and one without."""
    plan = finished.plan(contrasts=(LEAK, MATCHED), **changes)
    losses = ("cross_entropy", "crl", "crl", "cross_entropy")
    trials = [Trial(n, {"loss": loss}, finished.metrics(0), baseline={0: "plain"}.get(n, "")) for n, loss in enumerate(losses)]
    means = {0: (0.90, 0.3, 0.70), 1: (0.70, 0.3, 0.55), 2: (0.89, 0.3, 0.65), 3: (0.90, 0.3, 0.5)}
    return plan, trials, [point(n, dict(zip(NAMES, m, strict=True))) for n, m in means.items()], estimates(means)


def test_the_treatment_is_the_point_with_its_settings_that_is_nearest_in_the_matched_metric_whatever_its_leak():
    (only,), unanswered = answers(*study(), {})
    assert (only.contrast, only.treatment, only.control, only.answer) == (MATCHED, 2, 0, "yes")
    assert unanswered == {LEAK.question: "the baseline 'defended' was not run"}


def test_flagged_and_unconfirmed_points_answer_no_contrast():
    plan, trials, points, found = study()
    flagged = [point(0, points[0].means, flags=("at_chance",)), *points[1:]]
    none, reasons = answers(plan, trials, flagged, found, {})
    assert (
        not none and reasons[MATCHED.question] == "the baseline 'plain' (trial 0) cannot be compared: a flag excludes it: at_chance"
    )
    none, reasons = answers(plan, trials, points[1:], found, {0: "it diverged"})
    assert not none and reasons[MATCHED.question].endswith("cannot be compared: it diverged")
    none, reasons = answers(plan, trials, [points[0], points[3]], found, {})
    assert not none and reasons[MATCHED.question] == "no confirmed point has loss=crl"


def test_the_replicates_needed_decide_a_difference_of_the_observed_size():
    """The difference of points whose replicates deviate by 0.05 has a standard error of 0.07 / sqrt(R): 0.03 needs R = 21."""
    found = answered((0.9, 0.3, 0.63), (0.9, 0.3, 0.60), spread=0.05)
    error = math.sqrt(2) * 0.05
    assert found.answer == "undecided" and found.replicates_needed == pytest.approx((1.96 * error / 0.03) ** 2, abs=2)


def test_no_number_of_replicates_decides_a_difference_that_the_images_leave_open():
    rows, noisy = range(100), [i % 2 == 0 for i in range(100)]
    share = lambda flip: Measurement.of_share(np.array(rows), np.array(noisy) ^ flip)  # noqa: E731
    other = np.zeros(100, bool)
    other[:51] = True
    measured = {
        0: {r: {"accuracy": share(np.zeros(100, bool))} for r in (1, 2)}, 1: {r: {"accuracy": share(other)} for r in (1, 2)}
    }  # fmt: skip
    contrast = Contrast("?", "a", "b", "accuracy", margin=0.0)
    found = answer(contrast, OBJECTIVES[:1], Estimates.of(measured, ["accuracy"]), treatment=1, control=0)
    assert found.answer == "undecided" and found.replicates_needed == math.inf
