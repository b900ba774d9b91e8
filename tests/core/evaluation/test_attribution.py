"""Distances of attribution maps over images, and the maps of one image, against the functions that make and compare them."""

import numpy as np
import pytest
import torch
from tiny_training import fit, images

from core import data
from core.attribution.grad_cam import grad_cam
from core.attribution.occlusion import occlusion
from core.attribution.stability import PAIRS, attribution_maps, attribution_stability, blurred, compare_maps
from core.bound import Trained
from core.config import TrialConfig
from core.evaluation.attribution import attribution_distances

torch.set_num_threads(1)


def network() -> Trained:
    config = TrialConfig.of({"net.width": 3, "net.hidden": 6, "epochs": 1, "judge.part": "test"})
    return Trained(config, fit({"net.width": 3, "net.hidden": 6, "epochs": 3}, images(60, shape=(3, 16, 16))))


def measured(**settings):
    target, pool = network(), images(200, shape=(3, 16, 16))
    test = pool.at(data.split(pool, target.config.split).test)
    return attribution_distances({"target": target}, pool, "cpu", **settings), target.bound.net, test.x.float() / 255


def test_the_means_are_those_of_attribution_stability_on_the_first_test_images():
    values, net, x = measured(count=9)
    expected = attribution_stability(net, x[:9])
    for name in ("patch", "grad_cam_blur"):
        for ours, theirs in (("ssd", "attribution_ssd"), ("rank", "attribution_rank"), ("constant", "attribution_constant")):
            assert values[f"{ours}/{name}"] == pytest.approx(expected[f"{theirs}/{name}"])
    assert 0 not in (values["ssd/patch"], values["ssd/grad_cam_blur"])


def test_the_spread_is_the_standard_deviation_over_images():
    values, net, x = measured(count=9)
    distances = compare_maps(attribution_maps(net, x[:9]))["attribution_ssd/patch"].numpy()
    assert values["ssd_sd/patch"] == pytest.approx(np.std(distances))
    assert values["ssd/patch"] == pytest.approx(np.mean(distances))


def test_the_maps_of_the_image_that_is_shown_are_scaled_and_have_its_distances():
    values, net, x = measured(count=5, shown=3)
    image, y = x[3:4], net.eval()(x[3:4]).argmax(1)
    shapes = {name: np.array(value) for name, value in values.items() if isinstance(value, list)}
    assert shapes["shown/shape"].tolist() == [3, 16, 16]
    np.testing.assert_allclose(shapes["shown/image"], image.flatten(), atol=1e-4)
    np.testing.assert_allclose(shapes["shown/blurred"], blurred(image, 0.5).flatten(), atol=1e-4)
    raw = {
        "patch": occlusion(net, image, y, patch=4, stride=2), "patch_small": occlusion(net, image, y, patch=2, stride=2),
        "grad_cam": grad_cam(net, image, y), "grad_cam_blurred": grad_cam(net, blurred(image, 0.5), y),
    }  # fmt: skip
    for name, heat in raw.items():
        low, high = heat.min().item(), heat.max().item()
        np.testing.assert_allclose(shapes[f"shown/{name}"], (heat.flatten() - low) / (high - low + 1e-7), atol=1e-3)
    for pair in ("patch", "grad_cam_blur"):
        one, other = (shapes[f"shown/{name}"] for name in PAIRS[pair])
        assert values[f"shown/ssd/{pair}"] == pytest.approx(((one - other) ** 2).sum(), abs=0.01)


def test_an_image_that_is_not_compared_cannot_be_shown():
    with pytest.raises(ValueError, match="shown must be 0 to 4, the images that are compared, got 5"):
        measured(count=5, shown=5)


def test_only_the_maps_of_the_requested_comparisons_are_made():
    net, x = network().bound.net, images(3, shape=(3, 16, 16)).x.float() / 255
    maps = attribution_maps(net, x, pairs=["grad_cam_blur"])
    assert set(maps.maps) == {"grad_cam", "grad_cam_blurred"}
    whole = attribution_maps(net, x)
    assert set(whole.maps) == {name for pair in PAIRS.values() for name in pair}
    assert all(torch.equal(heat, whole.maps[name]) for name, heat in maps.maps.items())
    assert {name.split("/")[1] for name in compare_maps(maps)} == {"grad_cam_blur"}
