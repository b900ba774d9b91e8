"""The sliding patch against loops and closed forms."""

import numpy as np
import pytest
import torch
from torch import nn

from core import nets
from core.attribution.occlusion import occlusion
from core.nets import NETS

torch.set_num_threads(1)


def images(n=3, shape=(3, 8, 8), seed=0):
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))


def linear(x, classes=3):
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), classes))


def reference_occlusion(score, x, patch, stride, fill):
    """Drops and coverage by a loop over positions, [N, h, w] and [h, w]; `score` maps numpy images to [N]."""
    n, _, h, w = x.shape
    total, count = np.zeros((n, h, w)), np.zeros((h, w))
    for u in range(0, h - patch + stride, stride):
        for v in range(0, w - patch + stride, stride):
            hidden = x.copy()
            hidden[:, :, u : u + patch, v : v + patch] = fill
            total[:, u : u + patch, v : v + patch] += (score(x) - score(hidden))[:, None, None]
            count[u : u + patch, v : v + patch] += 1
    return total / count, count


@pytest.mark.parametrize("shape, patch, stride", [((3, 8, 8), 4, 2), ((1, 6, 9), 2, 2), ((2, 7, 8), 4, 2), ((1, 8, 8), 3, 3)])
def test_on_a_linear_model_the_drop_is_the_sum_of_weight_times_distance_from_grey(shape, patch, stride):
    x, y = images(shape=shape), torch.tensor([2, 0, 1])
    net = linear(x)
    gain = (net[1].weight[y].view(x.shape) * (x - 0.5)).sum(1).detach().double().numpy()  # [N, h, w]
    total, count = np.zeros_like(gain), np.zeros(shape[1:])
    for u in range(0, shape[1] - patch + stride, stride):  # the last patch may be cut off
        for v in range(0, shape[2] - patch + stride, stride):
            total[:, u : u + patch, v : v + patch] += gain[:, u : u + patch, v : v + patch].sum((1, 2))[:, None, None]
            count[u : u + patch, v : v + patch] += 1
    maps = occlusion(net, x, y, patch=patch, stride=stride, score="logit")
    assert maps.shape == (3, *shape[1:])
    np.testing.assert_allclose(maps.numpy(), total / count, atol=1e-5)


def test_the_defaults_are_the_probability_and_a_grey_4x4_patch_with_stride_2():
    x, y = images(shape=(1, 10, 8)), torch.tensor([2, 0, 1])
    net = nn.Sequential(linear(x), nn.Tanh())

    def probability(pixels):
        with torch.no_grad():
            return net(torch.from_numpy(pixels)).softmax(1)[range(3), y].numpy()

    np.testing.assert_allclose(occlusion(net, x, y).numpy(), reference_occlusion(probability, x.numpy(), 4, 2, 0.5)[0], atol=1e-6)
    darker = reference_occlusion(probability, x.numpy(), 4, 2, 0.0)[0]
    np.testing.assert_allclose(occlusion(net, x, y, fill=0.0).numpy(), darker, atol=1e-6)
    assert np.abs(darker - occlusion(net, x, y).numpy()).max() > 1e-3


@pytest.mark.parametrize("patch", [2, 4, 6])
def test_a_central_pixel_is_covered_by_half_the_patch_side_squared_positions(patch):
    """Only one pixel has a weight, so each position that hides it lowers the logit by 1/4, and no other position does."""
    x = torch.full((1, 1, 16, 16), 0.75)
    net = linear(x, 2)
    with torch.no_grad():
        net[1].weight.zero_()[0, 8 * 16 + 8] = 1
    heat = occlusion(net, x, torch.tensor([0]), patch=patch, score="logit")[0]
    assert heat[8, 8] == pytest.approx(0.25)
    batches = []
    net[1].register_forward_hook(lambda module, inputs, out: batches.append(inputs[0]))
    occlusion(net, x, torch.tensor([0]), patch=patch, score="logit")
    hidden = (torch.cat(batches)[:, 8 * 16 + 8] == 0.5).sum().item()
    assert hidden == (patch // 2) ** 2
    positions = {tuple((row == 0.5).nonzero().flatten().tolist()) for row in torch.cat(batches)} - {()}
    assert len(positions) == ((16 - patch) // 2 + 1) ** 2


def test_a_model_that_ignores_the_image_gives_a_zero_map():
    x = images()
    net = linear(x)
    nn.init.zeros_(net[1].weight)
    assert (occlusion(net, x, torch.tensor([0, 1, 2])) == 0).all()


def test_maps_do_not_depend_on_the_memory_bound_which_is_respected_or_on_the_batch():
    x, y = images(7), torch.arange(7) % 3
    torch.manual_seed(0)
    net = nets.build(NETS["convnet"](width=4), (3, 8, 8), 3)
    batches = []
    net.register_forward_pre_hook(lambda module, inputs: batches.append(inputs[0].numel()))
    whole = occlusion(net, x, y)
    assert whole.std() > 1e-5
    for numbers in (1, 400, 4000):
        batches.clear()
        torch.testing.assert_close(occlusion(net, x, y, numbers_at_once=numbers), whole, atol=1e-6, rtol=0)
        assert max(batches) <= max(numbers, x[0].numel())
    single = torch.cat([occlusion(net, x[i : i + 1], y[i : i + 1]) for i in range(7)])
    torch.testing.assert_close(single, whole, atol=1e-6, rtol=0)
    assert occlusion(net, x[:0], y[:0]).shape == (0, 8, 8)


def test_invalid_patches_strides_and_scores_are_rejected():
    x, y = images(), torch.zeros(3, dtype=torch.long)
    with pytest.raises(ValueError, match="patch must be 1 to 8 pixels on images of 8x8, got 9"):
        occlusion(linear(x), x, y, patch=9)
    with pytest.raises(ValueError, match="stride must be 1 to 2 for a patch of 2 pixels, got 3"):
        occlusion(linear(x), x, y, patch=2, stride=3)
    with pytest.raises(ValueError, match="probability, logit"):
        occlusion(linear(x), x, y, score="logits")  # pyright: ignore[reportArgumentType]
