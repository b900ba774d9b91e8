"""Distances between heat maps, the blur, and the stability metrics."""

import subprocess
import sys

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn
from torchvision.transforms.v2.functional import gaussian_blur

from core import nets, rng
from core.attribution.grad_cam import grad_cam
from core.attribution.occlusion import occlusion
from core.attribution.stability import (
    PAIRS,
    AttributionMaps,
    attribution_maps,
    attribution_stability,
    blurred,
    compare_maps,
    min_max,
    patches,
    rank_correlation,
    ssd,
)
from core.nets import NETS
from core.regularizers.bpfc import quantise

torch.set_num_threads(1)


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return nets.build(NETS["allconv"](width=4), (3, 16, 16), 5)


# -- distances --------------------------------------------------------------------------------------------------------


def test_ssd_is_the_sum_of_squared_differences():
    a, b = rand(3, 4, 5), rand(3, 4, 5, seed=1)
    assert (ssd(a, a) == 0).all() and torch.equal(ssd(a, b), ssd(b, a))
    a = torch.tensor([[[0.0, 1.0], [2.0, 3.0]], [[0.0, 0.0], [0.0, 0.0]]])
    b = torch.tensor([[[1.0, 1.0], [0.0, 3.5]], [[0.0, 0.0], [0.0, -2.0]]])
    assert ssd(a, b).tolist() == [5.25, 4.0]
    for distance in (ssd, rank_correlation):
        with pytest.raises(ValueError, match=r"got \(2, 2, 2\) and \(2, 2, 1\)"):
            distance(a, b[..., :1])


def test_maps_are_scaled_separately_and_constant_maps_become_zero():
    maps = torch.stack([torch.tensor([[-1.0, 1.0], [3.0, 0.0]]), torch.full((2, 2), 7.0), torch.tensor([[0.0, 1e-7], [0.0, 0.0]])])
    scaled = min_max(maps)
    torch.testing.assert_close(scaled[0], torch.tensor([[0.0, 0.5], [1.0, 0.25]]))
    assert (scaled[1] == 0).all()
    assert scaled[2, 0, 1].item() == pytest.approx(0.5)  # epsilon is 1e-7


def test_rank_correlation_equals_that_of_scipy_on_each_image_also_with_ties():
    a, b = rand(6, 5, 7), rand(6, 5, 7, seed=1)
    a[2:] = (a[2:] * 4).floor()
    b[3:] = (b[3:] * 3).floor() + a[3:]
    a[5] = -b[5]
    a[0] *= 1e-6  # almost constant, but not constant
    correlations = rank_correlation(a, b).tolist()
    for one, other, value in zip(a, b, correlations, strict=True):
        assert value == pytest.approx(spearmanr(one.flatten(), other.flatten()).statistic, abs=1e-12)
    assert correlations[5] == pytest.approx(-1)


def test_a_constant_map_correlates_with_constant_maps_only():
    flat, other = torch.zeros(1, 3, 3), rand(1, 3, 3)
    assert rank_correlation(flat, flat + 2).item() == 1
    assert rank_correlation(flat, other).item() == rank_correlation(other, flat).item() == 0


# -- blur -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.25, 0.5, 1.5])
@pytest.mark.parametrize("shape", [(2, 3, 9, 7), (1, 1, 3, 3)])
def test_the_blur_equals_that_of_torchvision_with_a_5x5_kernel(shape, sigma):
    x = rand(*shape)
    torch.testing.assert_close(blurred(x, sigma), gaussian_blur(x, [5, 5], [sigma, sigma]), atol=1e-6, rtol=0)


def test_the_weights_of_the_blur_sum_to_one_and_with_sigma_zero_it_is_the_identity():
    point = torch.zeros(1, 1, 11, 11)
    point[0, 0, 5, 5] = 1
    spread = blurred(point)
    assert spread.sum().item() == pytest.approx(1) and (spread > 0).sum() == 25
    torch.testing.assert_close(blurred(torch.full((1, 2, 6, 6), 0.3)), torch.full((1, 2, 6, 6), 0.3))
    x = rand(2, 3, 8, 8)
    assert torch.equal(blurred(x, 0), x) and torch.equal(blurred(x, 1e-3), x)
    assert 0 < (blurred(x, 0.3) - x).abs().max() < (blurred(x, 0.5) - x).abs().max()
    with pytest.raises(ValueError, match="got -1"):
        blurred(x, -1)


