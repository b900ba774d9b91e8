"""Grad-CAM against closed forms and autograd, on every network."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from core import nets, workers
from core.attribution.grad_cam import grad_cam
from core.attribution.occlusion import occlusion
from core.nets import NETS, last_maps_of

torch.set_num_threads(1)

LIGHT = {
    "wrn": {"depth": 10, "widen": 1}, "densenet": {"depth": 10}, "mobilenet": {"width": 0.25}, "allconv": {"width": 8},
    "convnet": {"width": 4, "hidden": 8}, "resnet10": {"width": 8}, "vgg19": {"width": 8},
}  # fmt: skip
SHAPES = dict.fromkeys(NETS, (3, 16, 16)) | dict.fromkeys(("vgg11_bn", "vgg16", "vgg19"), (3, 32, 32))
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
    """A reference without captum and without in-place layers: the gradient by the pooled maps, by autograd."""
    kept = []
    in_place = [module for module in net.modules() if getattr(module, "inplace", False)]
    for module in in_place:
        module.inplace = False

    def keep(module, inputs):
        maps = inputs[0].detach().requires_grad_()
        kept.append(maps)
        return (maps,)

    hook = net.pool.register_forward_pre_hook(keep)
    try:
        z = net.eval()(x)[range(len(x)), y].sum()
    finally:
        hook.remove()
        for module in in_place:
            module.inplace = True
    (gradient,) = torch.autograd.grad(z, kept[-1])
    return upsampled((gradient.mean((2, 3), keepdim=True) * kept[-1]).sum(1).relu().detach(), x.shape[2:])


def mirrored(net):
    """Make the last layer's weights of classes 2 and 3 those of 0 and 1 with the opposite sign, so that no map is 0 for all."""
    linear = net.head if isinstance(net.head, nn.Linear) else net.head[-1]
    with torch.no_grad():
        linear.weight[2:] = -linear.weight[:2]
    return net, linear


def state(net):
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in net.modules()]
    gradients = [(p.requires_grad, p.grad is None) for p in net.parameters()]
    return [m.training for m in net.modules()], hooks, gradients, {k: v.clone() for k, v in net.state_dict().items()}


@pytest.mark.parametrize("name", NETS)
def test_grad_cam_equals_the_autograd_reference_on_every_network_and_leaves_the_network_unchanged(name):
    shape = SHAPES[name]
    torch.manual_seed(0)
    net, _ = mirrored(nets.build(NETS[name](**LIGHT.get(name, {})), shape, 4))
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


# -- the maps that a network pools ------------------------------------------------------------------------------------


def averages(name: str) -> bool:
    """Whether a network averages its last maps over positions and ends with a single linear layer."""
    with torch.device("meta"):
        net = nets.build(NETS[name](**LIGHT.get(name, {})), SHAPES[name], 4)
    linear = [module for module in net.modules() if isinstance(module, nn.Linear)]
    return isinstance(net.pool, nn.AdaptiveAvgPool2d) and net.pool.output_size in (1, (1, 1)) and len(linear) == 1


AVERAGING = [name for name in NETS if averages(name)]


def test_the_networks_that_average_their_maps_are_found():
    others = {"convnet", "vgg11_bn", "vgg16", "vgg19", "mlenet", "net_a", "single_layer"}  # they flatten, or pool by the maximum
    assert set(AVERAGING) == NETS.keys() - others


def trained_looking(name, shape):
    """A network whose batch norms have statistics of some images, in evaluation mode."""
    torch.manual_seed(0)
    net, _ = mirrored(nets.build(NETS[name](**LIGHT.get(name, {})), shape, 4))
    with torch.no_grad():
        net(images(4, shape, seed=3))
    return net.eval()


def cam(net, x, y):
    """CAM (Zhou et al. 2016) from the input of the average, [N, h', w'], and the logits that it implies."""
    (average,) = [module for module in net.body.modules() if isinstance(module, nn.AdaptiveAvgPool2d)]
    kept = []
    hook = average.register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0]))
    with torch.no_grad():
        logits = net(x)
    hook.remove()
    linear = mirrored(net)[1]
    maps = torch.einsum("nk,nkhw->nhw", linear.weight[y], kept[0]).detach()
    torch.testing.assert_close(maps.mean((1, 2)) + linear.bias[y].detach(), logits[range(len(x)), y], atol=1e-4, rtol=1e-4)
    return maps


@pytest.mark.parametrize("convert", [None, nn.SyncBatchNorm.convert_sync_batchnorm, workers.synchronised], ids=["", "sync", "ours"])
@pytest.mark.parametrize("name", AVERAGING)
def test_grad_cam_is_cam_for_networks_that_average_their_maps(name, convert):
    shape = (3, 32, 32)
    net, x = trained_looking(name, shape), images(2, shape)[[0, 1, 0, 1]]
    if convert is not None:
        if not nets.has_batch_norm(net):
            pytest.skip("no batch norm")
        net = convert(net).eval()
        assert any(isinstance(module, nn.SyncBatchNorm) for module in net.modules())
    y = torch.tensor([3, 1, 1, 3])
    maps = cam(net, x, y)
    expected = upsampled(maps.relu() / maps[0].numel(), shape[1:])
    scale = expected.max().item()
    assert scale > 0
    torch.testing.assert_close(grad_cam(net, x, y) / scale, expected / scale, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["vgg11_bn", "vgg16", "vgg19"])
