"""Sliding patch and Grad-CAM against loops and closed forms, on every network."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from core import nets
from core.attribution.grad_cam import grad_cam, last_convolution
from core.attribution.occlusion import occlusion
from core.nets import NETS

torch.set_num_threads(1)

LIGHT = {
    "wrn": {"depth": 10, "widen": 1}, "densenet": {"depth": 10}, "mobilenet": {"width": 0.25}, "allconv": {"width": 8},
    "convnet": {"width": 4, "hidden": 8},
}  # fmt: skip
SHAPES = dict.fromkeys(NETS, (3, 16, 16)) | dict.fromkeys(("vgg11_bn", "vgg16"), (3, 32, 32))
SHAPES |= {"convnet": (1, 8, 8), "mlenet": (1, 28, 28), "net_a": (1, 28, 28)}


def images(n=3, shape=(3, 8, 8), seed=0):
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))


def linear(x, classes=3):
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), classes))


def by_hand(score, x, patch, stride, fill):
    """Drops and coverage by a loop over positions, [N, h, w] and [h, w]; `score`: numpy images -> [N]."""
    n, _, h, w = x.shape
    total, count = np.zeros((n, h, w)), np.zeros((h, w))
    for u in range(0, h - patch + stride, stride):
        for v in range(0, w - patch + stride, stride):
            hidden = x.copy()
            hidden[:, :, u : u + patch, v : v + patch] = fill
            total[:, u : u + patch, v : v + patch] += (score(x) - score(hidden))[:, None, None]
            count[u : u + patch, v : v + patch] += 1
    return total / count, count


# -- sliding patch ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape, patch, stride", [((3, 8, 8), 4, 2), ((1, 6, 9), 2, 2), ((2, 7, 8), 4, 2), ((1, 8, 8), 3, 3)])
def test_a_patch_on_a_linear_model_takes_away_the_sum_of_weight_times_distance_from_grey(shape, patch, stride):
    x, y = images(shape=shape), torch.tensor([2, 0, 1])
    net = linear(x)
    gain = (net[1].weight[y].view(x.shape) * (x - 0.5)).sum(1).detach().double().numpy()  # [N, h, w]
    total, count = np.zeros_like(gain), np.zeros(shape[1:])
    for u in range(0, shape[1] - patch + stride, stride):  # the last patch may be cut off
        for v in range(0, shape[2] - patch + stride, stride):
            total[:, u : u + patch, v : v + patch] += gain[:, u : u + patch, v : v + patch].sum((1, 2))[:, None, None]
            count[u : u + patch, v : v + patch] += 1
    found = occlusion(net, x, y, patch=patch, stride=stride, score="logit")
    assert found.shape == (3, *shape[1:])
    np.testing.assert_allclose(found.numpy(), total / count, atol=1e-5)


def test_by_default_the_score_is_the_probability_and_the_patch_is_grey_4x4_with_stride_2():
    x, y = images(shape=(1, 10, 8)), torch.tensor([2, 0, 1])
    net = nn.Sequential(linear(x), nn.Tanh())

    def probability(pixels):
        with torch.no_grad():
            return net(torch.from_numpy(pixels)).softmax(1)[range(3), y].numpy()

    np.testing.assert_allclose(occlusion(net, x, y).numpy(), by_hand(probability, x.numpy(), 4, 2, 0.5)[0], atol=1e-6)
    darker = by_hand(probability, x.numpy(), 4, 2, 0.0)[0]
    np.testing.assert_allclose(occlusion(net, x, y, fill=0.0).numpy(), darker, atol=1e-6)
    assert np.abs(darker - occlusion(net, x, y).numpy()).max() > 1e-3


@pytest.mark.parametrize("patch", [2, 4, 6])
def test_a_pixel_in_the_middle_is_covered_half_a_patch_squared_times(patch):
    """Only one pixel counts, so each position that hides it drops the logit by 1/4, and others by nothing."""
    x = torch.full((1, 1, 16, 16), 0.75)
    net = linear(x, 2)
    with torch.no_grad():
        net[1].weight.zero_()[0, 8 * 16 + 8] = 1
    found = occlusion(net, x, torch.tensor([0]), patch=patch, score="logit")[0]
    assert found[8, 8] == pytest.approx(0.25)
    seen = []
    net[1].register_forward_hook(lambda module, given, out: seen.append(given[0]))
    occlusion(net, x, torch.tensor([0]), patch=patch, score="logit")
    hidden = (torch.cat(seen)[:, 8 * 16 + 8] == 0.5).sum().item()
    assert hidden == (patch // 2) ** 2
    positions = {tuple((row == 0.5).nonzero().flatten().tolist()) for row in torch.cat(seen)} - {()}
    assert len(positions) == ((16 - patch) // 2 + 1) ** 2


def test_a_model_that_ignores_the_image_gives_a_zero_map():
    x = images()
    net = linear(x)
    nn.init.zeros_(net[1].weight)
    assert (occlusion(net, x, torch.tensor([0, 1, 2])) == 0).all()


def test_the_memory_bound_and_the_batch_change_no_map_and_are_kept():
    x, y = images(7), torch.arange(7) % 3
    torch.manual_seed(0)
    net = nets.build(NETS["convnet"](width=4), (3, 8, 8), 3)
    batches = []
    net.register_forward_pre_hook(lambda module, given: batches.append(given[0].numel()))
    whole = occlusion(net, x, y)
    assert whole.std() > 1e-5
    for numbers in (1, 400, 4000):
        batches.clear()
        torch.testing.assert_close(occlusion(net, x, y, numbers_at_once=numbers), whole, atol=1e-6, rtol=0)
        assert max(batches) <= max(numbers, x[0].numel())
    single = torch.cat([occlusion(net, x[i : i + 1], y[i : i + 1]) for i in range(7)])
    torch.testing.assert_close(single, whole, atol=1e-6, rtol=0)
    assert occlusion(net, x[:0], y[:0]).shape == (0, 8, 8)


def test_what_a_patch_cannot_be_is_refused():
    x, y = images(), torch.zeros(3, dtype=torch.long)
    with pytest.raises(ValueError, match="1 to 8 pixels a side on images of 8x8, not 9"):
        occlusion(linear(x), x, y, patch=9)
    with pytest.raises(ValueError, match="stride of a patch of 2 is 1 to 2, not 3"):
        occlusion(linear(x), x, y, patch=2, stride=3)
    with pytest.raises(ValueError, match="probability, logit"):
        occlusion(linear(x), x, y, score="logits")  # pyright: ignore[reportArgumentType]


# -- Grad-CAM ---------------------------------------------------------------------------------------------------------


def pooled(*behind):
    """A convolution, what is behind it, the average over positions and a linear layer."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), *behind, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))