# -- the metrics --------------------------------------------------------------------------------------------------------


def test_each_metric_is_a_mean_over_images_of_maps_for_the_class_of_the_unperturbed_image(net):
    x = rand(6, 3, 16, 16)
    with torch.no_grad():
        scale = 40.0  # large logits, so that blurring changes some classes
        net.head.weight.mul_(scale)
        y = net(x).argmax(1)
    smooth, coarse = blurred(x, 2.0), quantise(x, 7, 0.0)
    pairs = {
        "patch": (occlusion(net, x, y, patch=4), occlusion(net, x, y, patch=2)),
        "patch_blur": (occlusion(net, x, y), occlusion(net, smooth, y)),
        "grad_cam_blur": (grad_cam(net, x, y), grad_cam(net, smooth, y)),
        "grad_cam_quantised": (grad_cam(net, x, y), grad_cam(net, coarse, y)),
    }
    metrics = attribution_stability(net, x, sigma=2.0, bits=7)
    with torch.no_grad():
        net.head.weight.div_(scale)
    assert set(pairs) == set(PAIRS)
    expected = {}
    for name, (a, b) in pairs.items():
        expected[f"attribution_ssd/{name}"] = ssd(min_max(a), min_max(b)).mean().item()
        expected[f"attribution_ssd_raw/{name}"] = (a - b).square().sum().item() / 6
        expected[f"attribution_rank/{name}"] = rank_correlation(a, b).mean().item()
        expected[f"attribution_constant/{name}"] = 0.0
    assert metrics == pytest.approx(expected, rel=1e-4)
    assert min(metrics[f"attribution_ssd/{name}"] for name in PAIRS) > 0


def test_the_class_is_that_of_the_unperturbed_image_if_the_quantiser_changes_it():
    """The class is 1 if the mean is above 0.55; the quantiser with 8 bits turns every image into a constant 0.502."""
    shape = (2, 1, 16, 16)
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten(), nn.Linear(256, 2))
    with torch.no_grad():
        net[0].weight.fill_(1), net[0].bias.zero_()
        net[2].weight.copy_(torch.tensor([[0.0], [1 / 256]]).expand(2, 256)), net[2].bias.copy_(torch.tensor([0.55, 0.0]))
    x = 0.6 + 0.2 * rand(*shape)
    assert net(quantise(x, 8, 0.0)).argmax(1).tolist() == [0, 0]
    maps = attribution_maps(net, x, bits=8)
    assert maps.classes.tolist() == [1, 1]
    torch.testing.assert_close(maps.maps["grad_cam_quantised"], torch.full((2, 16, 16), 128 / 255 / 256))
    assert torch.equal(maps.images, x)


def test_the_class_is_that_of_the_unperturbed_image_if_the_blur_changes_it():
    """Class 1 is a chessboard, which the blur removes."""
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten(), nn.Linear(256, 2))
    chessboard = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 2.0 - 1
    with torch.no_grad():
        net[0].weight.fill_(1), net[0].bias.zero_()
        net[2].weight.copy_(torch.stack([torch.zeros(256), (chessboard.flatten() + 0.1) / 256]))
        net[2].bias.copy_(torch.tensor([0.15, 0.0]))
    x = (0.5 + 0.2 * chessboard).expand(2, 1, 16, 16)
    smooth, ones = blurred(x, 1.5), torch.ones(2, dtype=torch.long)
    assert net(x).argmax(1).tolist() == [1, 1] and net(smooth).argmax(1).tolist() == [0, 0]
    maps = attribution_maps(net, x, sigma=1.5).maps
    torch.testing.assert_close(maps["grad_cam_blurred"], 0.1 / 256 * smooth[:, 0])
    torch.testing.assert_close(maps["patch_blurred"], occlusion(net, smooth, ones))
    assert maps["patch_blurred"].abs().max() > 1e-5


