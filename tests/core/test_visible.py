"""Inversion and attribution as parts of a trial's judging: asked for by the judge, on the right images, with pictures."""

import functools

import numpy as np
import pytest
import torch

from core import data, trial
from core.config import TrialConfig
from core.inversion.leak import invert
from core.subject import stored
from core.visible import SHOWN

BASE = TrialConfig.of({"epochs": 4, "net.width": 4, "judge.steps": 2, "judge.images": 32, "judge.epsilon": 0.1, "seed": 3})
ASKED = BASE.set({"judge.inversion": "ascent", "judge.inversion_iterations": 40, "judge.attribution": 12})


@functools.cache
def images():
    return data.load("digits")


@functools.cache
def result(asked=True):
    return trial.run(ASKED if asked else BASE, images())


def test_nothing_is_looked_at_unless_the_judge_asks():
    plain = result(False)
    assert not plain.pictures and not any(name.startswith(("inversion", "attribution")) for name in plain.metrics.values)
    same = {name: value for name, value in result().metrics.values.items() if name in plain.metrics.values and "second" not in name}
    assert same == {name: value for name, value in plain.metrics.values.items() if "second" not in name}


def test_a_look_gives_finite_metrics_of_both_kinds_and_the_radius_beside_them():
    names = result().metrics.values
    expected = {"inversion_leak", "inversion_leak_p", "inversion_l2", "inversion_iterations", "adversarial_radius"}
    expected |= {f"attribution_{kind}/{pair}" for kind in ("ssd", "rank") for pair in ("patch", "grad_cam_blur")}
    assert expected <= names.keys() and -1 <= names["inversion_leak"] <= 1 and names["adversarial_radius"] > 0


def test_reconstructions_are_compared_with_members_and_with_the_judged_part_only():
    parts = data.split(images())
    net = stored(ASKED, result().state["modules"], images(), torch.device("cpu")).net
    again = invert(net, images(), parts.members, parts.val, iterations=40, seed=3)
    assert {name: result().metrics[name] for name in again.metrics} == again.metrics
    other = invert(net, images(), parts.members, parts.test, iterations=40, seed=3)
    assert other.metrics["inversion_l2_held_out"] != again.metrics["inversion_l2_held_out"]


def test_pictures_are_bytes_beside_their_nearest_members():
    pictures, pool = result().pictures, images()
    made, near = pictures["inversion/ascent/images"], pictures["inversion/ascent/nearest"]
    assert made.dtype == near.dtype == np.uint8 and made.shape == near.shape == (40, 1, 8, 8)
    members = pool.x[torch.from_numpy(data.split(pool).members)].numpy()
    assert all((members == image).all((1, 2, 3)).any() for image in near)
    distances = np.linalg.norm((made.astype(float) - near).reshape(40, -1) / 255, axis=1)
    assert np.abs(distances - pictures["inversion/ascent/l2"]).max() < 0.03  # rounding to bytes


def test_heat_maps_are_of_images_that_are_right():
    pictures = result().pictures
    shown = len(pictures["attribution/images"])
    assert 1 <= shown <= SHOWN and all(len(a) == shown for name, a in pictures.items() if name.startswith("attribution/"))
    pool = images()
    for image, named in zip(pictures["attribution/images"], pictures["attribution/classes"], strict=True):
        (row,) = np.flatnonzero((pool.x.numpy() == image).all((1, 2, 3)))[:1]
        assert pool.y[row] == named and row in data.split(pool).val


def test_deepdream_and_the_generator_are_further_attacks_on_the_same_network(monkeypatch):
    monkeypatch.setattr("core.visible.ACGAN", {"epochs": 1, "width": 2})
    both = trial.run(ASKED.set({"judge.inversion": "all", "judge.attribution": 0, "epochs": 1}), images())
    assert {"inversion_leak", "inversion_leak/deepdream", "inversion_leak/acgan"} <= both.metrics.values.keys()
    assert {name.split("/")[1] for name in both.pictures} == {"ascent", "deepdream", "acgan"}


def test_a_look_is_a_function_of_configuration_and_images():
    again = trial.run(ASKED, images())
    for name, array in result().pictures.items():
        assert np.array_equal(array, again.pictures[name]), name


@pytest.mark.parametrize("changes", [{"judge.inversion": "gan"}, {"judge.attribution": -1}, {"judge.inversion_iterations": 0}])
def test_what_cannot_be_asked_is_refused(changes):
    with pytest.raises(Exception, match="judge"):
        ASKED.set(changes)
