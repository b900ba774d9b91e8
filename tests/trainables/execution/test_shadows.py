"""Shadow training without a cluster: what is trained, what is trained only once, and what is tried again."""

import json
from pathlib import Path

import numpy as np
import pytest
from in_process import local_executor

from core import data
from core.config import TrialConfig
from trainables.execution.resources import to_shared
from trainables.execution.shadows import train_shadows
from trainables.storage.arrays import of_npz
from trainables.storage.jobs import Job, shadow_job

TINY = {"epochs": 6, "net.width": 4, "judge.steps": 1, "judge.images": 16, "judge.epsilon": 0.1, "judge.part": "test"}
TINY |= {"judge.audits": "standard"}
IMAGES = to_shared(data.load("digits"))
RECIPES = [TrialConfig.of({**TINY, **more}).params() for more in ({}, {"loss": "relaxloss"})]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A folder above all studies."""
    return tmp_path_factory.mktemp("root")


@pytest.fixture
def calls() -> list[tuple[str, object]]:
    """Receives the function and the name of each job that is run."""
    return []


def shadows(root: Path, recipes, count: int, calls: list | None = None) -> list[list[Job]]:
    """The shadow models of recipes, trained if they are missing."""
    return train_shadows(recipes, count, local_executor(IMAGES, root, "s-1", calls=calls))


def test_shadow_models_are_trained_once_and_only_the_additional_ones_are_trained_later(root, calls):
    first = shadows(root, RECIPES, 2, calls)
    assert len(calls) == 4 and [len(own) for own in first] == [2, 2]
    assert shadows(root, RECIPES, 2, calls) == first and len(calls) == 4
    six = shadows(root, RECIPES, 6, calls)
    assert len(calls) == 4 + 2 * 4 and [own[:2] for own in six] == first


def test_only_the_missing_models_of_an_interrupted_shadow_training_are_trained(root, calls):
    known = shadows(root, RECIPES, 2)
    (root / known[1][0].folder / "result.json").unlink()
    assert shadows(root, RECIPES, 2, calls) == known
    assert calls == [("run_job", known[1][0].folder)]


def test_judge_settings_seed_and_replicate_are_no_part_of_a_recipe_but_knobs_and_the_threat_model_are():
    base = TrialConfig.of(TINY)
    same = [{"seed": 9}, {"replicate": 3}, {"judge.suite": "strong", "judge.part": "val", "judge.audits": "scores"}]
    other = [{"optimizer.lr": 0.2}, {"epochs": 7}, {"judge.epsilon": 0.2}]  # the ball of adversarial queries
    folder_of = lambda change: shadow_job(base.set(change).params(), 1, IMAGES.content).folder  # noqa: E731
    assert {folder_of(change) for change in same} == {folder_of({})}
    assert len({folder_of(change) for change in (*other, {})}) == 4
    assert shadow_job(base.params(), 2, IMAGES.content).folder != folder_of({})


def test_shadow_models_are_trained_on_no_image_that_any_replicate_uses(root):
    jobs = shadows(root, RECIPES[:1], 2)[0]
    images = data.load("digits")
    target = data.split(images)
    used = set(np.concatenate([target.members, target.val, target.test]))
    for job in jobs:
        outputs = of_npz((root / job.folder / "outputs.npz").read_bytes())
        assert not used & set(np.flatnonzero(outputs["state"] >= 0))
    assert {job.params["shadow"] for job in jobs} == {1, 2} and len({job.params["seed"] for job in jobs}) == 2


def test_a_failed_shadow_model_is_trained_again(root, calls):
    (known, *_), = shadows(root, RECIPES[:1], 2)  # fmt: skip
    result = json.loads((root / known.folder / "result.json").read_text())
    (root / known.folder / "result.json").write_text(json.dumps({**result, "error": "out of memory"}))
    assert len(shadows(root, RECIPES[:1], 2, calls)[0]) == 2 and calls == [("run_job", known.folder)]


def test_a_recipe_that_fails_has_no_shadow_models_and_each_failure_is_reported(tmp_path):
    lines = []
    broken = TrialConfig.of({**TINY, "optimizer.lr": 1e30}).params()
    trained = train_shadows([broken], 2, local_executor(IMAGES, tmp_path, "s-1", lines.append))
    assert trained == [[]] and sum("failed" in line for line in lines) == 2
