"""Coverage of the intervals of means over replicates and of paired differences, against Student's; exact cases."""

import numpy as np
import pytest
from replicated import STRENGTHS, aucs, audited, shares, student_covers, true_auc

from core.audits.roc import Roc
from core.audits.selection import select_audit
from core.estimates import Estimates, Measurement
from core.stats import wilson


def coverage(
    truth: float, replicates: int, points: int, images: int, runs: int, seeds: float = 0.03
) -> tuple[float, float, float, float]:
    """Coverage of the intervals of shares, of Student's, and of paired differences; mean half-width over 1.96 standard errors."""
    stream, covered, student, paired, halves, errors = np.random.default_rng(1), [], [], [], [], []
    for _ in range(runs):
        measured = shares(stream, np.full((points, 1), truth), replicates, images, seeds, seeds)
        estimates = Estimates.of(measured, ["0"])
        for p in range(min(points, 4)):
            low, high = estimates.interval(p, "0")
            covered.append(low <= truth <= high)
            halves.append((high - low) / 2)
            errors.append(estimates.mean(p, "0") - truth)
            student.append(student_covers([m["0"].value for m in measured[p].values()], truth))
            if p:
                low, high = estimates.difference(p, 0, "0").interval
                paired.append(low <= 0 <= high)
    width = float(np.mean(halves) / np.std(errors) / 1.96)
    return float(np.mean(covered)), float(np.mean(student)), float(np.mean(paired)) if paired else np.nan, width


@pytest.mark.parametrize(
    "truth, replicates, points, images, student_below",
    [(0.8, 2, 7, 224, 0.93), (0.8, 3, 7, 100, 0.92), (0.5, 2, 2, 1000, 0.97), (0.5, 5, 7, 224, 0.88), (0.03, 3, 7, 224, 0.93),
     (0.97, 2, 7, 224, 0.91), (0.97, 5, 2, 100, 0.90)],
)  # fmt: skip
def test_intervals_of_shares_and_paired_differences_cover_where_students_do_not(truth, replicates, points, images, student_below):
    covered, student, paired, width = coverage(truth, replicates, points, images, 250)
    assert 0.93 <= covered <= 0.985 and 0.925 <= paired <= 0.99
    assert student < student_below and width < 1.4


def test_the_interval_of_a_single_point_with_two_replicates_is_a_tenth_of_students():
    covered, _, _, width = coverage(0.8, 2, 1, 224, 500)
    assert 0.93 <= covered <= 0.99 and width < 1.5


def test_large_effects_of_seeds_are_covered_too():
    covered, _, paired, _ = coverage(0.5, 3, 7, 2000, 150, seeds=0.08)
    assert 0.92 <= covered <= 0.98 and 0.92 <= paired <= 0.98


@pytest.mark.parametrize("leak, old_below", [(0.0, 0.45), (0.3, 0.9), (1.0, 0.96)])
def test_intervals_of_each_audit_and_of_the_best_one_cover_with_and_without_a_leak(leak, old_below):
    """The old interval is Student's for the largest folded AUC of each replicate."""
    stream, runs, points, replicates = np.random.default_rng(0), 80, 3, 3
    found = {name: ([], []) for name in ("best", "0", "3")}
    truth = {"best": true_auc(leak), "0": true_auc(leak), "3": true_auc(leak, 3)}
    old, paired = [], []
    for _ in range(runs):
        groups = audited(stream, points, replicates, (449, 224, 225), leak)
        each = {p: aucs(own) for p, own in groups.items()}
        best = {p: select_audit(own).measurements for p, own in each.items()}
        measured = {p: {r: {**each[p][r], "best": best[p][r]} for r in each[p]} for p in each}
        estimates = Estimates.of(measured, list(found))
        for p in range(points):
            for name, (values, covered) in found.items():
                low, high = estimates.interval(p, name)
                values.append(estimates.mean(p, name))
                covered.append(low <= truth[name] <= high)
            largest = [max(max(m.value, 1 - m.value) for m in own.values()) for own in each[p].values()]
            old.append(student_covers(largest, truth["best"]))
        for p in range(1, points):
            low, high = estimates.difference(0, p, "best").interval
            paired.append(low <= 0 <= high)
    assert all(0.925 <= np.mean(covered) <= 0.985 for _, covered in found.values()), {n: np.mean(c) for n, (_, c) in found.items()}
    assert abs(np.mean(found["best"][0]) - truth["best"]) < 0.012
    assert 0.92 <= np.mean(paired) <= 0.99
    assert np.mean(old) < old_below
    assert STRENGTHS[3] < STRENGTHS[0]