def test_constant_maps_count_as_stable_and_are_reported():
    flat, bumpy = torch.zeros(4, 5, 5), rand(4, 5, 5)
    names = {name for pair in PAIRS.values() for name in pair}
    maps = AttributionMaps(rand(4, 1, 5, 5), torch.zeros(4), dict.fromkeys(names, flat))
    maps.maps["patch"] = torch.stack([flat[0], flat[1] + 1, bumpy[2], bumpy[3]])
    values = compare_maps(maps)
    assert values["attribution_constant/grad_cam_blur"].tolist() == [1, 1, 1, 1]
    assert values["attribution_ssd/grad_cam_blur"].tolist() == [0, 0, 0, 0]
    maps.maps["patch_small"] = torch.stack([flat[0], bumpy[1], flat[2], bumpy[3]])
    values = compare_maps(maps)
    assert values["attribution_constant/patch"].tolist() == [1, 1, 1, 0]
    assert values["attribution_rank/patch"].tolist() == pytest.approx([1, 0, 0, 1])


def test_maps_change_only_if_the_quantiser_changes_the_image(net):
    levels = 32 * torch.randint(0, 8, (4, 3, 16, 16), generator=torch.Generator().manual_seed(0)) + 16
    x = levels / 255  # the centres of the quantiser's cells
    metrics = attribution_stability(net, x, sigma=0.0, bits=5)
    for name in ("patch_blur", "grad_cam_blur", "grad_cam_quantised"):
        assert metrics[f"attribution_ssd/{name}"] == metrics[f"attribution_ssd_raw/{name}"] == 0
        assert metrics[f"attribution_rank/{name}"] == pytest.approx(1)
    assert attribution_stability(net, x, bits=6)["attribution_ssd/grad_cam_quantised"] > 0
    assert metrics["attribution_ssd/patch"] > 0


def test_the_noise_of_the_quantiser_belongs_to_the_image_and_needs_a_draw(net):
    x, ids = rand(5, 3, 16, 16), torch.arange(5)

    def maps(rows, seed=0):
        return attribution_maps(net, x[rows], draw=rng.per_image(seed, "attribution", ids=ids[rows])).maps

    whole = maps(slice(None))
    for rows in (slice(0, 2), slice(2, 5)):
        for name, heat in maps(rows).items():
            torch.testing.assert_close(heat, whole[name][rows], atol=1e-6, rtol=1e-4)
    noisy, other, without_noise = (m["grad_cam_quantised"] for m in (whole, maps(slice(None), 1), attribution_maps(net, x).maps))
    assert not torch.equal(noisy, other) and not torch.equal(noisy, without_noise)
    torch.testing.assert_close(
        attribution_maps(net, x, batch_size=2).maps["grad_cam_quantised"], without_noise, atol=1e-6, rtol=1e-4
    )


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 12, 17)])
def test_images_of_all_sizes_have_maps_of_their_size(shape):
    torch.manual_seed(0)
    net = nets.build(NETS["convnet"](width=4), shape, 5).train()
    maps = attribution_maps(net, rand(2, *shape))
    assert {name for pair in PAIRS.values() for name in pair} == set(maps.maps)
    for name, heat in maps.maps.items():
        assert heat.shape == (2, *shape[1:]) and heat.dtype == torch.float32
        assert name.startswith("grad_cam") or (heat.std((1, 2)) > 0).all()  # Grad-CAM may be all zero
    values = compare_maps(maps)
    assert len(values) == 4 * len(PAIRS)
    assert all(v.shape == (2,) and v.isfinite().all() for v in values.values())
    assert net.training and all(m.training for m in net.modules())


def test_patches_are_those_of_the_paper_and_smaller_on_images_below_16_pixels():
    assert patches(32) == patches(28) == patches(16) == (4, 2, 2)
    assert patches(8) == patches(15) == (2, 1, 1)


def test_an_empty_batch_is_rejected(net):
    with pytest.raises(ValueError, match="at least one image, got 0"):
        attribution_stability(net, rand(0, 3, 16, 16))


def test_importing_the_package_imports_no_slow_library():
    code = "import sys, core.attribution.stability; print(*[n for n in ('captum', 'torchvision', 'scipy') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
