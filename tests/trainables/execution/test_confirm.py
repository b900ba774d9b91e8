"""The confirmation step without a cluster: which networks it trains."""

import json
from pathlib import Path

import finished
import pytest
from in_process import local_executor

from core import data
from core.config import TrialConfig
from trainables.execution.confirm import confirm
from trainables.execution.resources import to_shared
from trainables.study.outcome import Confirmed, Outcome
from trainables.study.trial import Trial

TINY = {"epochs": 6, "net.width": 4, "judge.steps": 1, "judge.images": 16, "judge.epsilon": 0.1}
IMAGES = to_shared(data.load("digits"))


def trained(root: Path) -> list[Path]:
    """Results of all trainings below `root` that were not reused."""
    return [path for path in root.rglob("result.json") if not json.loads(path.read_text())["reused_from"]]


@pytest.mark.thorough
def test_confirm_trains_the_replicates_once_and_shadow_models_only_if_requested(tmp_path):
    """f points with R replicates each are f x R trainings, and f x S more with S shadow models."""
    config = TrialConfig.of({**TINY, "judge.part": "val", "judge.audits": "scores"})
    settings = {"config": config, "replicates": 2, "confirm": {"judge.part": "test", "judge.audits": "standard"}}
    points = [
        Trial(number, config.set({"optimizer.lr": 0.05 * (number + 1)}).params(), finished.metrics(number)) for number in (0, 1)
    ]

    lines: list[str] = []

    def confirmed(name: str, shadows: int) -> tuple[Confirmed, ...]:
        plan = finished.plan(name=name, shadows=shadows, **settings)
        found = confirm(plan, Outcome.of_plan(plan, {}, points), local_executor(IMAGES, tmp_path, name, lines.append))
        assert found
        return found.points

    first = confirmed("s-1", 0)
    assert "confirmation: 4 replicates audited, each by another replicate of its point" in lines
    assert len(trained(tmp_path)) == 2 * 2 and not (tmp_path / "shadows").exists()
    assert all({"lira", "calibrated", "rmia"} <= point.leaks.keys() and "nn" not in point.leaks for point in first)
    assert all(point.tiers.keys() >= {"threshold", "gradient", "siblings"} and "shadows" not in point.tiers for point in first)
    assert all(point.means["mia_auc"] == point.tiers["siblings"][0] for point in first)
    again = confirmed("s-2", 0)
    assert len(trained(tmp_path)) == 2 * 2 and [p.means for p in again] == [p.means for p in first]
    more = confirmed("s-3", 1)
    assert lines[-2] == "confirmation: 4 replicates audited, each by another replicate of its point and 1 shadow model"
    assert len(trained(tmp_path)) == 2 * 2 + 2 * 1
    assert all("nn" in point.leaks and point.means["mia_auc"] == point.tiers["shadows"][0] for point in more)
    confirmed("s-4", 1)
    assert len(trained(tmp_path)) == 2 * 2 + 2 * 1


def test_a_replicate_is_not_audited_again_when_its_point_gets_another_one(tmp_path):
    """With three replicates of each point, all are audited by one sibling, so the third changes no earlier audit."""
    config = TrialConfig.of({**TINY, "judge.part": "val", "judge.audits": "scores"})
    plan = finished.plan(config=config, replicates=3, confirm={"judge.part": "test", "judge.audits": "standard"})
    points = [Trial(n, config.set({"optimizer.lr": 0.1, "seed": n}).params(), finished.metrics(0)) for n in (0, 1)]
    calls: list[tuple[str, object]] = []
    found = confirm(plan, Outcome.of_plan(plan, {}, points), local_executor(IMAGES, tmp_path, "s-1", calls=calls))
    assert found
    audited = [name for work, name in calls if work == "audit_network"]
    assert len(audited) == len(set(audited)) == sum(point.replicates for point in found.points) >= 5
    third = json.loads(next(tmp_path.glob("s-1/confirm/*/3/audit.json")).read_text())
    assert not third["metrics"]["flag/audit_lacks_models"] and not third["error"]
