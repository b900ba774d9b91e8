"""The confirmation step without a cluster: which networks it trains."""

import json
from pathlib import Path

import finished
from in_process import local_executor

from core import data
from core.config import TrialConfig
from trainables.execution.confirm import confirm
from trainables.execution.resources import to_shared
from trainables.study.outcome import Confirmed
from trainables.study.trial import Trial

TINY = {"epochs": 6, "net.width": 4, "judge.steps": 1, "judge.images": 16, "judge.epsilon": 0.1}
IMAGES = to_shared(data.load("digits"))


def trained(root: Path) -> list[Path]:
    """Results of all trainings below `root` that were not reused."""
    return [path for path in root.rglob("result.json") if not json.loads(path.read_text())["reused_from"]]


def test_confirm_trains_the_replicates_once_and_shadow_models_only_if_requested(tmp_path):
    """f points with R replicates each are f x R trainings, and f x S more with S shadow models."""
    config = TrialConfig.of({**TINY, "judge.part": "val", "judge.audits": "scores"})
    settings = {"config": config, "replicates": 2, "confirm": {"judge.part": "test", "judge.audits": "standard"}}
    points = [
        Trial(number, config.set({"optimizer.lr": 0.05 * (number + 1)}).params(), finished.metrics(number)) for number in (0, 1)
    ]

    def confirmed(name: str, shadows: int) -> list[Confirmed]:
        plan = finished.plan(name=name, shadows=shadows, **settings)
        return confirm(plan, points, local_executor(IMAGES, tmp_path, name))

    first = confirmed("s-1", 0)
    assert len(trained(tmp_path)) == 2 * 2 and not (tmp_path / "shadows").exists()
    assert all({"lira", "calibrated", "rmia"} <= point.leaks.keys() and "nn" not in point.leaks for point in first)
    assert first[0].means["mia_auc"] >= max(abs(leak.auc - 0.5) for leak in first[0].leaks.values()) + 0.5 - 1e-9
    again = confirmed("s-2", 0)
    assert len(trained(tmp_path)) == 2 * 2 and [p.means for p in again] == [p.means for p in first]
    more = confirmed("s-3", 1)
    assert len(trained(tmp_path)) == 2 * 2 + 2 * 1 and all("nn" in point.leaks for point in more)
    confirmed("s-4", 1)
    assert len(trained(tmp_path)) == 2 * 2 + 2 * 1