def upsampled(maps, size):
    return F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]


BEHIND = {
    "nothing": (),
    "relu": (nn.ReLU(),),
    "relu in place": (nn.ReLU(inplace=True),),
    "batch norm, relu in place": (nn.BatchNorm2d(6), nn.ReLU(inplace=True)),
}


@pytest.mark.parametrize("behind", BEHIND.values(), ids=BEHIND)
def test_grad_cam_on_pooling_and_a_linear_layer_is_cam_over_the_number_of_positions(behind):
    net, x, y = pooled(*behind), images(), torch.tensor([2, 0, 1])
    net.eval()
    with torch.no_grad():
        maps = x
        for layer in net[:-3]:
            maps = layer(maps)
        cam = (net[-1].weight[y][:, :, None, None] * maps).sum(1)
    expected = cam.relu() / 64
    assert (cam < 0).any() and (cam > 0).any()
    torch.testing.assert_close(grad_cam(net, x, y), expected, atol=1e-7, rtol=1e-5)


def test_coarse_maps_are_upsampled_bilinearly_to_the_image():
    net = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))
    x, y = images(shape=(3, 8, 12)), torch.tensor([2, 0, 1])
    with torch.no_grad():
        coarse = ((net[-1].weight[y][:, :, None, None] * net[0](x)).sum(1).relu() / 24).numpy()
    found = grad_cam(net, x, y).numpy()
    assert found.shape == (3, 8, 12)
    axis = lambda n, side: np.clip((np.arange(n) + 0.5) * side / n - 0.5, 0, side - 1)  # noqa: E731
    for one, fine in zip(coarse, found, strict=True):
        rows = np.stack([np.interp(axis(8, 4), np.arange(4), column) for column in one.T], 1)
        expected = np.stack([np.interp(axis(12, 6), np.arange(6), row) for row in rows])
        np.testing.assert_allclose(fine, expected, atol=1e-6)


def autograd_grad_cam(net, x, y):
    """Another way: no in-place layer, no captum, the gradient by the output of the layer, by autograd."""
    layer = last_convolution(net, x)
    kept = []
    in_place = [module for module in net.modules() if getattr(module, "inplace", False)]
    for module in in_place:
        module.inplace = False

    def keep(module, given, out):
        out = out.detach().requires_grad_()
        kept.append(out)
        return out.clone()  # a later `+=` must not reach it

    hook = layer.register_forward_hook(keep)
    try:
        z = net.eval()(x)[range(len(x)), y].sum()
    finally:
        hook.remove()
        for module in in_place:
            module.inplace = True
    (gradient,) = torch.autograd.grad(z, kept[-1])
    return upsampled((gradient.mean((2, 3), keepdim=True) * kept[-1]).sum(1).relu().detach(), x.shape[2:])


