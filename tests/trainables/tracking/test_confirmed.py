"""The confirmation step in a real MLflow store."""

import math
from pathlib import Path

import pytest
from confirming import confirmation, point
from tracked import METRICS, artifacts_of, children, log_revisions, outcome, parent_of, sqlite, trial

from core.estimates import Difference
from core.stats import Interval
from core.study import Contrast
from trainables.study.outcome import ContrastAnswer
from trainables.study.tables import contrast_rows, csv

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
ANSWER = ContrastAnswer(
    Contrast("Does it leak less than no defence?", "defended", "plain", "mia_auc"), 1, 0, "yes",
    {"accuracy": Difference(-0.02, Interval(-0.05, 0.01)), "mia_auc": Difference(-0.1, Interval(-math.inf, math.inf))}, 4,
)  # fmt: skip


def test_points_have_intervals_chance_levels_and_verdicts_and_the_study_hypervolume_and_contrasts(tmp_path: Path):
    uri, known = sqlite(tmp_path), outcome(trial(0), trial(1, robust_accuracy=0.6))
    points = [
        point(0, METRICS, 0.03, probability=0.99, chance=0.55), point(1, METRICS, math.inf, probability=0.02, on_front=False),
    ]  # fmt: skip
    known.confirmation = confirmation(points, [ANSWER], hypervolume=(0.3, Interval(0.2, 0.4)))
    log_revisions(uri, known, [])
    _, runs = children(uri)
    first, second = (runs[number].data for number in ("0", "1"))
    assert (first.tags["verdict"], first.tags["confirmed"]) == ("stays", "true")
    assert (second.tags["verdict"], second.tags["confirmed"]) == ("leaves", "false")
    named = {f"confirmed/accuracy{end}": 0.9 + sign * 0.03 for end, sign in (("", 0), ("_low", -1), ("_high", 1))}
    assert {name: first.metrics[name] for name in named} == pytest.approx(named)
    assert first.metrics["confirmed/mia_auc_chance"] == 0.55 and "confirmed/mia_auc_chance" not in second.metrics
    assert "confirmed/accuracy_low" not in second.metrics  # an infinite interval has no ends
    _, parent = parent_of(uri)
    assert parent.data.tags["contrast/1"] == "Does it leak less than no defence? yes"
    wanted = {
        "confirmed/hypervolume": 0.3, "confirmed/hypervolume_low": 0.2, "confirmed/hypervolume_high": 0.4,
        "contrast/1/accuracy": -0.02, "contrast/1/accuracy_low": -0.05, "contrast/1/accuracy_high": 0.01,
        "contrast/1/mia_auc": -0.1,
    }  # fmt: skip
    logged = {name: value for name, value in parent.data.metrics.items() if name.startswith(("confirmed/", "contrast/"))}
    assert logged == wanted
    assert (artifacts_of(parent) / "contrasts.csv").read_text() == csv(contrast_rows(known))