def test_maps_are_the_same_with_batch_norm_of_several_workers(name):
    net, x, y = trained_looking(name, (3, 32, 32)), images(2, (3, 32, 32)), torch.tensor([3, 1])
    maps = grad_cam(net, x, y)
    assert maps.std() > 0
    assert torch.equal(grad_cam(workers.synchronised(net).eval(), x, y), maps)


@pytest.mark.parametrize(
    "name, shape, maps",
    [
        ("resnet10", (3, 32, 32), (64, 4, 4)),
        ("resnet18", (3, 32, 32), (512, 4, 4)),
        ("resnet50", (3, 16, 16), (2048, 2, 2)),
        ("densenet", (3, 32, 32), (27, 8, 8)),
        ("googlenet", (3, 32, 32), (1024, 4, 4)),  # all four branches
        ("wrn", (3, 32, 32), (64, 8, 8)),
        ("mobilenet", (3, 32, 32), (256, 2, 2)),  # a quarter of 1024
        ("allconv", (3, 32, 32), (16, 8, 8)),
        ("convnet", (1, 28, 28), (8, 14, 14)),  # pooled to 4x4, then flattened
        ("vgg11_bn", (3, 32, 32), (512, 2, 2)),  # conv5 after ReLU, before the last max-pooling, as in the Grad-CAM paper
        ("vgg16", (3, 64, 64), (512, 4, 4)),
        ("vgg19", (3, 32, 32), (64, 2, 2)),
        ("mlenet", (1, 28, 28), (64, 14, 14)),  # before the last max-pooling
        ("net_a", (1, 28, 28), (64, 20, 20)),  # flattened without pooling
        ("single_layer", (3, 32, 32), (50, 28, 28)),
    ],
)
def test_each_network_declares_the_layer_that_reads_its_last_maps(name, shape, maps):
    torch.manual_seed(0)
    net, shapes = nets.build(NETS[name](**LIGHT.get(name, {})), shape, 4).eval(), []
    assert net.pool in set(net.body.modules()) and last_maps_of(net, images(1, shape)) == (net.pool, True)
    net.pool.register_forward_pre_hook(lambda module, inputs: shapes.append(tuple(inputs[0].shape[1:])))
    net(images(1, shape))
    assert shapes == [maps]


def test_every_network_declares_a_layer_and_its_states_are_those_of_body_and_head():
    for name in NETS:
        with torch.device("meta"):
            net = nets.build(NETS[name](), SHAPES[name], 4)
        assert net.pool is not None
        assert {key.partition(".")[0] for key in net.state_dict()} == {"body", "head", "mean", "std"}


class Functional(nn.Module):
    """A convolution and a rectifier, in a layer that is used twice; the maps are averaged by a function."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.second, self.first = nn.Conv2d(6, 6, 3), nn.Conv2d(3, 6, 3)
        self.relu, self.head = nn.ReLU(inplace=True), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.maps(x).mean((2, 3)))

    def maps(self, x):
        return self.relu(self.second(self.relu(self.first(x))))


class Residual(Functional):
    """The same with a residual connection around the last layer."""

    def maps(self, x):
        x = self.first(x)
        return x + self.relu(x.clone())


class Squeezed(Functional):
    """The same with maps that are weighted by a squeeze-and-excitation branch."""

    def __init__(self):
        super().__init__()
        self.squeeze = nn.AdaptiveAvgPool2d(1)

    def maps(self, x):
        x = self.first(x)
        return x * self.squeeze(x).sigmoid()


def test_in_other_networks_the_maps_are_those_of_the_last_layer_with_maps():
    x, y = images(), torch.tensor([2, 0, 1])
    net = pooled(nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Dropout())
    assert last_maps_of(net, x) == (net[4], True)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 2))
    assert last_maps_of(net, x) == (net[2], True)
    net = nets.build(NETS["resnet18"](), (3, 16, 16), 4)
    assert last_maps_of(nn.Sequential(net.body, net.head), images(1, (3, 16, 16))) == (net.pool, True)
    net = nets.Net(nets.Halves(pooled(nn.ReLU())[:-1], nn.Linear(6, 3), 6), torch.zeros(3), torch.ones(3))  # declares none
    assert last_maps_of(net, x) == (net.body[2], True)
    net = Functional()
    assert last_maps_of(net, x) == (net.relu, False)
    with torch.no_grad():
        expected = torch.einsum("nk,nkhw->nhw", net.head.weight[y], net.maps(x)).relu() / 16
    torch.testing.assert_close(grad_cam(net, x, y), upsampled(expected, (8, 8)))


UNKNOWN = {"linear": (linear(images()), "has none"), "residual": (Residual(), "not all"), "squeezed": (Squeezed(), "not all")}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_network_whose_maps_cannot_be_found_is_refused_unless_the_layer_is_named(name):
    (net, reason), x, y = UNKNOWN[name], images(), torch.tensor([2, 0, 1])
    before = state(net)
    with pytest.raises(ValueError, match=f"{reason}.*pass layer="):
        grad_cam(net, x, y)
    assert state(net)[:3] == before[:3]
    if name != "linear":
        assert grad_cam(net, x, y, layer=net.first).std() > 0


def test_a_named_layer_gives_the_maps_of_its_output():
    net, x, y = pooled(nn.BatchNorm2d(6), nn.ReLU(inplace=True)), images(), torch.tensor([2, 0, 1])
    torch.testing.assert_close(grad_cam(net, x, y, layer=net[2]), grad_cam(net, x, y))
    raw = grad_cam(net, x, y, layer=net[0])  # before batch norm and the rectifier, which works in place
    assert raw.shape == (3, 8, 8) and not torch.allclose(raw, grad_cam(net, x, y))
