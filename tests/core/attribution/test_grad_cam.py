"""Grad-CAM against closed forms and autograd, on every network."""

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


def pooled(*following):
    """A network of a convolution, the following layers, the average over positions and a linear layer."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), *following, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))


def upsampled(maps, size):
    return F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]


FOLLOWING = {
    "nothing": (),
    "relu": (nn.ReLU(),),
    "relu in place": (nn.ReLU(inplace=True),),
    "batch norm, relu in place": (nn.BatchNorm2d(6), nn.ReLU(inplace=True)),
}


@pytest.mark.parametrize("following", FOLLOWING.values(), ids=FOLLOWING)
def test_grad_cam_before_pooling_and_a_linear_layer_is_cam_divided_by_the_number_of_positions(following):
    net, x, y = pooled(*following), images(), torch.tensor([2, 0, 1])
    net.eval()
    with torch.no_grad():
        maps = x
        for layer in net[:-3]:
            maps = layer(maps)
        cam = (net[-1].weight[y][:, :, None, None] * maps).sum(1)
    expected = cam.relu() / 64
    assert (cam < 0).any() and (cam > 0).any()
    torch.testing.assert_close(grad_cam(net, x, y), expected, atol=1e-7, rtol=1e-5)


def test_coarse_maps_are_upsampled_bilinearly_to_the_size_of_the_image():
    net = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))
    x, y = images(shape=(3, 8, 12)), torch.tensor([2, 0, 1])
    with torch.no_grad():
        coarse = ((net[-1].weight[y][:, :, None, None] * net[0](x)).sum(1).relu() / 24).numpy()
    maps = grad_cam(net, x, y).numpy()
    assert maps.shape == (3, 8, 12)

    def axis(n, side):
        return np.clip((np.arange(n) + 0.5) * side / n - 0.5, 0, side - 1)

    for one, fine in zip(coarse, maps, strict=True):
        rows = np.stack([np.interp(axis(8, 4), np.arange(4), column) for column in one.T], 1)
        expected = np.stack([np.interp(axis(12, 6), np.arange(6), row) for row in rows])
        np.testing.assert_allclose(fine, expected, atol=1e-6)


def autograd_grad_cam(net, x, y):
    """A reference without captum and without in-place layers: the gradient by the layer's output, by autograd."""
    layer = last_convolution(net, x)
    kept = []
    in_place = [module for module in net.modules() if getattr(module, "inplace", False)]
    for module in in_place:
        module.inplace = False

    def keep(module, inputs, out):
        out = out.detach().requires_grad_()
        kept.append(out)
        return out.clone()  # so that a later `+=` does not change it

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
    gradients = [(p.requires_grad, p.grad is None) for p in net.parameters()]
    return [m.training for m in net.modules()], hooks, gradients, {k: v.clone() for k, v in net.state_dict().items()}


@pytest.mark.parametrize("name", NETS)
def test_grad_cam_equals_the_autograd_reference_on_every_network_and_leaves_the_network_unchanged(name):
    shape = SHAPES[name]
    torch.manual_seed(0)
    net = nets.build(NETS[name](**LIGHT.get(name, {})), shape, 4)
    x = images(2, shape)
    with torch.no_grad():
        net(x)  # gives batch norm some statistics
        net.head.eval()
        next(net.parameters()).requires_grad_(False)
    y, before = torch.tensor([3, 1]), state(net)
    maps = torch.stack([grad_cam(net, x, torch.full_like(y, c)) for c in range(4)])
    hidden = occlusion(net, x[:1], y[:1], patch=shape[1] // 2, stride=shape[1] // 4)
    after = state(net)
    assert before[:3] == after[:3] and all(torch.equal(v, after[3][k]) for k, v in before[3].items())
    assert maps.shape == (4, *x.shape[:1], *shape[1:]) and (maps >= 0).all() and maps.std() > 0
    assert hidden.shape == (1, *shape[1:]) and hidden.isfinite().all() and hidden.std() > 0
    expected = torch.stack([autograd_grad_cam(net, x, torch.full_like(y, c)) for c in range(4)])
    scale = expected.max().item()
    torch.testing.assert_close(maps / scale, expected / scale, atol=1e-4, rtol=0)


def test_grad_cam_does_not_depend_on_batches_or_no_grad():
    net, x, y = pooled(nn.ReLU(inplace=True)), images(7), torch.arange(7) % 3
    whole = grad_cam(net, x, y)
    torch.testing.assert_close(grad_cam(net, x, y, batch_size=3), whole)
    with torch.no_grad():
        torch.testing.assert_close(grad_cam(net, x, y), whole)
    assert not whole.requires_grad and grad_cam(net, x[:0], y[:0]).shape == (0, 8, 8)


# -- the layer --------------------------------------------------------------------------------------------------------


def output_shapes(net, layer, shape):
    shapes = []
    hook = layer.register_forward_hook(lambda module, inputs, out: shapes.append(tuple(out.shape[1:])))
    net.eval()(images(1, shape))
    hook.remove()
    return shapes


@pytest.mark.parametrize(
    "name, shape, maps",
    [
        ("resnet18", (3, 32, 32), (512, 4, 4)),
        ("resnet18", (3, 16, 16), (256, 4, 4)),  # the last block has 2x2
        ("vgg11_bn", (3, 32, 32), (512, 4, 4)),  # the last two convolutions have 2x2
        ("allconv", (3, 32, 32), (16, 8, 8)),
        ("convnet", (1, 8, 8), (8, 4, 4)),
        ("net_a", (1, 28, 28), (64, 20, 20)),
        ("mobilenet", (3, 32, 32), (128, 4, 4)),  # a quarter of 512; layers with 1024 channels have 2x2
    ],
)
def test_the_layer_is_the_last_one_whose_maps_have_at_least_4x4_positions(name, shape, maps):
    torch.manual_seed(0)
    net = nets.build(NETS[name](**LIGHT.get(name, {})), shape, 4)
    assert output_shapes(net, last_convolution(net, images(1, shape)), shape) == [maps]


def test_the_layer_is_the_last_in_the_order_of_execution_with_the_directly_following_layers():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.second, self.first = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
            self.relu, self.flat = nn.ReLU(inplace=True), nn.Linear(4, 2)

        def forward(self, x):
            return self.flat(self.relu(self.second(self.relu(self.first(x)))).mean((2, 3)))

    net = Backwards()
    assert last_convolution(net, images()) is net.second  # its rectifier also follows the first convolution
    net = pooled(nn.BatchNorm2d(6), nn.ReLU(inplace=True))
    assert last_convolution(net, images()) is net[2]
    net = pooled(nn.BatchNorm2d(6), nn.Tanh(), nn.ReLU(inplace=True))
    assert last_convolution(net, images()) is net[1]


def test_the_layer_is_the_last_one_with_the_largest_maps_if_no_map_has_4x4_positions():
    convolutions = [nn.Conv2d(3, 4, 3, stride=3), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 2)]  # 3x3, 3x3, 2x2
    net = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(16, 2))
    assert last_convolution(net, images(shape=(3, 9, 9))) is convolutions[1]
    with pytest.raises(ValueError, match="has none"):
        grad_cam(linear(images()), images(), torch.zeros(3, dtype=torch.long))
