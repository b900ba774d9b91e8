"""Replicates of confirmed points as measurements."""

import numpy as np
import pytest
from confirming import evidence, replicate

from core.errors import InputError
from trainables.study.replicates import Replicate
from trainables.study.results import NetworkResult


def test_the_measurements_are_the_shares_and_aucs_of_the_stored_arrays():
    arrays = evidence(3, leak=0.4)
    one = Replicate.of(NetworkResult(metrics={"density": 0.25, "accuracy": 0.0}), arrays)
    robust = arrays["robust/pgd"] & arrays["robust/fgsm"]
    assert one.shares["accuracy"].value == (arrays["logits"].argmax(1) == arrays["labels"]).mean()
    assert one.shares["robust_accuracy"].value == robust.mean()
    assert one.shares["robust_accuracy/fgsm"].value == arrays["robust/fgsm"].mean()
    inside, outside = arrays["own/loss"][arrays["own/member"]], arrays["own/loss"][~arrays["own/member"]]
    assert one.aucs["loss"].value == pytest.approx((inside[:, None] > outside[None]).mean())
    measured = {name: one.measurement(name) for name in ("accuracy", "mia_auc/loss", "density", "unknown")}
    assert measured["accuracy"] is one.shares["accuracy"] and measured["mia_auc/loss"] is one.aucs["loss"]
    assert measured["density"] and measured["density"].value == 0.25 and not len(measured["density"].rows)
    assert measured["unknown"] is None


def test_attacks_on_the_first_images_alone_are_measured_on_these():
    arrays = evidence(3)
    arrays |= {name: array[:64] for name, array in arrays.items() if name.startswith("robust/")}
    share = Replicate.of(NetworkResult(), arrays).shares["robust_accuracy"]
    assert share.images == 64 and np.array_equal(share.rows, arrays["rows"][:64])


@pytest.mark.parametrize("name", ["rows", "labels", "logits", "own/member"])
def test_missing_arrays_are_an_error_that_names_them(name):
    with pytest.raises(InputError, match=f"no {name}"):
        Replicate.of(NetworkResult(), {key: array for key, array in evidence(0).items() if key != name})


def test_an_audit_whose_scores_are_missing_is_an_error_that_names_it():
    with pytest.raises(InputError, match="the scores of lira are missing"):
        Replicate.of(NetworkResult(metrics={"mia_auc/lira": 0.6, "mia_auc/loss": 0.5}), evidence(0))


def test_the_synthetic_evidence_has_the_shares_and_the_leak_it_is_asked_for():
    one = replicate(1, accuracy=0.8, robust=0.4, leak=0.4)
    assert one.shares["accuracy"].value == pytest.approx(0.8, abs=0.06)
    assert one.shares["robust_accuracy"].value == pytest.approx(0.4, abs=0.07)
    assert one.aucs["loss"].value == pytest.approx(0.611, abs=0.05)