def test_the_influence_of_a_share_gives_the_binomial_variance_and_that_of_an_auc_delongs():
    hits = np.arange(50) < 40
    assert Measurement.of_share(np.arange(50), hits).variance == pytest.approx(0.8 * 0.2 / 49)
    stream = np.random.default_rng(0)
    member, scores = np.arange(120) < 70, stream.normal(size=120).round(1)
    measured = Measurement.of_auc(np.arange(120), member, scores)
    inside, outside = scores[member], scores[~member]
    above = [(np.sum(outside < s) + 0.5 * np.sum(outside == s)) / 50 for s in inside]
    below = [(np.sum(inside > s) + 0.5 * np.sum(inside == s)) / 70 for s in outside]
    assert measured.value == pytest.approx(Roc.of(inside, outside).auc) and measured.images == 50
    assert measured.variance == pytest.approx(np.var(above, ddof=1) / 70 + np.var(below, ddof=1) / 50)


def test_equal_replicates_have_the_width_of_the_images_and_ends_within_zero_and_one():
    rows, hits = np.arange(100), np.arange(100) < 90
    same = {r: {"a": Measurement.of_share(rows, hits), "none": Measurement.of_share(rows, hits & False)} for r in range(3)}
    estimates = Estimates.of({0: same, 1: same}, ["a", "none"])
    low, high = estimates.interval(0, "a")
    assert (low, high) == pytest.approx(wilson(90, 100), abs=0.012) and low < 0.9 < high
    low, high = estimates.interval(0, "none")
    assert low == 0 and 0.03 < high < 0.06
    assert np.subtract(*estimates.difference(0, 1, "a").interval[::-1]) > 0.01


def test_a_single_replicate_has_no_interval():
    one = {0: {1: {"share": Measurement.of_share(np.arange(9), np.arange(9) < 5), "value": Measurement.of_value(3.0)}}}
    estimates = Estimates.of(one, ["share", "value"])
    assert estimates.interval(0, "share") == (0, 1) and estimates.interval(0, "value") == (-np.inf, np.inf)
    assert np.isnan(estimates.seed_variances).all()


def test_a_metric_without_images_has_students_interval_with_the_pooled_variance():
    measured = {p: {r: {"x": Measurement.of_value(float(10 * p + r))} for r in range(2)} for p in range(2)}
    low, high = Estimates.of(measured, ["x"]).interval(0, "x")
    half = 4.302652729749464 * np.sqrt(0.5 / 2)  # two degrees of freedom
    assert (low, high) == pytest.approx((0.5 - half, 0.5 + half))


def test_the_effect_of_the_members_cancels_in_differences_of_common_replicates_only():
    stream = np.random.default_rng(0)
    effects = stream.normal(0, 1, 5)

    def measured(numbers: dict[int, list[int]]) -> Estimates[int]:
        own = {p: {r: {"x": Measurement.of_value(effects[r] + 0.05 * stream.normal())} for r in rs} for p, rs in numbers.items()}
        return Estimates.of(own, ["x"])

    same, apart = (
        measured({p: [0, 1, 2, 3] for p in range(6)}),
        measured({0: [0, 1], 1: [2, 3], **{p: [0, 1, 2, 3] for p in (2, 3, 4)}}),
    )
    half = [np.subtract(*e.difference(0, 1, "x").interval[::-1]) / 2 for e in (same, apart)]
    assert half[0] < 0.15 < 0.8 < half[1]
    assert np.subtract(*same.interval(0, "x")[::-1]) > 0.8


def test_points_with_different_numbers_of_replicates_are_estimated_together():
    stream = np.random.default_rng(3)
    measured = shares(stream, np.full((5, 1), 0.7), 4, 200)
    measured[0] = {r: measured[0][r] for r in (0, 2)}
    estimates = Estimates.of(measured, ["0"])
    widths = [np.subtract(*estimates.interval(p, "0")[::-1]) for p in range(5)]
    assert widths[0] > max(widths[1:]) and estimates.replicates[0] == {0, 2}


def test_a_metric_that_a_replicate_lacks_is_refused():
    with pytest.raises(ValueError, match=r"\[7\]"):
        Estimates.of({7: {1: {"a": Measurement.of_value(1.0)}, 2: {}}}, ["a"])


def test_the_covariance_is_positive_and_has_the_variances_of_the_intervals():
    estimates = Estimates.of(shares(np.random.default_rng(0), np.full((4, 2), 0.6), 3, 150), ["0", "1"])
    assert np.linalg.eigvalsh(estimates.covariance.reshape(8, 8)).min() > -1e-12
    low, high = estimates.interval(2, "1")
    assert 1.96 * np.sqrt(estimates.covariance[2, 1, 2, 1]) == pytest.approx((high - low) / 2, rel=0.05)
    drawn = estimates.draws(20_000)
    assert np.cov(drawn[:, 0, 0], drawn[:, 3, 0])[0, 1] == pytest.approx(estimates.covariance[0, 0, 3, 0], rel=0.15)