def state(net):
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in net.modules()]
    asking = [(p.requires_grad, p.grad is None) for p in net.parameters()]
    return [m.training for m in net.modules()], hooks, asking, {k: v.clone() for k, v in net.state_dict().items()}


@pytest.mark.parametrize("name", NETS)
def test_on_every_network_grad_cam_is_that_of_autograd_and_the_network_comes_back_as_it_was(name):
    shape = SHAPES[name]
    torch.manual_seed(0)
    net = nets.build(NETS[name](**LIGHT.get(name, {})), shape, 4)
    x = images(2, shape)
    with torch.no_grad():
        net(x)  # batch norm has seen something
        net.head.eval()
        next(net.parameters()).requires_grad_(False)
    y, before = torch.tensor([3, 1]), state(net)
    found = torch.stack([grad_cam(net, x, torch.full_like(y, c)) for c in range(4)])
    hidden = occlusion(net, x[:1], y[:1], patch=shape[1] // 2, stride=shape[1] // 4)
    after = state(net)
    assert before[:3] == after[:3] and all(torch.equal(v, after[3][k]) for k, v in before[3].items())
    assert found.shape == (4, *x.shape[:1], *shape[1:]) and (found >= 0).all() and found.std() > 0
    assert hidden.shape == (1, *shape[1:]) and hidden.isfinite().all() and hidden.std() > 0
    expected = torch.stack([autograd_grad_cam(net, x, torch.full_like(y, c)) for c in range(4)])
    scale = expected.max().item()
    torch.testing.assert_close(found / scale, expected / scale, atol=1e-4, rtol=0)


def test_batches_change_no_map_and_no_grad_around_it_neither():
    net, x, y = pooled(nn.ReLU(inplace=True)), images(7), torch.arange(7) % 3
    whole = grad_cam(net, x, y)
    torch.testing.assert_close(grad_cam(net, x, y, batch_size=3), whole)
    with torch.no_grad():
        torch.testing.assert_close(grad_cam(net, x, y), whole)
    assert not whole.requires_grad and grad_cam(net, x[:0], y[:0]).shape == (0, 8, 8)


# -- the layer --------------------------------------------------------------------------------------------------------


def outputs(net, layer, shape):
    seen = []
    hook = layer.register_forward_hook(lambda module, given, out: seen.append(tuple(out.shape[1:])))
    net.eval()(images(1, shape))
    hook.remove()
    return seen


@pytest.mark.parametrize(
    "name, shape, maps",
    [
        ("resnet18", (3, 32, 32), (512, 4, 4)),
        ("resnet18", (3, 16, 16), (256, 4, 4)),  # the last block has 2x2
        ("vgg11_bn", (3, 32, 32), (512, 4, 4)),  # the last two convolutions have 2x2
        ("allconv", (3, 32, 32), (16, 8, 8)),
        ("convnet", (1, 8, 8), (8, 4, 4)),
        ("net_a", (1, 28, 28), (64, 20, 20)),
        ("mobilenet", (3, 32, 32), (128, 4, 4)),  # a quarter of 512; those with 1024 have 2x2
    ],
)
def test_the_layer_is_the_last_one_whose_maps_have_at_least_4x4_positions(name, shape, maps):
    torch.manual_seed(0)
    net = nets.build(NETS[name](**LIGHT.get(name, {})), shape, 4)
    assert outputs(net, last_convolution(net, images(1, shape)), shape) == [maps]


def test_the_layer_is_found_in_the_order_of_execution_with_what_is_right_behind_it():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.second, self.first = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
            self.relu, self.flat = nn.ReLU(inplace=True), nn.Linear(4, 2)

        def forward(self, x):
            return self.flat(self.relu(self.second(self.relu(self.first(x)))).mean((2, 3)))

    net = Backwards()
    assert last_convolution(net, images()) is net.second  # its rectifier is the first one's too
    net = pooled(nn.BatchNorm2d(6), nn.ReLU(inplace=True))
    assert last_convolution(net, images()) is net[2]
    net = pooled(nn.BatchNorm2d(6), nn.Tanh(), nn.ReLU(inplace=True))
    assert last_convolution(net, images()) is net[1]


def test_where_no_map_has_4x4_positions_it_is_the_last_of_the_largest():
    convolutions = [nn.Conv2d(3, 4, 3, stride=3), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 2)]  # 3x3, 3x3, 2x2
    net = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(16, 2))
    assert last_convolution(net, images(shape=(3, 9, 9))) is convolutions[1]
    with pytest.raises(ValueError, match="has none"):
        grad_cam(linear(images()), images(), torch.zeros(3, dtype=torch.long))
