"""Inversion and attribution in the evaluation of a trial: only on request, on the evaluated images, with pictures."""

import functools

import numpy as np
import pytest
import torch

from core import data, trial
from core.config import TrialConfig
from core.errors import InputError
from core.evaluation.inspection import MAX_MAPS
from core.evaluation.stored import stored_model
from core.inversion.leak import invert

BASE = TrialConfig.of({"epochs": 4, "net.width": 4, "judge.steps": 2, "judge.images": 32, "judge.epsilon": 0.1, "seed": 3})
INSPECTED = BASE.set({"judge.inversion": "ascent", "judge.inversion_iterations": 40, "judge.attribution": 12})


@functools.cache
def images():
    return data.load("digits")


@functools.cache
def result(inspected=True):
    return trial.run(INSPECTED if inspected else BASE, images())


def test_nothing_is_inspected_unless_the_judge_settings_request_it():
    plain = result(False)
    assert not plain.pictures and not any(name.startswith(("inversion", "attribution")) for name in plain.metrics.values)
    same = {name: value for name, value in result().metrics.values.items() if name in plain.metrics.values and "second" not in name}
    assert same == {name: value for name, value in plain.metrics.values.items() if "second" not in name}


def test_an_inspection_gives_metrics_of_inversion_and_attribution_and_the_adversarial_radius():
    metrics = result().metrics.values
    expected = {"inversion_leak", "inversion_leak_p", "inversion_l2", "inversion_iterations", "adversarial_radius"}
    expected |= {f"attribution_{kind}/{pair}" for kind in ("ssd", "rank") for pair in ("patch", "grad_cam_blur")}
    assert expected <= metrics.keys() and -1 <= metrics["inversion_leak"] <= 1 and metrics["adversarial_radius"] > 0


def test_reconstructions_are_compared_with_members_and_the_evaluated_part_only():
    parts = data.split(images())
    net = stored_model(INSPECTED, result().state["modules"], images(), torch.device("cpu")).net
    again = invert(net, images(), parts.members, parts.val, iterations=40, seed=3)
    assert {name: result().metrics[name] for name in again.metrics} == again.metrics
    other = invert(net, images(), parts.members, parts.test, iterations=40, seed=3)
    assert other.metrics["inversion_l2_held_out"] != again.metrics["inversion_l2_held_out"]


def test_pictures_are_bytes_with_their_nearest_members():
    pictures, pool = result().pictures, images()
    reconstructed, near = pictures["inversion/ascent/images"], pictures["inversion/ascent/nearest"]
    assert reconstructed.dtype == near.dtype == np.uint8 and reconstructed.shape == near.shape == (40, 1, 8, 8)
    members = pool.x[torch.from_numpy(data.split(pool).members)].numpy()
    assert all((members == image).all((1, 2, 3)).any() for image in near)
    distances = np.linalg.norm((reconstructed.astype(float) - near).reshape(40, -1) / 255, axis=1)
    assert np.abs(distances - pictures["inversion/ascent/l2"]).max() < 0.03  # rounding to bytes


def test_the_logits_during_an_attack_are_kept_and_end_at_the_final_logit():
    kept = {name: result().pictures[f"inversion/ascent/{name}"] for name in ("trajectory", "logit", "iterations")}
    assert kept["trajectory"].shape == (41, 40) and np.array_equal(kept["trajectory"][-1], kept["logit"])
    assert np.mean(kept["logit"]) == pytest.approx(result().metrics["inversion_logit"])
    assert torch.from_numpy(kept["iterations"]).median() == result().metrics["inversion_iterations"]


def test_heat_maps_are_of_correctly_classified_images():
    pictures = result().pictures
    shown = len(pictures["attribution/images"])
    assert 1 <= shown <= MAX_MAPS and all(len(a) == shown for name, a in pictures.items() if name.startswith("attribution/"))
    pool = images()
    for image, label in zip(pictures["attribution/images"], pictures["attribution/classes"], strict=True):
        (row,) = np.flatnonzero((pool.x.numpy() == image).all((1, 2, 3)))[:1]
        assert pool.y[row] == label and row in data.split(pool).val


SMALL_GAN = {"judge.inversion": "all", "judge.attribution": 0, "epochs": 1, "judge.gan_epochs": 1, "judge.gan_width": 2}


@functools.cache
def all_attacks(**changes):
    return trial.run(INSPECTED.set({**SMALL_GAN, **{f"judge.{name}": value for name, value in changes.items()}}), images())


def test_deepdream_and_the_acgan_are_further_attacks_on_the_same_network():
    assert {"inversion_leak", "inversion_leak/deepdream", "inversion_leak/acgan"} <= all_attacks().metrics.values.keys()
    assert {name.split("/")[1] for name in all_attacks().pictures} == {"ascent", "deepdream", "acgan"}


@pytest.mark.parametrize("changes", [{"gan_weight": 10.0}, {"gan_width": 3}, {"gan_epochs": 2}])
def test_the_settings_of_the_acgan_reach_it(changes):
    changed, usual = (result.pictures["inversion/acgan/images"] for result in (all_attacks(**changes), all_attacks()))
    assert not np.array_equal(changed, usual)


def test_the_number_of_reconstructions_of_each_class_is_a_setting():
    config = INSPECTED.set({"judge.inversion_restarts": 3, "judge.attribution": 0, "epochs": 1, "judge.inversion_iterations": 1})
    classes = trial.run(config, images()).pictures["inversion/ascent/classes"]
    assert np.bincount(classes).tolist() == [3] * 10


def test_an_ascent_may_start_from_an_image_of_the_shadow_models():
    still = {"judge.attribution": 0, "epochs": 1, "judge.inversion_iterations": 1, "judge.inversion_lr": 0.0}
    config, pool = INSPECTED.set({**still, "judge.inversion_start": "image"}), images()
    starts = trial.run(config, pool).pictures["inversion/ascent/images"]
    shadow = pool.x[torch.from_numpy(data.split(pool).shadow)].numpy()
    assert all((shadow == start).all((1, 2, 3)).any() for start in starts)
    assert len(np.unique(starts, axis=0)) > 10


def test_a_start_from_an_image_of_the_shadow_models_needs_some():
    with pytest.raises(InputError, match=r"image of the shadow models, and split\.shadow=0 leaves none"):
        INSPECTED.set({"judge.inversion_start": "image", "split.shadow": 0})


def test_an_inspection_is_determined_by_configuration_and_images():
    again = trial.run(INSPECTED, images())
    for name, array in result().pictures.items():
        assert np.array_equal(array, again.pictures[name]), name


@pytest.mark.parametrize("changes", [{"judge.inversion": "gan"}, {"judge.attribution": -1}, {"judge.inversion_iterations": 0}])
def test_impossible_judge_settings_are_rejected(changes):
    with pytest.raises(Exception, match="judge"):
        INSPECTED.set(changes)
