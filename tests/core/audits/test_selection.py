"""The best audit of a point, chosen and reported on different images."""

import numpy as np
import pytest
from replicated import aucs, audited, true_auc

from core.audits.selection import FOLDS, fold_of, select_audit
from core.estimates import Measurement


def one(rows: np.ndarray, member: np.ndarray, **scores: np.ndarray) -> dict[int, dict[str, Measurement]]:
    """Measurements of audits of one network."""
    return {1: {name: Measurement.of_auc(rows, member, score) for name, score in scores.items()}}


def test_a_clearly_best_audit_is_reported_with_its_auc_on_all_images():
    stream = np.random.default_rng(0)
    rows, member = np.arange(300), np.arange(300) < 200
    best, weak = stream.normal(size=300) + 2 * member, stream.normal(size=300)
    selected = select_audit(one(rows, member, weak=weak, best=best))
    alone = Measurement.of_auc(rows, member, best)
    assert selected.names == ("best",)
    assert selected.measurements[1].value == pytest.approx(alone.value)
    assert selected.measurements[1].variance == pytest.approx(alone.variance)


def test_without_a_leak_the_estimate_is_one_half_on_average_where_the_maximum_is_larger():
    stream, values, largest = np.random.default_rng(0), [], []
    for _ in range(80):
        measured = aucs(audited(stream, 1, 2, (200, 100, 100), 0.0)[0])
        values.append(np.mean([m.value for m in select_audit(measured).measurements.values()]))
        largest.append(np.mean([max(max(m.value, 1 - m.value) for m in own.values()) for own in measured.values()]))
    assert abs(np.mean(values) - 0.5) < 0.01 and np.mean(largest) > 0.535


def test_a_leak_is_found_in_full():
    stream = np.random.default_rng(0)
    found = [
        m.value for _ in range(30) for m in select_audit(aucs(audited(stream, 1, 2, (200, 100, 100), 1.0)[0])).measurements.values()
    ]
    assert np.mean(found) == pytest.approx(true_auc(1.0), abs=0.015)


def test_an_audit_that_is_significantly_below_one_half_is_flipped_and_noise_is_not():
    stream = np.random.default_rng(0)
    rows, member = np.arange(300), np.arange(300) < 200
    flipped = select_audit(one(rows, member, inverted=stream.normal(size=300) - 2 * member))
    assert flipped.measurements[1].value > 0.9
    slightly = stream.normal(size=300) - 0.1 * member
    value = Measurement.of_auc(rows, member, slightly).value
    assert value < 0.5 and select_audit(one(rows, member, noise=slightly)).measurements[1].value == pytest.approx(value)


def test_the_error_of_an_uncertain_choice_is_larger_than_that_of_a_fixed_audit():
    stream = np.random.default_rng(0)
    rows, member = np.arange(300), np.arange(300) < 200
    equal = {str(k): stream.normal(size=300) for k in range(8)}
    selected = select_audit(one(rows, member, **equal)).measurements[1]
    fixed = [Measurement.of_auc(rows, member, score).variance for score in equal.values()]
    assert selected.variance > 1.15 * np.mean(fixed)


def test_audits_that_a_replicate_lacks_are_left_out_and_without_a_common_one_there_is_no_choice():
    stream = np.random.default_rng(0)
    rows, member = np.arange(60), np.arange(60) < 40
    a, b = (Measurement.of_auc(rows, member, stream.normal(size=60) + shift * member) for shift in (0, 3))
    assert select_audit({1: {"a": a, "b": b}, 2: {"a": a}}).names == ("a",)
    with pytest.raises(ValueError, match="common"):
        select_audit({1: {"a": a}, 2: {"b": b}})


def test_folds_have_similar_sizes_and_depend_on_the_row_alone():
    counts = np.bincount(fold_of(np.arange(10_000)), minlength=FOLDS)
    assert counts.min() > 1900 and counts.max() < 2100
    assert (fold_of(np.array([17, 4])) == fold_of(np.arange(20))[[17, 4]]).all()
