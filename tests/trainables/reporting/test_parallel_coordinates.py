"""Parallel coordinates of all trials."""

import re
from dataclasses import replace

import large
import pytest
from reported import page_of, section_of

from trainables.reporting.parallel_coordinates import axes_of
from trainables.study.outcome import Outcome


@pytest.fixture(scope="module")
def study() -> Outcome:
    """An outcome with everything that a report can contain."""
    return large.outcome()


def test_the_path_of_a_trial_passes_through_its_values(study):
    axes = axes_of(study)
    names = [axis.name for axis in axes]
    assert names == [
        "loss", "loss.lambda", "loss.alpha", "perturbation.epsilon", "optimizer.lr", "accuracy", "robust_accuracy", "mia_auc",
    ]  # fmt: skip
    by_name = dict(zip(names, axes, strict=True))
    assert by_name["loss.lambda"].log and not by_name["perturbation.epsilon"].log and by_name["mia_auc"].flipped
    best = min(study.completed, key=lambda t: t.metrics["mia_auc"])
    assert by_name["mia_auc"].place(best.metrics["mia_auc"]) == 1  # the best value is at the top
    middle = (by_name["loss.lambda"].low * by_name["loss.lambda"].high) ** 0.5
    assert by_name["loss.lambda"].place(middle) == pytest.approx(0.5) and by_name["loss.lambda"].place(None) is None
    assert len(re.findall(r"<path data-trial=", section_of(page_of(study), "trials"))) == len(study.completed)


def test_a_single_trial_has_no_parallel_coordinates(study):
    section = section_of(page_of(replace(study, trials=study.trials[:1], confirmation=None)), "trials")
    assert "<p>There are too few trials for a figure.</p>" in section and "<path" not in section
