"""Nothing is trained twice: what makes two trainings the same, and what is taken over from an earlier one."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from core import data
from core.config import TrialConfig
from core.data import Images
from trainables import content
from trainables.store import Store
from trainables.trial import Job, Share, of_npz, pack, perform

TINY = {"epochs": 2, "net.width": 4, "judge.steps": 1, "judge.images": 16, "judge.epsilon": 0.1}


@pytest.mark.parametrize(
    ("source", "same"),
    [
        ("def f(x):\n    return x+1  # a comment", True),
        ('"""A docstring."""\n\n\ndef f(x):\n    """Another."""\n    return (x + 1)', True),
        ('def f(x):\n    return x + 1\n"""What f is."""', True),
        ("def f(x):\n    return x + 2", False),
        ("def f(x, y=0):\n    return x + 1", False),
        ('def f(x):\n    return x + 1\nNAME = "text"', False),
    ],
)
def test_comments_docstrings_and_layout_are_not_what_code_means(source, same):
    assert (content.meaning("def f(x):\n    return x + 1") == content.meaning(source)) is same


def test_the_code_of_this_installation_has_one_name_in_every_process():
    other = subprocess.run(
        [sys.executable, "-c", "from trainables import content; print(content.of_code())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout.strip() == content.of_code()


def test_one_changed_pixel_or_label_or_the_order_makes_other_images():
    digits = data.load("digits")
    names = {content.of_images(digits), content.of_images(digits.at(torch.randperm(len(digits.y))))}
    for part in ("x", "y"):
        x, y = digits.x.clone(), digits.y.clone()
        (x if part == "x" else y).view(-1)[7] += 1
        names.add(content.of_images(Images(x, y, digits.classes)))
    assert len(names) == 4 and content.of_images(data.load("digits")) in names


def test_every_setting_is_part_of_the_key():
    config = TrialConfig.of({"loss": "crl"})
    keys = {content.key(config.params(), "images and code")}
    changes = [{"loss.lambda": 0.2}, {"seed": 1}, {"shadow": 1}, {"judge.epsilon": 0.05}, {"loss": "relaxloss"}]
    keys |= {content.key(config.set(change).params(), "images and code") for change in changes}
    keys.add(content.key(config.params(), "other images"))
    assert len(keys) == len(changes) + 2
    reordered = dict(reversed(config.params().items()))
    assert content.key(reordered, "images and code") in keys


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("root")


def run(root: Path, study: str, folder: str = "trials/00000", **changes) -> dict:
    params = TrialConfig.of({**TINY, **changes}).params()
    store = Store.at(str(root))
    return perform(Job(folder, params), pack(data.load("digits")), store.below(study), Share(0, 1, 0, store))


def test_the_same_training_in_another_study_is_taken_over_with_all_its_files(root):
    asked = {"judge.audits": "standard"}
    first, second = run(root, "one-1", **asked), run(root, "two-1", "confirm/00003/1", **asked)
    assert "taken_from" not in first and second == {**first, "taken_from": "one-1/trials/00000"}
    for name in ("network.pt", "predictions.npz", "answers.npz"):
        assert (root / "two-1/confirm/00003/1" / name).read_bytes() == (root / "one-1/trials/00000" / name).read_bytes()
    assert json.loads((root / "two-1/confirm/00003/1/result.json").read_text()) == second
    assert len(of_npz((root / "two-1/confirm/00003/1/answers.npz").read_bytes())["state"]) == 1797


def test_what_differs_in_a_knob_is_trained(root):
    run(root, "one-2")
    assert "taken_from" not in run(root, "two-2", **{"optimizer.lr": 0.011})


def test_what_has_been_deleted_or_is_incomplete_is_trained_again(root):
    run(root, "one-3", seed=3)
    (root / "one-3/trials/00000/network.pt").unlink()
    again = run(root, "two-3", seed=3)
    assert "taken_from" not in again and (root / "two-3/trials/00000/network.pt").is_file()
    assert run(root, "three-3", seed=3)["taken_from"] == "two-3/trials/00000"  # the newer one is noted


def test_a_failed_training_is_not_taken_over(root):
    changes = {"seed": 4, "optimizer.lr": 1e30}
    failed = run(root, "one-4", **changes)
    assert failed["error"] and "taken_from" not in run(root, "two-4", **changes)


def test_without_a_place_to_look_everything_is_trained(tmp_path):
    params = TrialConfig.of(TINY).params()
    results = [
        perform(Job("trials/00000", params), pack(data.load("digits")), Store.at(str(tmp_path / name)), Share(0, 1, 0))
        for name in "ab"
    ]
    assert not any("taken_from" in result for result in results) and not (tmp_path / "cache").exists()
    assert results[0]["metrics"]["accuracy"] == results[1]["metrics"]["accuracy"]


def test_a_shadow_model_is_asked_and_not_attacked(tmp_path):
    params = TrialConfig.of({**TINY, "shadow": 2, "judge.audits": "standard"}).params()
    result = perform(Job("shadows/x", params), pack(data.load("digits")), Store.at(str(tmp_path)), Share(0, 1, 0))
    assert {"accuracy", "train_accuracy"} <= result["metrics"].keys() and not any("robust" in name for name in result["metrics"])
    state = of_npz((tmp_path / "shadows/x/answers.npz").read_bytes())["state"]
    parts = data.split(data.load("digits"), shadow=2)
    assert np.array_equal(np.flatnonzero(state > 0), np.sort(parts.members))
