"""Membership scores against their formulas and SciPy."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from audit_oracles import logits_and_labels, naive_modified_entropy
from hypothesis import given, settings
from hypothesis import strategies as st

from core.audits import scores

torch.set_num_threads(1)


def test_modified_entropy_of_a_certain_and_correct_prediction_is_zero():
    logits = torch.zeros(1, 10)
    logits[0, 3] = 1e4
    assert scores.modified_entropy(logits, torch.tensor([3])).item() == 0
    logits[0, 3] = 30
    assert abs(scores.modified_entropy(logits, torch.tensor([3])).item()) < 1e-10


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
def test_modified_entropy_of_a_uniform_prediction_equals_its_closed_form(classes):
    expected = (classes - 1) / classes * (math.log(classes) + math.log(classes / (classes - 1)))
    value = -scores.modified_entropy(torch.full((1, classes), 5.0), torch.tensor([1])).item()
    assert value == pytest.approx(expected, rel=1e-12)
    if classes == 10:
        assert value == pytest.approx(2.1672, abs=5e-5)


def test_modified_entropy_of_a_certain_and_incorrect_prediction_is_unbounded():
    logits = torch.zeros(5, 10)
    logits[:, 0] = torch.tensor([5.0, 10, 100, 1000, 1e4])
    m = -scores.modified_entropy(logits, torch.full((5,), 4))
    assert (m.diff() > 0).all() and torch.isfinite(m).all()
    assert m[-1].item() == pytest.approx(2e4, rel=1e-3)  # -log p_y, and -log(1 - p_0), each 1e4


@pytest.mark.parametrize("classes", [2, 7, 40])
def test_modified_entropy_equals_the_naive_formula_on_moderate_logits(classes):
    logits, y = logits_and_labels(classes=classes)
    np.testing.assert_allclose(scores.modified_entropy(logits, y).numpy(), naive_modified_entropy(logits, y), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", scores.SCORES)
@given(scale=st.sampled_from([1.0, 50.0, 1e3, 1e4]), seed=st.integers(0, 999), classes=st.sampled_from([2, 5, 10]))
@settings(max_examples=15, deadline=None)
def test_scores_are_finite_for_any_logits(name, scale, seed, classes):
    logits = (2 * torch.rand(16, classes, generator=torch.Generator().manual_seed(seed)) - 1) * scale
    y = torch.arange(16) % classes
    values = scores.SCORES[name](logits, y)
    assert values.dtype == torch.float64 and torch.isfinite(values).all()
    assert (values <= 1 if name == "confidence" else values <= 1e-12).all()


@pytest.mark.parametrize("name", scores.SCORES)
def test_scores_are_invariant_to_a_constant_added_to_all_logits(name):
    logits, y = logits_and_labels()
    logits = logits.double()
    torch.testing.assert_close(scores.SCORES[name](logits + 300, y), scores.SCORES[name](logits, y), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("classes", [2, 10])
def test_entropy_of_a_uniform_prediction_is_log_classes(classes):
    value = scores.entropy(torch.zeros(1, classes), torch.tensor([0])).item()
    assert -value == pytest.approx(math.log(classes), rel=1e-12)


@pytest.mark.parametrize("name", scores.SCORES)
def test_a_class_with_logit_minus_infinity_does_not_change_the_scores(name):
    logits, y = logits_and_labels(classes=5)
    masked = torch.cat([logits, torch.full((len(y), 1), -math.inf)], 1)
    torch.testing.assert_close(scores.SCORES[name](masked, y), scores.SCORES[name](logits, y), rtol=1e-9, atol=1e-12)


def test_entropy_equals_that_of_scipy():
    logits, y = logits_and_labels()
    expected = scipy.stats.entropy(logits.double().softmax(1).numpy(), axis=1)
    np.testing.assert_allclose(-scores.entropy(logits, y).numpy(), expected, rtol=1e-12)


def test_confidence_is_the_probability_of_the_label_and_loss_is_its_logarithm():
    logits, y = logits_and_labels()
    p = np.array([row[label] for row, label in zip(logits.double().softmax(1).numpy(), y, strict=True)])
    np.testing.assert_allclose(scores.confidence(logits, y), p, rtol=1e-12)
    np.testing.assert_allclose(scores.loss(logits, y), np.log(p), rtol=1e-12)
    assert (scores.confidence(logits, y).argsort() == scores.loss(logits, y).argsort()).all()


def test_loss_orders_images_whose_confidence_rounds_to_one():
    logits = torch.tensor([[40.0, 0.0], [50.0, 0.0], [90.0, 0.0]])
    y = torch.zeros(3, dtype=torch.long)
    assert scores.confidence(logits, y).unique().numel() == 1
    assert (scores.loss(logits, y).diff() > 0).all()


@pytest.mark.parametrize("name", scores.SCORES)
def test_scores_of_probabilities_of_exactly_zero_and_one_are_defined(name):
    """Logits of infinity, as of a probability that rounds to 1: certain and correct, certain and wrong, and one class excluded."""
    inf = math.inf
    logits = torch.tensor([[inf, 0.0, 1.0], [0.0, inf, 1.0], [-inf, 0.0, 1.0], [0.0, -inf, 1.0], [1e38, -1e38, 0.0]])
    values = scores.SCORES[name](logits, torch.zeros(5).long())
    p, q = 1 / (1 + math.e), math.e / (1 + math.e)  # of the logits 0 and 1
    entropy = p * math.log(p) + q * math.log(q)
    expected = {
        "confidence": [1, 0, 0, p, 1], "loss": [0, -inf, -inf, math.log(p), 0], "entropy": [0, 0, entropy, entropy, 0],
        "modified_entropy": [0, -inf, -inf, 2 * q * math.log(p), 0],
    }[name]  # fmt: skip
    assert values.tolist() == pytest.approx(expected, abs=1e-12)
