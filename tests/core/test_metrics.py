"""Metrics are finite."""

import pytest

from core.errors import TrialError
from core.metrics import Metrics


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_metrics_that_are_not_finite_are_rejected_by_name(bad):
    with pytest.raises(TrialError, match="not finite: accuracy, mia_auc"):
        Metrics({"mia_auc": bad, "fine": 1.0, "accuracy": bad})
    assert Metrics({"fine": 1.0})["fine"] == 1.0
